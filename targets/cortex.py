"""Rounding and saturation on a Cortex-M with FPU and DSP extension: one instruction each, as TensorIR expressions."""

from __future__ import annotations

from tvm import tirx

from .tir import Expr, lit

BYTE = {"i8": (-128, 127), "u8": (0, 255)}


def saturated(name: str, value: Expr, bits: int) -> Expr:
    """ssat or usat."""
    return tirx.call_llvm_pure_intrin("int32", f"llvm.arm.{name}", value, lit(bits, "int32"))


def nearest(x: Expr) -> Expr:
    """The integer nearest to a float, halves to even, saturated; 0 for NaN."""
    return tirx.reinterpret("int32", tirx.call_llvm_pure_intrin("float32", "llvm.arm.vcvtr.f32", x))


def added(x: Expr, value: Expr | int) -> Expr:
    """x + a number, saturated."""
    if isinstance(value, int) and not value:
        return x
    number = lit(value, "int32") if isinstance(value, int) else value
    return tirx.call_llvm_pure_intrin("int32", "llvm.sadd.sat.i32", x, number)


def byte(x: Expr, name: str) -> Expr:
    """x within the limits of i8 or u8."""
    return saturated("ssat" if name == "i8" else "usat", x, 8)


def limited(x: Expr, zero: int, low: int, high: int) -> Expr:
    """min(max(x + zero, low), high), whatever x is."""
    least, most = low - zero, high - zero
    if least == 0 and most in (127, 255):
        kept = saturated("usat", x, most.bit_length())
        return kept + lit(zero, "int32") if zero else kept
    name = "i8" if BYTE["i8"][0] <= low and high <= BYTE["i8"][1] else "u8"
    kept = byte(added(x, zero), name)
    kept = tirx.max(kept, lit(low, "int32")) if low > BYTE[name][0] else kept
    return tirx.min(kept, lit(high, "int32")) if high < BYTE[name][1] else kept
