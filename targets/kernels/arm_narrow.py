"""Sixteen sums become sixteen bytes on AArch64: rounded by fcvtns, narrowed twice with saturation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.compiler.ops.common import limits
from edgec.compiler.registry import Problem
from edgec.compiler.target import Cpu
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from .arm_bytes import BLOCK, LANES
from .arm_tail import looked_up
from .bytes_tail import literal, per_channel, rescales
from .bytes_tail_emit import Tail
from .bytes_vector import joined
from .common_emit import Frame

HALF = BLOCK // 2


class Narrowed(Tail):
    """What follows sums, with vectors of four: those of a block lie in the order of its channels."""

    def bytes_of(self, totals: Sequence[Expr], attrs: Any) -> Expr:
        words = [_neon("int32x4", "fcvtns.v4i32.v4f32", t) for t in totals]
        halves = [joined([_neon("int16x4", "sqxtn.v4i16", w) for w in words[k : k + 2]]) for k in (0, 2)]
        if attrs["zero"]:
            number = tir.broadcast(tir.lit(attrs["zero"], "int16"), HALF)
            halves = [tirx.call_llvm_pure_intrin(f"int16x{HALF}", "llvm.sadd.sat", half, number) for half in halves]
        narrow = "sqxtn.v8i8" if attrs["to"] == "i8" else "sqxtun.v8i8"
        x = joined([_neon(f"int8x{HALF}", narrow, half) for half in halves])
        element = {"u8": "uint8", "i8": "int8"}[attrs["to"]]
        x = tirx.reinterpret(f"{element}x{BLOCK}", x) if element == "uint8" else x
        least, most = limits(attrs["to"])
        if attrs["low"] > least:
            x = tirx.max(x, tir.broadcast(tir.lit(attrs["low"], element), BLOCK))
        return tirx.min(x, tir.broadcast(tir.lit(attrs["high"], element), BLOCK)) if attrs["high"] < most else x

    def looked(self, value: Value, table: Value) -> Expr:
        x = looked_up(self.table(table), self.result(value), value.type.dtype == "i8")
        return tirx.reinterpret(f"{'uint8' if table.type.dtype == 'u8' else 'int8'}x{BLOCK}", x)


def narrows(problem: Problem) -> bool:
    """Whether what follows the anchor can be computed so: multipliers can be read as they lie."""
    if problem.anchor.op != "Edgec.ConvInteger" or rescales(problem) is not True:
        return False
    shape = problem.anchor.types[0].shape
    plain = [v for v in problem.body.inputs if v.type.dtype == "f32"]
    return all(literal(v) is not None or (v.type.layout == "" and per_channel(v, shape)) for v in plain)


def store_block(
    frame: Frame, anchor: Value, cpu: Cpu, sums: Sequence[Expr], channel: Expr, spatial: tuple[Expr, ...]
) -> list[Stmt]:
    """Store the results of sixteen channels from `channel` on; `spatial`: (image, row, column), as viewed."""
    heads: list[Stmt] = []

    def block(buffer: Any) -> tuple[Expr, ...]:
        """Index of the block, whose channels are an axis of their own or part of a row of channels."""
        apart = len(buffer.shape) == len(spatial) + 2
        return (
            (*spatial, tirx.floordiv(channel, BLOCK), tir.ramp(0, BLOCK))
            if apart
            else (*spatial, tir.ramp(channel, BLOCK))
        )

    def flat(value: Value) -> Any:
        buffer, declared = tir.flat(frame.places[value].buffer)
        heads.append(declared)
        return buffer

    def multiplier(value: Value, k: int) -> Expr:
        number = literal(value)
        if number is not None:
            return tir.broadcast(tir.lit(number, "float32"), LANES)
        return tir.load(flat(value), tir.ramp(channel + LANES * k, LANES))

    def bytes_at(value: Value) -> Expr:
        buffer = frame.places[value].buffer
        return tir.load(buffer, *block(buffer))

    tail = Narrowed(LANES, {anchor: list(sums)}, multiplier, bytes_at, flat, cpu)
    result = tail.result(frame.out)
    return [*heads, *tail.binds, tir.store(frame.place.buffer, result, *block(frame.place.buffer))]


def _neon(kind: str, name: str, *args: Expr) -> Expr:
    return tirx.call_llvm_pure_intrin(kind, f"llvm.aarch64.neon.{name}", *args)
