"""Windows: MaxPool and AveragePool of any spatial rank, with explicit pads (begins, then ends)."""

from __future__ import annotations

from itertools import product

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import REQUIRED, op
from .common import FLOATS, NUMBERS, Infer, Ints, Tensor, dtype_of, fill, limits, require, widened

_ATTRS = {"kernel_shape": REQUIRED, "strides": (), "pads": (), "dilations": (), "ceil_mode": 0}


def pooled_size(size: int, kernel: int, stride: int, begin: int, end: int, dilation: int, ceil_mode: int) -> int:
    """Number of windows along one axis; in ceil mode none starts in the end padding."""
    room = size + begin + end - (kernel - 1) * dilation - 1
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + begin else count


def _windows(
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
        size = _windows(x.shape[2:], kernel_shape, strides, pads, dilations, ceil_mode)[-1]
        return (Type(x.dtype, (*x.shape[:2], *size)),)

    return infer


def _fold(x: Tensor, value: float, kernel: Ints, s: Ints, p: Ints, d: Ints, size: Ints, fn: np.ufunc) -> Tensor:
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
    s, p, d, size = _windows(x.shape[2:], kernel_shape, strides, pads, dilations, ceil_mode)
    return _fold(x, limits(dtype_of(x))[0], kernel_shape, s, p, d, size, np.maximum)


def average_pool(
    x: Tensor, kernel_shape: Ints, strides: Ints, pads: Ints, dilations: Ints, ceil_mode: int, count_include_pad: int
) -> Tensor:
    """Divides by the elements that a window covers; declared padding counts with count_include_pad, the rest never."""
    s, p, d, size = _windows(x.shape[2:], kernel_shape, strides, pads, dilations, ceil_mode)
    total = _fold(widened(x), 0, kernel_shape, s, p, d, size, np.add)
    ones = np.ones((1, 1, *x.shape[2:]), total.dtype)
    if count_include_pad:
        rank = len(size)
        ones = np.pad(ones, [(0, 0), (0, 0), *((p[k], p[k + rank]) for k in range(rank))], constant_values=1)
        count = _fold(ones, 0, kernel_shape, s, (0,) * 2 * rank, d, size, np.add)
    else:
        count = _fold(ones, 0, kernel_shape, s, p, d, size, np.add)
    return (total / count).astype(x.dtype)


op("MaxPool", 1, _pooled(NUMBERS), max_pool, kind="window", attrs=_ATTRS)
op("AveragePool", 1, _pooled(FLOATS), average_pool, kind="window", attrs={**_ATTRS, "count_include_pad": 0})
