"""Element types in kernels: the type that holds a value, and how a value becomes one of another type."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.ops.casts import cast

from .built_for import on_device
from .floats import bind, kind
from .tir import Expr, lit
from .whole import as_float, width, wrapped


def is_float(x: Expr) -> bool:
    return kind(x).startswith("float")


def is_unsigned(x: Expr) -> bool:
    return kind(x).startswith("uint") or kind(x) == "bool"


def c(x: Expr, value: float | int) -> Expr:
    """A literal of x's type."""
    return lit(value, kind(x))


def literal(number: Any, name: str) -> Expr:
    """A number as a value of one of our types is held."""
    row = dtype(name)
    if row.is_storage:
        element = cast(np.asarray(number), name)
        return lit(int(element.astype(row.tvm) if row.is_whole else element.view(np.uint8)), row.tvm)
    return narrow(lit(float(number), "float32"), row.tvm) if name in ("f16", "bf16") else lit(number, row.tvm)


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
    """A value as it is held, from what was loaded. Of a byte that holds fewer bits the others do not count."""
    if name == "bool":
        return tirx.NE(element, lit(0, "int8"))
    if name == "bf16":
        return from_bfloat(element)
    return lowest(element, name) if dtype(name).bits < 8 else element


def lowest(byte: Expr, name: str) -> Expr:
    """The lowest bits of a byte as a value of a type of so many; the sign is extended where it has one."""
    row = dtype(name)
    if row.tvm == "int8" and on_device():  # C shifts in 32 bits
        sign = 1 << (row.bits - 1)
        return tirx.Cast("int8", ((tirx.Cast("int32", byte) & (2 * sign - 1)) ^ sign) - sign)
    if row.tvm == "int8":
        up = lit(8 - row.bits, "int8")
        return (tirx.Cast("int8", byte) << up) >> up
    return tirx.Cast("uint8", byte) & lit((1 << row.bits) - 1, "uint8")


def put(x: Expr, name: str) -> Expr:
    """What to store for a value that is held."""
    if name == "bool":
        return tirx.Cast("int8", x)
    return to_bfloat(x) if name == "bf16" else x


def narrow(x: Expr, to: str) -> Expr:
    """`x` in the element type of a result, rounded once, halves to even; integers lose upper bits that do not fit."""
    if to == "bfloat16":
        return bind(tirx.reinterpret("uint32", nearly(x)), _rounded_bfloat)
    if kind(x) == to:
        return x
    if to == "float16":
        return tirx.Cast(to, nearly(x))
    if "int" in to and "int" in kind(x) and width(to) <= width(kind(x)):
        return wrapped(x, to)
    return tirx.Cast(to, x)


def nearly(x: Expr) -> Expr:
    """`x` in f32; where that is not exact an odd neighbour, which rounds to fewer bits as `x` does."""
    if kind(x) in ("int64", "uint64"):
        x = nearly_double(x)
    elif kind(x) in ("int32", "uint32"):
        x = tirx.Cast("float64", x)
    if kind(x) == "float64":
        return bind(x, _odd)
    return x if kind(x) == "float32" else tirx.Cast("float32", x)


def _odd(x: Expr) -> Expr:
    def of(bits: Expr, near: Expr) -> Expr:
        """Towards zero where it was rounded away; then odd."""
        one, none = lit(1, "uint32"), lit(0, "uint32")
        less = bits - tirx.Select(tirx.abs(x) < tirx.abs(near), one, none)
        return as_float(less | tirx.Select(tirx.NE(near, x), one, none), "float32")

    def both(y: Expr) -> Expr:
        return bind(tirx.reinterpret("uint32", y), lambda bits: bind(tirx.Cast("float64", y), lambda n: of(bits, n)))

    return bind(tirx.Cast("float32", x), both)


def nearly_double(x: Expr) -> Expr:
    """`x` in f64; integers of 64 bits that do not fit become odd neighbours, as in `nearly`."""
    if kind(x) not in ("int64", "uint64"):
        return tirx.Cast("float64", x)

    def of(x: Expr) -> Expr:
        low, high = x & c(x, 0xFFF), x >> c(x, 53)
        fits = tirx.Or(tirx.EQ(low, c(x, 0)), tirx.EQ(high, c(x, 0)))
        if not is_unsigned(x):
            fits = tirx.Or(fits, tirx.EQ(high, c(x, -1)))
        return tirx.Cast("float64", tirx.Select(fits, x, (x - low) | c(x, 0x800)))

    return bind(x, of)


def _rounded_bfloat(b: Expr) -> Expr:
    up = b + lit(0x7FFF, "uint32") + ((b >> lit(16, "uint32")) & lit(1, "uint32"))
    quiet = b | lit(0x400000, "uint32")
    nan = (b & lit(0x7FFFFFFF, "uint32")) > lit(0x7F800000, "uint32")
    return as_float(tirx.Select(nan, quiet, up) & lit(0xFFFF0000, "uint32"), "float32")


def from_bfloat(stored: Expr) -> Expr:
    """The number behind the 16 bits of a bf16."""
    return as_float(tirx.Cast("uint32", stored) << lit(16, "uint32"), "float32")


def widened(vector: Expr, name: str) -> Expr:
    """A vector of f16, bf16 or i8, as it was loaded, in f32; of another type as it is."""
    lanes = vector.ty.dtype.lanes
    wide = "float32" if lanes == 1 else f"float32x{lanes}"
    if name == "bf16":
        kind, by = wide.replace("float", "uint"), lit(16, "uint32")
        bits = tirx.Cast(kind, vector) << (tirx.Broadcast(by, lanes) if lanes > 1 else by)
        return tirx.reinterpret(wide, bits)
    return tirx.Cast(wide, vector) if name in ("f16", "i8") else vector


def to_bfloat(x: Expr) -> Expr:
    """The 16 bits of a number that is a bf16 already."""
    return tirx.Cast("uint16", tirx.reinterpret("uint32", x) >> lit(16, "uint32"))
