"""What a warp does with a stage: fragments come from shared memory into registers, and are multiplied."""

from __future__ import annotations

from tvm import tirx

from edgec.targets import tir
from edgec.targets.cuda.block import call, pointer, pure, result
from edgec.targets.tir import Buffer, Expr, Stmt

from .shape import CHUNK, COLUMNS, ROWS, STEP, TF32
from .stage import turn
from .work import Work

I32, U32, F32 = "int32", "uint32", "float32"


class Warp:
    """Registers of a thread: its part of the sums, and of the fragments of two steps."""

    def __init__(self, work: Work) -> None:
        self.work = work
        p, t = work.product, work.tile
        self.sums, self._alloc = tir.local((t.row_tiles * t.column_tiles * 4,), p.kind.sums, "sums")
        self.a, self._alloc_a = tir.local((2 * t.row_tiles * 4,), U32, "a")
        self.b, self._alloc_b = tir.local((2 * t.column_tiles * 2,), U32, "b")
        self.columns, self._alloc_columns = tir.local((t.column_tiles,), I32, "columns")
        self.steps = t.bk // STEP // t.wk  # of a warp per stage

    def clear(self) -> Stmt:
        p, t = self.work.product, self.work.tile
        zero = tir.lit(0, p.kind.sums)
        cleared = tir.unrolled(t.row_tiles * t.column_tiles * 4, lambda i: tir.store(self.sums, zero, i), "clear")
        head = [self._alloc, self._alloc_a, self._alloc_b, cleared]
        if p.zero:
            columns = [tir.store(self.columns, tir.i32(0), j) for j in range(t.column_tiles)]
            head += [self._alloc_columns, *columns]
        return tir.seq(head)

    def first(self, slot: Expr) -> Stmt:
        """The fragments of a stage's first step."""
        return self._fragments(slot, tir.i32(0))

    def multiply(self, slot: Expr, after: Stmt) -> Stmt:
        """All steps of a stage, whose first fragments were read; those of the next step are read before this one's are
        multiplied. `after`: what waits for the next stage, and reads its first fragments."""
        if self.steps == 1:
            return tir.seq(self._products(tir.i32(0)), after)
        last = self.steps - 1

        def step(s: Expr) -> Stmt:
            return tir.seq(self._fragments(slot, s + 1), self._products(s))

        return tir.seq(tir.unrolled(last, step, "step"), after, self._products(tir.i32(last)))

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

    def less_zero(self) -> Stmt:
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
