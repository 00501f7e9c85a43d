"""Bytes of real numbers by a scale without division: times 1 / scale, which is the sum of two f32.

A division takes several times as long as all the rest. Only where x / scale lies next to a half can a quotient that is
an ulp off round to another integer: those numbers are tried, for each half, before a constant scale is taken. By one
that is known when the kernel runs, what is left of x makes the quotient exact: with the f32 nearest to 1 / scale it
corrects one that is less than an ulp off to the nearest (Markstein, "Computation of elementary functions on the IBM
RISC System/6000 processor", 1990).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from tvm import tirx
from tvm.ir import TensorLoad

from .built_for import fuses, has_limits, innermost, to_nearest
from .floats import at_least, at_most, bind, fused, is_nan, rint
from .integer import halves
from .lets import NEAREST
from .tir import Expr, lit

FAR = 1024  # steps from zero beyond which every byte is saturated
HALVES = 512  # as many on either side of zero are tried
AROUND = 6  # neighbours of a half, on either side
LOW, MIDDLE = (1 << 29) - 1, 1 << 28  # of an f64, what an f32 leaves out
LEAST, MOST = 2.0**-60, 2.0**60  # of scales: beyond, products might leave the range of f32
ROUNDER, ROUNDER_BITS = float(3 << 22), 0x4B400000


def fits(x: Expr, scale: Expr, result: str) -> bool:
    """Whether a core has what it takes, and the scale gives the quotients' integers."""
    if not (has_limits() or fuses()) or result not in ("i8", "u8") or not isinstance(scale, tirx.FloatImm):
        return False
    return str(x.ty.dtype) == "float32" and exact(float(scale.value))


def parts(scale: float) -> tuple[float, float]:
    """1 / scale as the sum of two f32, neither of them below 0: an infinite number stays one."""
    s = np.float32(scale)
    exactly = 1 / np.float64(s)
    first = np.float32(exactly)
    first = np.nextafter(first, np.float32(0)) if first > exactly else first
    return float(first), float(np.float32(exactly - first))


@lru_cache(maxsize=256)
def exact(scale: float) -> bool:
    """Whether all numbers next to a half of a step are rounded as their quotients are."""
    if not LEAST < scale < MOST:
        return False
    s = np.float32(scale)
    first, second = parts(scale)
    halves = ((np.arange(-HALVES, HALVES) + 0.5) * np.float64(s)).astype(np.float32)
    x = (halves.view(np.int32)[:, None] + np.arange(-AROUND, AROUND + 1, dtype=np.int32)).view(np.float32)
    near = rounded_once(x.astype(np.float64) * first, (x * np.float32(second)).astype(np.float64))
    return bool((np.rint(near) == np.rint(x / s)).all())


def rounded_once(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The f32 nearest to the sum of two f64. Where their rounded sum is in the middle of two f32, what it leaves out
    decides (Knuth's sum of two)."""
    total = a + b
    of_b = total - a
    left = (a - (total - of_b)) + (b - of_b)
    aside = np.nextafter(total, np.where(left > 0, np.inf, -np.inf))
    undecided = (total.view(np.int64) & LOW == MIDDLE) & (left != 0)
    return np.where(undecided, aside, total).astype(np.float32)


def quotient(x: Expr, scale: float) -> Expr:
    """What x is in steps of a scale, not rounded to whole ones."""
    first, second = (lit(part, "float32") for part in parts(scale))
    return bind(x, lambda x: fused(x, first, x * second)) if second.value else x * first


def divides(x: Expr, scale: Expr, result: str) -> bool:
    """Whether `divided` is less work: for bytes by a number in memory that all lanes of a vector share."""
    lanes = innermost()
    if not fuses() or result not in ("i8", "u8") or not isinstance(scale, TensorLoad) or lanes is None:
        return False
    shared = not any(v.same_as(lanes.var) for v in tirx.analysis.undefined_vars(scale))
    return str(x.ty.dtype) == str(scale.ty.dtype) == "float32" and lanes.count > 1 and shared


def divided(x: Expr, scale: Expr, zero: Expr, low: int, high: int) -> Expr:
    """x / scale as a whole number within low .. high, as int32; `zero`, an int32 between these, for NaN.

    The limits are steps that a rounded product gives: its quotient is next to the step, and nearer to no other.
    """
    one, nothing = lit(1, "float32"), lit(0, "float32")
    least, most = (tirx.Cast("float32", lit(limit, "int32") - zero) for limit in (low, high))
    usual = tirx.And(lit(LEAST, "float32") < scale, scale < lit(MOST, "float32"))
    minus = lit(-1, "float32") * scale

    def exact(x: Expr, first: Expr) -> Expr:
        second = fused(first, minus, one) * first
        return bind(fused(x, first, x * second), lambda q: fused(fused(q, minus, x), first, q))

    def plain(x: Expr) -> Expr:
        """Without names, which would be computed before what is chosen here."""
        steps = tirx.Select(is_nan(x / scale), nothing, rint(x / scale))
        return tirx.Cast("int32", tirx.min(tirx.max(steps, least), most)) + zero

    def of(x: Expr, first: Expr) -> Expr:
        limited = at_most(at_least(x, least * scale), most * scale)
        number = tirx.Select(x >= lit(-np.inf, "float32"), limited, nothing)
        rounded = bind(number, lambda x: exact(x, first)) + lit(ROUNDER, "float32")
        whole = tirx.reinterpret("int32", rounded) - lit(ROUNDER_BITS, "int32") + zero
        return bind(whole, lambda whole: tirx.if_then_else(usual, whole, plain(x)))

    return bind(x, lambda x: bind(one / scale, lambda first: of(x, first)))


def quantized(x: Expr, scale: float, zero: Expr, low: int, high: int) -> Expr:
    """Within low .. high, as int32 or int16; `zero` for NaN."""
    if to_nearest() and isinstance(zero, tirx.IntImm):
        half = halves(tirx.call_llvm_pure_intrin("int32", NEAREST, quotient(x, scale)), int(zero.value))
        return tirx.min(tirx.max(half, lit(low, "int16")), lit(high, "int16"))
    return _limited(x, scale, zero, low, high)


def _limited(x: Expr, scale: float, zero: Expr, low: int, high: int) -> Expr:
    """By a sum that rounds. The limits of a known zero point are whole steps, which as real numbers give themselves."""

    def real(number: float) -> Expr:
        return lit(number, "float32")

    s = float(np.float32(scale))
    steps = (low - int(zero.value), high - int(zero.value)) if isinstance(zero, tirx.IntImm) else (-FAR, FAR)
    given = tirx.Var("given", "float32")
    near = tirx.Var("near", "float32")
    limited = at_most(at_least(given, real(steps[0] * s)), real(steps[1] * s))
    whole = tirx.Select(given >= real(-np.inf), limited, real(0.0))  # any number but NaN
    # What is added while rounding must be even: with an odd number ties would go the other way
    even = int(zero.value) & ~1 if isinstance(zero, tirx.IntImm) else 0
    nearest = tirx.reinterpret("int32", quotient(near, scale) + real(ROUNDER + even))
    if isinstance(zero, tirx.IntImm):
        result = nearest - lit(ROUNDER_BITS + even - int(zero.value), "int32")
    else:
        result = tirx.min(tirx.max(nearest - lit(ROUNDER_BITS, "int32") + zero, lit(low, "int32")), lit(high, "int32"))
    return tirx.Let(given, x, tirx.Let(near, whole, result))
