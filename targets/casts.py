"""Operators between element types as TensorIR expressions: arguments and result as they are held, their types given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.narrow import POWERS, is_narrow
from edgec.compiler.ops.common import limits

from . import cortex, floats, integer, reciprocal
from .built_for import has_dsp
from .conversions import c, from_bfloat, is_float, lowest, narrow, nearly, nearly_double, put, widen
from .floats import at_least, at_most, bind, kind
from .narrow_floats import decoded, encoded, encoded_power
from .tir import Expr, lit
from .whole import as_float, wrapped


def number(x: Expr, name: str) -> Expr:
    """A value that is held as what kernels compute with: floats of few bits as f32."""
    return decoded(x, name) if is_narrow(name) else widen(x)


def cast(x: Expr, *, types: Sequence[str], result: str, saturate: int, round_mode: str, **_: Any) -> Expr:
    """Floats to integers towards zero; to bool by a test against zero: NaN is true."""
    x = number(x, types[0])
    if is_narrow(result):
        if result == POWERS:
            return encoded_power(nearly_double(x), bool(saturate), round_mode)
        return encoded(nearly(x), result, bool(saturate))
    name = dtype(result).tvm
    if name == "bool":
        return truth(x)
    if dtype(result).is_whole:
        return _whole(floats.converted(x) if is_float(x) else x, result)
    return narrow(x, name) if is_float(x) else floats.converted(narrow(x, name))


def truth(x: Expr) -> Expr:
    if kind(x) == "bool":
        return x
    if not is_float(x):
        return tirx.NE(x, c(x, 0))
    return bind(x, lambda x: tirx.Or(tirx.NE(x, c(x, 0)), floats.is_nan(x)))


def _whole(x: Expr, result: str) -> Expr:
    """Floats to narrow integers through wider ones; what does not fit into an integer loses its upper bits."""
    row = dtype(result)
    if is_float(x) and row.bytes <= 2:
        x = tirx.Cast("int32", x)
    elif is_float(x) and result == "u32":
        x = tirx.Cast("int64", x)
    return lowest(x, result) if row.bits < 8 else narrow(x, row.tvm)


def bit_cast(x: Expr, *, types: Sequence[str], result: str, **_: Any) -> Expr:
    """A byte that is not zero is true: bool has two values only."""
    bits, to = put(x, types[0]), dtype(result)
    if kind(bits) == "bool":
        bits = tirx.Cast("uint8", bits)
    elif is_float(bits):
        bits = tirx.reinterpret(f"uint{to.bits}", bits)
    if result == "bool":
        return tirx.NE(bits, c(bits, 0))
    if to.bits < 8:
        return lowest(bits, result)
    if result == "bf16":
        return from_bfloat(wrapped(bits, "uint16"))
    return as_float(bits, to.tvm) if to.is_float else wrapped(bits, to.tvm)


def quantize(x: Expr, scale: Expr, zero: Expr, *, types: Sequence[str], result: str, saturate: int, **_: Any) -> Expr:
    """x / scale in the scale's type, + zero point: rounded half to even and saturated; for integers NaN is zero."""
    x, scale, zero = (number(v, name) for v, name in zip((x, scale, zero), types, strict=True))
    x = x if kind(x) == kind(scale) else tirx.Cast(kind(scale), x)
    if types[1] == "f32" and reciprocal.fits(x, scale, result):
        low, high = map(int, limits(result))
        zero = lit(int(zero.value), "int32") if isinstance(zero, tirx.IntImm) else tirx.Cast("int32", zero)
        return tirx.Cast(dtype(result).tvm, reciprocal.quantized(x, float(scale.value), zero, low, high))
    if types[1] == "f32" and integer.by_steps(x, scale, result):
        whole = integer.steps(x, float(scale.value), tirx.Cast("int32", zero), *map(int, limits(result)))
        return tirx.Cast(dtype(result).tvm, whole)
    if reciprocal.divides(x, scale, result):
        low, high = map(int, limits(result))
        whole = reciprocal.divided(x, scale, tirx.Cast("int32", zero), low, high)
        return tirx.Cast(dtype(result).tvm, whole)
    quotient = widen(narrow(floats.quotient(x, scale), dtype(types[1]).tvm))
    if is_narrow(result):
        return bind(quotient, lambda q: _quantized_float(q, zero, result, bool(saturate)))
    return bind(tirx.Cast("int32", zero), lambda z: _quantized_whole(quotient, z, result))


def _quantized_float(quotient: Expr, zero: Expr, result: str, saturate: bool) -> Expr:
    def moved(z: Expr) -> Expr:
        return tirx.Select(tirx.EQ(z, c(z, 0)), quotient, quotient + z)

    return encoded(nearly(bind(tirx.Cast(kind(quotient), zero), moved)), result, saturate)


def _quantized_whole(quotient: Expr, zero: Expr, result: str) -> Expr:
    low, high = limits(result)
    if has_dsp() and result in cortex.BYTE and kind(quotient) == "float32":
        return tirx.Cast(dtype(result).tvm, cortex.byte(cortex.added(cortex.nearest(quotient), zero), result))
    real = tirx.Cast(kind(quotient), zero)
    steps = bind(floats.rint(quotient), lambda y: tirx.Select(floats.is_nan(y), c(y, 0), y))
    inside = at_most(at_least(steps, c(steps, low) - real), c(steps, high) - real)
    return tirx.Cast(dtype(result).tvm, tirx.Cast("int32", inside) + zero)


def dequantize(x: Expr, scale: Expr, zero: Expr, *, types: Sequence[str], result: str, **_: Any) -> Expr:
    """(x - zero point) * scale."""
    scale = widen(scale)
    if is_narrow(types[0]):
        x, zero = (tirx.Cast(kind(scale), decoded(v, types[0])) for v in (x, zero))
    else:
        x, zero = (tirx.Cast("int64" if types[0] == "i32" else "int32", v) for v in (x, zero))
    steps = floats.converted(tirx.Cast(kind(scale), x - zero))
    return narrow(steps * scale, dtype(result).tvm)


TYPED: dict[str, Callable[..., Expr]] = {
    "Cast": cast,
    "BitCast": bit_cast,
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
}
