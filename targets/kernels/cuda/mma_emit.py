"""A product on tensor cores: stages of K flow through shared memory, warps multiply fragments, sums are then finished.

After the last stage all sums go to shared memory, so that each thread finishes eight neighbouring columns at a time
(mma_finish.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from edgec.compiler.ir import Node, Value
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.cuda.block import Block, barrier, call, emit_grid, pointer, pure, result
from edgec.targets.tir import Buffer, Expr, Stmt

from .mma_finish import Finish, Indexed
from .mma_shape import CHUNK, COLUMNS, ROWS, STEP, TF32, Grid, Product, Tile, counters, grid_of, scratch_bytes, tile_of
from .mma_stage import Across, Rows, Share, Side, Windows, turn

I32, U32, F32 = "int32", "uint32", "float32"
WRITTEN_OUT = 4  # stages; of a longer loop the compiler must not know the turns, or it would write out all of them


@dataclass(frozen=True)
class Work:
    """What all parts of a kernel know."""

    block: Block
    anchor: Node
    product: Product
    tile: Tile
    grid: Grid
    shared: Buffer
    row: Expr  # of the block's first result
    column: Expr
    batch: Expr  # number of the product
    part: Expr  # which of the blocks that share K
    number: Expr  # of the tile, in all products

    @property
    def thread(self) -> Expr:
        return self.block.thread

    @property
    def lane(self) -> Expr:
        return self.thread & tir.i32(31)

    def warp(self) -> tuple[Expr, Expr, Expr]:
        """Place of the warp: which share of K's steps, rows, columns."""
        t = self.tile
        return tuple(tir.split(self.thread >> tir.i32(5), t.wk, t.wm, t.wn))


def emit(
    problem: Problem, choice: Choice, symbol: str, product: Product, operands: tuple[Value, Value], indexed: Indexed
) -> Emitted:
    tile = tile_of(choice)
    grid = grid_of(product, tile)
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
            tirx.AllocBuffer(shared), _Kernel(work, operands).statements(), Finish(work, indexed).statements()
        )

    launch = (grid.tiles, product.batch, tile.split)
    return emit_grid(problem, symbol, launch, tile.threads, make, shared=tile.shared, scratch=scratch, zeros=zeros)


def _flat(block: Block, value: Value) -> tuple[Buffer, Stmt]:
    """The elements of an input in the order of memory."""
    data = block.places[value].buffer
    size = 1
    for n in data.shape:
        size *= int(n)
    flat = tirx.decl_buffer((size,), data.dtype, f"{data.name}_flat", data=data.data)
    return flat, tirx.DeclBuffer(flat, data=data.data)


class _Kernel:
    """The stages, the fragments, and the sums as they come to lie in shared memory."""

    def __init__(self, work: Work, operands: tuple[Value, Value]) -> None:
        self.work, self.operands = work, operands
        p, t = work.product, work.tile
        self.sums, self._alloc = tir.local((t.row_tiles * t.column_tiles * 4,), p.kind.sums, "sums")
        self.a, self._alloc_a = tir.local((2 * t.row_tiles * 4,), U32, "a")
        self.b, self._alloc_b = tir.local((2 * t.column_tiles * 2,), U32, "b")
        self.steps = t.bk // STEP // t.wk  # of a warp per stage

    def statements(self) -> Stmt:
        p, t = self.work.product, self.work.tile
        left_data, left_declared = _flat(self.work.block, self.operands[0])
        right_data, right_declared = _flat(self.work.block, self.operands[1])
        self.left, self.right = self._left(left_data), self._right(right_data)
        zero = tir.lit(0, p.kind.sums)
        clear = tir.unrolled(t.row_tiles * t.column_tiles * 4, lambda i: tir.store(self.sums, zero, i), "clear")
        head = [left_declared, right_declared, self._alloc, self._alloc_a, self._alloc_b, clear]
        if p.zero:
            self.columns, alloc = tir.local((t.column_tiles,), I32, "columns")
            head += [alloc, [tir.store(self.columns, tir.i32(0), j) for j in range(t.column_tiles)]]
        body = self._stages(), self._less_zero() if p.zero else None, self._spill()
        return tir.seq(*head, self.left.prepare(), self.right.prepare(), *body)

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

    # ---- stages

    def _stages(self) -> Stmt:
        t, grid = self.work.tile, self.work.grid
        first = self.work.part * grid.each
        count: Expr = tir.i32(grid.each)
        if grid.steps % grid.each:
            count = tirx.min(count, tir.i32(grid.steps) - first)
        many, bind = tir.let(result(I32, "ec_shfl_i32", count, tir.i32(0)), "count")
        ahead = t.stages - 1

        def fetch(k: Expr) -> Stmt:
            slot = tirx.floormod(k, t.stages) * t.stage_bytes
            both = tir.seq(self.left.load(first + k, slot), self.right.load(first + k, slot))
            return tir.seq(tir.when(k < count, both), call("ec_cp_commit"))

        def turn(k: Expr) -> Stmt:
            slot = tirx.floormod(k, t.stages) * t.stage_bytes
            return tir.seq(call(f"ec_cp_wait{t.stages - 2}"), barrier(), fetch(k + ahead), self._multiply(slot))

        start = [fetch(tir.i32(k)) for k in range(ahead)]
        return tir.seq(start, bind, tir.loop(many if grid.each > WRITTEN_OUT else count, turn, "k"), barrier())

    # ---- fragments

    def _multiply(self, slot: Expr) -> Stmt:
        """All steps of a stage; the fragments of the next step are read before those of this one are multiplied."""

        def step(s: Expr) -> Stmt:
            more = self._fragments(slot, s + 1)
            if self.steps == 1:
                return self._products(s)
            return tir.seq(tir.when(s + 1 < self.steps, more), self._products(s))

        return tir.seq(self._fragments(slot, tir.i32(0)), tir.unrolled(self.steps, step, "step"))

    def _fragments(self, slot: Expr, step: Expr) -> Stmt:
        t, lane = self.work.tile, self.work.lane
        share, warp_row, _ = self.work.warp()
        half = (step & tir.i32(1)) if self.steps > 1 else tir.i32(0)
        at = (step * t.wk * 2) ^ (share * 2)  # chunk of K; the bits of both differ
        row = lane & tir.i32(15)
        place = ((lane >> tir.i32(4)) ^ turn(row, t.bk) ^ at) * CHUNK + row * t.bk

        def left(i: Expr) -> Stmt:
            where = slot + place + (warp_row * (t.row_tiles * ROWS) + i * ROWS) * t.bk
            return call("ec_ldmatrix4", pointer(self.a, (half * t.row_tiles + i) * 4), pointer(self.work.shared, where))

        load_left = tir.unrolled(t.row_tiles, left, "i")
        return tir.seq(
            load_left,
            self._right_across(slot, at, half) if self.work.product.across else self._right_rows(slot, at, half),
        )

    def _right_rows(self, slot: Expr, at: Expr, half: Expr) -> Stmt:
        """Two tiles of eight columns at a time, both halves of a step's K each."""
        t, lane = self.work.tile, self.work.lane
        _, _, warp_column = self.work.warp()
        pairs = t.column_tiles // 2
        row = (lane & tir.i32(7)) + ((lane >> tir.i32(4)) * 8 if pairs else 0)
        place = (((lane >> tir.i32(3)) & tir.i32(1)) ^ turn(row, t.bk) ^ at) * CHUNK + row * t.bk
        begin = slot + t.left_bytes + place + warp_column * (t.column_tiles * COLUMNS) * t.bk

        def pair(j: Expr) -> Stmt:
            into = pointer(self.b, (half * t.column_tiles + j * 2) * 2)
            return call("ec_ldmatrix4", into, pointer(self.work.shared, begin + j * (2 * COLUMNS * t.bk)))

        if not pairs:
            return call("ec_ldmatrix2", pointer(self.b, half * 2), pointer(self.work.shared, begin))
        return tir.unrolled(pairs, pair, "j")

    def _right_across(self, slot: Expr, at: Expr, half: Expr) -> Stmt:
        """The same from rows that are one k each, turned as they are read."""
        t, lane, size = self.work.tile, self.work.lane, self.work.product.kind.bytes
        _, _, warp_column = self.work.warp()
        pairs, width = t.column_tiles // 2, t.bn * size
        row = lane & tir.i32(15)
        line = row + at * (CHUNK // size)  # `at` counts chunks of K
        chunk = warp_column * t.column_tiles + ((lane >> tir.i32(4)) if pairs else 0)
        begin = slot + t.left_bytes + line * width

        def read(name: str, j: Expr) -> Stmt:
            into = pointer(self.b, (half * t.column_tiles + j * 2) * 2)
            place = ((chunk + j * 2) ^ turn(row, width)) * CHUNK
            return call(name, into, pointer(self.work.shared, begin + place))

        if not pairs:
            return read("ec_ldmatrix2_t", tir.i32(0))
        return tir.unrolled(pairs, lambda j: read("ec_ldmatrix4_t", j), "j")

    def _products(self, step: Expr) -> Stmt:
        t = self.work.tile
        half = (step & tir.i32(1)) if self.steps > 1 else tir.i32(0)

        def one(i: Expr, j: Expr) -> Stmt:
            return call(
                self.work.product.kind.mma,
                pointer(self.sums, (i * t.column_tiles + j) * 4),
                pointer(self.a, (half * t.row_tiles + i) * 4),
                pointer(self.b, (half * t.column_tiles + j) * 2),
            )

        p = self.work.product
        before = [self._rounded(half)] if p.kind == TF32 else [self._column_sums(half)] if p.zero else []
        products = tir.unrolled(t.row_tiles, lambda i: tir.unrolled(t.column_tiles, lambda j: one(i, j), "j"), "i")
        return tir.seq(*before, products)

    def _rounded(self, half: Expr) -> Stmt:
        """Fragments of f32 as tf32."""

        def each(buffer: Buffer, count: int) -> Stmt:
            def one(i: Expr) -> Stmt:
                x = tirx.reinterpret(F32, tir.load(buffer, half * count + i))
                return tir.store(buffer, pure(U32, "ec_tf32", x), half * count + i)

            return tir.unrolled(count, one, "i")

        t = self.work.tile
        return tir.seq(each(self.a, t.row_tiles * 4), each(self.b, t.column_tiles * 2))

    def _column_sums(self, half: Expr) -> Stmt:
        """Weights of a column added up; four lanes share a column."""
        ones = tir.lit(0x01010101, I32)

        def one(j: Expr) -> Stmt:
            total = tir.load(self.columns, j)
            for part in range(2):
                word = tir.load(self.b, (half * self.work.tile.column_tiles + j) * 2 + part)
                total = pure(I32, "ec_dp4a_s8", ones, tirx.reinterpret(I32, word), total)
            return tir.store(self.columns, total, j)

        return tir.unrolled(self.work.tile.column_tiles, one, "j")

    def _less_zero(self) -> Stmt:
        """What the zero point of the left operand added to the sums is taken away: padding stood for it, too."""
        t, lane = self.work.tile, self.work.lane
        totals, alloc = tir.local((2,), I32, "less")

        def column(j: Expr) -> Stmt:
            added = [
                tir.store(
                    self.columns,
                    tir.load(self.columns, j)
                    + result(I32, "ec_shfl_xor_i32", tir.load(self.columns, j), tir.i32(mask)),
                    j,
                )
                for mask in (1, 2)
            ]
            other = [(lane & tir.i32(3)) * 8 + 4 * e for e in range(2)]  # a lane that has this lane's e-th column
            moved = [
                tir.store(totals, result(I32, "ec_shfl_i32", tir.load(self.columns, j), other[e]), e) for e in range(2)
            ]

            def less(i: Expr) -> Stmt:
                places = [((i * t.column_tiles + j) * 4 + h * 2 + e, e) for h in range(2) for e in range(2)]
                zero = tir.i32(self.work.product.zero)
                return tir.seq(
                    tir.store(self.sums, tir.load(self.sums, at) - tir.load(totals, e) * zero, at) for at, e in places
                )

            return tir.seq(added, moved, tir.unrolled(t.row_tiles, less, "i"))

        return tir.seq(alloc, tir.unrolled(t.column_tiles, column, "j"))

    # ---- sums

    def _spill(self) -> Stmt:
        """Sums to shared memory; warps that share K's steps add theirs one after the other."""
        t, lane, p = self.work.tile, self.work.lane, self.work.product
        share, warp_row, warp_column = self.work.warp()
        row = warp_row * (t.row_tiles * ROWS) + (lane >> tir.i32(2))
        column = warp_column * (t.column_tiles * COLUMNS) + (lane & tir.i32(3)) * 2
        begin = row * t.pitch + column * 4
        before, alloc = tir.local((2,), p.kind.sums, "before")

        def pair(i: Expr, j: Expr, h: Expr, add: bool) -> Stmt:
            place = pointer(self.work.shared, begin + (i * ROWS + h * 8) * t.pitch + j * (COLUMNS * 4))
            mine = (i * t.column_tiles + j) * 4 + h * 2
            added = [
                tir.store(self.sums, tir.load(self.sums, mine + e) + tir.load(before, e), mine + e) for e in range(2)
            ]
            fetched = tir.seq(call("ec_load8", pointer(before, 0), place), added) if add else None
            return tir.seq(fetched, call("ec_store8", place, pointer(self.sums, mine)))

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
