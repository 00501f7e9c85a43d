"""Contractions over a window: Conv and ConvTranspose of any spatial rank, with explicit pads (begins, then ends).

Empty `strides`, `dilations` and `output_padding` mean all ones, ones and zeros; empty `pads` mean none.
Integer arguments accumulate in the bias's type, where sums wrap; it is then the type of the result. A bias of real
numbers may be f32 where the others are not: it is added before the result is rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from math import prod

import numpy as np

from ..errors import IRError
from ..ir import Attr, Type
from ..op import op
from .common import FLOATS, INTS, Ints, Tensor, equal_types, fill, require, widened

CACHED = 1 << 15  # results of a depthwise convolution that are made at a time
COLUMNS = 1 << 20  # elements of the columns of a convolution that are made at a time, about
NARROW = 64  # positions that a stretch has at least: products with a few columns are computed otherwise, and rounded so
_ATTRS: dict[str, Attr] = {"strides": (), "pads": (), "dilations": (), "group": 1}


def _window(rank: int, strides: Ints, pads: Ints, dilations: Ints) -> tuple[Ints, Ints, Ints]:
    """One entry per spatial axis (pads: two)."""
    ones = fill(strides, rank, 1, "strides"), fill(dilations, rank, 1, "dilations")
    return ones[0], fill(pads, 2 * rank, 0, "pads"), ones[1]


def _types(x: Type, w: Type, b: Type, strides: Ints, pads: Ints, dilations: Ints, group: int, out: int) -> None:
    rank = len(x.shape) - 2
    if rank < 1 or len(w.shape) != len(x.shape):
        raise IRError(f"input {x} and weights {w} need the same rank, 3 at least")
    if x.dtype in FLOATS:
        equal_types(x, w)
        if b.dtype not in (x.dtype, "f32") or x.dtype == "f64":
            equal_types(x, b)
    else:
        for t, what in ((x, "input"), (w, "weights"), (b, "bias")):
            require(t, INTS, what)
    if b.shape != (out,):
        raise IRError(f"bias {b} does not fit {out} output channels")
    if min((*strides, *dilations, group)) < 1 or min(pads, default=0) < 0 or prod(w.shape) == 0:
        raise IRError("strides, dilations and group are at least 1, pads at least 0, weights not empty")


def conv_type(x: Type, w: Type, b: Type, strides: Ints, pads: Ints, dilations: Ints, group: int) -> tuple[Type, ...]:
    """The result has the input's element type, of integers the bias's."""
    rank = len(x.shape) - 2
    s, p, d = _window(rank, strides, pads, dilations)
    _types(x, w, b, s, p, d, group, w.shape[0])
    if x.shape[1] != w.shape[1] * group or w.shape[0] % group:
        raise IRError(f"input {x} has {x.shape[1]} channels; weights {w} in {group} group(s) do not fit")
    reach = [(w.shape[k + 2] - 1) * d[k] + 1 for k in range(rank)]
    spatial = [(x.shape[k + 2] + p[k] + p[k + rank] - reach[k]) // s[k] + 1 for k in range(rank)]
    if min(spatial) < 1:
        raise IRError(f"window of weights {w} is larger than the padded input {x}")
    return (Type(_result(x, b), (x.shape[0], w.shape[0], *spatial)),)


def _result(x: Type, b: Type) -> str:
    return x.dtype if x.dtype in FLOATS else b.dtype


def _taps(kernel: Ints, dilations: Ints, strides: Ints, count: Ints) -> list[tuple[slice, ...]]:
    """For each position in the window, in row-major order, where the outputs read it in the padded input."""
    positions = product(*(range(k) for k in kernel))
    steps = list(zip(dilations, strides, count, strict=True))
    return [
        tuple(slice(k * d, k * d + (n - 1) * s + 1, s) for k, (d, s, n) in zip(at, steps, strict=True))
        for at in positions
    ]


def conv(x: Tensor, w: Tensor, b: Tensor, strides: Ints, pads: Ints, dilations: Ints, group: int) -> Tensor:
    """Cross-correlation through im2col and one matrix product per group; depthwise: one fused step per tap."""
    rank = x.ndim - 2
    s, p, d = _window(rank, strides, pads, dilations)
    xs, ws = _factors(x, w)
    xs = np.pad(xs, [(0, 0), (0, 0), *((p[k], p[k + rank]) for k in range(rank))]) if any(p) else xs
    kernel = w.shape[2:]
    count = tuple((xs.shape[k + 2] - (kernel[k] - 1) * d[k] - 1) // s[k] + 1 for k in range(rank))
    taps = _taps(kernel, d, s, count)
    n, out, inner = x.shape[0], w.shape[0], w.shape[1]
    if inner == 1 and group > 1:
        y = _depthwise(xs, ws.reshape(group, out // group, -1), taps, count)
    else:
        y = _products(xs, ws.reshape(group, out // group, -1), taps, count, s)
    return _shifted(y.reshape(n, out, *count), b, x)


def _products(x: Tensor, rows: Tensor, taps: Sequence[tuple[slice, ...]], count: Ints, strides: Ints) -> Tensor:
    """One matrix product per group, of a stretch of positions after the other: all columns at once are as many times
    larger than the input as there are taps."""
    n, (group, out, inputs) = x.shape[0], rows.shape
    if len(taps) == 1 and max(strides) == 1:
        return np.asarray(np.matmul(rows, x.reshape(n, group, inputs, prod(count))))
    y = np.empty((n, group, out, *count), np.result_type(x, rows))
    parts = max(1, min(n * group * inputs * prod(count) // COLUMNS, prod(count) // NARROW, count[0]))
    step = strides[0]
    for start, end in pairwise(k * count[0] // parts for k in range(parts + 1)):
        some = [(slice(t.start + start * step, t.start + (end - 1) * step + 1, step), *others) for t, *others in taps]
        columns = np.stack([x[(slice(None), slice(None), *tap)] for tap in some], axis=2)
        stretch = (end - start, *count[1:])
        made = np.matmul(rows, columns.reshape(n, group, inputs, prod(stretch)))
        y[:, :, :, start:end] = made.reshape(n, group, out, *stretch)
    return y


def _depthwise(x: Tensor, w: Tensor, taps: Sequence[tuple[slice, ...]], count: Ints) -> Tensor:
    """Tap by tap, a few channels at a time, so that what is in between stays in the cache."""
    n, group, each = x.shape[0], w.shape[0], w.shape[1]
    y = np.zeros((n, group, each, *count), x.dtype)
    step = max(1, CACHED // max(n * each * prod(count), 1))
    for at in range(0, group, step):
        some = slice(at, at + step)
        for tap, weights in zip(taps, w[some].transpose(2, 0, 1), strict=True):
            y[:, some] += x[(slice(None), some, None, *tap)] * weights.reshape(-1, each, *(1,) * len(count))
    return y


def _factors(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Arguments in the type of the sums: integers in f64 where that is exact, which is faster, else in i64."""
    if x.dtype.kind not in "iu":
        return widened(x), widened(w)
    largest = [max(abs(int(a.max(initial=0))), abs(int(a.min(initial=0)))) for a in (x, w)]
    exact = prod(largest) * w[0].size * w.shape[0] < 2**52
    return (x.astype(np.float64), w.astype(np.float64)) if exact else (x.astype(np.int64), w.astype(np.int64))


def _shifted(y: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """Sums and bias in the type of the result."""
    whole = b.dtype.kind in "iu"
    if whole:
        y, bias = y.astype(np.int64), b.astype(np.int64)
    else:
        bias = b.astype(y.dtype)
    y += bias.reshape(-1, *(1,) * (y.ndim - 2))  # sums are nobody else's
    return np.asarray(y).astype(b.dtype if whole else x.dtype, copy=False)


def _transposed(
    x: Type, w: Type, b: Type, strides: Ints, pads: Ints, dilations: Ints, group: int, output_padding: Ints
) -> tuple[Type, ...]:
    rank = len(x.shape) - 2
    s, p, d = _window(rank, strides, pads, dilations)
    extra = fill(output_padding, rank, 0, "output_padding")
    _types(x, w, b, s, p, d, group, w.shape[1] * group)
    if x.shape[1] != w.shape[0] or w.shape[0] % group:
        raise IRError(f"input {x} has {x.shape[1]} channels; weights {w} expect {w.shape[0]}")
    full = _full_size(x.shape[2:], w.shape[2:], s, d, extra)
    spatial = [n - p[k] - p[k + rank] for k, n in enumerate(full)]
    if min(spatial) < 1:
        raise IRError(f"pads {list(p)} leave nothing of the output {list(full)}")
    return (Type(_result(x, b), (x.shape[0], w.shape[1] * group, *spatial)),)


def _full_size(size: Ints, kernel: Ints, strides: Ints, dilations: Ints, extra: Ints) -> Ints:
    parts = zip(size, kernel, strides, dilations, extra, strict=True)
    return tuple((n - 1) * s + (k - 1) * d + 1 + e for n, k, s, d, e in parts)


def conv_transpose(
    x: Tensor, w: Tensor, b: Tensor, strides: Ints, pads: Ints, dilations: Ints, group: int, output_padding: Ints
) -> Tensor:
    """The gradient of Conv: every input pixel adds its window of weights to the output, from which pads are cut."""
    rank = x.ndim - 2
    s, p, d = _window(rank, strides, pads, dilations)
    xs, ws = _factors(x, w)
    full = _full_size(x.shape[2:], w.shape[2:], s, d, fill(output_padding, rank, 0, "output_padding"))
    n, out = x.shape[0], w.shape[1]
    inner = w.shape[0] // group
    columns = np.matmul(
        ws.reshape(group, inner, prod(w.shape[1:])).transpose(0, 2, 1), xs.reshape(n, group, inner, prod(x.shape[2:]))
    ).reshape(n, group * out, prod(w.shape[2:]), *x.shape[2:])
    y = np.zeros((n, group * out, *full), xs.dtype)
    for k, tap in enumerate(_taps(w.shape[2:], d, s, x.shape[2:])):
        y[(slice(None), slice(None), *tap)] += columns[:, :, k]
    cut = tuple(slice(p[k], m - p[k + rank]) for k, m in enumerate(full))
    return _shifted(y[(slice(None), slice(None), *cut)], b, x)


op("Conv", 3, conv_type, conv, kind="contract", attrs=_ATTRS)
op("ConvTranspose", 3, _transposed, conv_transpose, kind="contract", attrs={**_ATTRS, "output_padding": ()})
