"""What both attentions of the GPU share: the walk over tiles of keys, scores, the softmax kept up.

Subclasses say how a warp multiplies and which numbers of a tile its lanes hold (`queries`, `keys`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import inf

from tvm import tirx

from edgec.compiler.registry import Emitted, Problem

from .... import fractions, mathlib, tir
from ....cuda.block import Block, barrier, call, emit_grid, pure, result
from ....tir import Buffer, Expr, Stmt
from .end import ended
from .rows import Tiles
from .stage import F32, Staged

LOG2E = 1.44269504088896341


class Flash(Staged, ABC):
    def __init__(self, problem: Problem, tiles: Tiles) -> None:
        super().__init__(problem, tiles)
        self.masked, self.open = len(problem.anchor.args) == 4, bool(self.attrs["zero_masked"])
        # scores times `unit` are exponents of two: scale and unit are one factor, where no mask and cap come between
        self.direct = tiles.half and not self.masked and not self.attrs["cap"]
        self.scale = self.attrs["scale"] * (LOG2E if self.direct else 1.0)

    def emitted(self, symbol: str) -> Emitted:
        t = self.tiles
        blocks = t.blocks // t.chunks
        return emit_grid(self.problem, symbol, (blocks, t.chunks, 1), t.threads, self.block, shared=4 * t.shared_words)

    # -- the block -----------------------------------------------------------------------------------------------------

    def block(self, frame: Block) -> Stmt:
        t = self.tiles
        self.head: list[Stmt] = []
        self.memory = tirx.decl_buffer((t.shared_words,), F32, "dynamic_f32", scope="shared.dyn")
        self.head.append(tirx.AllocBuffer(self.memory))
        self.thread = frame.thread
        self.warp, self.lane = self.named(frame.thread >> 5, "warp"), self.named(frame.thread & 31, "lane")
        self.wq, self.wk = (self.named(x, "w") for x in (self.warp % t.wq, self.warp // t.wq))
        count = -(-self.shape.s // t.queries)
        head, place = self.named(frame.at[0] // count, "head"), frame.at[0] % count
        self.first = self.named(place * t.queries, "query")
        self.column = self.named(frame.at[1] * t.e, "column")
        self.operands(frame, head)
        self.tiles_at = t.queries * t.pitch
        self.values_at = self.tiles_at + t.stages * t.keys * t.pitch
        self.weights_at = t.shared_words - 3 * t.wk * t.queries - t.weights
        self.stats_at = t.shared_words - 3 * t.wk * t.queries
        return tir.seq(self.head, self._walk(), ended(self))

    # -- keys ----------------------------------------------------------------------------------------------------------

    def _walk(self) -> Stmt:
        t = self.tiles
        queries = self.copied("q", 0, t.pitch, self.first, t.queries, self.shape.s, t.d, tir.i32(0))
        start = self.start()
        ahead = tir.seq(queries, self.tile(tir.i32(0), tir.i32(0)), call("ec_cp_commit"))
        if t.steps == 1:
            return tir.seq(
                ahead, start, call("ec_cp_wait0"), barrier(), self.queries_in(), self.step(tir.i32(0), tir.i32(0))
            )

        def turn(k: Expr) -> Stmt:
            stage = tirx.floormod(k, 2)
            more = tir.when(k + 1 < t.steps, self.tile((k + 1) * t.keys, 1 - stage))
            bring = tir.seq(more, call("ec_cp_commit"), call("ec_cp_wait1"), barrier())
            first = tir.when(tirx.EQ(k, 0), self.queries_in())
            return tir.seq(bring, first, self.step(k * t.keys, stage), barrier())

        return tir.seq(ahead, start, tir.loop(t.steps, turn, "step"))

    # -- scores --------------------------------------------------------------------------------------------------------

    def score(self, x: Expr, query: Expr, key: Expr) -> Expr:
        """A score from a product: scaled, capped, masked. -inf for keys that are not there."""
        x = x * tir.lit(self.scale, F32)
        if self.attrs["cap"]:
            cap = tir.lit(self.attrs["cap"], F32)
            x = cap * fractions.tanh(x)
        if self.masked:
            x = x + self.mask(query, key)
        if self.shape.t % self.tiles.keys:
            x = tirx.Select(key < self.shape.t, x, tir.lit(-inf, F32))
        return x

    def mask(self, query: Expr, key: Expr) -> Expr:
        m = self.of["mask"]
        here = query if self.shape.s % self.tiles.queries == 0 else tirx.min(query, tir.i32(self.shape.s - 1))
        there = key if self.shape.t % self.tiles.keys == 0 else tirx.min(key, tir.i32(self.shape.t - 1))
        x = tir.load(m.buffer, m.at(here, there))
        return x if str(x.ty.dtype) == F32 else tirx.Cast(F32, x)

    def opening(self, r: int, query: Expr, key: Expr) -> Stmt:
        """Note whether the mask leaves a key to one of the thread's rows."""
        x = tirx.Select(tirx.EQ(self.mask(query, key), tir.lit(-inf, F32)), tir.lit(0, F32), tir.lit(1, F32))
        if self.shape.t % self.tiles.keys:
            x = tirx.Select(key < self.shape.t, x, tir.lit(0, F32))
        return tir.store(self.opened, pure(F32, "fmaxf", tir.load(self.opened, r), x), r)

    def powers(self, x: Expr) -> Expr:
        """e to what is at most zero, a difference of scores."""
        if not self.tiles.half:
            return mathlib.exp_below(x)
        return pure(F32, "ec_exp2", x if self.direct else x * tir.lit(LOG2E, F32))

    def raised(self, scores: Buffer, rows: Sequence[Sequence[int]], partners: Sequence[int]) -> Stmt:
        """The softmax kept up: a new greatest score per row, scores to weights, sums and products so far scaled down.

        `rows`: which registers of `scores` belong to each of the thread's rows; `partners`: how far away the lanes are
        that hold more of the same rows.
        """
        parts: list[Stmt] = []
        for r, slots in enumerate(rows):
            top, made = tir.local((1,), F32, "top")
            old, new = tir.load(self.top, r), tir.load(top, 0)
            parts += [made, tir.store(top, tir.load(scores, slots[0]), 0)]
            parts += [tir.store(top, pure(F32, "fmaxf", new, tir.load(scores, k)), 0) for k in slots[1:]]
            parts += [
                tir.store(top, pure(F32, "fmaxf", new, result(F32, "ec_shfl_xor_f32", new, k)), 0) for k in partners
            ]
            parts.append(tir.store(top, pure(F32, "fmaxf", new, old), 0))
            lowest = tir.lit(-inf, F32)
            # the distance to a greatest score of -inf is to be -inf as well
            base, bound = tir.let(tirx.Select(tirx.EQ(new, lowest), tir.lit(0, F32), new), "base")
            shrink, shrunk = tir.let(self.powers(old - base), "shrink")
            parts += [bound, shrunk, tir.store(self.top, new, r)]
            parts.append(tir.store(self.sums, tir.load(self.sums, r) * shrink, r))
            for k in slots:
                weight = tir.store(scores, self.powers(tir.load(scores, k) - base), k)
                parts += [weight, tir.store(self.sums, tir.load(self.sums, r) + tir.load(scores, k), r)]
            parts.append(self.shrunk(r, shrink))
        return tir.seq(parts)

    # -- of the two kinds ----------------------------------------------------------------------------------------------

    top: Buffer  # greatest score of each of the thread's rows so far
    sums: Buffer  # their weights so far, of this lane
    opened: Buffer  # 1 where the mask left a key
    partners: tuple[int, ...]  # distances of the lanes that hold the same rows
    partners_mask: int  # bits in which their numbers differ

    @abstractmethod
    def start(self) -> Stmt:
        """Registers before the first key."""

    @abstractmethod
    def queries_in(self) -> Stmt:
        """Queries from shared memory to registers, where they stay there."""

    @abstractmethod
    def step(self, first: Expr, stage: Expr) -> Stmt:
        """A tile of keys, the first of which is `first`."""

    @abstractmethod
    def queries(self) -> list[Expr]:
        """The thread's rows, as numbers within the block."""

    @abstractmethod
    def shrunk(self, r: int, by: Expr) -> Stmt:
        """The products of one of the thread's rows, times a number."""

    @abstractmethod
    def cleared(self, r: int) -> Stmt:
        """Zero in place of the products of a row."""

    @abstractmethod
    def sums_out(self) -> Stmt:
        """The warp's products to shared memory: [warp of the same queries, query, column]."""
