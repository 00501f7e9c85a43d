"""Operators on quantized tensors as TensorIR expressions, bit for bit what compiler/ops/integer.py says."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from tvm import tirx

from .mathlib import at_least, at_most, fenced, kind
from .tir import Expr, lit

# Added to a float below 2**22 it leaves the nearest integer, halves to even, in the lowest bits of the sum.
_ROUNDER, _ROUNDER_BITS = float(3 << 22), 0x4B400000


def difference(x: Expr, zero: int) -> Expr:
    """x - zero in 32 bits."""
    wide = tirx.Cast("int32", x)
    return wide - lit(zero, "int32") if zero else wide


def number(x: Expr, zero: int) -> Expr:
    """x - zero as f32; bytes that a rescaling left as such are whole numbers already."""
    if kind(x) == "float32":
        return x - lit(float(zero), "float32") if zero else x
    return tirx.Cast("float32", difference(x, zero))


def multiply(a: Expr, b: Expr, *, a_zero: int, b_zero: int) -> Expr:
    return difference(a, a_zero) * difference(b, b_zero)


def rescale(*args: Expr, zeros: tuple[int, ...], to: str, zero: int, low: int, high: int) -> Expr:
    """Limits come after rounding, as integers: the rounder's sums keep their order in their bits wherever they lie."""
    bits = tirx.reinterpret("int32", fenced(total(*args, zeros=zeros)) + lit(_ROUNDER, "float32"))
    least, most = (lit(_ROUNDER_BITS + limit - zero, "int32") for limit in (low, high))
    bounded = tirx.min(tirx.max(bits, least), most) - lit(_ROUNDER_BITS - zero, "int32")
    return tirx.Cast({"u8": "uint8", "i8": "int8"}[to], bounded)


def total(*args: Expr, zeros: tuple[int, ...]) -> Expr:
    """The sum of a rescaling in f32, before limits and rounding."""
    count = len(zeros)
    terms = [
        number(term, z) * multiplier for term, multiplier, z in zip(args[:count], args[count:], zeros, strict=True)
    ]
    return reduce(lambda a, b: a + b, map(fenced, terms) if count > 1 else terms)


def unpacked(*args: Expr, zeros: tuple[int, ...], to: str, zero: int, low: int, high: int) -> Expr:
    """A rescaling whose bytes another one reads: as f32, which they need not leave."""
    limits = (lit(float(limit - zero), "float32") for limit in (low, high))
    bounded = at_most(at_least(total(*args, zeros=zeros), next(limits)), next(limits))
    whole = fenced(bounded + lit(_ROUNDER, "float32")) - lit(_ROUNDER, "float32")
    return whole + lit(float(zero), "float32") if zero else whole


def rounded(x: Expr, plus: int = 0) -> Expr:
    """The integer nearest to a float below 2**22, halves to even, + `plus`, as int32."""
    bits = tirx.reinterpret("int32", x + lit(_ROUNDER, "float32"))
    return bits - lit(_ROUNDER_BITS - plus, "int32")


INTEGER: dict[str, Callable[..., Expr]] = {"Edgec.MulInteger": multiply, "Edgec.Rescale": rescale}
