"""Weighted sums of a few positions along one axis, positions and weights being data: resampling with any filter."""

from __future__ import annotations

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import REQUIRED, op
from .common import NUMBERS, Tensor, axis_in, require


def _blended(x: Type, positions: Type, weights: Type, axis: int) -> tuple[Type, ...]:
    at = axis_in(axis, len(x.shape))
    require(x, NUMBERS)
    require(positions, frozenset({"i32"}), "positions")
    require(weights, frozenset({"f32", "f64"}), "weights")
    if len(positions.shape) != 2 or positions.shape != weights.shape or not x.shape[at]:
        raise IRError(f"positions {positions} and weights {weights} do not blend {x}")
    return (Type(weights.dtype, (*x.shape[:at], positions.shape[1], *x.shape[at + 1 :])),)


def blend(x: Tensor, positions: Tensor, weights: Tensor, axis: int) -> Tensor:
    """y[.. i ..] = sum over t of weights[t, i] * x[.. positions[t, i] ..], computed in the type of the weights.

    Positions are clamped into the axis.
    """
    at = axis % x.ndim
    positions = np.clip(positions, 0, x.shape[at] - 1)
    y = np.zeros((*x.shape[:at], positions.shape[1], *x.shape[at + 1 :]), weights.dtype)
    for where, factor in zip(positions, weights, strict=True):
        y += np.take(x, where, at).astype(weights.dtype) * factor.reshape(-1, *(1,) * (x.ndim - at - 1))
    return y


op("Edgec.Blend", 3, _blended, blend, kind="contract", attrs={"axis": REQUIRED})
