"""TensorIR of products of few rows by a constant matrix: memory decides, so each element of it is read once.

A column's elements lie side by side. The lanes of one or several warps read some columns in turn, sum in f32, and meet
in shared memory; each lane then finishes one result.
"""

from __future__ import annotations

from math import prod
from typing import Any

from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Value
from edgec.compiler.registry import Choice, Emitted, Problem

from .... import tir
from ....access import Place
from ....conversions import fetched, stored, widen
from ....cuda.block import Block, barrier, call, emit_grid, pointer, pure, result, shared
from ....tir import Buffer, Expr, Stmt
from ...common import ceil_div, in_memory
from .matmul_rows import lanes_of

BLOCK = 256  # threads
IN_TURN = 4  # accesses of a lane to each column that are in flight together
F32 = "float32"


class MatVec:
    def __init__(self, problem: Problem, each: int, warps: int) -> None:
        self.problem, self.each, self.warps = problem, each, warps
        self.node = problem.anchor
        a, b = self.node.args
        self.a_value, self.b_value = a, in_memory(problem, b)
        self.rows, self.depth, self.columns = prod(a.shape[:-1]), a.shape[-1], b.shape[-1]
        self.lanes = lanes_of(problem)
        self.sums_count = self.rows * each
        self.together = BLOCK // (32 * warps)  # groups of columns in a block

    def emit(self, symbol: str) -> Emitted:
        groups = ceil_div(self.columns, self.each)
        return emit_grid(self.problem, symbol, (ceil_div(groups, self.together), 1, 1), BLOCK, self._block)

    def _block(self, frame: Block) -> Stmt:
        self.frame = frame
        self.a, self.b = frame.places[self.a_value], frame.places[self.b_value]
        self.flat_a, declared_a = tir.flat(self.a.buffer)
        self.flat_b, declared_b = tir.flat(self.b.buffer)
        warp, bind_warp = tir.let(tirx.floordiv(frame.thread, 32), "warp")
        self.lane, bind_lane = tir.let(tirx.floormod(frame.thread, 32), "lane")
        self.part, bind_part = tir.let(tirx.floormod(warp, self.warps), "part")
        self.place = tirx.floordiv(warp, self.warps)  # in the block
        first = (frame.at[0] * self.together + self.place) * self.each
        self.column, bind_column = tir.let(first, "column")
        self.sums, declared = tir.local((self.sums_count,), F32, "sums")
        clear = tir.unrolled(self.sums_count, lambda i: tir.store(self.sums, tir.lit(0, F32), i))
        head = [declared_a, declared_b, bind_warp, bind_lane, bind_part, bind_column, declared, clear]
        butterfly = tir.unrolled(
            self.sums_count,
            lambda i: tir.store(self.sums, result(F32, "ec_warp_sum", tir.load(self.sums, i)), i),
        )
        return tir.seq(head, self._reduce(), butterfly, self._meet() if self.warps > 1 else self._finish())

    # ---- sums along the columns ----

    def _reduce(self) -> Stmt:
        """Whole strides of the lanes without a condition, some at a time; the rest element by element guarded."""
        stride = 32 * self.warps * self.lanes
        whole = self.depth // stride
        many, rest = divmod(whole, IN_TURN)
        own, bind = tir.let((self.part * 32 + self.lane) * self.lanes, "own")

        def turns(first: Expr, count: int) -> Stmt:
            return self._turns([own + (first + k) * stride for k in range(count)])

        stmts = [tir.loop(many, lambda i: turns(i * IN_TURN, IN_TURN), "i")] if many else []
        if rest:
            stmts.append(turns(tir.i32(many * IN_TURN), rest))
        if self.depth % stride:
            at = own + whole * stride
            stmts.append(tir.when(at < self.depth, self._turns([at])))
        return tir.seq(bind, stmts)

    def _turns(self, places: list[Expr]) -> Stmt:
        """All loads first, then the products."""
        loads: list[Stmt] = []
        products: list[Stmt] = []
        for at in places:
            columns = [
                self._load(self.flat_b, self.b, self._clamped(c) * self.depth + at, loads) for c in range(self.each)
            ]
            for row in range(self.rows):
                x = self._load(self.flat_a, self.a, at + row * self.depth, loads)
                for c in range(self.each):
                    for k in range(self.lanes):
                        here = row * self.each + c
                        old = tir.load(self.sums, here)
                        products.append(tir.store(self.sums, pure(F32, "fmaf", x(k), columns[c](k), old), here))
        return tir.seq(loads, products)

    def _clamped(self, c: int) -> Expr:
        """A column of the group; the last group reads its last column instead of what does not exist."""
        groups = ceil_div(self.columns, self.each)
        column = self.column + c if c else self.column
        spare = groups % self.together or self.columns % self.each
        return tirx.min(column, self.columns - 1) if spare else column

    def _load(self, buffer: Buffer, place: Place, at: Expr, loads: list[Stmt]) -> Any:
        """`lanes` neighbouring elements, as f32 by number."""
        name = place.type.dtype
        size = dtype(name).bytes
        register, declared = tir.local((self.lanes,), stored(name), "x")
        loads.append(declared)
        if self.lanes * size < 4:
            loads.append(tir.store(register, tir.load(buffer, at), 0))
        else:
            for start in range(0, self.lanes, 16 // size):
                width = min(16, self.lanes * size)
                target, origin = pointer(register, start), pointer(buffer, at + start if start else at)
                loads.append(call(f"ec_load{width}", target, origin))
        return lambda k: widen(fetched(tir.load(register, k), name))

    # ---- results ----

    def _meet(self) -> Stmt:
        """The warps of a group add their sums in order."""
        memory, allocated = shared((self.together * self.warps * self.sums_count,), F32, "parts")
        start = self.place * (self.warps * self.sums_count)

        def leave(i: Expr) -> Stmt:
            return tir.store(memory, tir.load(self.sums, i), start + self.part * self.sums_count + i)

        def take(i: Expr) -> Stmt:
            total = tir.load(memory, start + i)
            for w in range(1, self.warps):
                total = total + tir.load(memory, start + w * self.sums_count + i)
            return tir.store(self.sums, total, i)

        left = tir.when(self.lane.equal(tir.i32(0)), tir.unrolled(self.sums_count, leave))
        taken = tir.when(self.part.equal(tir.i32(0)), tir.seq(tir.unrolled(self.sums_count, take), self._finish()))
        return tir.seq(allocated, left, barrier(), taken)

    def _finish(self) -> Stmt:
        """Lane number i stores sum number i."""
        own, declared = tir.local((1,), F32, "own")
        picks = [tir.store(own, tir.load(self.sums, 0), 0)]
        for i in range(1, self.sums_count):
            picked = tirx.Select(self.lane.equal(tir.i32(i)), tir.load(self.sums, i), tir.load(own, 0))
            picks.append(tir.store(own, picked, 0))
        row = tirx.floordiv(self.lane, self.each) if self.each > 1 else self.lane
        column, bind = tir.let(self.column + (tirx.floormod(self.lane, self.each) if self.each > 1 else 0), "result")
        shape = self.node.types[0].shape
        lead = tir.split(row, *shape[:-1]) if len(shape) > 1 else ()
        index = (*(tir.i32(0) if n == 1 else x for n, x in zip(shape[:-1], lead, strict=True)), column)
        value = self.frame.body.rounded(Value(self.node), tir.load(own, 0))
        self.frame.body.bind(Value(self.node), lambda _: value)
        inside = tirx.And(self.lane < self.sums_count, column < self.columns)
        return tir.seq(declared, picks, bind, tir.when(inside, self.frame.store(index)))


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    return MatVec(problem, choice.get("each"), choice.get("warps")).emit(symbol)
