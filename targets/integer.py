"""Operators on quantized tensors as TensorIR expressions, bit for bit what compiler/ops/integer.py says."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.ops.common import limits

from . import cortex
from .built_for import has_dsp, has_fpu, to_nearest
from .floats import at_least, at_most, bits, converted, fenced, fused, kind
from .lets import NEAREST
from .tir import Expr, lit

# Added to a float below 2**22 it leaves the nearest integer, halves to even, in the lowest bits of the sum.
ROUNDER, ROUNDER_BITS = float(3 << 22), 0x4B400000
# A float whose lowest bits hold an integer from 0 on. Its product with any number is exact.
POWER, POWER_BITS = float(1 << 23), 0x4B000000
BYTE = {"u8": "uint8", "i8": "int8"}


def difference(x: Expr, zero: int) -> Expr:
    """x - zero in 32 bits."""
    wide = tirx.Cast("int32", x)
    return wide - lit(zero, "int32") if zero else wide


def bias(stored: Expr, shift: int) -> Expr:
    """A bias in 32 bits, or a vector of such, from how it is stored."""
    lanes = stored.ty.dtype.lanes
    if lanes == 1:
        return tirx.Cast("int32", stored) << lit(shift, "int32") if shift else tirx.Cast("int32", stored)
    wide = tirx.Cast(f"int32x{lanes}", stored)
    return wide << tirx.Broadcast(lit(shift, "int32"), lanes) if shift else wide


def number(x: Expr, zero: int, *, lifted: bool = False) -> Expr:
    """x - zero as f32; bytes that a rescaling left as such are whole numbers already. `lifted`: bytes by a sum of
    integers and a difference of floats, where a conversion takes longer."""
    if lifted and kind(x) in BYTE.values():
        raised = tirx.Cast("int32", x) + lit(ROUNDER_BITS - zero, "int32")
        return tirx.reinterpret("float32", raised) - lit(ROUNDER, "float32")
    if kind(x) == "float32":
        return x - lit(float(zero), "float32") if zero else x
    return converted(tirx.Cast("float32", difference(x, zero)))


def multiply(a: Expr, b: Expr, *, a_zero: int, b_zero: int) -> Expr:
    return difference(a, a_zero) * difference(b, b_zero)


def rescale(*args: Expr, zeros: tuple[int, ...], to: str, zero: int, low: int, high: int) -> Expr:
    """Limits come after rounding, as integers: the rounder's sums keep their order in their bits wherever they lie."""
    if has_dsp():
        whole = cortex.nearest(fenced(total(*args, zeros=zeros)))
        return tirx.Cast(BYTE[to], cortex.limited(whole, zero, low, high))
    if to_nearest() and kind(args[0]) == "float32":
        nearest = tirx.call_llvm_pure_intrin("int32", NEAREST, total(*args, zeros=zeros))
        return _saturated(halves(nearest, zero), to, low, high)
    if has_fpu():
        nearest, base = (
            tirx.reinterpret("int32", fenced(total(*args, zeros=zeros)) + lit(ROUNDER, "float32")),
            ROUNDER_BITS,
        )
    else:
        nearest, base = _nearest(*args, zeros=zeros), 0
    least, most = (lit(base + limit - zero, "int32") for limit in (low, high))
    bounded = tirx.min(tirx.max(nearest, least), most) - lit(base - zero, "int32")
    return tirx.Cast(BYTE[to], bounded)


def halves(nearest: Expr, zero: int) -> Expr:
    """Integers of any size + `zero` in 16 bits, which saturate: one instruction with what narrows."""
    half = tirx.Cast("int16", tirx.min(tirx.max(nearest, lit(-(1 << 15), "int32")), lit((1 << 15) - 1, "int32")))
    return tirx.call_llvm_pure_intrin("int16", "llvm.sadd.sat", half, lit(zero, "int16")) if zero else half


def rescale_halves(*args: Expr, zeros: tuple[int, ...], to: str, zero: int, low: int, high: int) -> Expr:
    """The same where 16 bits hold what is rounded, zero point included."""
    return halved(fenced(total(*args, zeros=zeros, lifted=True)), to=to, zero=zero, low=low, high=high)


def halved(x: Expr, *, to: str, zero: int, low: int, high: int) -> Expr:
    """Bytes from the sum of such a rescaling: they saturate, which is one instruction.
    The rounder takes an even zero point along; with an odd one ties would go the other way."""
    odd = zero % 2
    rounded = x + lit(ROUNDER + (zero - odd), "float32")
    nearest = tirx.Cast("int16", tirx.reinterpret("int32", rounded))
    return _saturated(nearest + lit(1, "int16") if odd else nearest, to, low, high)


def _saturated(nearest: Expr, to: str, low: int, high: int) -> Expr:
    """Bytes within limits from 16 bits."""
    least, most = map(int, limits(to))
    x = tirx.Cast(BYTE[to], tirx.min(tirx.max(nearest, lit(least, "int16")), lit(most, "int16")))
    x = tirx.max(x, lit(low, BYTE[to])) if low > least else x
    return tirx.min(x, lit(high, BYTE[to])) if high < most else x


def rescale_once(t: Expr, *numbers: Expr, to: str, zero: int, low: int, high: int, bits: int) -> Expr:
    """The lowest bits of a float that a multiply-add makes. Those of the rounder are 0 where bytes and 16 bits lie."""
    total = tirx.reinterpret("int32", _once(t, *numbers, zero=zero))
    if bits == 16:
        return _saturated(tirx.Cast("int16", total), to, low, high)
    least, most = (lit(ROUNDER_BITS + limit, "int32") for limit in (low, high))
    return tirx.Cast(BYTE[to], tirx.min(tirx.max(total, least), most))


def unpacked_once(t: Expr, *numbers: Expr, to: str, zero: int, low: int, high: int, bits: int) -> Expr:
    """Its bytes as whole numbers of f32, as another rescaling reads them."""
    least, most = (lit(ROUNDER + limit, "float32") for limit in (low, high))
    return at_most(at_least(_once(t, *numbers, zero=zero), least), most) - lit(ROUNDER, "float32")


def _once(t: Expr, factor: Expr, addend: Expr | None = None, *, zero: int) -> Expr:
    """With an addend, t are the bits of a float."""
    if addend is not None:
        return fused(tirx.reinterpret("float32", t), factor, addend)
    return fused(converted(tirx.Cast("float32", t)), factor, lit(ROUNDER + zero, "float32"))


def _nearest(*args: Expr, zeros: tuple[int, ...]) -> Expr:
    """The sum of a rescaling, rounded to the nearest integer, by functions of the runtime (edgec/requantize.h)."""
    count = len(zeros)
    pairs = [(difference(x, z), bits(m)) for x, m, z in zip(args[:count], args[count:], zeros, strict=True)]
    if count == 1:
        return _runtime("ec_requantize", *pairs[0])
    terms = [_runtime("ec_f32_scaled", *pair) for pair in pairs]
    return _runtime("ec_f32_nearest", reduce(lambda a, b: _runtime("ec_f32_sum", a, b), terms))


def _runtime(function: str, *args: Expr) -> Expr:
    return tirx.call_pure_extern("int32", function, *args)


def quotient(dividend: float, divisor: Expr) -> Expr:
    """dividend / f32(divisor) as what `multiple` takes: f32, or without an FPU its bits."""
    number = lit(dividend, "float32")
    if has_fpu():
        return number / tirx.Cast("float32", divisor)
    return _runtime("ec_f32_quotient", bits(number), divisor)


def steps(x: Expr, scale: float, zero: Expr, low: int, high: int) -> Expr:
    """x / scale + zero, rounded and within limits, by integers alone."""
    whole = np.float32(scale).view(np.int32)
    reciprocal = (1 << 47) // (int(whole) & 0x7FFFFF | 0x800000)
    near = _runtime("ec_f32_steps", bits(x), lit(int(whole), "int32"), lit(reciprocal, "int32"))
    return tirx.min(tirx.max(near + zero, lit(low, "int32")), lit(high, "int32"))


def by_steps(x: Expr, scale: Expr, result: str) -> bool:
    """Whether `steps` says what x is in this scale."""
    if has_fpu() or not isinstance(scale, tirx.FloatImm) or not dtype(result).is_whole or dtype(result).bits > 16:
        return False
    return kind(x) == "float32" and 2.0**-100 < float(scale.value) < 2.0**100


def multiple(x: Expr, factor: Expr, low: int, high: int) -> Expr:
    """f32(x) * factor, within limits that are integers, rounded to the nearest one."""
    if has_fpu():
        product = at_least(tirx.Cast("float32", x) * factor, lit(float(low), "float32"))
        return rounded(at_most(product, lit(float(high), "float32")))
    return tirx.min(tirx.max(_runtime("ec_requantize", x, factor), lit(low, "int32")), lit(high, "int32"))


def total(*args: Expr, zeros: tuple[int, ...], lifted: bool = False) -> Expr:
    """The sum of a rescaling in f32, before limits and rounding."""
    count = len(zeros)
    terms = [
        number(term, z, lifted=lifted) * multiplier
        for term, multiplier, z in zip(args[:count], args[count:], zeros, strict=True)
    ]
    return reduce(lambda a, b: a + b, map(fenced, terms) if count > 1 else terms)


def unpacked(*args: Expr, zeros: tuple[int, ...], to: str, zero: int, low: int, high: int) -> Expr:
    """A rescaling whose bytes another one reads: as f32, which they need not leave."""
    limits = (lit(float(limit - zero), "float32") for limit in (low, high))
    bounded = at_most(at_least(total(*args, zeros=zeros), next(limits)), next(limits))
    whole = fenced(bounded + lit(ROUNDER, "float32")) - lit(ROUNDER, "float32")
    return whole + lit(float(zero), "float32") if zero else whole


def rounded(x: Expr, plus: int = 0) -> Expr:
    """The integer nearest to a float below 2**22, halves to even, + `plus`, as int32."""
    sum_bits = tirx.reinterpret("int32", x + lit(ROUNDER, "float32"))
    return sum_bits - lit(ROUNDER_BITS - plus, "int32") if plus != ROUNDER_BITS else sum_bits


INTEGER: dict[str, Callable[..., Expr]] = {
    "Edgec.MulInteger": multiply,
    "Edgec.Rescale": rescale,
    "Edgec.RescaleOnce": rescale_once,
}
UNPACKED: dict[str, Callable[..., Expr]] = {"Edgec.Rescale": unpacked, "Edgec.RescaleOnce": unpacked_once}
INTEGER_HALVES = {**INTEGER, "Edgec.Rescale": rescale_halves}
