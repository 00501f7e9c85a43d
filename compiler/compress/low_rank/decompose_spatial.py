"""Two layers, each with one axis of the window: kx1 to r channels, then 1xk.

Jaderberg, Vedaldi and Zisserman, "Speeding up convolutional neural networks with low rank expansions", 2014, scheme 2:
the weights as a matrix [inputs x kh, outputs x kw] of rank r. The first factor's filters are weighted by the covariance
of what they read, the second is solved by least squares on all that it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

from ...ops.common import Tensor
from .decompose import Method, Rank, Reduced, method, steps
from .pieces import Piece


class Separated:
    """Filters along the first axis, and what combines them along the second."""

    def __init__(self, weights: Tensor, covariance: Tensor | None) -> None:
        outputs, self.inputs, self.high, self.wide = weights.shape
        self.reduced = Reduced(weights.reshape(outputs, -1, self.wide), covariance)

    def error(self, rank: Rank) -> float:
        return self.reduced.share_lost(float(self.reduced.energies()[rank[0]]))

    def factors(self, rank: Rank) -> Sequence[Tensor]:
        (r,) = rank
        first = self.reduced.combinations[:r].reshape(r, self.inputs, self.high, 1)
        return first, self.reduced.solved(r)[:, :, None, :]


def _fits(piece: Piece) -> Literal[True] | str:
    if len(piece.window) != 2 or min(piece.window) < 2:
        return f"its window {'x'.join(map(str, piece.window)) or '1'} has no two axes"
    return True


def _ranks(piece: Piece, step: int) -> list[Rank]:
    high, wide = piece.window
    most = prod(piece.shape) // (piece.inputs * high + piece.outputs * wide)  # strides apart, as many weights
    return [(r,) for r in steps(min(2 * most, piece.inputs * high), step)]


def _pieces(piece: Piece, rank: Rank) -> Sequence[Piece]:
    (r,) = rank
    return piece.along(r, piece.inputs, (0,)), piece.along(piece.outputs, r, (1,))


SPATIAL = method(Method("spatial", "kx1 to r channels, then 1xk", _fits, _ranks, _pieces, Separated))
