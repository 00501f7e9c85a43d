"""What both attentions of the GPU share: tiles of Q, K and V into shared memory, the walk over keys, the end.

Subclasses say how a warp multiplies and which numbers of a tile its lanes hold (`queries`, `keys`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from tvm import tirx

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Emitted, Problem

from ... import mathlib, tir
from ...cuda.block import Block, barrier, call, emit_grid, pointer, pure, result
from ...tir import Buffer, Expr, Stmt
from .attention_rows import Tiles, aligned

F32 = "float32"
LOG2E = 1.44269504088896341


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


class Flash(ABC):
    def __init__(self, problem: Problem, tiles: Tiles) -> None:
        self.problem, self.tiles, self.shape = problem, tiles, tiles.shape
        attrs: Any = full_attrs(problem.anchor)
        self.attrs = attrs
        self.masked, self.open = len(problem.anchor.args) == 4, bool(self.attrs["zero_masked"])
        # scores times `unit` are exponents of two: scale and unit are one factor, where no mask and cap come between
        self.direct = tiles.half and not self.masked and not self.attrs["cap"]
        self.scale = attrs["scale"] * (LOG2E if self.direct else 1.0)

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
        self._operands(frame, head)
        self.tiles_at = t.queries * t.pitch
        self.values_at = self.tiles_at + t.stages * t.keys * t.pitch
        self.weights_at = t.shared_words - 3 * t.wk * t.queries - t.weights
        self.stats_at = t.shared_words - 3 * t.wk * t.queries
        return tir.seq(self.head, self._walk(), self._end())

    def named(self, value: Expr, name: str) -> Expr:
        var, bind = tir.let(tir.expr(value), name)
        self.head.append(bind)
        return var

    def registers(self, count: int, name: str, kind: str = F32) -> Buffer:
        buffer, made = tir.local((count,), kind, name)
        self.head.append(made)
        return buffer

    def _operands(self, frame: Block, head: Expr) -> None:
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

    # -- keys ----------------------------------------------------------------------------------------------------------

    def _walk(self) -> Stmt:
        t = self.tiles
        queries = self._copied("q", 0, t.pitch, self.first, t.queries, self.shape.s, t.d, tir.i32(0))
        start = self.start()
        ahead = tir.seq(queries, self._tile(tir.i32(0), tir.i32(0)), call("ec_cp_commit"))
        if t.steps == 1:
            return tir.seq(
                ahead, start, call("ec_cp_wait0"), barrier(), self.queries_in(), self.step(tir.i32(0), tir.i32(0))
            )

        def turn(k: Expr) -> Stmt:
            stage = tirx.floormod(k, 2)
            more = tir.when(k + 1 < t.steps, self._tile((k + 1) * t.keys, 1 - stage))
            bring = tir.seq(more, call("ec_cp_commit"), call("ec_cp_wait1"), barrier())
            first = tir.when(tirx.EQ(k, 0), self.queries_in())
            return tir.seq(bring, first, self.step(k * t.keys, stage), barrier())

        return tir.seq(ahead, start, tir.loop(t.steps, turn, "step"))

    def _tile(self, first: Expr, stage: Expr) -> Stmt:
        """K and V of the keys from `first` on."""
        t = self.tiles
        k_at = self.tiles_at + stage * (t.keys * t.pitch)
        v_at = self.values_at + stage * (t.keys * t.value_pitch)
        return tir.seq(
            self._copied("k", k_at, t.pitch, first, t.keys, self.shape.t, t.d, tir.i32(0)),
            self._copied("v", v_at, t.value_pitch, first, t.keys, self.shape.t, t.e, self.column),
        )

    def _copied(
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
        valid = tirx.Cast("int32", _all(conditions)) if conditions else tir.i32(1)
        return call(f"ec_cp{size}_if", pointer(self.memory, to), source, valid)

    def _halves(
        self, source: Operand, to: Expr, row: Expr, left: Expr, numbers: int, conditions: Sequence[Expr]
    ) -> Stmt:
        """Two numbers that may lie anywhere, as one word."""

        def number(j: int) -> Expr:
            x = tirx.Cast(F32, tir.load(source.buffer, source.at(row, tirx.min(left + j, tir.i32(numbers - 1)))))
            return tirx.Select(_all([*conditions, left + j < numbers]), x, tir.lit(0, F32))

        word, made = tir.local((1,), "uint32", "word")
        pair = [tir.let(number(j), "half") for j in range(2)]
        packed = tir.store(word, pure("uint32", "ec_half2_pack", pair[0][0], pair[1][0]), 0)
        return tir.seq(
            made, [b for _, b in pair], packed, call("ec_store4", pointer(self.memory, to), pointer(word, 0))
        )

    # -- scores --------------------------------------------------------------------------------------------------------

    def score(self, x: Expr, query: Expr, key: Expr) -> Expr:
        """A score from a product: scaled, capped, masked. -inf for keys that are not there."""
        x = x * tir.lit(self.scale, F32)
        if self.attrs["cap"]:
            cap = tir.lit(self.attrs["cap"], F32)
            x = cap * mathlib.tanh(x)
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

    # -- the end -------------------------------------------------------------------------------------------------------

    def _end(self) -> Stmt:
        """What the warps found for their keys, put together; results to memory."""
        t = self.tiles
        parts: list[Stmt] = []
        rows = self.queries()
        for r in range(len(rows)):
            for kind, fold in ((self.sums, "+"), *(((self.opened, "max"),) if self.open else ())):
                for partner in self.partners:
                    other = result(F32, "ec_shfl_xor_f32", tir.load(kind, r), partner)
                    mine = tir.load(kind, r)
                    parts.append(tir.store(kind, mine + other if fold == "+" else pure(F32, "fmaxf", mine, other), r))
        kinds = [self.top, self.sums, *([self.opened] if self.open else [])]
        if t.wk > 1:
            size = t.wk * t.queries
            own = [
                tir.store(self.memory, tir.load(b, r), self.stats_at + i * size + self.wk * t.queries + row)
                for r, row in enumerate(rows)
                for i, b in enumerate(kinds)
            ]
            parts.append(tir.when(tirx.EQ(self.lane & max(self.partners_mask, 0), 0), tir.seq(own)))
        parts.append(barrier())
        for r, row in enumerate(rows):
            parts.append(self._scaled(r, row))
        parts += [self.sums_out(), barrier(), self._stored()]
        return tir.seq(parts)

    def _scaled(self, r: int, row: Expr) -> Stmt:
        """A row's products times its share of all weights."""
        t = self.tiles
        zero, lowest = tir.lit(0, F32), tir.lit(-inf, F32)
        total, made = tir.local((1,), F32, "total")
        parts: list[Stmt] = [made]
        factor: Expr = tir.lit(1, F32)
        if t.wk == 1:
            parts.append(tir.store(total, tir.load(self.sums, r), 0))
            seen = tir.load(self.opened, r) if self.open else None
        else:
            size = t.wk * t.queries
            at = [self.stats_at + w * t.queries + row for w in range(t.wk)]
            top, top_made = tir.local((1,), F32, "most")
            parts += [top_made, tir.store(top, tir.load(self.memory, at[0]), 0)]
            for a in at[1:]:
                parts.append(tir.store(top, pure(F32, "fmaxf", tir.load(top, 0), tir.load(self.memory, a)), 0))
            base, bound = tir.let(tirx.Select(tirx.EQ(tir.load(top, 0), lowest), zero, tir.load(top, 0)), "base")
            parts += [bound, tir.store(total, zero, 0)]
            for a in at:
                share = self.powers(tir.load(self.memory, a) - base)
                parts.append(tir.store(total, tir.load(total, 0) + tir.load(self.memory, a + size) * share, 0))
            factor, bound = tir.let(self.powers(tir.load(self.top, r) - base), "factor")
            parts.append(bound)
            seen = None
            if self.open:
                flags = [tir.load(self.memory, a + 2 * size) for a in at]
                seen = flags[0]
                for flag in flags[1:]:
                    seen = pure(F32, "fmaxf", seen, flag)
        share, bound = tir.let(factor / tir.load(total, 0), "share")
        parts.append(bound)
        if seen is None:
            return tir.seq(parts, self.shrunk(r, share))
        return tir.seq(parts, tir.when(seen > zero, self.shrunk(r, share), self.cleared(r)))

    def _stored(self) -> Stmt:
        """Sums of the warps, some columns of a query at a time, to memory."""
        t, out = self.tiles, self.of["out"]
        at_once = 8 if t.half else 4
        each = t.e // at_once
        total = t.queries * each
        turns = -(-total // t.threads)

        def unit(number: Expr) -> Stmt:
            row, piece = tirx.floordiv(number, each), tirx.floormod(number, each)
            sums, made = tir.local((at_once,), F32, "sum")
            more, more_made = tir.local((4,), F32, "more")
            parts: list[Stmt] = [made, more_made]
            for w in range(t.wk):
                for j in range(0, at_once, 4):
                    at = (w * t.queries + row) * t.total_pitch + piece * at_once + j
                    target = (sums, j) if w == 0 else (more, 0)
                    parts.append(call("ec_load16", pointer(target[0], target[1]), pointer(self.memory, at)))
                    if w:
                        parts += [tir.store(sums, tir.load(sums, j + i) + tir.load(more, i), j + i) for i in range(4)]
            query, column = self.first + row, self.column + piece * at_once
            write = self._write(out, query, column, sums, at_once)
            condition = [] if self.shape.s % t.queries == 0 else [query < self.shape.s]
            if self.shape.e % t.e:
                condition.append(column < self.shape.e)
            return tir.seq(parts, tir.when(_all(condition), write) if condition else write)

        def turn(k: Expr) -> Stmt:
            number = k * t.threads + self.thread
            return unit(number) if total % t.threads == 0 else tir.when(number < total, unit(number))

        return tir.loop(turns, turn, "out")

    def _write(self, out: Operand, query: Expr, column: Expr, sums: Buffer, at_once: int) -> Stmt:
        if out.at_once == 1:
            kind = str(out.buffer.dtype)
            stores = []
            for j in range(at_once):
                x = tir.load(sums, j)
                store = tir.store(out.buffer, x if kind == F32 else tirx.Cast(kind, x), out.at(query, column + j))
                ragged = self.shape.e % at_once
                stores.append(tir.when(column + j < self.shape.e, store) if ragged else store)
            return tir.seq(stores)
        to = pointer(out.buffer, out.at(query, column))
        if not self.tiles.half:
            return call("ec_store16", to, pointer(sums, 0))
        words, made = tir.local((4,), "uint32", "packed")
        packs = [
            tir.store(words, pure("uint32", "ec_half2_pack", tir.load(sums, 2 * j), tir.load(sums, 2 * j + 1)), j)
            for j in range(4)
        ]
        return tir.seq(made, packs, call("ec_store16", to, pointer(words, 0)))

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


def _all(conditions: Sequence[Expr]) -> Expr:
    whole = conditions[0]
    for c in conditions[1:]:
        whole = tirx.And(whole, c)
    return whole
