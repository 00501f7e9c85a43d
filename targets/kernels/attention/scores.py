"""The scores of a block of queries, in scratch memory: products with the keys, cap, mask, weights of the softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, TypeAlias

from tvm import tirx

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Problem
from edgec.compiler.target import Target
from edgec.targets import floats, fractions, tir
from edgec.targets.addends import turning
from edgec.targets.tir import Expr, Stmt

from ..common_emit import ABREAST, F32, put, vector
from ..cortex_m.asm import at
from ..cortex_m.fpu.gates import has_dots
from ..cortex_m.fpu.tile_asm import Tile as Form
from ..cortex_m.fpu.tile_asm import Tiles, fits
from ..cost import QUAD
from ..register_tile import Numbers, Tile
from .dots import dot_scores
from .rows import Shape, along_keys, quads, tile_rows

Read: TypeAlias = Callable[[Expr, int, int], Expr]  # of a step, a row, and how many


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


def summed(target: Target, tile: Tile, strides: tuple[int, int]) -> Callable[[int, Numbers, Read], Stmt]:
    """The tile's sums over so many steps, of lines and of numbers that are read: `read(k, i, count)` are `count` that
    lie together, from step k of row i on. `strides`: of rows and of steps. Four are read at once where multiply-adds
    take one by its lane."""

    def sums(steps: int, line: Numbers, read: Read) -> Stmt:
        def number(k: Expr, i: int) -> Expr:
            return read(k, i, 1)

        def four(k: Expr, i: int) -> Expr:
            return read(k, i, QUAD)

        if not quads(target) or 1 not in strides:
            return tile.sums(steps, line, number)
        return (tile.sums_along if strides[1] == 1 else tile.sums_across)(steps, line, number, four)

    return sums


class Scores:
    """Where scratch memory holds what belongs to a block, and the steps up to its weights."""

    def __init__(self, problem: Problem, choice: Choice, shape: Shape) -> None:
        self.target, self.shape = problem.target, shape
        self.lanes = max(1, self.target.cpu.lanes(32))
        self.width = choice.get("nv") * self.lanes
        self.attrs: Any = full_attrs(problem.anchor)
        # scratch: transposed queries [D, W], scores and weights [T, W], greatest scores [W], inverse sums [W]; and
        # where queries without any key give zeros, 1 for those that have one [W]
        self.start = shape.d * self.width
        self.top = self.start + shape.t * self.width
        self.sums = self.top + self.width
        self.open = self.sums + self.width if self.attrs["zero_masked"] else None
        self.tiles = Tiles(problem.target.small) if has_dots(problem.target) else None

    def lanes_of(self, b: Block, v: int) -> int:
        return min(self.lanes, b.queries - v * self.lanes)

    # -- Q -----------------------------------------------------------------------------------------------------------

    def transpose(self, scratch: Any, q: Operand, b: Block) -> Stmt:
        """scratch[d, w] = scale * Q[first + w, d]; lanes without a query hold zero."""

        def step(d: Expr, some: Sequence[int] = range(b.vectors)) -> Stmt:
            parts = []
            for v in some:
                n, to = self.lanes_of(b, v), d * self.width + v * self.lanes
                if n < self.lanes:
                    parts.append(put(scratch, tir.broadcast(tir.lit(0.0, F32), self.lanes), self.lanes, to))
                x = tir.load(q.buffer, tir.ramp(q.at(b.first + v * self.lanes, d), n, q.outer))
                parts.append(put(scratch, x * tir.broadcast(tir.lit(self.attrs["scale"], F32), n), n, to))
            return tir.seq(parts)

        first = [(self.top, -inf)] + ([] if self.open is None else [(self.open, 0.0)])
        start = [
            put(scratch, tir.broadcast(tir.lit(x, F32), self.lanes), self.lanes, at + v * self.lanes)
            for v in range(b.vectors)
            for at, x in first
        ]
        full = [v for v in range(b.vectors) if self.lanes_of(b, v) == QUAD == self.lanes]
        if not quads(self.target) or q.inner != 1 or not full:
            return tir.seq(start, tir.loop(self.shape.d, step, "d"))
        left = [v for v in range(b.vectors) if v not in full]

        def four(k: Expr) -> Stmt:
            """Four numbers of each query: squares of four queries are read and written by vectors."""
            d = k * QUAD
            dealt = [self.square(scratch, q, b.first + v * QUAD, d, v * QUAD) for v in full]
            return tir.seq(dealt, [step(d + j, left) for j in range(QUAD)] if left else None)

        whole, rest = divmod(self.shape.d, QUAD)
        ends = [step(tir.i32(whole * QUAD + j)) for j in range(rest)]
        return tir.seq(start, tir.loop(whole, four, "d") if whole else None, ends)

    def square(self, scratch: Any, q: Operand, query: Expr, d: Expr, to: int) -> Stmt:
        """Numbers d .. d + 3 of four queries, scaled, as `transpose` lays them."""
        scale = tir.broadcast(tir.lit(self.attrs["scale"], F32), QUAD)
        binds: list[Stmt] = []

        def named(x: Expr) -> Expr:
            name, bind = tir.let(x, "q")
            binds.append(bind)
            return name

        def of(x: Expr, y: Expr, lanes: Sequence[int]) -> Expr:
            return named(tirx.Shuffle([x, y], [tir.i32(n) for n in lanes]))

        rows = [named(vector(q.buffer, QUAD, q.at(query + i, d)) * scale) for i in range(QUAD)]
        even, odd = (0, 4, 2, 6), (1, 5, 3, 7)
        pairs = [(of(rows[0], rows[1], lanes), of(rows[2], rows[3], lanes)) for lanes in (even, odd)]
        columns = [of(x, y, lanes) for lanes in ((0, 1, 4, 5), (2, 3, 6, 7)) for x, y in pairs]
        return tir.seq(binds, [put(scratch, x, QUAD, (d + j) * self.width + to) for j, x in enumerate(columns)])

    # -- Q K' --------------------------------------------------------------------------------------------------------

    def all_scores(self, scratch: Any, operands: dict[str, Operand], b: Block) -> Stmt:
        keys = self.lanes if self.dots(operands, b) else tile_rows(self.target, b.vectors, operands["k"].inner == 1)
        whole, rest = divmod(self.shape.t, keys)
        tiles = tir.loop(whole, lambda k: self.score_tile(scratch, operands, b, k * keys, keys), "t") if whole else None
        last = self.score_tile(scratch, operands, b, tir.i32(whole * keys), rest) if rest else None
        return tir.seq(tiles, last)

    def dots(self, operands: dict[str, Operand], b: Block) -> bool:
        return along_keys(self.target, b.queries, self.shape.d, (operands["q"].inner, operands["k"].inner))

    def score_tile(self, scratch: Any, operands: dict[str, Operand], b: Block, first: Expr, keys: int) -> Stmt:
        k, lanes = operands["k"], self.lanes
        if self.dots(operands, b):
            q, places = operands["q"], [k.at(first + i, 0) for i in range(keys)]
            work, held = dot_scores(
                (q.buffer, q.at(b.first, 0)), (k.buffer, places), self.shape.d, self.attrs["scale"], lanes
            )
            each = [(tir.broadcast(tir.load(held, i), lanes), i, 0) for i in range(keys)]
            return self.kept(scratch, operands, b, first, work, each)
        tile = Tile(keys, (lanes,) * b.vectors, lanes)
        if self.tiles and fits(4 * self.width, 4 * k.inner):
            form = Form(keys, b.vectors, self.shape.d, 4 * self.width, 4 * k.inner, apart=True)
            numbers = [at(k.buffer, k.at(first + i, 0)) for i in range(keys)]
            work = tir.seq(tile.alloc, self.tiles.sums(form, tile.acc, at(scratch, 0), numbers))
        else:
            sums = summed(self.target, tile, (k.outer, k.inner))
            work = sums(
                self.shape.d,
                lambda d, v: vector(scratch, lanes, d * self.width + v * lanes),
                lambda d, i, n: vector(k.buffer, n, k.at(first + i, d)),
            )
        return self.kept(scratch, operands, b, first, work, [(tile.sum(i, v), i, v) for i, v in tile.places])

    def kept(
        self,
        scratch: Any,
        operands: dict[str, Operand],
        b: Block,
        first: Expr,
        work: Stmt,
        each: list[tuple[Expr, int, int]],
    ) -> Stmt:
        """Scores that `work` has made go to scratch: (vector, key of the tile, vector of queries) of each."""
        mask, keys = operands.get("mask"), 1 + max(i for _, i, _ in each)
        where = [self.start + (first + i) * self.width + v * self.lanes for _, i, v in each]
        finish = [put(scratch, x, self.lanes, to) for (x, _, _), to in zip(each, where, strict=True)]
        caps = [self.capped(scratch, to) for to in where] if self.attrs["cap"] else []
        masks = [
            self.masked(scratch, mask, b, first + i, v, to)
            for (_, i, v), to in zip(each, where, strict=True)
            if mask is not None
        ]
        tops = [self.raise_top(scratch, first, keys, v) for v in range(b.vectors)]
        return tir.seq(work, finish, tir.interleaved(caps) if caps else None, masks, tops)

    def capped(self, scratch: Any, to: Expr) -> Stmt:
        """A vector of scores becomes cap * tanh of it."""
        cap = tir.lit(self.attrs["cap"], F32)
        return tir.vectorized(
            self.lanes, lambda i: tir.store(scratch, cap * fractions.tanh(tir.load(scratch, to + i)), to + i)
        )

    def masked(self, scratch: Any, mask: Operand, b: Block, key: Expr, v: int, to: Expr) -> Stmt:
        """Add the mask to a vector of scores; one that tells queries apart is read for true queries only."""
        if mask.outer == 0 or b.queries == 1:
            n = self.lanes
            number = tir.broadcast(tir.load(mask.buffer, mask.at(b.first, key)), n)
        else:
            n = self.lanes_of(b, v)
            number = tir.load(mask.buffer, tir.ramp(mask.at(b.first + v * self.lanes, key), n, mask.outer))
        add, bind = tir.let(number, "mask")
        parts = [bind, put(scratch, vector(scratch, n, to) + add, n, to)]
        if self.open is not None:
            at = self.open + v * self.lanes
            lowest, zero, one = (tir.broadcast(tir.lit(x, F32), n) for x in (-inf, 0.0, 1.0))
            counts = tirx.Select(tirx.EQ(add, lowest), zero, one)
            parts.append(put(scratch, tirx.max(vector(scratch, n, at), counts), n, at))
        return tir.seq(parts)

    def raise_top(self, scratch: Any, first: Expr, keys: int, v: int) -> Stmt:
        at = self.top + v * self.lanes

        def lane(i: Expr) -> Stmt:
            top = tir.load(scratch, at + i)
            for key in range(keys):
                score = tir.load(scratch, self.start + (first + key) * self.width + v * self.lanes + i)
                top = floats.greater(score, top)
            return tir.store(scratch, top, at + i)

        return tir.vectorized(self.lanes, lane)

    # -- softmax -----------------------------------------------------------------------------------------------------

    def weights(self, scratch: Any, b: Block, zero: Expr) -> Stmt:
        """Scores become exponentials of their distance to the greatest; the inverses of their sums are kept. `zero` is
        not known to LLVM."""
        lanes, total = self.lanes, b.vectors * self.lanes
        top, alloc_top = tir.local((total,), F32, "top")
        sums, alloc_sums = tir.local((total,), F32, "sum")
        abreast = max(1, ABREAST // b.vectors)

        def some(turn: Expr, count: int) -> Stmt:
            first = turn * abreast
            with turning(zero * turn):
                return tir.interleaved([one(first + k, v) for k in range(count) for v in range(b.vectors)])

        def one(key: Expr, v: int) -> Stmt:
            weight, alloc = tir.local((lanes,), F32, "weight")

            def lane(i: Expr) -> Stmt:
                at, mine = self.start + key * self.width + v * lanes + i, v * lanes + i
                x = fractions.exp_below(tir.load(scratch, at) - tir.load(top, mine))
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
        if self.open is not None:
            end.append(self.nothing_left(scratch, total))
        return tir.seq(
            alloc_top,
            alloc_sums,
            [s for pair in start for s in pair],
            tir.loop(whole, lambda k: some(k, abreast), "t") if whole else None,
            some(tir.i32(whole), rest) if rest else None,
            end,
        )

    def nothing_left(self, scratch: Any, total: int) -> Stmt:
        """An inverse of zero for queries whose mask leaves nothing: no sum of weights, each up to one, has it."""
        at = self.sums

        def lane(i: Expr) -> Stmt:
            lost = tir.load(scratch, self.open + i) < floats.f32(1)
            return tir.store(scratch, tirx.Select(lost, floats.f32(0), tir.load(scratch, at + i)), at + i)

        return tir.vectorized(total, lane)
