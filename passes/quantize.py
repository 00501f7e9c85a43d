"""Puts a float graph into 8 bits: QuantizeLinear and DequantizeLinear with scales from calibration data."""

from __future__ import annotations

from typing import Literal

from edgec.compiler.ir import Graph
from edgec.compiler.pipeline import graph_pass, lossy
from edgec.compiler.quantize.job import Options
from edgec.compiler.quantize.quantizer import quantized
from edgec.compiler.quantize.settings import SMALLER, Wanted
from edgec.compiler.session import Session

from .widen import in_f32


@graph_pass(
    "quantize",
    promise=lossy,
    after={
        "canonicalize": "scales and shifts must be inside the weights",
        "fold": "weights must be constants",
        **SMALLER,
    },
    nested=False,
    calibrated=True,
)
def quantize(
    graph: Graph,
    *,
    method: Literal["auto", "minmax", "percentile", "entropy", "mse"] = "auto",
    equalize: bool = True,
    learn: bool = True,
    correct: bool = True,
    samples: int | None = None,
    slower: bool = False,
    real: float | None = None,
    session: Session,
) -> Graph:
    """Quantizes convolutions and matrix products, and what lies between them; needs calibration data.

    method    how ranges of activations are chosen; auto: the one with the least error, per tensor
    equalize  channels that share a scale are evened out where that lowers the noise
    learn     weights are rounded with regard to each other
    correct   biases make up for mean errors
    samples   how many calibration samples `learn` and `correct` use; default: 32, up to 256 where the model is small
    slower    int8 stays where the target is modelled to be no faster with it
    real      share of the layers, those that do most harm in int8, that stay in f32; default: as few as are needed
              where the outputs would be poor
    """
    graph = in_f32(graph, session, rounded=False)
    wanted = session.settings.get("quantize")
    options = Options(method, equalize, learn, correct, samples, slower, real)
    return quantized(graph, wanted if isinstance(wanted, Wanted) else Wanted(), options, session)
