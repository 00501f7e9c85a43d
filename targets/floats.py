"""Floats in TensorIR as IEEE 754 has them: bits, limits that keep NaN, rounding, and what TVM must not simplify.

Comparisons are arranged so that NaN takes the branch that keeps it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import copysign, inf

from tvm import tirx
from tvm_ffi import structural_equal

from .built_for import has_helium, has_limits, on_device
from .tir import Expr, lit


def kind(x: Expr) -> str:
    """TVM's name of an expression's element type."""
    return str(x.ty.dtype)


def bind(x: Expr, fn: Callable[[Expr], Expr]) -> Expr:
    """`fn` of a name for `x`, so that `x` is computed once."""
    if isinstance(x, (tirx.Var, tirx.IntImm, tirx.FloatImm)):
        return fn(x)
    var = tirx.Var("t", x.ty)
    return tirx.Let(var, x, fn(var))


def f32(value: float) -> Expr:
    return lit(value, "float32")


# TVM reckons with floats as with numbers: x - x and 0 * x are 0 to it, x == x is true, and a division by a zero that it
# knows is an error. What it must not see through gets a name, which becomes a register.


def named(x: Expr, fn: Callable[[Expr], Expr]) -> Expr:
    """`fn` of a name for `x`, even where that is a name or a number already."""
    var = tirx.Var("t", x.ty)
    return tirx.Let(var, x, fn(var))


def apart(a: Expr, b: Expr, fn: Callable[[Expr, Expr], Expr]) -> Expr:
    """`fn(a, b)` of floats that may be one expression."""
    return named(b, lambda b: fn(a, b)) if structural_equal(a, b) else fn(a, b)


def _number(x: Expr) -> float:
    """The number that a literal stands for; 1 for all else."""
    while isinstance(x, tirx.Cast):
        x = x.value
    return float(x.value) if isinstance(x, tirx.FloatImm) else 1.0


def product(a: Expr, b: Expr) -> Expr:
    """a * b of floats."""
    if _number(a) == 0:
        return named(a, lambda a: a * b)
    return named(b, lambda b: a * b) if _number(b) == 0 else a * b


def quotient(a: Expr, b: Expr) -> Expr:
    """a / b of floats."""
    if _number(b) == 0:
        return a * lit(copysign(inf, _number(b)), kind(a))
    return named(a, lambda a: a / b) if _number(a) == 0 else a / b


def at_least(x: Expr, low: Expr) -> Expr:
    """max(x, low); NaN where x is NaN."""
    if has_limits() and kind(x) == "float32" and isinstance(low, tirx.FloatImm):
        return tirx.call_llvm_pure_intrin("float32", "llvm.maximum", x, low)
    return bind(x, lambda x: tirx.Select(x < low, low, x))


def greater(x: Expr, other: Expr) -> Expr:
    """The greater of two f32; NaN where x is NaN, and on NEON where either is."""
    if has_limits():
        return tirx.call_llvm_pure_intrin("float32", "llvm.maximum", x, other)
    return bind(other, lambda other: at_least(x, other))


def at_most(x: Expr, high: Expr) -> Expr:
    """min(x, high); NaN where x is NaN."""
    if has_limits() and kind(x) == "float32" and isinstance(high, tirx.FloatImm):
        return tirx.call_llvm_pure_intrin("float32", "llvm.minimum", x, high)
    return bind(x, lambda x: tirx.Select(high < x, high, x))


def bits(x: Expr) -> Expr:
    """The bit pattern of a float as a signed integer of its size."""
    return tirx.reinterpret("int64" if kind(x) == "float64" else "int32", x)


def of_bits(x: Expr) -> Expr:
    return tirx.reinterpret("float32", x)


def is_nan(x: Expr) -> Expr:
    """By bits: comparisons of a value with itself are simplified away."""
    if kind(x) == "float64":
        return (bits(x) & lit(2**63 - 1, "int64")) > lit(0x7FF << 52, "int64")
    return (bits(x) & 0x7FFFFFFF) > 0x7F800000


def fenced(x: Expr) -> Expr:
    """`x`, rounded: a product that is not fused with the addition that follows."""
    if on_device():  # where nothing is fused (targets/cuda/nvrtc.py), but TVM would simplify
        return tirx.call_pure_extern(kind(x), "ec_same", x)
    return tirx.call_llvm_pure_intrin(kind(x), "llvm.arithmetic.fence", x)


def fused(a: Expr, b: Expr, c: Expr) -> Expr:
    """a * b + c of f32, rounded once."""
    if on_device():
        return tirx.call_pure_extern("float32", "fmaf", a, b, c)
    return tirx.call_llvm_pure_intrin("float32", "llvm.fma", a, b, c)


def converted(x: Expr) -> Expr:
    """`x`, between integers and f32: on Helium not joined with a product beside it.

    For a conversion times a power of two LLVM 22 selects one of fixed point numbers, and gives it a register where its
    encoding has a number: the factor then depends on which register that is.
    """
    return fenced(x) if has_helium() else x


def rint(x: Expr) -> Expr:
    """The nearest integer, halves to even."""
    if on_device():
        return tirx.call_pure_extern(kind(x), "rint" if kind(x) == "float64" else "rintf", x)
    return tirx.call_llvm_pure_intrin(kind(x), "llvm.rint", x)


def with_sign(magnitude: Expr, x: Expr) -> Expr:
    """A non-negative magnitude with the sign of x."""
    return of_bits(bits(magnitude) | (bits(x) & lit(-(2**31), "int32")))
