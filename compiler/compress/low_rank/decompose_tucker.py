"""Three layers: 1x1 to q channels, the window on these to p channels, 1x1 to all of them; or the first two.

Tucker-2 (Kim et al., "Compression of deep convolutional neural networks for fast and low power mobile applications",
2016). The input mode's factor is weighted by the covariance of the inputs' channels and the core is solved by least
squares on all inputs of its window; the output mode's is then exact: the principal components of the core's results.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ...ops.common import Tensor
from .decompose import Method, Rank, Reduced, eigenvectors, method, steps
from .pieces import Piece


class Tucker:
    """Factors of both channel modes around a core."""

    def __init__(self, weights: Tensor, covariance: Tensor | None) -> None:
        self.shape = weights.shape
        self.reduced = Reduced(weights.reshape(*weights.shape[:2], -1), covariance)
        self._outputs: dict[int, tuple[Tensor, Tensor]] = {}

    def _components(self, features: int) -> tuple[Tensor, Tensor]:
        if features not in self._outputs:
            self._outputs[features] = eigenvectors(self.reduced.explained(features))
        return self._outputs[features]

    def error(self, rank: Rank) -> float:
        q, p = rank
        if p == self.shape[0]:
            return self.reduced.share_lost(float(self.reduced.energies()[q]))
        return self.reduced.share_lost(float(self._components(q)[0][:p].sum()))

    def factors(self, rank: Rank) -> Sequence[Tensor]:
        q, p = rank
        outputs, inputs, *window = self.shape
        ones = (1,) * len(window)
        first = self.reduced.combinations[:q].reshape(q, inputs, *ones)
        core = self.reduced.solved(q).reshape(outputs, q, *window)
        if p == outputs:
            return first, core
        last = self._components(q)[1][:, :p]
        return first, np.tensordot(last, core, (0, 0)), last.reshape(outputs, p, *ones)


def _fits(piece: Piece) -> Literal[True] | str:
    if all(n == 1 for n in piece.window):
        return "its window has one position: that is svd"
    return True if min(piece.outputs, piece.inputs) > 1 else "has one channel"


def _ranks(piece: Piece, step: int) -> list[Rank]:
    """Pairs with both channel counts cut alike, give or take, and pairs without the last layer."""
    inner, outer = steps(piece.inputs, step, 8), steps(piece.outputs, step, 8)
    pairs: list[Rank] = [(q, p) for q in inner for p in outer if 0.6 <= (p / piece.outputs) / (q / piece.inputs) <= 1.7]
    return pairs + [(q, piece.outputs) for q in inner]


def _pieces(piece: Piece, rank: Rank) -> Sequence[Piece]:
    q, p = rank
    core = piece.along(p, q, range(len(piece.window)))
    last = () if p == piece.outputs else (piece.pointwise(piece.outputs, p),)
    return piece.pointwise(q, piece.inputs), core, *last


TUCKER = method(Method("tucker", "1x1 to q channels, window to p, 1x1", _fits, _ranks, _pieces, Tucker))
