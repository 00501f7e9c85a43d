"""Helium's instructions as TensorIR, and how sums of channels that lie side by side become results."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from .common import ceil_div
from .common_emit import Frame
from .mve_shape import BYTES, QUAD

KIND = f"int8x{BYTES}"


def dot(total: Expr, a: Expr, b: Expr) -> Expr:
    """total + the sum of sixteen products of signed bytes."""
    none = tir.i32(0)
    return tirx.call_llvm_pure_intrin("int32", "llvm.arm.mve.vmldava.v16i8", none, none, none, total, a, b)


def opaque(x: Expr) -> Expr:
    """x, of which LLVM knows nothing: what is read at constant distances from it shares a register, where LLVM would
    count up one for each, and stays where it is."""
    return tirx.call_llvm_pure_intrin("int32", "llvm.arm.ssat", x, tir.i32(32))


def ones() -> Expr:
    return tir.broadcast(tir.lit(1, "int8"), BYTES)


def masked(x: Expr, count: int) -> Expr:
    """A vector of bytes whose first `count` are zero."""
    if not count:
        return x
    lanes = tirx.Shuffle([tir.lit(-(i >= count), "int8") for i in range(BYTES)], [tir.i32(i) for i in range(BYTES)])
    return tirx.bitwise_and(x, lanes)


def partly(buffer: Buffer, at: Expr, count: int) -> Expr:
    """The first `count` bytes of a vector, no others of which are read; zeros behind them."""
    lanes = tirx.call_llvm_pure_intrin(f"boolx{BYTES}", "llvm.arm.mve.vctp8", tir.i32(count))
    none = tir.broadcast(tir.lit(0, "int8"), BYTES)
    return tirx.call_llvm_intrin(KIND, "llvm.masked.load", tirx.address_of(tir.load(buffer, at)), lanes, none)


def store_channels(
    frame: Frame, anchor: Value, sums: Buffer, at: Expr | int, channels: int, index: Callable[[Expr], tuple[Expr, ...]]
) -> Stmt:
    """What follows the anchor, for the channels of one pixel whose sums lie side by side."""

    def four(first: Expr, lanes: int) -> Stmt:
        def one(lane: Expr) -> Stmt:
            frame.body.bind(anchor, lambda _: tir.load(sums, at + first + lane))
            return frame.store(index(first + lane))

        return tir.vectorized(lanes, one)

    padded = frame.out.type.layout.endswith("c")
    full, rest = (ceil_div(channels, QUAD), 0) if padded else divmod(channels, QUAD)
    return tir.seq(
        tir.loop(full + frame.zero, lambda q: four(q * QUAD, QUAD), "q") if full else None,
        tir.loop(rest, lambda i: four(i + full * QUAD, 1), "i") if rest else None,
    )
