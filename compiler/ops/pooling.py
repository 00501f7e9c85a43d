"""Windows: MaxPool, positions of its elements, AveragePool; any spatial rank, explicit pads (begins, then ends)."""

from __future__ import annotations

from functools import reduce
from itertools import product
from math import prod
from typing import Any

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import REQUIRED, op
from .common import FLOATS, NUMBERS, Infer, Ints, Tensor, dtype_of, fill, limits, require, widened

ATTRS = {"kernel_shape": REQUIRED, "strides": (), "pads": (), "dilations": (), "ceil_mode": 0}


def pooled_size(size: int, kernel: int, stride: int, begin: int, end: int, dilation: int, ceil_mode: int) -> int:
    """Number of windows along one axis; in ceil mode none starts in the end padding."""
    room = size + begin + end - (kernel - 1) * dilation - 1
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + begin else count


def windows(
    shape: Ints, kernel_shape: Ints, strides: Ints, pads: Ints, dilations: Ints, ceil_mode: int
) -> tuple[Ints, Ints, Ints, Ints]:
    """Strides, pads, dilations and output size, each with one entry per spatial axis (pads: two)."""
    rank = len(shape)
    kernel = fill(kernel_shape, rank, 0, "kernel_shape")
    s, p, d = fill(strides, rank, 1, "strides"), fill(pads, 2 * rank, 0, "pads"), fill(dilations, rank, 1, "dilations")
    if not rank or min((*kernel, *s, *d)) < 1 or min(p) < 0:
        raise IRError("kernel_shape, strides and dilations are at least 1, pads at least 0")
    size = tuple(pooled_size(n, kernel[k], s[k], p[k], p[k + rank], d[k], ceil_mode) for k, n in enumerate(shape))
    if min(size) < 1:
        raise IRError(f"window {list(kernel)} is larger than the padded input {list(shape)}")
    return s, p, d, size


def _pooled(allowed: frozenset[str]) -> Infer:
    def infer(
        x: Type, kernel_shape: Ints, strides: Ints, pads: Ints, dilations: Ints, ceil_mode: int, **_: int
    ) -> tuple[Type, ...]:
        require(x, allowed)
        size = windows(x.shape[2:], kernel_shape, strides, pads, dilations, ceil_mode)[-1]
        return (Type(x.dtype, (*x.shape[:2], *size)),)

    return infer


def folded(x: Tensor, value: float, kernel: Ints, s: Ints, p: Ints, d: Ints, size: Ints, fn: np.ufunc) -> Tensor:
    """`fn` over every window of `x` padded with `value`, as far as the last window reaches."""
    rank = len(kernel)
    reach = [(size[k] - 1) * s[k] + (kernel[k] - 1) * d[k] + 1 for k in range(rank)]
    end = [max(reach[k] - x.shape[k + 2] - p[k], 0) for k in range(rank)]
    padded = np.pad(x, [(0, 0), (0, 0), *zip(p, end, strict=False)], constant_values=np.asarray(value, x.dtype))
    y: Tensor | None = None
    for at in product(*(range(k) for k in kernel)):
        tap = tuple(slice(a * d[k], a * d[k] + (size[k] - 1) * s[k] + 1, s[k]) for k, a in enumerate(at))
        part = padded[(slice(None), slice(None), *tap)]
        y = part.copy() if y is None else fn(y, part, out=y)
    assert y is not None
    return y


def max_pool(x: Tensor, kernel_shape: Ints, strides: Ints, pads: Ints, dilations: Ints, ceil_mode: int) -> Tensor:
    """Padding never wins."""
    s, p, d, size = windows(x.shape[2:], kernel_shape, strides, pads, dilations, ceil_mode)
    return folded(x, limits(dtype_of(x))[0], kernel_shape, s, p, d, size, np.maximum)


def _placed(x: Type, storage_order: int, **attrs: Any) -> tuple[Type, ...]:
    (t,) = _pooled(NUMBERS)(x, **attrs)
    return (Type("i64", t.shape),)


def max_pool_place(
    x: Tensor,
    kernel_shape: Ints,
    strides: Ints,
    pads: Ints,
    dilations: Ints,
    ceil_mode: int,
    storage_order: int,
) -> Tensor:
    """Where the greatest element of each window lies in `x` as one line: the first of equal ones, NaN above all.

    With storage_order the first axis of a plane moves fastest. Windows of nothing but padding point at their plane.
    """
    size = x.shape[2:]
    s, p, d, count = windows(size, kernel_shape, strides, pads, dilations, ceil_mode)
    best = np.full((*x.shape[:2], *count), limits(dtype_of(x))[0]).astype(widened(x).dtype)
    place = np.full(best.shape, -1)
    for at in product(*(range(k) for k in kernel_shape)):
        taps = [np.arange(count[k]) * s[k] - p[k] + a * d[k] for k, a in enumerate(at)]
        grid = np.ix_(*taps)
        inside = reduce(np.logical_and, ((t >= 0) & (t < n) for t, n in zip(grid, size, strict=True)))
        clamped: Any = np.ix_(*(np.clip(t, 0, n - 1) for t, n in zip(taps, size, strict=True)))
        part = widened(x)[(slice(None), slice(None), *clamped)]
        unordered = (part != part) & (best == best)
        takes = inside & ((place < 0) | (part > best) | unordered)
        here = sum(t * (prod(size[:k]) if storage_order else prod(size[k + 1 :])) for k, t in enumerate(clamped))
        best, place = np.where(takes, part, best), np.where(takes, here, place)
    planes = np.arange(prod(x.shape[:2])).reshape(*x.shape[:2], *(1,) * len(size)) * prod(size)
    return np.asarray(np.maximum(place, 0) + planes, np.int64)


def average_pool(
    x: Tensor, kernel_shape: Ints, strides: Ints, pads: Ints, dilations: Ints, ceil_mode: int, count_include_pad: int
) -> Tensor:
    """Divides by the elements that a window covers; declared padding counts with count_include_pad, the rest never."""
    s, p, d, size = windows(x.shape[2:], kernel_shape, strides, pads, dilations, ceil_mode)
    total = folded(widened(x), 0, kernel_shape, s, p, d, size, np.add)
    count = covered(x.shape[2:], kernel_shape, strides, pads, dilations, ceil_mode, count_include_pad)
    return np.asarray(total / count.astype(total.dtype)).astype(x.dtype)


def covered(
    shape: Ints, kernel_shape: Ints, strides: Ints, pads: Ints, dilations: Ints, ceil_mode: int, count_include_pad: int
) -> Tensor:
    """How many elements each window over a plane of a shape covers: f64[1, 1, windows]."""
    s, p, d, size = windows(shape, kernel_shape, strides, pads, dilations, ceil_mode)
    ones = np.ones((1, 1, *shape))
    if count_include_pad:
        rank = len(size)
        ones = np.pad(ones, [(0, 0), (0, 0), *((p[k], p[k + rank]) for k in range(rank))], constant_values=1)
        return folded(ones, 0, kernel_shape, s, (0,) * 2 * rank, d, size, np.add)
    return folded(ones, 0, kernel_shape, s, p, d, size, np.add)


op("MaxPool", 1, _pooled(NUMBERS), max_pool, kind="window", attrs=ATTRS)
op("AveragePool", 1, _pooled(FLOATS), average_pool, kind="window", attrs={**ATTRS, "count_include_pad": 0})
op("Edgec.MaxPoolPlace", 1, _placed, max_pool_place, kind="window", attrs={**ATTRS, "storage_order": 0})
