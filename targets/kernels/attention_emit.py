"""TensorIR of blocked attention. A task takes some blocks of queries of one head through four steps: the queries are
transposed, their scores computed (T x W), turned into weights, and the weights multiplied with V.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any

from edgec.compiler.ir import Type, Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import mathlib, tir
from edgec.targets.tir import Expr, Stmt

from .attention_rows import Shape, blocks, even_parts, tile_rows
from .common_emit import ABREAST, F32, Frame, emit_kernel, put, vector
from .register_tile import Tile


@dataclass(frozen=True)
class Operand:
    """A flat buffer, the offset of this head's elements, and the strides of the two inner axes."""

    buffer: Any
    base: Expr
    outer: int
    inner: int

    def at(self, outer: Expr | int, inner: Expr | int) -> Expr:
        return self.base + tir.expr(outer) * self.outer + tir.expr(inner) * self.inner


@dataclass(frozen=True)
class Block:
    """One block of queries: the first, how many, in how many vectors."""

    first: Expr
    queries: int
    vectors: int


def flat(value: Value) -> Type:
    return replace(value.type, shape=(value.type.size,))


def _nth(make: Callable[[Expr, int], Stmt], size: int, start: int, k: Expr) -> Stmt:
    return make(k * size + start, size)


class Attention:
    def __init__(self, problem: Problem, choice: Choice, shape: Shape) -> None:
        self.problem, self.choice, self.shape = problem, choice, shape
        self.lanes = max(1, problem.target.cpu.lanes(32))
        self.width = choice.get("nv") * self.lanes
        self.attrs: Any = full_attrs(problem.anchor)
        # scratch: transposed queries [D, W], scores and weights [T, W], greatest scores [W], inverse sums [W]
        self.scores = shape.d * self.width
        self.top = self.scores + shape.t * self.width
        self.sums = self.top + self.width

    def emitted(self, symbol: str) -> Emitted:
        each = blocks(self.shape.s, self.width, self.lanes)

        def task(frame: Frame, number: Expr) -> Stmt:
            return self.unit(frame, number, each)

        return emit_kernel(self.problem, self.choice, symbol, self.shape.heads * len(each), task, flat)

    def unit(self, frame: Frame, number: Expr, each: list[tuple[int, int]]) -> Stmt:
        """A block of queries of one head; the last one of a head may be smaller."""
        head, block = tir.split(number, self.shape.heads, len(each))
        binds: list[Stmt] = []

        def named(value: Expr) -> Expr:
            var, bind = tir.let(value, "n")
            binds.append(bind)
            return var

        digits = [named(x) for x in tir.split(named(head), *self.shape.batch)] if self.shape.batch else []
        operands = {}
        for name, argument in zip(("q", "k", "v", "mask"), self.problem.anchor.args, strict=False):
            offset, *strides = self.attrs[name]
            operands[name] = self.operand(frame.places[argument].buffer, offset, strides, digits, named)
        operands["out"] = self.operand(frame.place.buffer, 0, self.attrs["out"], digits, named)
        first = named(block * self.width)

        def run(queries: int, vectors: int) -> Stmt:
            return self.block(frame, operands, Block(first, queries, vectors))

        if len(set(each)) == 1:
            return tir.seq(binds, run(*each[0]))
        return tir.seq(binds, tir.when(block < len(each) - 1, run(*each[0]), run(*each[-1])))

    def operand(
        self, buffer: Any, offset: int, strides: list[int], digits: list[Expr], named: Callable[[Expr], Expr]
    ) -> Operand:
        base = tir.i32(offset)
        for digit, stride in zip(digits, strides, strict=False):
            base = base + digit * stride
        return Operand(buffer, named(base), strides[-2], strides[-1])

    def block(self, frame: Frame, operands: dict[str, Operand], b: Block) -> Stmt:
        scratch = frame.scratch
        return tir.seq(
            self.transpose(scratch, operands["q"], b),
            self.all_scores(scratch, operands, b),
            self.weights(scratch, b),
            self.products(scratch, operands["v"], operands["out"], b),
        )

    def lanes_of(self, b: Block, v: int) -> int:
        return min(self.lanes, b.queries - v * self.lanes)

    # -- Q -----------------------------------------------------------------------------------------------------------

    def transpose(self, scratch: Any, q: Operand, b: Block) -> Stmt:
        """scratch[d, w] = scale * Q[first + w, d]; lanes without a query hold zero."""

        def step(d: Expr) -> Stmt:
            parts = []
            for v in range(b.vectors):
                n, to = self.lanes_of(b, v), d * self.width + v * self.lanes
                if n < self.lanes:
                    parts.append(put(scratch, tir.broadcast(tir.lit(0.0, F32), self.lanes), self.lanes, to))
                x = tir.load(q.buffer, tir.ramp(q.at(b.first + v * self.lanes, d), n, q.outer))
                parts.append(put(scratch, x * tir.broadcast(tir.lit(self.attrs["scale"], F32), n), n, to))
            return tir.seq(parts)

        start = [
            put(scratch, tir.broadcast(tir.lit(-inf, F32), self.lanes), self.lanes, self.top + v * self.lanes)
            for v in range(b.vectors)
        ]
        return tir.seq(start, tir.loop(self.shape.d, step, "d"))

    # -- Q K' --------------------------------------------------------------------------------------------------------

    def all_scores(self, scratch: Any, operands: dict[str, Operand], b: Block) -> Stmt:
        keys = tile_rows(self.problem.target.cpu, b.vectors)
        whole, rest = divmod(self.shape.t, keys)
        tiles = tir.loop(whole, lambda k: self.score_tile(scratch, operands, b, k * keys, keys), "t") if whole else None
        last = self.score_tile(scratch, operands, b, tir.i32(whole * keys), rest) if rest else None
        return tir.seq(tiles, last)

    def score_tile(self, scratch: Any, operands: dict[str, Operand], b: Block, first: Expr, keys: int) -> Stmt:
        k, lanes = operands["k"], self.lanes
        tile = Tile(keys, (lanes,) * b.vectors, lanes)
        work = tile.sums(
            self.shape.d,
            lambda d, v: vector(scratch, lanes, d * self.width + v * lanes),
            lambda d, i: tir.load(k.buffer, k.at(first + i, d)),
        )
        mask = operands.get("mask")
        finish = [self.keep(scratch, mask, b, first + i, v, tile.sum(i, v)) for i, v in tile.places]
        return tir.seq(work, finish, [self.raise_top(scratch, first, keys, v) for v in range(b.vectors)])

    def keep(self, scratch: Any, mask: Operand | None, b: Block, key: Expr, v: int, score: Expr) -> Stmt:
        """Store a vector of scores with the mask added; one that tells queries apart is read for true queries only."""
        to, n = self.scores + key * self.width + v * self.lanes, self.lanes_of(b, v)
        if mask is None:
            return put(scratch, score, self.lanes, to)
        if mask.outer == 0 or b.queries == 1:
            at = mask.at(b.first, key)
            return put(scratch, score + tir.broadcast(tir.load(mask.buffer, at), self.lanes), self.lanes, to)
        add = tir.load(mask.buffer, tir.ramp(mask.at(b.first + v * self.lanes, key), n, mask.outer))
        if n == self.lanes:
            return put(scratch, score + add, n, to)
        return tir.seq(put(scratch, score, self.lanes, to), put(scratch, vector(scratch, n, to) + add, n, to))

    def raise_top(self, scratch: Any, first: Expr, keys: int, v: int) -> Stmt:
        at = self.top + v * self.lanes

        def lane(i: Expr) -> Stmt:
            top = tir.load(scratch, at + i)
            for key in range(keys):
                score = tir.load(scratch, self.scores + (first + key) * self.width + v * self.lanes + i)
                top = mathlib.bind(top, partial(mathlib.at_least, score))
            return tir.store(scratch, top, at + i)

        return tir.vectorized(self.lanes, lane)

    # -- softmax -----------------------------------------------------------------------------------------------------

    def weights(self, scratch: Any, b: Block) -> Stmt:
        """Scores become exponentials of their distance to the greatest; the inverses of their sums are kept."""
        lanes, total = self.lanes, b.vectors * self.lanes
        top, alloc_top = tir.local((total,), F32, "top")
        sums, alloc_sums = tir.local((total,), F32, "sum")
        abreast = max(1, ABREAST // b.vectors)

        def some(first: Expr, count: int) -> Stmt:
            return tir.interleaved([one(first + k, v) for k in range(count) for v in range(b.vectors)])

        def one(key: Expr, v: int) -> Stmt:
            weight, alloc = tir.local((lanes,), F32, "weight")

            def lane(i: Expr) -> Stmt:
                at, mine = self.scores + key * self.width + v * lanes + i, v * lanes + i
                x = mathlib.exp_within(tir.load(scratch, at) - tir.load(top, mine), high=inf)
                return tir.seq(
                    tir.store(weight, x, i),
                    tir.store(scratch, tir.load(weight, i), at),
                    tir.store(sums, tir.load(sums, mine) + tir.load(weight, i), mine),
                )

            return tir.seq(alloc, tir.vectorized(lanes, lane))

        whole, rest = divmod(self.shape.t, abreast)
        start = [
            (
                put(top, vector(scratch, lanes, self.top + at), lanes, at),
                put(sums, tir.broadcast(tir.lit(0.0, F32), lanes), lanes, at),
            )
            for at in range(0, total, lanes)
        ]
        one_over = tir.broadcast(tir.lit(1.0, F32), lanes)
        end = [put(scratch, one_over / vector(sums, lanes, at), lanes, self.sums + at) for at in range(0, total, lanes)]
        return tir.seq(
            alloc_top,
            alloc_sums,
            [s for pair in start for s in pair],
            tir.loop(whole, lambda k: some(k * abreast, abreast), "t") if whole else None,
            some(tir.i32(whole * abreast), rest) if rest else None,
            end,
        )

    # -- weights V ---------------------------------------------------------------------------------------------------

    def products(self, scratch: Any, values: Operand, out: Operand, b: Block) -> Stmt:
        e, columns, lanes = self.shape.e, self.choice.get("ne"), self.lanes
        whole = e // (columns * lanes)
        rest = e - whole * columns * lanes
        widths = [lanes] * (rest // lanes) + ([rest % lanes] if rest % lanes else [])

        def panel(first: Expr, wide: list[int]) -> Stmt:
            return self.rows(b, lambda row, n: self.product_tile(scratch, values, out, b, row, n, first, wide))

        loop = tir.loop(whole, lambda k: panel(k * columns * lanes, [lanes] * columns), "e") if whole else None
        return tir.seq(loop, panel(tir.i32(whole * columns * lanes), widths) if rest else None)

    def rows(self, b: Block, make: Callable[[Expr, int], Stmt]) -> Stmt:
        """Tiles of queries, nearly equal in size: a loop for each size."""
        sizes = even_parts(b.queries, tile_rows(self.problem.target.cpu, self.choice.get("ne")))
        parts, start = [], 0
        for size in dict.fromkeys(sizes):
            count = sizes.count(size)
            parts.append(tir.loop(count, partial(_nth, make, size, start), "s"))
            start += size * count
        return tir.seq(parts)

    def product_tile(
        self,
        scratch: Any,
        values: Operand,
        out: Operand,
        b: Block,
        row: Expr,
        rows: int,
        column: Expr,
        widths: list[int],
    ) -> Stmt:
        tile = Tile(rows, tuple(widths), self.lanes)
        work = tile.sums(
            self.shape.t,
            lambda t, v: vector(values.buffer, widths[v], values.at(t, column + v * self.lanes)),
            lambda t, i: tir.load(scratch, self.scores + t * self.width + row + i),
        )
        finish: list[Stmt] = []
        for i in range(rows):
            inverse, bind = tir.let(tir.load(scratch, self.sums + row + i), "inverse")
            finish.append(bind)
            for v, n in enumerate(widths):
                to = out.at(b.first + row + i, column + v * self.lanes)
                finish.append(put(out.buffer, tile.sum(i, v) * tir.broadcast(inverse, n), n, to))
        return tir.seq(work, finish)
