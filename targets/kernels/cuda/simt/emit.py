"""TensorIR of f32 products on plain multiply-add units: stages of shared memory, a register tile per thread.

The left operand lies in shared memory by rows, as it comes, and a thread reads four steps of the reduction at a time;
the right one by steps. Where the reduction is cut, parts meet in scratch memory and the last block to come adds them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.compiler.registry import Emitted, Problem

from .... import tir
from ....cuda.block import Block, barrier, call, emit_grid, pointer, pure, result, wait
from ....tir import Buffer, Expr, Stmt
from ...common import input_index
from ..epilogue import Finish, vector
from .tile import PAD, Product, Tile

QUAD = 4  # columns of a thread that lie side by side
TOGETHER = 4  # rows of results whose operands are read before the first is written


class Simt(ABC):
    """One kernel. A subclass says how operands are fetched and where results go."""

    def __init__(self, problem: Problem, product: Product, tile: Tile) -> None:
        self.problem, self.product, self.tile = problem, product, tile
        self.steps = product.steps(tile)
        self.total = -(-product.depth // tile.step)

    @abstractmethod
    def prepare(self) -> Stmt:
        """What a thread computes once, before the first stage: addresses of its share of the operands."""

    @property
    @abstractmethod
    def weights(self) -> Value:
        """The right operand."""

    @abstractmethod
    def left(self, stage: Expr, k: Expr) -> Stmt:
        """Begin to copy step `k` of the left operand to shared memory, from element `stage` of it on."""

    @abstractmethod
    def right(self, stage: Expr, k: Expr) -> Stmt:
        """The same of the right one."""

    def before(self, column: Expr, lanes: int) -> Stmt:
        """What is read once for all results of columns `column` .."""
        return tir.seq()

    @abstractmethod
    def store(self, row: Expr, column: Expr, lanes: int, acc: Any) -> Finish:
        """Results `column` .. of a row in range; `acc(lane)` is the accumulator."""

    @property
    def lanes(self) -> int:
        """Results that are stored at once: some of the QUAD side by side that a thread has."""
        return min(vector(self.problem.body.outputs[0].type), QUAD)

    def emit(self, symbol: str) -> Emitted:
        down, across = self.product.blocks(self.tile)
        grid = down, across, self.product.batch * self.tile.split
        return emit_grid(
            self.problem,
            symbol,
            grid,
            self.tile.threads,
            self._block,
            shared=self.tile.shared,
            scratch=self.product.scratch(self.tile),
            zeros=self.product.counters(self.tile),
            waits=True,
        )

    def _block(self, frame: Block) -> Stmt:
        t, split = self.tile, self.tile.split
        self.frame = frame
        self.thread = frame.thread
        self.row0, self.column0 = frame.at[0] * t.rows, frame.at[1] * t.columns
        self.batch = tirx.floordiv(frame.at[2], split) if split > 1 else frame.at[2]
        self.part = tirx.floormod(frame.at[2], split) if split > 1 else tir.i32(0)
        floats = t.stage * t.stages
        self.shared = tirx.decl_buffer((floats,), "float32", "stages", scope="shared.dyn")
        warp, lane = tirx.floordiv(self.thread, 32), tirx.floormod(self.thread, 32)
        # lanes 2i and 2i + 1 share columns, 2i and 2i + 2 rows: shared memory serves two quarters of a warp at once
        down, side = tirx.floordiv(lane, 16) * 2 + tirx.floormod(lane, 2), tirx.floormod(tirx.floordiv(lane, 2), 8)
        self.own_row, bind_row = tir.let(tirx.floordiv(warp, t.warp_columns) * (4 * t.height) + down, "own_row")
        self.own_column, bind_column = tir.let(
            tirx.floormod(warp, t.warp_columns) * (8 * t.width) + side * 4, "own_column"
        )
        self.acc, declared = tir.local((t.height * t.width,), "float32", "acc")
        clear = tir.unrolled(t.height * t.width, lambda i: tir.store(self.acc, tir.lit(0, "float32"), i))
        head = [tirx.AllocBuffer(self.shared), bind_row, bind_column, declared, self.prepare(), clear]
        return tir.seq(head, self._reduce(), self._finish() if split == 1 else self._meet())

    # ---- the reduction ----

    def _reduce(self) -> Stmt:
        t = self.tile
        first, steps = self.part * self.steps, tir.i32(self.steps)
        if self.total % self.steps:
            steps = tirx.min(steps, self.total - first)
        steps, bind = tir.let(steps, "steps")

        def begin(fetch: Callable[[Expr, Expr], Stmt], k: Expr, stage: Expr) -> Stmt:
            return tir.when(k < steps, fetch(stage * t.stage, first + k))

        def both(stage: Expr, k: Expr) -> Stmt:
            return tir.seq(self.left(stage, k), self.right(stage, k))

        def turn(k: Expr) -> Stmt:
            ahead = k + (t.stages - 1)
            return tir.seq(
                call(f"ec_cp_wait{t.stages - 2}"),
                barrier(),
                begin(both, ahead, tirx.floormod(ahead, t.stages)),
                call("ec_cp_commit"),
                self._multiply(tirx.floormod(k, t.stages) * t.stage),
            )

        numbers = [tir.i32(k) for k in range(t.stages - 1)]
        fixed = input_index(self.problem.body, self.weights) in self.problem.constants
        early = [begin(self.right, k, k) for k in numbers] if fixed else []
        ahead = [tir.seq(begin(self.left if fixed else both, k, k), call("ec_cp_commit")) for k in numbers]
        return tir.seq(bind, early, wait(), ahead, tir.loop(steps, turn, "k"))

    def _multiply(self, stage: Expr) -> Stmt:
        """One stage: four steps of a thread's rows at once, then column by column of them."""
        t = self.tile
        base, bind = tir.let(stage, "stage")
        left, left_declared = tir.local((4 * t.height,), "float32", "left")
        right, right_declared = tir.local((t.width,), "float32", "right")

        def row(quad: Expr, i: Expr) -> Stmt:
            where = base + (self.own_row + i * 4) * (t.step + PAD) + quad * 4
            return call("ec_load16", pointer(left, i * 4), pointer(self.shared, where))

        def column(step: Expr, h: Expr) -> Stmt:
            where = base + t.left + step * t.columns + self.own_column + h * 32
            return call("ec_load16", pointer(right, h * 4), pointer(self.shared, where))

        def one(within: Expr, i: Expr, j: Expr) -> Stmt:
            at = i * t.width + j
            value = pure("float32", "fmaf", tir.load(left, i * 4 + within), tir.load(right, j), tir.load(self.acc, at))
            return tir.store(self.acc, value, at)

        def step(quad: Expr, within: Expr) -> Stmt:
            return tir.seq(
                tir.unrolled(t.width // 4, lambda h: column(quad * 4 + within, h), "h"),
                tir.unrolled(t.height, lambda i: tir.unrolled(t.width, lambda j: one(within, i, j), "j"), "i"),
            )

        def quad(q: Expr) -> Stmt:
            return tir.seq(tir.unrolled(t.height, lambda i: row(q, i), "i"), tir.unrolled(4, lambda w: step(q, w), "w"))

        return tir.seq(bind, left_declared, right_declared, tir.unrolled(t.step // 4, quad, "q"))

    # ---- results ----

    def _finish(self) -> Stmt:
        t = self.tile
        rows_guarded, columns_guarded = self.product.rows % t.rows != 0, self.product.columns % t.columns != 0

        def guarded(row: Expr, stmt: Stmt) -> Stmt:
            return tir.when(row < self.product.rows, stmt) if rows_guarded else stmt

        def pieces(some: Expr, h: Expr, column: Expr, start: int) -> Stmt:
            reads: list[Stmt] = []
            writes: list[Stmt] = []
            for i in (some * TOGETHER + g for g in range(TOGETHER)):
                row, at = self.row0 + self.own_row + i * 4, i * t.width + h * 4 + start
                made = self.store(row, column, self.lanes, lambda lane, at=at: tir.load(self.acc, at + lane))
                reads += [made.declared, guarded(row, tir.seq(made.reads)) if made.reads else None]
                writes.append(guarded(row, made.writes))
            return tir.seq(reads, writes)

        def part(h: Expr, start: int) -> Stmt:
            column, bind = tir.let(self.column0 + self.own_column + h * 32 + start, "column")
            first = self.before(column, self.lanes)
            each = tir.unrolled(t.height // TOGETHER, lambda i: pieces(i, h, column, start), "i")
            inside = tir.seq(first, each)
            return tir.seq(bind, tir.when(column < self.product.columns, inside) if columns_guarded else inside)

        return tir.unrolled(t.width // 4, lambda h: tir.seq(part(h, s) for s in range(0, QUAD, self.lanes)), "h")

    def _meet(self) -> Stmt:
        """Leave the tile in scratch; the last block of its column of parts adds them in their order."""
        t, frame = self.tile, self.frame
        assert frame.scratch is not None and frame.zeros is not None
        down, across = self.product.blocks(t)
        number, bind = tir.let((self.batch * across + frame.at[1]) * down + frame.at[0], "number")
        size, groups = t.rows * t.columns, t.height * t.width // 4
        partial, declared = tir.section(frame.scratch, "float32", self.product.scratch(t) // 4, 0)
        last = tirx.decl_buffer((1,), "int32", "last", scope="shared")
        part, part_declared = tir.local((4,), "float32", "part")

        def place(part: Expr, g: Expr) -> Expr:
            return pointer(partial, (number * t.split + part) * size + (g * t.threads + self.thread) * 4)

        def leave(g: Expr) -> Stmt:
            return call("ec_store16", place(self.part, g), pointer(self.acc, g * 4))

        def add(p: Expr, g: Expr) -> Stmt:
            sums = [tir.store(self.acc, tir.load(self.acc, g * 4 + k) + tir.load(part, k), g * 4 + k) for k in range(4)]
            return tir.seq(call("ec_load16", pointer(part, 0), place(p, g)), sums)

        arrive = tir.when(
            self.thread.equal(tir.i32(0)),
            tir.store(last, result("int32", "ec_arrive_last", pointer(frame.zeros, number), tir.expr(t.split)), 0),
        )
        gather = tir.seq(
            part_declared,
            tir.unrolled(groups, lambda g: call("ec_load16", pointer(self.acc, g * 4), place(tir.i32(0), g)), "g"),
            tir.loop(t.split - 1, lambda p: tir.unrolled(groups, lambda g: add(p + 1, g), "g"), "p"),
            self._finish(),
        )
        return tir.seq(
            bind,
            declared,
            tirx.AllocBuffer(last),
            tir.unrolled(groups, leave, "g"),
            barrier(),
            arrive,
            barrier(),
            tir.when(tir.load(last, 0) > 0, gather),
        )

    # ---- shares of a stage ----

    def shares(self, chunks: int) -> int:
        """Turns in which the block's threads deal with so many chunks."""
        return -(-chunks // self.tile.threads)

    def guarded(self, number: Expr, chunks: int, stmt: Stmt) -> Stmt:
        return tir.when(number < chunks, stmt) if chunks % self.tile.threads else stmt

    def columns(self, source: Buffer, stage: Expr, k: Expr, base: Expr, stride: int, wide: int = 4) -> Stmt:
        """Columns of the right operand, which lie side by side: `source` from `base` on, `stride` from step to step."""
        t, product = self.tile, self.product
        across = t.columns // wide
        chunks = t.step * across

        def one(r: Expr) -> Stmt:
            number = self.thread + r * t.threads
            step, column = tirx.floordiv(number, across), tirx.floormod(number, across) * wide
            at = k * t.step + step
            inside: list[Expr] = []
            if product.depth % t.step:
                inside.append(at < product.depth)
            if stride % t.columns:
                inside.append(self.column0 + column < stride)
            target = pointer(self.shared, stage + t.left + step * t.columns + column)
            origin = pointer(source, base + at * stride + self.column0 + column)
            return self.guarded(number, chunks, copied(4 * wide, target, origin, inside))

        return tir.unrolled(self.shares(chunks), one, "r")


def copied(size: int, target: Expr, origin: Expr, inside: list[Expr]) -> Stmt:
    """An asynchronous copy; zeros where a condition does not hold."""
    if not inside:
        return call(f"ec_cp{size}", target, origin) if size == 16 else call(f"ec_cp{size}_if", target, origin, 1)
    condition = inside[0]
    for other in inside[1:]:
        condition = tirx.And(condition, other)
    return call(f"ec_cp{size}_if", target, origin, tirx.Cast("int32", condition))
