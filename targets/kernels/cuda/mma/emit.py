"""A product on tensor cores: stages of K flow through shared memory, warps multiply fragments, sums are then finished.

After the last stage all sums go to shared memory, so that each thread finishes eight neighbouring columns at a time
(finish.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.cuda.block import Block, barrier, call, emit_grid, pointer, result, wait
from edgec.targets.tir import Buffer, Expr, Stmt

from ...common import input_index
from .finish import Finish, Indexed
from .shape import CHUNK, COLUMNS, ROWS, Product, counters, grid_of, scratch_bytes, tile_of
from .stage import Across, Rows, Share, Side
from .warp import Warp
from .windows import Windows
from .work import Work

WRITTEN_OUT = 4  # stages; of a longer loop the compiler must not know the turns, or it would write out all of them


def emit(
    problem: Problem, choice: Choice, symbol: str, product: Product, operands: tuple[Value, Value], indexed: Indexed
) -> Emitted:
    tile = tile_of(choice)
    grid = grid_of(product, tile)
    fixed = [input_index(problem.body, v) in problem.constants for v in operands]
    scratch, zeros = scratch_bytes(product, tile), counters(product, tile)

    def make(block: Block) -> Stmt:
        shared = tirx.decl_buffer((tile.shared,), "uint8", "shared", scope="shared.dyn")
        x, y, z = block.at
        row, column = tirx.floordiv(x, grid.columns), tirx.floormod(x, grid.columns)
        work = Work(
            block,
            problem.anchor,
            product,
            tile,
            grid,
            shared,
            row * tile.bm,
            column * tile.bn,
            y,
            z,
            y * grid.tiles + x,
        )
        return tir.seq(
            tirx.AllocBuffer(shared), _Kernel(work, operands, fixed).statements(), Finish(work, indexed).statements()
        )

    launch = (grid.tiles, product.batch, tile.split)
    return emit_grid(
        problem, symbol, launch, tile.threads, make, shared=tile.shared, scratch=scratch, zeros=zeros, waits=True
    )


def _flat(block: Block, value: Value) -> tuple[Buffer, Stmt]:
    """The elements of an input in the order of memory."""
    data = block.places[value].buffer
    flat = tirx.decl_buffer((prod(int(n) for n in data.shape),), data.dtype, f"{data.name}_flat", data=data.data)
    return flat, tirx.DeclBuffer(flat, data=data.data)


class _Kernel:
    """The stages, and the sums as they come to lie in shared memory."""

    def __init__(self, work: Work, operands: tuple[Value, Value], fixed: Sequence[bool]) -> None:
        self.work, self.operands = work, operands
        self.fixed = fixed  # operands that are constants
        self.warp = Warp(work)

    def statements(self) -> Stmt:
        left_data, left_declared = _flat(self.work.block, self.operands[0])
        right_data, right_declared = _flat(self.work.block, self.operands[1])
        self.left, self.right = self._left(left_data), self._right(right_data)
        head = [left_declared, right_declared, self.warp.clear(), self.left.prepare(), self.right.prepare()]
        less = self.warp.less_zero() if self.work.product.zero else None
        return tir.seq(*head, self._stages(), less, self._spill())

    def _left(self, data: Buffer) -> Side:
        work, p, t = self.work, self.work.product, self.work.tile
        share = Share(t.bm, t.bk // CHUNK, t.threads, work.thread)
        start, kind = work.batch * p.spread[0], Windows if p.window else Rows
        return kind(p, t, data, work.shared, 0, share, work.row, start, p.m, p.left, p.zero & 255)

    def _right(self, data: Buffer) -> Side:
        work, p, t = self.work, self.work.product, self.work.tile
        rows, row_bytes = (t.bk // p.kind.bytes, t.bn * p.kind.bytes) if p.across else (t.bn, t.bk)
        share = Share(rows, row_bytes // CHUNK, t.threads, work.thread)
        start, kind = work.batch * p.spread[1], Across if p.across else Rows
        return kind(p, t, data, work.shared, t.left_bytes, share, work.column, start, p.n, p.right)

    def _stages(self) -> Stmt:
        t, grid = self.work.tile, self.work.grid
        first = self.work.part * grid.each
        count: Expr = tir.i32(grid.each)
        if grid.steps % grid.each:
            count = tirx.min(count, tir.i32(grid.steps) - first)
        many, bind = tir.let(result("int32", "ec_shfl_i32", count, tir.i32(0)), "count")
        ahead = t.stages - 1

        def fetch(k: Expr) -> Stmt:
            slot = tirx.floormod(k, t.stages) * t.stage_bytes
            both = tir.seq(self.left.load(first + k, slot), self.right.load(first + k, slot))
            return tir.seq(tir.when(k < count, both), call("ec_cp_commit"))

        def arrive(k: Expr) -> Stmt:
            slot = tirx.floormod(k, t.stages) * t.stage_bytes
            return tir.seq(call(f"ec_cp_wait{t.stages - 2}"), barrier(), self.warp.first(slot))

        def turn(k: Expr) -> Stmt:  # past the last stage fragments are read that nobody multiplies
            slot = tirx.floormod(k, t.stages) * t.stage_bytes
            return tir.seq(fetch(k + ahead), self.warp.multiply(slot, arrive(k + 1)))

        start = self._ahead([(first + k, tir.i32(k) < count, k * t.stage_bytes) for k in range(ahead)])
        turns = tir.loop(many if grid.each > WRITTEN_OUT else count, turn, "k")
        return tir.seq(start, bind, arrive(tir.i32(0)), turns, barrier())

    def _ahead(self, stages: Sequence[tuple[Expr, Expr, int]]) -> Stmt:
        """Begins to fetch the first stages (step, whether it is one, where it comes to lie): of constants before all
        that others compute is there."""

        def load(sides: Sequence[Side], step: Expr, there: Expr, slot: int) -> Stmt:
            return tir.when(there, tir.seq(side.load(step, tir.i32(slot)) for side in sides))

        both = list(zip((self.left, self.right), self.fixed, strict=True))
        early, late = [side for side, fixed in both if fixed], [side for side, fixed in both if not fixed]
        begun = [load(early, *stage) for stage in stages] if early else []
        return tir.seq(begun, wait(), *([load(late, *s) if late else None, call("ec_cp_commit")] for s in stages))

    def _spill(self) -> Stmt:
        """Sums to shared memory; warps that share K's steps add theirs one after the other."""
        t, lane, p = self.work.tile, self.work.lane, self.work.product
        share, warp_row, warp_column = self.work.warp()
        row = warp_row * (t.row_tiles * ROWS) + (lane >> tir.i32(2))
        column = warp_column * (t.column_tiles * COLUMNS) + (lane & tir.i32(3)) * 2
        begin = row * t.pitch + column * 4
        before, alloc = tir.local((2,), p.kind.sums, "before")
        sums = self.warp.sums

        def pair(i: Expr, j: Expr, h: Expr, add: bool) -> Stmt:
            place = pointer(self.work.shared, begin + (i * ROWS + h * 8) * t.pitch + j * (COLUMNS * 4))
            mine = (i * t.column_tiles + j) * 4 + h * 2
            total = [tir.load(sums, mine + e) + tir.load(before, e) for e in range(2)]
            added = [tir.store(sums, x, mine + e) for e, x in enumerate(total)]
            fetched = tir.seq(call("ec_load8", pointer(before, 0), place), added) if add else None
            return tir.seq(fetched, call("ec_store8", place, pointer(sums, mine)))

        def all_pairs(add: bool) -> Stmt:
            return tir.unrolled(
                t.row_tiles,
                lambda i: tir.unrolled(
                    t.column_tiles, lambda j: tir.unrolled(2, lambda h: pair(i, j, h, add), "h"), "j"
                ),
                "i",
            )

        if t.wk == 1:
            return tir.seq(all_pairs(False), barrier())
        turns = [tir.seq(tir.when(tirx.EQ(share, s), all_pairs(s > 0)), barrier()) for s in range(t.wk)]
        return tir.seq(alloc, turns)
