"""Instructions of the DSP extension of Cortex-M as TensorIR expressions: pairs of 16 bits in a word."""

from __future__ import annotations

from tvm import tirx

from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

WORD = 4  # bytes


def _arm(name: str, *args: Expr) -> Expr:
    return tirx.call_llvm_pure_intrin("int32", f"llvm.arm.{name}", *args)


def turned(word: Expr) -> Expr:
    """The word rotated right by a byte; it costs nothing as an operand of `widened`."""
    return tirx.call_llvm_pure_intrin("int32", "llvm.fshr.i32", word, word, tir.i32(8))


def widened(word: Expr) -> Expr:
    """Bytes 0 and 2 of a word as a pair of 16 bits."""
    return _arm("sxtb16", word)


def widened_onto(pair: Expr, word: Expr) -> Expr:
    """A pair of 16 bits plus bytes 0 and 2 of a word."""
    return _arm("sxtab16", pair, word)


def halves(word: Expr) -> tuple[Expr, Expr]:
    """Bytes 0 and 2, and bytes 1 and 3 of a word, as pairs: a word of weights and one of data pair up alike."""
    return widened(word), widened(turned(word))


def moved_halves(word: Expr, zero: int) -> tuple[Expr, Expr]:
    """`halves` of bytes minus a zero point."""
    if not zero:
        return halves(word)
    by = twice(-zero)
    return widened_onto(by, word), widened_onto(by, turned(word))


def twice(value: int) -> Expr:
    """A number in both halves of a word."""
    bits = (value & 0xFFFF) * 0x10001
    return tir.i32(bits - (1 << 32) if bits >> 31 else bits)


def products(total: Expr, a: Expr, b: Expr) -> Expr:
    """total + the two products of pairs."""
    return _arm("smlad", a, b, total)


def saturated(name: str, value: Expr, bits: int) -> Expr:
    """ssat or usat."""
    return _arm(name, value, tir.i32(bits))


def nearest(x: Expr) -> Expr:
    """The integer nearest to a float, halves to even, saturated."""
    return tirx.reinterpret("int32", tirx.call_llvm_pure_intrin("float32", "llvm.arm.vcvtr.f32", x))


def words(buffer: Buffer, count: int, word: str) -> tuple[Buffer, Stmt]:
    """A buffer of bytes as words; nothing may write it."""
    return tir.section(buffer, "int32", count, 0, word)


def added(x: Expr, value: int) -> Expr:
    """x + a small number, saturated."""
    return tirx.call_llvm_pure_intrin("int32", "llvm.sadd.sat.i32", x, tir.i32(value)) if value else x
