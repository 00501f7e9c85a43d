"""Bytes of real numbers by a constant scale without division: x * (1 / scale), corrected once by what is left.

A division takes several times as long as all the rest. Only where x / scale lies next to a half can a quotient that is
an ulp off round to another integer: those numbers are tried, for each half, before the scale is taken.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from tvm import tirx

from .built_for import has_limits
from .mathlib import at_least, at_most, bind, fused
from .tir import Expr, lit

FAR = 1024  # steps from zero beyond which every byte is saturated
HALVES = 512  # as many on either side of zero are tried
AROUND = 6  # neighbours of a half, on either side
LOW, MIDDLE = (1 << 29) - 1, 1 << 28  # of an f64, what an f32 leaves out
ROUNDER, ROUNDER_BITS = float(3 << 22), 0x4B400000


def fits(x: Expr, scale: Expr, result: str) -> bool:
    """Whether a core has what it takes, and the scale gives the quotients' integers."""
    if not has_limits() or result not in ("i8", "u8") or not isinstance(scale, tirx.FloatImm):
        return False
    return str(x.ty.dtype) == "float32" and exact(float(scale.value))


@lru_cache(maxsize=256)
def exact(scale: float) -> bool:
    """Whether all numbers next to a half of a step are rounded as their quotients are."""
    if not 2.0**-60 < scale < 2.0**60:
        return False
    s = np.float32(scale)
    y = np.float32(1) / s
    halves = ((np.arange(-HALVES, HALVES) + 0.5) * np.float64(s)).astype(np.float32)
    x = (halves.view(np.int32)[:, None] + np.arange(-AROUND, AROUND + 1, dtype=np.int32)).view(np.float32)
    product = x * y
    rest = (np.float64(x) - np.float64(product) * np.float64(s)).astype(np.float32)  # exact, as with fma
    sums = np.float64(product) + np.float64(rest) * np.float64(y)
    if (sums.view(np.int64) & LOW == MIDDLE).any():  # might be rounded twice
        return False
    return bool((np.rint(sums.astype(np.float32)) == np.rint(x / s)).all())


def unlimited(x: Expr, scale: float) -> Expr:
    """What x is in steps of a scale, not rounded; x is a number, and less than 2**15 of them."""
    y = lit(float(np.float32(1) / np.float32(scale)), "float32")
    s = lit(-float(np.float32(scale)), "float32")
    return bind(x, lambda x: bind(x * y, lambda product: fused(fused(product, s, x), y, product)))


def quantized(x: Expr, scale: float, zero: Expr, low: int, high: int) -> Expr:
    """Within low .. high, as int32; `zero` for NaN. The limits of a known zero point are whole steps, which as real
    numbers give themselves."""

    def real(number: float) -> Expr:
        return lit(number, "float32")

    s = float(np.float32(scale))
    y = float(np.float32(1) / np.float32(scale))
    steps = (low - int(zero.value), high - int(zero.value)) if isinstance(zero, tirx.IntImm) else (-FAR, FAR)
    given = tirx.Var("given", "float32")
    near = tirx.Var("near", "float32")
    product = tirx.Var("product", "float32")
    limited = at_most(at_least(given, real(steps[0] * s)), real(steps[1] * s))
    whole = tirx.Select(given >= real(-np.inf), limited, real(0.0))  # any number but NaN
    rest = fused(product, real(-s), near)
    # What is added while rounding must be even: with an odd number ties would go the other way
    even = int(zero.value) & ~1 if isinstance(zero, tirx.IntImm) else 0
    nearest = tirx.reinterpret("int32", fused(rest, real(y), product) + real(ROUNDER + even))
    if isinstance(zero, tirx.IntImm):
        result = nearest - lit(ROUNDER_BITS + even - int(zero.value), "int32")
    else:
        result = tirx.min(tirx.max(nearest - lit(ROUNDER_BITS, "int32") + zero, lit(low, "int32")), lit(high, "int32"))
    return tirx.Let(given, x, tirx.Let(near, whole, tirx.Let(product, near * real(y), result)))
