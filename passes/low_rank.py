"""Splits convolutions and matrix products into two or three with fewer multiplications."""

from __future__ import annotations

from typing import Literal

from edgec.compiler.compress.low_rank.splitter import Options
from edgec.compiler.compress.low_rank.splitter import low_rank as split_layers
from edgec.compiler.ir import Graph
from edgec.compiler.pipeline import graph_pass, lossy
from edgec.compiler.session import Session

from .widen import in_f32


@graph_pass(
    "low-rank",
    promise=lossy,
    after={"canonicalize": "scales and shifts must be inside the weights", "fold": "weights must be constants"},
    nested=False,
    calibrated=True,
)
def low_rank(
    graph: Graph,
    *,
    macs: float | None = None,
    total: float | None = None,
    energy: float | None = None,
    method: Literal["auto", "svd", "spatial", "tucker", "cp"] = "auto",
    min_gain: float = 1.0,
    samples: int = 256,
    repair: bool = True,
    session: Session,
) -> Graph:
    """Splits layers where two or three kernels are faster than one; errors are weighed by calibration data.

    macs      share of the multiplications that remains, of all layers together for which a split wins
    total     or: share of the whole model's multiplications that remains
    energy    or: share of the energy of its results that each layer keeps at least (the default, with 0.99)
    method    how layers are split; auto: the best of all, per layer
    min_gain  by which factor a split must be faster than the layer, as modelled for the target
    samples   how many calibration samples are used at most; large models take fewer
    repair    the pieces' last layers are solved again, on what the split layers before them give
    """
    graph = in_f32(graph, session, rounded=False)
    return split_layers(graph, Options(macs, total, energy, method, min_gain, samples, repair), session)
