"""Sampling between elements at positions that are data: GridSample, and the arithmetic of samples.

`taps` gives positions and weights along one axis; code generation follows it step by step.
"""

from __future__ import annotations

from functools import reduce
from itertools import product
from math import prod
from typing import Any

import numpy as np

from ..dtypes import dtype
from ..errors import IRError
from ..ir import Type
from ..op import op
from .common import FLOATS, ORDERED, Tensor, dtype_of, reach, require, widened

MODES = ("nearest", "linear", "cubic")
PADDINGS = ("zeros", "border", "reflection")
CUBIC_A = -0.75
FAR = 4.0  # elements beyond the border: no tap of a position that lies further reaches back


def wide_kind(name: str) -> str:
    """In which type samples of an element type are weighed."""
    return "f64" if name == "f64" or dtype(name).is_int else "f32"


def pixels(at: Tensor, size: int, corners: bool) -> Tensor:
    """Positions in elements from normalized ones: -1 and 1 are the outer elements' centres, or their outer edges."""
    one = at.dtype.type(1)
    return np.asarray((at + one) / 2 * (size - 1) if corners else ((at + one) * size - one) / 2)


def reflected(x: Tensor, low: float, high: float) -> Tensor:
    """Positions folded into [low, high]."""
    span = x.dtype.type(high - low)
    if span == 0:
        return np.full_like(x, low)
    beyond = np.where(x < low, low - x, x - high).astype(x.dtype)
    folds = np.floor(beyond / span)
    rest = beyond - folds * span
    even = folds - 2 * np.floor(folds / 2) == 0
    folded = np.where((x < low) == even, low + rest, high - rest).astype(x.dtype)
    return np.where((x < low) | (x > high), inside(folded, low, high), x)


def inside(x: Tensor, low: float, high: float) -> Tensor:
    """Clamped; not a number counts as too low."""
    return np.where(x > low, np.where(x < high, x, x.dtype.type(high)), x.dtype.type(low))


def cubic(t: Tensor) -> list[Tensor]:
    """Weights of the four neighbours of a position that lies `t` behind the second (Keys, 1981)."""
    a, one = t.dtype.type(CUBIC_A), t.dtype.type(1)

    def near(u: Tensor) -> Tensor:
        return np.asarray(((a + 2) * u - (a + 3)) * u * u + one)

    def far(u: Tensor) -> Tensor:
        return np.asarray(((a * u - 5 * a) * u + 8 * a) * u - 4 * a)

    return [far(t + one), near(t), near(one - t), far(2 * one - t)]


def taps(x: Tensor, size: int, mode: str, padding: str, corners: bool) -> list[tuple[Tensor, Tensor]]:
    """(positions within the axis, weights) of each tap. With zeros outside, a weight of zero says that nothing is read.

    A position that is not a number counts as one far below. Border values stand for elements outside, of which a cubic
    near the border reads some (as PyTorch does; onnx.reference moves such positions onto the border instead).
    """
    x = np.rint(x) if mode == "nearest" else x
    if padding == "reflection":
        x = reflected(x, 0.0 if corners else -0.5, size - (1.0 if corners else 0.5))
    x = inside(x, -FAR, size - 1 + FAR)
    base = np.floor(x)
    t = (x - base).astype(x.dtype)
    if mode == "nearest":
        found = [(0, np.ones_like(t))]
    elif mode == "linear":
        found = [(0, 1 - t), (1, t)]
    else:
        found = list(zip(range(-1, 3), cubic(t), strict=True))
    first = base.astype(np.int64)
    result = []
    for offset, weight in found:
        at = first + offset
        if padding == "reflection":
            at = _mirrored(at, size, corners)
        here = (at >= 0) & (at < size)
        weight = np.where(here, weight, 0) if padding == "zeros" else weight
        result.append((np.clip(at, 0, size - 1), weight))
    return result


def _mirrored(at: Tensor, size: int, corners: bool) -> Tensor:
    period = max(2 * (size - 1), 1) if corners else 2 * size
    turn = at % period
    return np.asarray(np.minimum(turn, period - turn if corners else period - 1 - turn))


def elements(x: Tensor, places: list[Tensor]) -> Tensor:
    """[N, C, points] of x [N, C, sizes] at [N, points] per axis."""
    index: list[Any] = [np.arange(x.shape[0])[:, None], slice(None), *places]
    return np.moveaxis(x[tuple(index)], -1, 1)


def sampled(x: Tensor, axes: list[list[tuple[Tensor, Tensor]]], kind: str, skip: bool) -> Tensor:
    """[N, C, points] of x [N, C, sizes]; taps per axis are [N, points]. `skip`: weights of zero read nothing."""
    wide = np.dtype(dtype(kind).numpy)
    total = np.zeros((*x.shape[:2], axes[0][0][0].shape[1]), wide)
    for chosen in product(*axes):
        weight = reduce(np.multiply, (w.astype(wide) for _, w in chosen))
        values = elements(x, [p for p, _ in chosen]).astype(wide)
        part = values * weight[:, None]
        total += np.where(weight[:, None] == 0, wide.type(0), part) if skip else part
    return total


def grid_sample(x: Tensor, grid: Tensor, mode: str, padding_mode: str, align_corners: int) -> Tensor:
    """The grid's numbers are x, y, z: of the last axis first."""
    sizes, rank = x.shape[2:], x.ndim - 2
    points = widened(grid).reshape(grid.shape[0], prod(grid.shape[1:-1]), rank)
    axes = [
        taps(pixels(points[..., rank - 1 - k], n, bool(align_corners)), n, mode, padding_mode, bool(align_corners))
        for k, n in enumerate(sizes)
    ]
    shape = (*x.shape[:2], *grid.shape[1:-1])
    kind = dtype_of(x)
    if mode == "nearest":
        values = elements(x, [p for ((p, _),) in axes])
        here = reduce(np.logical_and, (w != 0 for ((_, w),) in axes))
        return np.where(here[:, None], values, np.zeros((), x.dtype)).reshape(shape)
    y = sampled(x, axes, wide_kind(kind), padding_mode == "zeros").reshape(shape)
    return (np.clip(np.trunc(y), *reach(kind)) if dtype(kind).is_int else y).astype(x.dtype)


def _grid_sampled(x: Type, grid: Type, mode: str, padding_mode: str, align_corners: int) -> tuple[Type, ...]:
    require(x, ORDERED)
    require(grid, FLOATS, "grid")
    rank = len(x.shape) - 2
    if not 1 <= rank <= 3 or len(grid.shape) != rank + 2 or grid.shape[-1] != rank or grid.shape[0] != x.shape[0]:
        raise IRError(f"a grid of {grid} does not fit {x} with 1 to 3 spatial axes")
    if mode not in MODES or padding_mode not in PADDINGS:
        raise IRError(f"mode {mode!r} or padding_mode {padding_mode!r} is unknown; expected one of {MODES}, {PADDINGS}")
    if 0 in x.shape[2:]:
        raise IRError(f"{x} has no elements to sample")
    return (Type(x.dtype, (*x.shape[:2], *grid.shape[1:-1])),)


op(
    "GridSample",
    2,
    _grid_sampled,
    grid_sample,
    kind="other",
    attrs={"mode": "linear", "padding_mode": "zeros", "align_corners": 0},
    alone=True,
)
