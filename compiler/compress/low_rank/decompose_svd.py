"""Two layers through fewer channels: the whole window first, then a matrix product or 1x1 convolution.

The results' principal components (Zhang, Zou, He and Sun, "Accelerating very deep convolutional networks for
classification and detection", 2016, section 3.1): with results y = W x of covariance C = W S W', the projection on the
first r eigenvectors U of C has the least error that rank r allows, and W ~ U (U'W). It is the singular value
decomposition of W L for S = L L', as SVD-LLM (Wang et al., 2024) whitens, without L's inverse; without calibration data
that of W.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import prod
from typing import Literal

import numpy as np

from ...ops.common import Tensor
from .decompose import Method, Rank, eigenvectors, method, seen, steps
from .pieces import Piece


class Principal:
    """Principal components of the results."""

    def __init__(self, weights: Tensor, covariance: Tensor | None) -> None:
        self.shape = weights.shape
        self.flat = weights.reshape(len(weights), -1).astype(np.float64)
        self.covariance = covariance

    @cached_property
    def _components(self) -> tuple[Tensor, Tensor]:
        return eigenvectors(seen(self.flat, self.covariance) @ self.flat.T)

    def error(self, rank: Rank) -> float:
        values = self._components[0]
        return float(values[rank[0] :].sum() / values.sum()) if values.sum() > 0 else 0.0

    def factors(self, rank: Rank) -> Sequence[Tensor]:
        (r,) = rank
        first = self._components[1][:, :r]
        window = (1,) * (len(self.shape) - 2)
        return (first.T @ self.flat).reshape(r, *self.shape[1:]), first.reshape(-1, r, *window)


def _fits(piece: Piece) -> Literal[True] | str:
    return True if min(piece.outputs, prod(piece.shape[1:])) > 1 else "has one channel"


def _ranks(piece: Piece, step: int) -> list[Rank]:
    return [(r,) for r in steps(min(piece.outputs, prod(piece.shape[1:])), step)]


def _pieces(piece: Piece, rank: Rank) -> Sequence[Piece]:
    (r,) = rank
    every = range(len(piece.window))
    return piece.along(r, piece.inputs, every), piece.pointwise(piece.outputs, r)


SVD = method(Method("svd", "window to r channels, then 1x1", _fits, _ranks, _pieces, Principal))
