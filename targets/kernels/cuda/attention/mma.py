"""Attention in f16 on tensor cores (m16n8k16): a warp has 16 queries; scores become the next product's operand as they
lie in registers, so that only keys and values pass through shared memory."""

from __future__ import annotations

from math import inf

from .... import tir
from ....cuda.block import Block, call, pointer, pure
from ....tir import Expr, Stmt
from .flash import Flash
from .stage import F32


class Mma(Flash):
    """Lane 4 g + c holds of a tile of 16 x 8 the numbers (g, 2c), (g, 2c + 1), (g + 8, 2c), (g + 8, 2c + 1)."""

    partners = (1, 2)
    partners_mask = 3

    def block(self, frame: Block) -> Stmt:
        self.frame = frame
        return super().block(frame)

    def start(self) -> Stmt:
        t = self.tiles
        self.group = self.named(self.lane >> 2, "group")
        self.pair = self.named((self.lane & 3) * 2, "pair")
        self.q_parts = t.d // 16
        self.kept = t.d <= 128  # queries in registers
        self.q = self.registers(4 * (self.q_parts if self.kept else 1), "q", "uint32")
        self.product = self.registers(t.e // 2, "product")
        self.scores = self.registers(t.nk // 2, "score")
        self.top, self.sums = self.registers(2, "top"), self.registers(2, "sum")
        self.opened = self.registers(2, "open")
        # rows of the 8 x 8 matrices that ldmatrix takes: eight lanes each, in the orders of A and B
        self.eight = self.named(self.lane & 7, "eight")
        self.low, self.high = self.named((self.lane >> 3) & 1, "low"), self.named(self.lane >> 4, "high")
        zero, lowest = tir.lit(0, F32), tir.lit(-inf, F32)
        begin = [tir.store(self.top, lowest, r) for r in range(2)]
        begin += [tir.store(b, zero, r) for b in (self.sums, self.opened) for r in range(2)]
        return tir.seq(begin, tir.unrolled(t.e // 2, lambda i: tir.store(self.product, zero, i), "i"))

    def queries_in(self) -> Stmt:
        if not self.kept:
            return tir.seq()
        return tir.unrolled(self.q_parts, lambda k: self._query(k, k * 4), "k")

    def _query(self, k: Expr, to: Expr | int) -> Stmt:
        row = self.wq * 16 + self.low * 8 + self.eight
        at = row * self.tiles.pitch + k * 8 + self.high * 4
        return call("ec_ldmatrix4", pointer(self.q, to), pointer(self.memory, at))

    def step(self, first: Expr, stage: Expr) -> Stmt:
        t = self.tiles
        zero = tir.lit(0, F32)
        clear = tir.unrolled(t.nk // 2, lambda i: tir.store(self.scores, zero, i), "i")
        products = tir.unrolled(self.q_parts, lambda k: self._products(k, stage), "k")
        finish = tir.unrolled(t.nk // 8, lambda n: self._finished(n, first), "n")
        slots = [[4 * n + 2 * r + i for n in range(t.nk // 8) for i in range(2)] for r in range(2)]
        softmax = self.raised(self.scores, slots, self.partners)
        values = tir.unrolled(t.nk // 16, lambda k: self._values(k, stage), "k")
        return tir.seq(clear, products, finish, softmax, values)

    def _products(self, k: Expr, stage: Expr) -> Stmt:
        """Scores of all keys of the warp, over 16 of the numbers of a head."""
        t = self.tiles
        query = None if self.kept else self._query(k, 0)
        q = pointer(self.q, k * 4 if self.kept else 0)

        def pair(n: Expr) -> Stmt:
            b, made = tir.local((4,), "uint32", "keys")
            row = self.wk * t.nk + n * 16 + self.high * 8 + self.eight
            at = self.tiles_at + (stage * t.keys + row) * t.pitch + k * 8 + self.low * 4
            load = call("ec_ldmatrix4", pointer(b, 0), pointer(self.memory, at))
            both = [call("ec_mma_f16", pointer(self.scores, n * 8 + 4 * i), q, pointer(b, 2 * i)) for i in range(2)]
            return tir.seq(made, load, both)

        return tir.seq(query, tir.unrolled(t.nk // 16, pair, "n"))

    def _finished(self, n: Expr, first: Expr) -> Stmt:
        parts = []
        for r in range(2):
            query = self.first + self.wq * 16 + self.group + 8 * r
            for i in range(2):
                key, slot = first + self.wk * self.tiles.nk + n * 8 + self.pair + i, n * 4 + 2 * r + i
                parts.append(tir.store(self.scores, self.score(tir.load(self.scores, slot), query, key), slot))
                if self.open:
                    parts.append(self.opening(r, query, key))
        return tir.seq(parts)

    def _values(self, k: Expr, stage: Expr) -> Stmt:
        """Weights of 16 keys times their values."""
        t = self.tiles
        a, made = tir.local((4,), "uint32", "weights")
        packs = []
        for i in range(4):  # rows g and g + 8 of the first eight keys, then of the second eight
            at = k * 8 + (i // 2) * 4 + (i % 2) * 2
            word = pure("uint32", "ec_half2_pack", tir.load(self.scores, at), tir.load(self.scores, at + 1))
            packs.append(tir.store(a, word, i))

        def pair(n: Expr) -> Stmt:
            b, here = tir.local((4,), "uint32", "values")
            row = self.wk * t.nk + k * 16 + self.low * 8 + self.eight
            at = self.values_at + (stage * t.keys + row) * t.value_pitch + n * 8 + self.high * 4
            load = call("ec_ldmatrix4_t", pointer(b, 0), pointer(self.memory, at))
            both = [
                call("ec_mma_f16", pointer(self.product, n * 8 + 4 * i), pointer(a, 0), pointer(b, 2 * i))
                for i in range(2)
            ]
            return tir.seq(here, load, both)

        return tir.seq(made, packs, tir.unrolled(t.e // 16, pair, "n"))

    def queries(self) -> list[Expr]:
        return [self.wq * 16 + self.group + 8 * r for r in range(2)]

    def _each(self, r: int, value: Expr | None) -> Stmt:
        def number(n: Expr) -> Stmt:
            slots = [n * 4 + 2 * r + i for i in range(2)]
            zero = tir.lit(0, F32)
            return tir.seq(
                tir.store(self.product, zero if value is None else tir.load(self.product, at) * value, at)
                for at in slots
            )

        return tir.unrolled(self.tiles.e // 8, number, "n")

    def shrunk(self, r: int, by: Expr) -> Stmt:
        return self._each(r, by)

    def cleared(self, r: int) -> Stmt:
        return self._each(r, None)

    def sums_out(self) -> Stmt:
        t = self.tiles

        def number(n: Expr) -> Stmt:
            parts = []
            for r, row in enumerate(self.queries()):
                at = (self.wk * t.queries + row) * t.total_pitch + n * 8 + self.pair
                parts.append(call("ec_store8", pointer(self.memory, at), pointer(self.product, n * 4 + 2 * r)))
            return tir.seq(parts)

        return tir.unrolled(t.e // 8, number, "n")
