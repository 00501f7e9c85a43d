"""Three layers: 1x1 to r channels, each channel's own window, 1x1.

Canonical polyadic decomposition (Lebedev et al., "Speeding-up convolutional neural networks using fine-tuned
CP-decomposition", 2015) by alternating least squares, with the window's axes as one mode: a depthwise kernel takes one
whole window as soon as it does two half ones, and whole windows are at least as good at equal rank. The input mode is
weighted by the covariance of the inputs' channels; the last layer is solved by least squares on all that it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

import numpy as np

from ...ops.common import Tensor
from .decompose import Method, Rank, energy_of, factor_of, method, seen, steps
from .pieces import Piece

SWEEPS = (4, 25)  # over the factors: at least, and at most
WORK = 4e9  # multiplications that they may take
LARGEST = 1 << 18  # weights up to which they arrive in reasonable time
DAMPING = 1e-6


class Canonical:
    """Rank-one terms of outputs x inputs x window."""

    def __init__(self, weights: Tensor, covariance: Tensor | None) -> None:
        self.shape = weights.shape
        self.weights = weights.reshape(*weights.shape[:2], -1).astype(np.float64)
        self.covariance = covariance
        self._found: dict[int, tuple[tuple[Tensor, Tensor, Tensor], float]] = {}

    def error(self, rank: Rank) -> float:
        return self._solved(rank[0])[1]

    def factors(self, rank: Rank) -> Sequence[Tensor]:
        (inner, middle, outer), _ = self._solved(rank[0])
        r, (outputs, inputs, *window) = rank[0], self.shape
        ones = (1,) * len(window)
        return inner.reshape(r, inputs, *ones), middle.reshape(r, 1, *window), outer.reshape(outputs, r, *ones)

    def _solved(self, r: int) -> tuple[tuple[Tensor, Tensor, Tensor], float]:
        """Factors [r, inputs], [r, window], [outputs, r], and the error."""
        if r not in self._found:
            outputs, inputs, taps = self.weights.shape
            lower = factor_of(self.covariance, inputs, taps)
            terms = _alternated(np.einsum("oat,ab->obt", self.weights, lower), r)
            inner = np.linalg.solve(lower.T, terms[1]).T
            features = np.einsum("ra,tr->rat", inner, terms[2]).reshape(r, -1)
            read = seen(features, self.covariance)
            own, flat = read @ features.T, self.weights.reshape(outputs, -1)
            scale = 1 / np.sqrt(np.maximum(np.diag(own), 1e-30))
            own = own * scale[:, None] * scale + DAMPING * np.eye(r)
            cross = flat @ read.T * scale
            outer = np.linalg.solve(own, cross.T).T
            kept, whole = float(np.einsum("or,or->", outer, cross)), energy_of(flat, self.covariance)
            error = float(np.clip(1 - kept / whole, 0.0, 1.0)) if whole > 0 else 0.0
            self._found[r] = (inner * scale[:, None], terms[2].T, outer), error
        return self._found[r]


def _alternated(tensor: Tensor, r: int) -> list[Tensor]:
    """Factors [mode, r] of a tensor of three modes; columns of the second and third have unit length."""
    start = np.random.default_rng(0)
    factors = [start.standard_normal((n, r)) for n in tensor.shape]
    for axis, n in enumerate(tensor.shape[:2]):
        flat = np.moveaxis(tensor, axis, 0).reshape(n, -1)
        vectors = np.linalg.eigh(flat @ flat.T)[1][:, ::-1][:, :r]
        factors[axis][:, : vectors.shape[1]] = vectors
    letters = "oat"
    sweeps = min(max(int(WORK / (3 * r * tensor.size)), SWEEPS[0]), SWEEPS[1])
    for _ in range(sweeps):
        for axis in range(3):
            x, y = (k for k in range(3) if k != axis)
            gram = (factors[x].T @ factors[x]) * (factors[y].T @ factors[y])
            gram += DAMPING * np.trace(gram) / r * np.eye(r)
            text = f"oat,{letters[x]}r->{''.join(c for c in letters if c != letters[x])}r"
            half = np.einsum(text, tensor, factors[x], optimize=True)
            left = [c for c in letters if c != letters[x]]
            right = (half * factors[y]).sum(1) if left[0] == letters[axis] else (half * factors[y][:, None]).sum(0)
            factors[axis] = np.linalg.solve(gram, right.T).T
            if axis:
                factors[axis] /= np.maximum(np.linalg.norm(factors[axis], axis=0), 1e-30)
    return factors


def _fits(piece: Piece) -> Literal[True] | str:
    if all(n == 1 for n in piece.window):
        return "its window has one position: that is svd"
    if prod(piece.shape) > LARGEST:
        return "it is too large for alternating least squares"
    return True if min(piece.outputs, piece.inputs) > 1 else "has one channel"


def _ranks(piece: Piece, step: int) -> list[Rank]:
    return [(r,) for r in steps(2 * max(piece.outputs, piece.inputs) + 1, step, 6)]


def _pieces(piece: Piece, rank: Rank) -> Sequence[Piece]:
    (r,) = rank
    window = piece.along(r, 1, range(len(piece.window)), group=r)
    return piece.pointwise(r, piece.inputs), window, piece.pointwise(piece.outputs, r)


CP = method(Method("cp", "1x1 to r channels, a window each, 1x1", _fits, _ranks, _pieces, Canonical))
