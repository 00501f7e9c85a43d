"""Makes a float graph smaller by what can be left out of it: channels, and single weights."""

from __future__ import annotations

from typing import Literal

from edgec.compiler.compress.channels.pruner import Options, pruned
from edgec.compiler.compress.zeros.sparsify import Sparsity, sparsified
from edgec.compiler.ir import Graph
from edgec.compiler.pipeline import graph_pass, lossy
from edgec.compiler.session import Session

from .widen import in_f32


@graph_pass(
    "prune",
    promise=lossy,
    after={"canonicalize": "scales and shifts must be inside the weights", "fold": "weights must be constants"},
    nested=False,
    calibrated=True,
)
def prune(
    graph: Graph,
    *,
    channels: float = 0.0,
    saliency: Literal["auto", "weight", "activation", "reconstruction"] = "auto",
    repair: bool = True,
    round: int | None = None,
    sparsity: float = 0.0,
    n: int = 0,
    m: int = 0,
    block: str = "",
    samples: int = 512,
    session: Session,
) -> Graph:
    """Removes channels, or makes weights zero; what is left makes up for it where there are calibration data.

    channels  share of the multiplications that is removed, of the convolutions and matrix products that can be cut:
              0.3 leaves 70 % of them
    saliency  what a channel is worth: by the weights that read it, by these and what they read, or by the error that
              its readers cannot make up for; auto: the last, without calibration data the first
    repair    layers get new weights, by least squares on calibration data
    round     widths are multiples of it; default: what the target's kernels work on at a time, or less in narrow layers
    sparsity  share of the multiplications whose weights become zero, in the layers whose kernels are faster by it
    n, m      of each m neighbouring inputs of an output, n keep their weight
    block     weights become zero together in blocks of outputs x inputs: 16x1 serves f32 kernels of AVX-512, 16x4 int8
    samples   at most so many calibration samples are used
    """
    graph = in_f32(graph, session, rounded=False)
    if channels != 0:
        graph = pruned(graph, Options(channels, saliency, repair, round, samples), session)
    zeros = Sparsity(sparsity, n, m, block, repair, samples)
    if zeros.wanted:
        graph = sparsified(graph, zeros, session)
    return graph
