"""What follows sums of bytes on AArch64: any elementwise code on neighbouring channels; a last table by tbl."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.layout import layout
from edgec.compiler.registry import Problem
from edgec.targets import tir
from edgec.targets.integer import ROUNDER, ROUNDER_BITS
from edgec.targets.tir import Buffer, Expr, Stmt

from .arm_bytes import BLOCK
from .common import LIGHT, after_anchor, ceil_div
from .common_emit import Frame, put, vector

SHORT_CODE = LIGHT | {"Edgec.Rescale", "DequantizeLinear", "Cast"}  # a copy for each pixel of a tile is no burden
PART = 64  # bytes that one tbl looks up in
Index = Callable[[Expr], tuple[Expr, ...]]  # of a result's channel


def short(problem: Problem) -> bool:
    """Whether what follows is so little code that each pixel may have its own."""
    return SHORT_CODE.issuperset(n.op for n in after_anchor(problem))


def lifted(held: int) -> int:
    """What sums start from: conversions to floats are a subtraction then, where they would keep one pipe busy."""
    return ROUNDER_BITS if held else 0


def store(frame: Frame, anchor: Value, sums: Buffer, at: Expr | int, width: int, index: Index, held: int = 0) -> Stmt:
    """The results of `width` channels whose sums lie in `sums` from `at` on."""
    frame.body.halves = held > 1

    def bound(lane: Expr) -> None:
        total = tir.load(sums, at + lane)
        whole = tirx.reinterpret("float32", total) - tir.lit(ROUNDER, "float32") if held else total
        frame.body.bind(anchor, lambda _: whole)

    node = frame.out.node
    if node.op != "Edgec.Table" or node.args[1] not in frame.places:

        def whole(lane: Expr) -> Stmt:
            bound(lane)
            return frame.store(index(lane))

        return tir.vectorized(width, whole)
    x, table = node.args
    room = ceil_div(width, BLOCK) * BLOCK
    kind = {"u8": "uint8", "i8": "int8"}
    before, made = tir.local((room,), kind[x.type.dtype], "before")
    after, made_after = tir.local((room,), kind[table.type.dtype], "after")

    def argument(lane: Expr) -> Stmt:
        bound(lane)
        return tir.store(before, frame.body.at(x, index(lane)), lane)

    def result(lane: Expr) -> Stmt:
        return frame.place.store(tir.load(after, lane), index(lane))

    places, declared = tir.flat(frame.places[table].buffer)
    found = [
        put(after, tirx.reinterpret(f"{kind[table.type.dtype]}x{BLOCK}", value), BLOCK, first)
        for first in range(0, room, BLOCK)
        for value in [looked_up(places, vector(before, BLOCK, first), x.type.dtype == "i8")]
    ]
    return tir.seq(made, made_after, declared, tir.vectorized(width, argument), found, tir.vectorized(width, result))


def looked_up(table: Buffer, x: Expr, signed: bool) -> Expr:
    """Sixteen elements of a table of 256 bytes: a tbl of each quarter gives 0 for indices that are not its own."""
    index = tirx.reinterpret(f"int8x{BLOCK}", x)
    if signed:
        index = tirx.bitwise_xor(index, tir.broadcast(tir.lit(-128, "int8"), BLOCK))
    total = None
    for part in range(256 // PART):
        own = tirx.bitwise_xor(index, tir.broadcast(tir.lit((part * PART + 128) % 256 - 128, "int8"), BLOCK))
        quarter = [tirx.reinterpret(f"int8x{BLOCK}", vector(table, BLOCK, part * PART + BLOCK * k)) for k in range(4)]
        found = tirx.call_llvm_pure_intrin(f"int8x{BLOCK}", "llvm.aarch64.neon.tbl4.v16i8", *quarter, own)
        total = found if total is None else tirx.bitwise_or(total, found)
    return total


def dense(t: Type) -> Type:
    """Channels in blocks that lie innermost are channels in a row, padding included."""
    letters = t.layout.rstrip("c0123456789")
    if letters not in ("NHWC", "NWC") or t.layout == letters:
        return t
    block = layout(t.layout, len(t.shape)).block(1)
    shape = (t.shape[0], ceil_div(t.shape[1], block) * block, *t.shape[2:])
    return Type(t.dtype, shape, letters, t.q)
