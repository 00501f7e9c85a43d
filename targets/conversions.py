"""Element types in kernels: the type that holds a value, and how a value becomes one of another type."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgec.compiler.dtypes import dtype

from . import mathlib as m
from .mathlib import at_least, at_most, bind, kind
from .tir import Expr, lit


def is_float(x: Expr) -> bool:
    return kind(x).startswith("float")


def is_unsigned(x: Expr) -> bool:
    return kind(x).startswith("uint") or kind(x) == "bool"


def c(x: Expr, value: float | int) -> Expr:
    """A literal of x's type."""
    return lit(value, kind(x))


def widen(x: Expr) -> Expr:
    """f16 as f32; anything else as it is. bf16 is held as f32 throughout, and has no type of its own in a kernel."""
    return tirx.Cast("float32", x) if kind(x) == "float16" else x


def held(name: str) -> str:
    """TVM's type that holds values of one of our types in a kernel."""
    return "float32" if name == "bf16" else dtype(name).tvm


def stored(name: str) -> str:
    """TVM's type of one of our types in memory: what is behind a kernel's pointer."""
    return {"bf16": "uint16", "bool": "int8"}.get(name, dtype(name).tvm)


def fetched(element: Expr, name: str) -> Expr:
    """A value as it is held, from what was loaded."""
    if name == "bool":
        return tirx.NE(element, lit(0, "int8"))
    return from_bfloat(element) if name == "bf16" else element


def put(x: Expr, name: str) -> Expr:
    """What to store for a value that is held."""
    if name == "bool":
        return tirx.Cast("int8", x)
    return to_bfloat(x) if name == "bf16" else x


def narrow(x: Expr, to: str) -> Expr:
    """`x` in the element type of a result; f32 is rounded to f16 or bf16, halves to even."""
    if to == "bfloat16":
        return bind(tirx.reinterpret("uint32", tirx.Cast("float32", x)), _rounded_bfloat)
    return x if kind(x) == to else tirx.Cast(to, x)


def _rounded_bfloat(b: Expr) -> Expr:
    up = b + lit(0x7FFF, "uint32") + ((b >> lit(16, "uint32")) & lit(1, "uint32"))
    quiet = b | lit(0x400000, "uint32")
    nan = (b & lit(0x7FFFFFFF, "uint32")) > lit(0x7F800000, "uint32")
    return tirx.reinterpret("float32", tirx.Select(nan, quiet, up) & lit(0xFFFF0000, "uint32"))


def from_bfloat(stored: Expr) -> Expr:
    """The number behind the 16 bits of a bf16."""
    return tirx.reinterpret("float32", tirx.Cast("uint32", stored) << lit(16, "uint32"))


def to_bfloat(x: Expr) -> Expr:
    """The 16 bits of a number that is a bf16 already."""
    return tirx.Cast("uint16", tirx.reinterpret("uint32", x) >> lit(16, "uint32"))


def cast(x: Expr, *, to: str) -> Expr:
    """Floats to integers towards zero, narrow ones through i32; to bool by a test against zero: NaN is true."""
    name = dtype(to).tvm
    if name == "bool":
        if kind(x) == "bool":
            return x
        if not is_float(x):
            return tirx.NE(x, c(x, 0))
        return bind(x, lambda x: tirx.Or(tirx.NE(x, c(x, 0)), m.is_nan(x)))
    if is_float(x) and name in ("int8", "uint8", "int16", "uint16"):
        return tirx.Cast(name, tirx.Cast("int32", x))
    if is_float(x) and name == "uint32":
        return tirx.Cast(name, tirx.Cast("int64", x))
    return narrow(x, name)


def quantize(x: Expr, scale: Expr, zero: Expr, **_: Any) -> Expr:
    """round(x / scale) + zero point, halves to even, saturated; NaN counts as zero."""
    low, high = int(tirx.min_value(kind(zero))), int(tirx.max_value(kind(zero)))
    x = x if kind(x) == kind(scale) else tirx.Cast(kind(scale), x)

    def steps(z: Expr) -> Expr:
        real = tirx.Cast(kind(scale), z)
        y = bind(m.rint(m.quotient(x, scale)), lambda y: tirx.Select(m.is_nan(y), c(y, 0), y))
        inside = at_most(at_least(y, c(x, low) - real), c(x, high) - real)
        return tirx.Cast(kind(zero), tirx.Cast("int32", inside) + z)

    return bind(tirx.Cast("int32", zero), steps)


def dequantize(x: Expr, scale: Expr, zero: Expr, **_: Any) -> Expr:
    wide = "int64" if kind(x) == "int32" else "int32"
    return tirx.Cast(kind(scale), tirx.Cast(wide, x) - tirx.Cast(wide, zero)) * scale
