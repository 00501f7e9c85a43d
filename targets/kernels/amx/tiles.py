"""The instructions of AMX as TensorIR: eight tile registers of up to 16 rows of 64 bytes.

Registers 0-3 hold sums, 4 and 5 rows of the left operand, 6 and 7 packed weights. LLVM keeps the order of these calls:
it knows nothing of what they read and write.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

SUMS, LEFT, RIGHT = 0, 4, 6
PALETTE = 64  # bytes of a configuration: palette, then widths in bytes from 16 on, then rows from 48 on


def call(name: str, *args: Expr) -> Stmt:
    return tirx.Evaluate(tirx.call_llvm_intrin("void", f"llvm.x86.{name}", *args))


def register(number: int) -> Expr:
    return tirx.IntImm("int8", number)


def configure(rows: int, groups: int) -> Stmt:
    """Tiles of `rows` rows, and of `groups` times four products; the sums become zero.

    The configuration belongs to a thread, and lasts until `release`.
    """
    memory, alloc = tir.local((PALETTE,), "uint8", "palette")
    shapes = [(rows, 64)] * 4 + [(rows, 4 * groups)] * 2 + [(groups, 64)] * 2
    content = {0: 1} | {16 + 2 * k: width for k, (_, width) in enumerate(shapes)}
    content |= {48 + k: height for k, (height, _) in enumerate(shapes)}
    zeros = tir.store(memory, tir.broadcast(tir.lit(0, "uint8"), PALETTE), tir.ramp(0, PALETTE))
    set_ = [tir.store(memory, tir.lit(value, "uint8"), at) for at, value in content.items()]
    return tir.seq(alloc, zeros, set_, call("ldtilecfg", tirx.address_of(tir.load(memory, 0))))


def release() -> Stmt:
    return call("tilerelease")


def load(number: int, buffer: Any, at: Expr | int, stride: int) -> Stmt:
    """A tile from rows that lie `stride` bytes apart, from element `at` of a buffer of one axis on."""
    address = tirx.address_of(tir.load(buffer, at))
    return call("tileloadd64", register(number), address, tirx.IntImm("int64", stride))


def store(number: int, buffer: Any, at: Expr | int, stride: int) -> Stmt:
    address = tirx.address_of(tir.load(buffer, at))
    return call("tilestored64", register(number), address, tirx.IntImm("int64", stride))


def multiply(sums: int, left: int, right: int, signed: bool) -> Stmt:
    """Add a tile of products of bytes (signed or not) and signed weights to 32-bit sums."""
    return call("tdpbssd" if signed else "tdpbusd", register(sums), register(left), register(right))
