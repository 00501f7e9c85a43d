"""Puts a float graph into 8 bits: QuantizeLinear and DequantizeLinear with scales from calibration data."""

from __future__ import annotations

from typing import Literal

from edgec.compiler.errors import EdgecError
from edgec.compiler.ir import Graph
from edgec.compiler.pipeline import graph_pass, lossy
from edgec.compiler.quantize.quantizer import Options, quantized
from edgec.compiler.session import Session


@graph_pass(
    "quantize",
    promise=lossy,
    after={"canonicalize": "scales and shifts must be inside the weights", "fold": "weights must be constants"},
    nested=False,
)
def quantize(
    graph: Graph, *, method: Literal["auto", "minmax", "percentile", "entropy", "mse"] = "auto", equalize: bool = True, session: Session
) -> Graph:
    """Quantizes convolutions and matrix products, and what lies between them; needs calibration data."""
    source = session.settings.get("calibration")
    if source is None:
        raise EdgecError("quantize: no calibration data is given (--calib)")
    return quantized(graph, source, Options(method, equalize), session)
