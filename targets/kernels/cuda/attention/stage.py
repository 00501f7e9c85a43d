"""How the operands of an attention come into shared memory: where a head lies, tiles of Q, K and V, zeros at edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Problem

from .... import tir
from ....cuda.block import Block, call, pointer, pure
from ....tir import Buffer, Expr, Stmt
from .rows import Tiles, aligned

F32 = "float32"


@dataclass(frozen=True)
class Operand:
    """A flat buffer, the first element of this head in it, strides of the two inner axes; `at_once`: how many numbers
    one copy takes, 1 where they lie apart."""

    buffer: Buffer
    base: Expr
    outer: int
    inner: int
    at_once: int

    def at(self, outer: Expr, inner: Expr | int) -> Expr:
        return self.base + outer * self.outer + tir.expr(inner) * self.inner


class Staged:
    """A block's operands. `head`: statements before all others; `memory`: shared memory, by words; `column`: of V, the
    first that the block computes; tiles of K and V begin at `tiles_at` and `values_at`."""

    head: list[Stmt]
    memory: Buffer
    thread: Expr
    column: Expr
    tiles_at: int
    values_at: int

    def __init__(self, problem: Problem, tiles: Tiles) -> None:
        self.problem, self.tiles, self.shape = problem, tiles, tiles.shape
        attrs: Any = full_attrs(problem.anchor)
        self.attrs = attrs

    def named(self, value: Expr, name: str) -> Expr:
        var, bind = tir.let(tir.expr(value), name)
        self.head.append(bind)
        return var

    def registers(self, count: int, name: str, kind: str = F32) -> Buffer:
        buffer, made = tir.local((count,), kind, name)
        self.head.append(made)
        return buffer

    def operands(self, frame: Block, head: Expr) -> None:
        digits = [self.named(x, "digit") for x in tir.split(head, *self.shape.batch)] if self.shape.batch else []
        self.of: dict[str, Operand] = {}
        flats: dict[Any, Buffer] = {}
        sources = [
            (n, frame.places[a]) for n, a in zip(("q", "k", "v", "mask"), self.problem.anchor.args, strict=False)
        ]
        for name, place in [*sources, ("out", frame.place)]:
            if place.buffer not in flats:
                flats[place.buffer], made = tir.flat(place.buffer)
                self.head.append(made)
            offset, *strides = self.attrs[name] if name != "out" else (0, *self.attrs["out"])
            base = tir.i32(offset)
            for digit, stride in zip(digits, strides, strict=False):
                base = base + digit * stride
            numbers = self.shape.d if name in "qk" else self.shape.e
            at_once = 8 if self.tiles.half else 4
            if not aligned(self.problem, name, numbers, at_once):
                at_once = 1
            self.of[name] = Operand(flats[place.buffer], self.named(base, name), strides[-2], strides[-1], at_once)

    def tile(self, first: Expr, stage: Expr) -> Stmt:
        """K and V of the keys from `first` on."""
        t = self.tiles
        k_at = self.tiles_at + stage * (t.keys * t.pitch)
        v_at = self.values_at + stage * (t.keys * t.value_pitch)
        return tir.seq(
            self.copied("k", k_at, t.pitch, first, t.keys, self.shape.t, t.d, tir.i32(0)),
            self.copied("v", v_at, t.value_pitch, first, t.keys, self.shape.t, t.e, self.column),
        )

    def copied(
        self, name: str, at: Expr | int, pitch: int, first: Expr, rows: int, limit: int, width: int, column: Expr
    ) -> Stmt:
        """Rows of an operand to shared memory; what is not there is zero. `width`: numbers of a row, padded."""
        source, numbers = self.of[name], self.shape.d if name in "qk" else self.shape.e
        words = 4 if source.at_once > 1 else 1
        each = self.tiles.words(width) // words  # copies of a row
        at_once = source.at_once if source.at_once > 1 else (2 if self.tiles.half else 1)
        whole_columns = numbers % width == 0
        whole_rows = limit % rows == 0

        def copy(number: Expr) -> Stmt:
            row, piece = tirx.floordiv(number, each), tirx.floormod(number, each)
            to = tir.expr(at) + row * pitch + piece * words
            true, left = first + row, column + piece * at_once
            here = true if whole_rows else tirx.min(true, tir.i32(limit - 1))
            conditions = ([] if whole_rows else [true < limit]) + ([] if whole_columns else [left < numbers])
            if source.at_once > 1:
                inside = left if whole_columns else tirx.min(left, tir.i32(numbers - at_once))
                return self._asynchronous(16, to, pointer(source.buffer, source.at(here, inside)), conditions)
            if not self.tiles.half:
                inside = left if whole_columns else tirx.min(left, tir.i32(numbers - 1))
                return self._asynchronous(4, to, pointer(source.buffer, source.at(here, inside)), conditions)
            return self._halves(source, to, here, left, numbers, conditions)

        total, threads = rows * each, self.tiles.threads
        turns = -(-total // threads)

        def turn(k: Expr) -> Stmt:
            number = k * threads + self.thread
            return copy(number) if total % threads == 0 else tir.when(number < total, copy(number))

        unrolled = turns <= 16
        return tir.unrolled(turns, turn, "copy") if unrolled else tir.loop(turns, turn, "copy")

    def _asynchronous(self, size: int, to: Expr, source: Expr, conditions: Sequence[Expr]) -> Stmt:
        if not conditions and size == 16:
            return call("ec_cp16", pointer(self.memory, to), source)
        valid = tirx.Cast("int32", all_of(conditions)) if conditions else tir.i32(1)
        return call(f"ec_cp{size}_if", pointer(self.memory, to), source, valid)

    def _halves(
        self, source: Operand, to: Expr, row: Expr, left: Expr, numbers: int, conditions: Sequence[Expr]
    ) -> Stmt:
        """Two numbers that may lie anywhere, as one word."""

        def number(j: int) -> Expr:
            x = tirx.Cast(F32, tir.load(source.buffer, source.at(row, tirx.min(left + j, tir.i32(numbers - 1)))))
            return tirx.Select(all_of([*conditions, left + j < numbers]), x, tir.lit(0, F32))

        word, made = tir.local((1,), "uint32", "word")
        pair = [tir.let(number(j), "half") for j in range(2)]
        packed = tir.store(word, pure("uint32", "ec_half2_pack", pair[0][0], pair[1][0]), 0)
        return tir.seq(
            made, [b for _, b in pair], packed, call("ec_store4", pointer(self.memory, to), pointer(word, 0))
        )


def all_of(conditions: Sequence[Expr]) -> Expr:
    whole = conditions[0]
    for c in conditions[1:]:
        whole = tirx.And(whole, c)
    return whole
