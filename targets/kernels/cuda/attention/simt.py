"""Attention in f32 by multiply-adds: half a warp shares some queries. Each of its lanes has every sixteenth key of a
tile, then, with the weights passed through shared memory, some columns of the result."""

from __future__ import annotations

from math import inf

from .... import tir
from ....cuda.block import call, pointer, pure
from ....tir import Buffer, Expr, Stmt
from .flash import Flash
from .stage import F32

LANES = 16


class Simt(Flash):
    """Lane 2 x + h: queries h, h + 2, ... of the warp's; keys x, x + 16, ...; columns from x * at_once on.

    Neighbouring lanes read the same key: shared memory then serves two quarters of a warp at once.
    """

    partners = (2, 4, 8, 16)
    partners_mask = 30

    def start(self) -> Stmt:
        t = self.tiles
        self.side = self.named(self.lane & 1, "side")
        self.place = self.named(self.lane >> 1, "place")
        self.mine, self.held = t.rows // 2, t.nk // LANES
        self.at_once = t.columns_at_once
        self.columns = t.e // LANES  # of a lane
        self.scores = self.registers(self.mine * self.held, "score")
        self.product = self.registers(self.mine * self.columns, "product")
        self.top, self.sums = self.registers(self.mine, "top"), self.registers(self.mine, "sum")
        self.opened = self.registers(self.mine, "open")
        zero, lowest = tir.lit(0, F32), tir.lit(-inf, F32)
        begin = [tir.store(self.top, lowest, r) for r in range(self.mine)]
        begin += [tir.store(b, zero, r) for b in (self.sums, self.opened) for r in range(self.mine)]
        count = self.mine * self.columns
        return tir.seq(begin, tir.unrolled(count, lambda i: tir.store(self.product, zero, i), "i"))

    def queries_in(self) -> Stmt:
        return tir.seq()

    def queries(self) -> list[Expr]:
        return [self.wq * self.tiles.rows + 2 * r + self.side for r in range(self.mine)]

    def step(self, first: Expr, stage: Expr) -> Stmt:
        zero = tir.lit(0, F32)
        clear = tir.unrolled(self.mine * self.held, lambda i: tir.store(self.scores, zero, i), "i")
        products = tir.loop(self.tiles.d // 4, lambda k: self._products(k, stage), "d")
        slots = [[r * self.held + c for c in range(self.held)] for r in range(self.mine)]
        softmax = self.raised(self.scores, slots, self.partners)
        pass_on = [self._weight(r, c) for r in range(self.mine) for c in range(self.held)]
        synced = call("ec_syncwarp")
        values = tir.loop(self.tiles.nk // 4, lambda k: self._values(k, stage), "key")
        return tir.seq(clear, products, self._finished(first), softmax, pass_on, synced, values, synced)

    def _products(self, k: Expr, stage: Expr) -> Stmt:
        """Scores over four of the numbers of a head."""
        t = self.tiles
        q, q_made = tir.local((self.mine * 4,), F32, "q")
        keys, k_made = tir.local((self.held * 4,), F32, "k")
        base = self.tiles_at + (stage * t.keys + self.wk * t.nk + self.place) * t.pitch + k * 4
        loads = [
            call("ec_load16", pointer(q, r * 4), pointer(self.memory, row * t.pitch + k * 4))
            for r, row in enumerate(self.queries())
        ]
        loads += [
            call("ec_load16", pointer(keys, c * 4), pointer(self.memory, base + c * LANES * t.pitch))
            for c in range(self.held)
        ]

        def add(i: Expr) -> Stmt:
            return tir.seq(
                _added(self.scores, r * self.held + c, tir.load(q, r * 4 + i), tir.load(keys, c * 4 + i))
                for r in range(self.mine)
                for c in range(self.held)
            )

        return tir.seq(q_made, k_made, loads, tir.unrolled(4, add, "i"))

    def _finished(self, first: Expr) -> Stmt:
        parts = []
        for r, row in enumerate(self.queries()):
            for c in range(self.held):
                key, slot = first + self.wk * self.tiles.nk + self.place + c * LANES, r * self.held + c
                query = self.first + row
                parts.append(tir.store(self.scores, self.score(tir.load(self.scores, slot), query, key), slot))
                if self.open:
                    parts.append(self.opening(r, query, key))
        return tir.seq(parts)

    def _weights_row(self, row: Expr) -> Expr:
        """Where the weights of one of the warp's rows begin."""
        t = self.tiles
        return self.weights_at + (self.warp * t.rows + row) * (t.nk + 4)

    def _weight(self, r: int, c: int) -> Stmt:
        at = self._weights_row(2 * r + self.side) + self.place + c * LANES
        return tir.store(self.memory, tir.load(self.scores, r * self.held + c), at)

    def _values(self, k: Expr, stage: Expr) -> Stmt:
        """Weights of four keys times their values."""
        t, n = self.tiles, self.at_once
        weights, made = tir.local((self.mine * 4,), F32, "weight")
        loads = [
            call(
                "ec_load16", pointer(weights, r * 4), pointer(self.memory, self._weights_row(2 * r + self.side) + k * 4)
            )
            for r in range(self.mine)
        ]

        def add(i: Expr) -> Stmt:
            values, here = tir.local((self.columns,), F32, "v")
            row = self.values_at + (stage * t.keys + self.wk * t.nk + k * 4 + i) * t.value_pitch
            reads = [
                self._read(values, j, row + j * LANES + self.place * n)  # j: a multiple of n
                for j in range(0, self.columns, n)
            ]
            adds = [
                _added(self.product, r * self.columns + j, tir.load(weights, r * 4 + i), tir.load(values, j))
                for r in range(self.mine)
                for j in range(self.columns)
            ]
            return tir.seq(here, reads, adds)

        return tir.seq(made, loads, tir.unrolled(4, add, "i"))

    def _read(self, values: Buffer, j: int, at: Expr) -> Stmt:
        if self.at_once == 1:
            return tir.store(values, tir.load(self.memory, at), j)
        return call(f"ec_load{4 * self.at_once}", pointer(values, j), pointer(self.memory, at))

    def _each(self, r: int, by: Expr | None) -> Stmt:
        def number(j: Expr) -> Stmt:
            at = r * self.columns + j
            return tir.store(self.product, tir.lit(0, F32) if by is None else tir.load(self.product, at) * by, at)

        return tir.unrolled(self.columns, number, "j")

    def shrunk(self, r: int, by: Expr) -> Stmt:
        return self._each(r, by)

    def cleared(self, r: int) -> Stmt:
        return self._each(r, None)

    def sums_out(self) -> Stmt:
        t, n = self.tiles, self.at_once
        parts = []
        for r, row in enumerate(self.queries()):
            base = (self.wk * t.queries + row) * t.total_pitch + self.place * n
            for j in range(0, self.columns, n):
                at, slot = base + j * LANES, r * self.columns + j
                if n == 1:
                    parts.append(tir.store(self.memory, tir.load(self.product, slot), at))
                else:
                    parts.append(call(f"ec_store{4 * n}", pointer(self.memory, at), pointer(self.product, slot)))
        return tir.seq(parts)


def _added(to: Buffer, slot: Expr | int, a: Expr, b: Expr) -> Stmt:
    return tir.store(to, pure(F32, "fmaf", a, b, tir.load(to, slot)), slot)
