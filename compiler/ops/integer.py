"""Arithmetic on quantized tensors: sums of products in 32 bits, and the one way in which sums become 8 bits again.

A tensor of 8 bits stands for (stored - zero point) * scale. Zero points are attributes here; scales appear only as
the multipliers of `Edgec.Rescale`, quotients of scales in f32. docs/quantization.md says what models become.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import REQUIRED, op
from .common import Ints, Tensor, axis_in, broadcast, check_axes, dtype_of, limits, require
from .convolution import conv, conv_type
from .pooling import ATTRS as POOL_ATTRS
from .pooling import folded, windows

BYTES = frozenset({"u8", "i8"})
SUMS = frozenset({"Edgec.ConvInteger", "Edgec.MatMulInteger", "Edgec.MulInteger", "Edgec.SumPool", "Edgec.Sum"})
ON_BYTES = SUMS | {"Edgec.Rescale", "Edgec.RescaleOnce", "Edgec.Table", "Edgec.SoftmaxInteger"}
TERMS = frozenset({"u8", "i8", "i16", "u16", "i32", "f32"})
SUFFIX = "_sums"  # behind a layer's name where integers compute it
USUAL_SHIFT, MOST_SHIFT = 2, 16  # by which biases of 16 bits are moved
BIASES, MULTIPLIERS = frozenset({"i32", "i16"}), frozenset({"f32", "bf16"})


def biases(stored: Tensor, shift: int) -> Tensor:
    """A bias in 32 bits: what is stored, moved up by `shift` bits."""
    return np.asarray(stored.astype(np.int32) << np.int32(shift))


def shift_of(whole: Tensor) -> int:
    """By how many bits a bias is moved at least so that 16 bits hold it: one of few numbers, so that layers share
    code."""
    most = int(np.maximum(whole.astype(np.int64), -1 - whole.astype(np.int64)).max(initial=0))
    bits = max(most.bit_length() - 15, 0)
    return bits + bits % 2


def _shift(bias: Type, shift: int) -> None:
    if not 0 <= shift <= (MOST_SHIFT if bias.dtype == "i16" else 0):
        raise IRError(f"a bias {bias} is not moved by {shift} bits")


def _point(name: str, zero: int, what: str) -> None:
    low, high = limits(name)
    if not low <= zero <= high:
        raise IRError(f"zero point {zero} of the {what} does not fit {name}")


def _conv(
    x: Type, w: Type, b: Type, strides: Ints, pads: Ints, dilations: Ints, group: int, zero: int, shift: int
) -> tuple[Type, ...]:
    require(x, BYTES, "input")
    require(w, frozenset({"i8"}), "weights")
    require(b, BIASES, "bias")
    _point(x.dtype, zero, "input")
    _shift(b, shift)
    return conv_type(x, w, Type("i32", b.shape), strides, pads, dilations, group)


def conv_integer(
    x: Tensor, w: Tensor, b: Tensor, strides: Ints, pads: Ints, dilations: Ints, group: int, zero: int, shift: int
) -> Tensor:
    """Sums of (x - zero) * w, + b << shift, in 32 bits that wrap; padding stands for the zero point and adds
    nothing."""
    return conv(x.astype(np.int16) - np.int16(zero), w, biases(b, shift), strides, pads, dilations, group)


def _matmul(a: Type, b: Type, bias: Type, a_zero: int, b_zero: int, shift: int) -> tuple[Type, ...]:
    require(a, BYTES, "first argument")
    require(b, BYTES, "second argument")
    require(bias, BIASES, "bias")
    _point(a.dtype, a_zero, "first argument")
    _point(b.dtype, b_zero, "second argument")
    _shift(bias, shift)
    if len(a.shape) < 2 or len(b.shape) < 2 or a.shape[-1] != b.shape[-2]:
        raise IRError(f"{a} and {b} do not multiply; expected [..., m, k] and [..., k, n]")
    if bias.shape not in ((1,), (b.shape[-1],)):
        raise IRError(f"bias {bias} does not fit {b.shape[-1]} columns")
    return (Type("i32", (*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])),)


def matmul_integer(a: Tensor, b: Tensor, bias: Tensor, a_zero: int, b_zero: int, shift: int) -> Tensor:
    """Sums of (a - a_zero) * (b - b_zero), + bias of the column << shift, in 32 bits that wrap."""
    left, right = (x.astype(np.float64) - z for x, z in ((a, a_zero), (b, b_zero)))  # exact below 2**53
    return np.asarray((left @ right).astype(np.int64) + biases(bias, shift).astype(np.int64)).astype(np.int32)


def _product(a: Type, b: Type, a_zero: int, b_zero: int) -> tuple[Type, ...]:
    require(a, BYTES, "first argument")
    require(b, BYTES, "second argument")
    _point(a.dtype, a_zero, "first argument")
    _point(b.dtype, b_zero, "second argument")
    return (Type("i32", broadcast(a.shape, b.shape)),)


def mul_integer(a: Tensor, b: Tensor, a_zero: int, b_zero: int) -> Tensor:
    """(a - a_zero) * (b - b_zero)."""
    return np.asarray((a.astype(np.int32) - a_zero) * (b.astype(np.int32) - b_zero))


def _rescaled(*types: Type, zeros: Ints, to: str, zero: int, low: int, high: int) -> tuple[Type, ...]:
    if len(types) % 2 or len(types) != 2 * len(zeros):
        raise IRError(f"{len(types)} arguments and {len(zeros)} zero points; expected terms, then as many multipliers")
    require(Type(to, ()), BYTES, "result")
    least, most = limits(to)
    if not least <= low <= high <= most:
        raise IRError(f"limits {low} .. {high} are no part of {to}")
    _point(to, zero, "result")
    terms, multipliers = types[: len(zeros)], types[len(zeros) :]
    for term, z in zip(terms, zeros, strict=True):
        require(term, TERMS, "term")
        if term.dtype != "f32":
            _point(term.dtype, z, "term")
        elif z:
            raise IRError(f"zero point {z} of a real term; expected 0")
    for multiplier in multipliers:
        require(multiplier, MULTIPLIERS, "multiplier")
    shape = broadcast(*(t.shape for t in terms))
    if broadcast(shape, *(m.shape for m in multipliers)) != shape:
        raise IRError(f"multipliers {', '.join(map(str, multipliers))} are larger than the result {list(shape)}")
    return (Type(to, shape),)


def rescale(*args: Tensor, zeros: Ints, to: str, zero: int, low: int, high: int) -> Tensor:
    """Terms and as many multipliers: the sum of (term - its zero) * multiplier, rounded half to even, + `zero`, at
    least `low` and at most `high`.

    Differences are taken in 32 bits, then everything is f32 and rounded at each step, products before they are added.
    A term may be f32 already.
    """
    count = len(zeros)
    total: Any = None
    for term, multiplier, z in zip(args[:count], args[count:], zeros, strict=True):
        real = term if term.dtype == np.float32 else (term.astype(np.int32) - np.int32(z)).astype(np.float32)
        part = real * multiplier.astype(np.float32)
        total = part if total is None else total + part
    bounded = np.clip(total, np.float32(low - zero), np.float32(high - zero))
    return np.asarray(np.rint(bounded).astype(np.int32) + zero).astype({"u8": np.uint8, "i8": np.int8}[to])


def _looked_up(x: Type, table: Type) -> tuple[Type, ...]:
    require(x, BYTES)
    require(table, BYTES, "table")
    if table.shape != (256,):
        raise IRError(f"table {table}; expected 256 elements")
    return (Type(table.dtype, x.shape),)


def look_up(x: Tensor, table: Tensor) -> Tensor:
    """Element x of the table, which begins with the least number of x's type."""
    return table[x.astype(np.int64) - int(limits(dtype_of(x))[0])]


def _sum_pool(
    x: Type, kernel_shape: Ints, strides: Ints, pads: Ints, dilations: Ints, ceil_mode: int, zero: int
) -> tuple[Type, ...]:
    require(x, BYTES)
    _point(x.dtype, zero, "argument")
    size = windows(x.shape[2:], kernel_shape, strides, pads, dilations, ceil_mode)[-1]
    return (Type("i32", (*x.shape[:2], *size)),)


def sum_pool_integer(
    x: Tensor, kernel_shape: Ints, strides: Ints, pads: Ints, dilations: Ints, ceil_mode: int, zero: int
) -> Tensor:
    """Sums of x - zero over windows; padding adds nothing."""
    s, p, d, size = windows(x.shape[2:], kernel_shape, strides, pads, dilations, ceil_mode)
    return folded(x.astype(np.int32) - zero, 0, kernel_shape, s, p, d, size, np.add)


def _summed(x: Type, axes: Ints, keepdims: int, zero: int) -> tuple[Type, ...]:
    require(x, BYTES)
    _point(x.dtype, zero, "argument")
    check_axes(axes, len(x.shape))
    kept = [1 if a in axes else n for a, n in enumerate(x.shape) if keepdims or a not in axes]
    return (Type("i32", tuple(kept)),)


def sum_integer(x: Tensor, axes: Ints, keepdims: int, zero: int) -> Tensor:
    """Sums of x - zero over axes, in 32 bits that wrap."""
    return np.asarray((x.astype(np.int64) - zero).sum(axes, keepdims=bool(keepdims))).astype(np.int32)


def _softmaxed(x: Type, table: Type, axis: int, multiplier: float, to: str, zero: int) -> tuple[Type, ...]:
    require(x, BYTES)
    require(Type(to, ()), BYTES, "result")
    require(table, frozenset({"i32"}), "table")
    axis_in(axis, len(x.shape))
    _point(to, zero, "result")
    if table.shape != (256,):
        raise IRError(f"table {table}; expected 256 elements")
    return (Type(to, x.shape),)


def softmax_integer(x: Tensor, table: Tensor, axis: int, multiplier: float, to: str, zero: int) -> Tensor:
    """Shares of an axis: e / sum of e * multiplier, rounded half to even, + `zero`, saturated.

    e is element (greatest of the axis - x) of the table, which the caller makes of exponentials so that sums fit 32
    bits. The multiplier is divided by the sum first; quotient and product are f32.
    """
    wide = x.astype(np.int64)
    e = table[wide.max(axis, keepdims=True, initial=-128) - wide]
    each = np.float32(multiplier) / e.sum(axis, keepdims=True, dtype=np.int32).astype(np.float32)
    low, high = (np.float32(limit - zero) for limit in limits(to))
    share = np.clip(e.astype(np.float32) * each, low, high)
    return np.asarray(np.rint(share).astype(np.int32) + zero).astype({"u8": np.uint8, "i8": np.int8}[to])


op(
    "Edgec.ConvInteger",
    3,
    _conv,
    conv_integer,
    kind="contract",
    attrs={"strides": (), "pads": (), "dilations": (), "group": 1, "zero": 0, "shift": 0},
)
op("Edgec.MatMulInteger", 3, _matmul, matmul_integer, kind="contract", attrs={"a_zero": 0, "b_zero": 0, "shift": 0})
op("Edgec.MulInteger", 2, _product, mul_integer, kind="elementwise", attrs={"a_zero": 0, "b_zero": 0})
op(
    "Edgec.Rescale",
    (2, -1),
    _rescaled,
    rescale,
    kind="elementwise",
    attrs={"zeros": REQUIRED, "to": REQUIRED, "zero": 0, "low": REQUIRED, "high": REQUIRED},
)
op("Edgec.Table", 2, _looked_up, look_up, kind="elementwise")
op("Edgec.SumPool", 1, _sum_pool, sum_pool_integer, kind="window", attrs={**POOL_ATTRS, "zero": 0})
op("Edgec.Sum", 1, _summed, sum_integer, kind="reduce", attrs={"axes": REQUIRED, "keepdims": 1, "zero": 0})
op(
    "Edgec.SoftmaxInteger",
    2,
    _softmaxed,
    softmax_integer,
    kind="reduce",
    attrs={"axis": REQUIRED, "multiplier": REQUIRED, "to": REQUIRED, "zero": 0},
    alone=True,
)
