"""Helium's instructions as TensorIR, and how sums of channels that lie side by side become results."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Value
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from ...common import ceil_div
from ...common_emit import Frame, put, vector
from .shape import BYTES, QUAD

KIND = f"int8x{BYTES}"
Index = Callable[[Expr], tuple[Expr, ...]]  # of a result's channel


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


def looked_up(table: Buffer, x: Expr, signed: bool) -> Expr:
    """Elements of a table of 256 bytes at each of sixteen bytes; `signed`: the table begins at -128."""
    place = tirx.reinterpret(KIND, x)
    if signed:
        place = tirx.bitwise_xor(place, tir.broadcast(tir.lit(-128, "int8"), BYTES))
    bits, plain, unsigned = tir.i32(8), tir.i32(0), tir.i32(1)
    start = tirx.address_of(tir.load(table, 0))
    found = tirx.call_llvm_intrin(KIND, "llvm.arm.mve.vldr.gather.offset", start, place, bits, plain, unsigned)
    return tirx.reinterpret(f"{table.dtype}x{BYTES}", found)


def gathered(table: Buffer, places: Expr) -> Expr:
    """Elements of a table of bytes at four places, in 32 bits."""
    bits, plain, unsigned = tir.i32(8), tir.i32(0), tir.i32(str(table.dtype) == "uint8")
    start = tirx.address_of(tir.load(table, 0))
    name = "llvm.arm.mve.vldr.gather.offset"
    return tirx.call_llvm_intrin(f"int32x{QUAD}", name, start, places, bits, plain, unsigned)


def store_lanes(frame: Frame, known: Callable[[Expr], None], index: Index) -> Stmt:
    """What follows the anchor, for four neighbouring channels. `known(lane)` tells the body the anchor's value.

    A table that comes last is read in four places at once.
    """
    node = frame.out.node

    def whole(lane: Expr) -> Stmt:
        known(lane)
        return frame.store(index(lane))

    if node.op != "Edgec.Table" or node.args[1] not in frame.places:
        return tir.vectorized(QUAD, whole)
    x, table = node.args
    least = -128 if x.type.dtype == "i8" else 0
    before, made = tir.local((QUAD,), "int32", "before")
    after, made_after = tir.local((QUAD,), "int32", "after")

    def argument(lane: Expr) -> Stmt:
        known(lane)
        return tir.store(before, tirx.Cast("int32", frame.body.at(x, index(lane))) - least, lane)

    def result(lane: Expr) -> Stmt:
        found = tirx.Cast(dtype(table.type.dtype).tvm, tir.load(after, lane))
        return frame.place.store(found, index(lane))

    numbers, declared = tir.flat(frame.places[table].buffer)
    look_up = put(after, gathered(numbers, vector(before, QUAD, 0)), QUAD, 0)
    return tir.seq(made, made_after, declared, tir.vectorized(QUAD, argument), look_up, tir.vectorized(QUAD, result))


def store_four(frame: Frame, anchor: Value, sums: Buffer, first: Expr, channels: int, index: Index) -> Stmt:
    """What follows the anchor for four channels from `first` on, of which the last may be padding or none."""

    def known(lane: Expr) -> None:
        frame.body.bind(anchor, lambda _: tirx.Cast(dtype(anchor.type.dtype).tvm, tir.load(sums, lane)))

    def one(lane: Expr) -> Stmt:
        known(lane)
        return frame.store(index(first + lane))

    if frame.out.type.layout.endswith("c") or channels % QUAD == 0:
        return store_lanes(frame, known, lambda lane: index(first + lane))
    return tir.seq(tir.when(first + lane < channels, one(tir.i32(lane))) for lane in range(QUAD))


def store_channels(
    frame: Frame,
    anchor: Value,
    sums: Buffer,
    at: Expr | int,
    channels: int,
    index: Index,
    more: Callable[[Expr], Expr] | None = None,
) -> Stmt:
    """What follows the anchor, for the channels of one pixel whose sums lie side by side. `more` is added to each."""

    def known(lane: Expr) -> None:
        def total(_: tir.Index) -> Expr:
            return tir.load(sums, at + lane) + more(lane) if more else tir.load(sums, at + lane)

        frame.body.bind(anchor, total)

    def four(first: Expr) -> Stmt:
        return store_lanes(frame, lambda lane: known(first + lane), lambda lane: index(first + lane))

    def one(channel: Expr) -> Stmt:
        known(channel)
        return frame.store(index(channel))

    padded = frame.out.type.layout.endswith("c")
    full, rest = (ceil_div(channels, QUAD), 0) if padded else divmod(channels, QUAD)
    return tir.seq(
        tir.loop(full + frame.zero, lambda q: four(q * QUAD), "q") if full else None,
        tir.loop(rest, lambda i: one(i + full * QUAD), "i") if rest else None,
    )
