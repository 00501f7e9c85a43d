"""Converters of convolutions and pooling: every pad explicit, every bias there."""

from __future__ import annotations

from math import prod

import numpy as np

from ..errors import EdgecError
from ..ir import Attr, Value
from ..op import const_array, is_const
from ..ops.pooling import pooled_size
from .context import Context
from .table import Result, converts

Ints = tuple[int, ...]


def spatial(c: Context, key: str, count: int, default: int) -> Ints:
    """An attribute with an entry per axis of the window; a default where it is missing."""
    given = c.attr(key)
    values = (default,) * count if not given else tuple(int(v) for v in given)
    if len(values) != count:
        raise EdgecError(f"{c.where}: {key} has {len(values)} entries; expected {count}")
    return values


def _split_pads(total: Ints, lower: bool) -> Ints:
    """Begins, then ends; an odd one goes to the end, or for SAME_LOWER to the begin."""
    begin = tuple((n + 1) // 2 if lower else n // 2 for n in total)
    return begin + tuple(n - b for n, b in zip(total, begin, strict=True))


def _pads(c: Context, kernel: Ints, strides: Ints, dilations: Ints) -> Ints:
    """The attribute `pads`, or what auto_pad makes of it."""
    rank, auto = len(kernel), c.attr("auto_pad", "NOTSET") or "NOTSET"
    if auto == "NOTSET":
        return spatial(c, "pads", 2 * rank, 0)
    if auto == "VALID":
        return (0,) * 2 * rank
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise EdgecError(f"{c.where}: auto_pad {auto!r} is unknown")
    total = []
    for n, k, s, d in zip(c.shape[2:], kernel, strides, dilations, strict=True):
        total.append(max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0))
    return _split_pads(tuple(total), auto == "SAME_LOWER")


def _window(c: Context, kernel: Ints) -> tuple[Ints, Ints, Ints]:
    """Strides, dilations, pads."""
    rank = c.rank - 2
    if rank < 1 or len(kernel) != rank:
        raise EdgecError(f"{c.where}: a window of {list(kernel)} does not fit {c.arg().type}")
    strides, dilations = spatial(c, "strides", rank, 1), spatial(c, "dilations", rank, 1)
    if min((*strides, *dilations, *kernel)) < 1:
        raise EdgecError(f"{c.where}: kernel_shape, strides and dilations are at least 1")
    return strides, dilations, _pads(c, kernel, strides, dilations)


@converts("Conv")
def conv(c: Context) -> Result:
    """Three arguments; a bias that is missing is zero. Negative pads cut the input first."""
    x, w = c.arg(0), c.arg(1)
    strides, dilations, pads = _window(c, w.shape[2:])
    if min(pads) < 0:
        rank = c.rank - 2
        cut = (0, 0, *pads[:rank], 0, 0, *pads[rank:])
        x, pads = c.emit("Pad", x, pads=cut), (0,) * len(pads)
    bias = c.arg(2) if c.has(2) else c.const(np.zeros(w.shape[0]), like=x)
    return c.emit("Conv", x, w, bias, strides=strides, pads=pads, dilations=dilations, group=int(c.attr("group", 1)))


@converts("ConvTranspose")
def conv_transpose(c: Context) -> Result:
    """output_shape and auto_pad become pads, and output_padding where the output is larger than the windows reach."""
    x, w, rank = c.arg(0), c.arg(1), c.rank - 2
    kernel, group = w.shape[2:], int(c.attr("group", 1))
    if rank < 1 or len(kernel) != rank:
        raise EdgecError(f"{c.where}: weights {w.type} do not fit {x.type}")
    strides, dilations = spatial(c, "strides", rank, 1), spatial(c, "dilations", rank, 1)
    extra = list(spatial(c, "output_padding", rank, 0))
    auto, wanted = c.attr("auto_pad", "NOTSET") or "NOTSET", c.attr("output_shape")
    if wanted or auto in ("SAME_UPPER", "SAME_LOWER"):
        sizes = wanted[-rank:] if wanted else [n * s for n, s in zip(c.shape[2:], strides, strict=True)]
        total = []
        for k, n in enumerate(c.shape[2:]):
            left = (n - 1) * strides[k] + extra[k] + (kernel[k] - 1) * dilations[k] + 1 - int(sizes[k])
            extra[k] += max(-left, 0)
            total.append(max(left, 0))
        pads = _split_pads(tuple(total), auto != "SAME_UPPER")
    else:
        pads = (0,) * 2 * rank if auto == "VALID" else spatial(c, "pads", 2 * rank, 0)
    bias = c.arg(2) if c.has(2) else c.const(np.zeros(w.shape[1] * group), like=x)
    return c.emit(
        "ConvTranspose",
        x,
        w,
        bias,
        strides=strides,
        pads=pads,
        dilations=dilations,
        group=group,
        output_padding=tuple(extra),
    )


@converts("MaxPool", "AveragePool")
def pool(c: Context) -> Result:
    """ceil_mode only stays where it changes the size. The second result of MaxPool is found for itself."""
    kernel = tuple(int(k) for k in c.attr("kernel_shape", ()))
    strides, dilations, pads = _window(c, kernel)
    rank, ceil_mode = len(kernel), 0
    if c.attr("ceil_mode", 0) and c.attr("auto_pad", "NOTSET") in ("", "NOTSET"):
        kernel, strides = _ends_with_input(c.shape[2:], kernel, strides, pads, dilations)
        windows = [(n, kernel[k], strides[k], pads[k], pads[k + rank], dilations[k]) for k, n in enumerate(c.shape[2:])]
        ceil_mode = int(any(pooled_size(*w, 0) != pooled_size(*w, 1) for w in windows))
    attrs: dict[str, Attr] = {"kernel_shape": kernel, "strides": strides, "pads": pads, "dilations": dilations}
    attrs["ceil_mode"] = ceil_mode
    if c.op == "AveragePool":
        attrs["count_include_pad"] = int(c.attr("count_include_pad", 0))
    y = c.emit(c.op, c.arg(), **attrs)
    if not c.wants(1):
        return y
    order = int(c.attr("storage_order", 0))
    return y, c.emit("Edgec.MaxPoolPlace", c.arg(), **attrs, storage_order=order)


def _ends_with_input(sizes: Ints, kernel: Ints, strides: Ints, pads: Ints, dilations: Ints) -> tuple[Ints, Ints]:
    """Kernel and strides of windows that end with the padded input, past which ceil_mode lets a lone one reach."""
    taps, steps = list(kernel), list(strides)
    for k, n in enumerate(sizes):
        begin, end = pads[k], pads[k + len(sizes)]
        alone = pooled_size(n, kernel[k], strides[k], begin, end, dilations[k], 1) == 1
        if alone and dilations[k] == 1 and kernel[k] > begin + n + end:
            taps[k] = steps[k] = begin + n + end
    return tuple(taps), tuple(steps)


@converts("LpPool")
def lp_pool(c: Context) -> Result:
    """(sum |x|^p)^(1/p) through the mean over windows of an input that zeros make as large as they reach."""
    kernel, p = tuple(int(k) for k in c.attr("kernel_shape", ())), int(c.attr("p", 2))
    strides, dilations, pads = _window(c, kernel)
    rank, x = len(kernel), c.cast(c.arg(), "f64" if c.dtype == "f64" else "f32")
    mode = int(c.attr("ceil_mode", 0)) if c.attr("auto_pad", "NOTSET") in ("", "NOTSET") else 0
    ends = []
    for k, n in enumerate(c.shape[2:]):
        count = pooled_size(n, kernel[k], strides[k], pads[k], pads[k + rank], dilations[k], mode)
        reach = (count - 1) * strides[k] + (kernel[k] - 1) * dilations[k] + 1
        ends.append(max(reach - n - pads[k], pads[k + rank]))
    magnitude = c.emit("Abs", x)
    powers = magnitude if p == 1 else c.emit("Mul", x, x) if p == 2 else c.emit("Pow", magnitude, c.const(p, like=x))
    if mode and tuple(ends) != pads[rank:]:
        powers, pads = c.emit("Pad", powers, pads=(0, 0, *pads[:rank], 0, 0, *ends)), (0,) * 2 * rank
    mean = c.emit(
        "AveragePool",
        powers,
        kernel_shape=kernel,
        strides=strides,
        pads=pads,
        dilations=dilations,
        count_include_pad=1,
    )
    total = c.emit("Mul", mean, c.const(prod(kernel), like=x))
    root = total if p == 1 else c.emit("Sqrt", total) if p == 2 else c.emit("Pow", total, c.const(1 / p, like=x))
    return c.cast(root, c.dtype)


@converts("ConvInteger")
def conv_integer(c: Context) -> Result:
    """Zero points are taken off first, so that padding stands for zero."""
    x, w = _shifted(c, 0, 2), _shifted(c, 1, 3)
    strides, dilations, pads = _window(c, w.shape[2:])
    bias = c.const(np.zeros(w.shape[0], np.int32))
    return c.emit("Conv", x, w, bias, strides=strides, pads=pads, dilations=dilations, group=int(c.attr("group", 1)))


def _shifted(c: Context, index: int, zero: int) -> Value:
    x = c.cast(c.arg(index), "i32")
    if not c.has(zero):
        return x
    point = c.arg(zero)
    if is_const(point) and not np.any(const_array(point)):
        return x
    shape = (-1 if len(point.shape) == 1 and point.shape[0] > 1 else 1, *(1,) * (len(x.shape) - 1))
    sized = tuple(point.shape[0] if n == -1 else n for n in shape)
    return c.emit("Sub", x, c.reshape(c.cast(point, "i32"), sized))
