"""What every decomposition is: a row that knows its shapes, and the least-squares core that several of them share.

With inputs x of covariance S, a layer's results W x have the energy tr(W S W'), and another layer V in its place the
error tr((W - V) S (W - V)'). All errors here are that, as a share of the energy; means are the bias's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from ...ops.common import Tensor
from .pieces import Piece

Rank = tuple[int, ...]
BLOCK = 256  # rows that a triangular system is solved by at a time


class Solver(Protocol):
    """Factors of one layer at any rank."""

    def error(self, rank: Rank) -> float:
        """Of the layer's results, as a share of their energy."""

    def factors(self, rank: Rank) -> Sequence[Tensor]:
        """Weights of the pieces, each [outputs, inputs of a group, *window]."""


@dataclass(frozen=True)
class Method:
    """A row. `fits`: True, or why a layer of this shape has no such form; `ranks` in steps of what kernels use."""

    name: str
    summary: str
    fits: Callable[[Piece], Literal[True] | str]
    ranks: Callable[[Piece, int], Sequence[Rank]]
    pieces: Callable[[Piece, Rank], Sequence[Piece]]
    solver: Callable[[Tensor, Tensor | None], Solver]  # of weights [outputs, inputs, *window], covariance of columns


METHODS: dict[str, Method] = {}


def method(row: Method) -> Method:
    """Add a row; names are unique."""
    if row.name in METHODS:
        raise ValueError(f"decomposition {row.name!r} is defined twice")
    METHODS[row.name] = row
    return row


def steps(most: int, step: int, count: int = 16) -> list[int]:
    """Multiples of a step below `most`; where that is too coarse, of what divides it."""
    while step > 1 and most < 4 * step:
        step //= 2
    found = list(range(step, most, step))
    thin = max(1, -(-len(found) // count))
    return found[thin - 1 :: thin]


def seen(rows: Tensor, covariance: Tensor | None) -> Tensor:
    """Rows times the covariance of columns; no covariance is that of columns that are unrelated and alike."""
    return rows if covariance is None else np.asarray(rows @ covariance)


def energy_of(weights: Tensor, covariance: Tensor | None) -> float:
    """Of the results of weights [outputs, ...]."""
    flat = weights.reshape(len(weights), -1).astype(np.float64)
    return float(np.einsum("ok,ok->", seen(flat, covariance), flat))


def factor_of(covariance: Tensor | None, inputs: int, positions: int) -> Tensor:
    """The Cholesky factor of the mean covariance of inputs over positions."""
    if covariance is None:
        return np.eye(inputs)
    mean = np.einsum("atbt->ab", covariance.reshape(inputs, positions, inputs, positions)) / positions
    return np.asarray(np.linalg.cholesky((mean + mean.T) / 2))


def eigenvectors(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, largest first, and eigenvectors as columns, the largest element of each positive."""
    values, vectors = np.linalg.eigh((symmetric + symmetric.T) / 2)
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    return np.maximum(values[::-1], 0.0), (vectors * np.where(largest < 0, -1.0, 1.0))[:, ::-1]


def forward(lower: Tensor, right: Tensor) -> Tensor:
    """The solution of a lower triangular system."""
    made = np.empty_like(right)
    for start in range(0, len(lower), BLOCK):
        end = min(start + BLOCK, len(lower))
        left = right[start:end] - lower[start:end, :start] @ made[:start]
        made[start:end] = np.linalg.solve(lower[start:end, start:end], left)
    return made


def backward(lower: Tensor, right: Tensor) -> Tensor:
    """The solution of the system with a lower triangular matrix's transpose."""
    return forward(lower.T[::-1, ::-1], right[::-1])[::-1]


@dataclass(frozen=True)
class Reduced:
    """A layer's inputs behind fewer channels: inputs [a, t] become features [r, t], the same combinations at each t.

    The combinations are ordered such that the first r are the best r where inputs at different t are unrelated and
    alike (a weighted singular value decomposition); what follows them is then solved by least squares on the whole
    covariance, for every r at once: features in order, one Cholesky factor serves all leading blocks.

    weights     [outputs, a, t]
    covariance  [a * t, a * t], or None
    """

    weights: Tensor
    covariance: Tensor | None

    @cached_property
    def sizes(self) -> tuple[int, int]:
        return self.weights.shape[1], self.weights.shape[2]

    @cached_property
    def energy(self) -> float:
        return energy_of(self.weights, self.covariance)

    @cached_property
    def combinations(self) -> Tensor:
        """[r, a], the features of unit variance; the most important first."""
        a, t = self.sizes
        lower = factor_of(self.covariance, a, t)
        flat = self.weights.astype(np.float64).transpose(0, 2, 1).reshape(-1, a)
        _, vectors = eigenvectors(lower.T @ (flat.T @ flat) @ lower)
        return backward(lower, vectors).T

    @cached_property
    def _system(self) -> tuple[Tensor | None, Tensor]:
        """The Cholesky factor of the features' covariance, and the whitened features' products with the results."""
        a, t = self.sizes
        turn = self.combinations
        if self.covariance is None:
            return None, np.einsum("ra,oat->rto", turn, self.weights, optimize=True).reshape(a * t, -1)
        half = np.tensordot(turn, self.covariance.reshape(a, t, -1), (1, 0)).reshape(a * t, a, t)
        whole = np.tensordot(half, turn, (1, 1)).transpose(0, 2, 1).reshape(a * t, a * t)
        lower = np.linalg.cholesky((whole + whole.T) / 2 + 1e-12 * np.eye(a * t))
        flat = self.weights.reshape(len(self.weights), -1).astype(np.float64)
        return lower, forward(lower, half.reshape(a * t, -1) @ flat.T)

    def explained(self, features: int) -> Tensor:
        """[outputs, outputs]: the covariance of the best results from so many features."""
        rows = self._system[1][: features * self.sizes[1]]
        return np.asarray(rows.T @ rows)

    def energies(self) -> Tensor:
        """Of the best results from 0, 1, 2 ... features."""
        a, t = self.sizes
        each = np.square(self._system[1]).sum(1).reshape(a, t).sum(1)
        return np.concatenate([[0.0], np.cumsum(each)])

    def share_lost(self, kept: float) -> float:
        """The error that leaves such an energy."""
        return float(np.clip(1 - kept / self.energy, 0.0, 1.0)) if self.energy > 0 else 0.0

    def solved(self, features: int) -> Tensor:
        """[outputs, features, t] of the layer behind the features."""
        t = self.sizes[1]
        lower, right = self._system
        size = features * t
        found = right[:size] if lower is None else backward(lower[:size, :size], right[:size])
        return found.T.reshape(-1, features, t)
