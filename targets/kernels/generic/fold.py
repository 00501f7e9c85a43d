"""Folds over some loops of a space: accumulators, their loops, horizontal sums, several stages one after the other.

The vector lies either along an output loop (a vector of accumulators) or across a folded one (partial results, folded
together at the end); `Space.vector_group` decides by the addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

from tvm import tirx

from ... import tir
from ...built_for import has_cache, has_large_file, on_device
from ...tir import Buffer, Expr, Stmt
from .nest import Nest, Point, Region
from .space import Group, Space
from .stage import Kept, Parts, Prior, Stage

ABREAST = 4  # vectors of accumulators that lie side by side, at most, but where lines would be gone
SLOTS = 4  # vectors that are folded into at a time: their sums do not wait for each other
F32 = 4  # bytes of a term that is kept
CACHE_WAY = 4096  # bytes
WAYS = 4  # lines of a cache set that an argument or a result may take
KEPT = 1024  # terms of a row that a kernel keeps on its stack, at most


@dataclass
class Fold:
    """`write` makes the stores from the stages' results: once per point, or (`again`) at every folded position.

    `slots`: vectors that a folded loop makes at a time, where it is vectorized; `kept`: terms it may keep of a row;
    `beside`: where those of a longer one are kept.
    """

    space: Space
    stages: list[Stage]
    write: Callable[[Prior], Stmt]
    again: bool = False
    lanes: int = 1
    unroll: int = 1
    tile: int = 1
    slots: int = SLOTS
    kept: int = 0
    beside: Kept | None = None

    def region(self, threads: int) -> Region:
        self.space.trace(self._element)
        groups = self.space.groups
        self.folds = [g for g in groups if g.fold]
        outer = [g for g in groups if not g.fold]
        self.vector = self.space.vector_group(self.lanes) if groups else None
        work = max(1, prod(g.extent for g in self.folds)) * len(self.stages)
        if self.vector in self.folds:
            return Nest(self.space, outer, 1).run(self._across, threads, work)
        order = [g for g in outer if g is not self.vector] + ([self.vector] if self.vector else [])
        tile = self._tile(order)
        return Nest(self.space, order, self.lanes, self._unroll(tile), tile).run(self._along, threads, work)

    def _element(self) -> None:
        prior: Prior = []
        for stage in self.stages:
            stage.term(prior)
            prior.append(stage.result(tuple(tir.lit(1, d) for d in stage.dtypes)))
        self.write(prior)

    def _tile(self, order: list[Group]) -> int:
        """Turns of the loop around the vector that share loads with each other."""
        if self.tile == 1 or len(order) < 2:
            return 1
        vector = order[-1]
        shared = [g for g in order[:-1] if any(s == 0 and v for s, v in zip(g.strides, vector.strides, strict=True))]
        best = max(shared, key=lambda g: min(g.extent, self.tile), default=None)
        if best is None:
            return 1
        order.remove(best)
        order.insert(-1, best)
        return min(self.tile, best.extent)

    def _unroll(self, tile: int) -> int:
        wanted = max(1, self.unroll * self.tile // tile) if self.tile > 1 else self.unroll
        extent = self.vector.extent if self.vector else 1
        most = ABREAST
        if tile == 1 and self._crowded and has_cache() and not on_device():
            most = wanted = 2 * ABREAST if has_large_file() else ABREAST  # whole lines are read before they are gone
        return max(1, min(wanted, most, extent // self.lanes))

    def _along(self, points: list[Point]) -> Stmt:
        """Accumulators lie side by side, one per lane."""
        at = [sum(p.lanes for p in points[:k]) for k in range(len(points))]
        total = sum(p.lanes for p in points)
        results: list[Buffer] = []
        statements: list[Stmt] = []
        beside = None if self._crowded else self.beside

        def prior(k: int, v: Expr) -> Prior:
            return [tir.load(b, at[k] + v) for b in results]

        for stage in self.stages:
            identity, combine = stage.sequential
            accumulators = [tir.local((total,), d) for d in stage.dtypes]
            buffers = [b for b, _ in accumulators]
            statements += [s for _, s in accumulators]

            def every(fn: Callable[[int, Expr], Stmt]) -> list[Stmt]:
                return [p(partial(fn, k)) for k, p in enumerate(points)]

            def start(k: int, v: Expr) -> Stmt:
                return tir.seq(tir.store(b, x, at[k] + v) for b, x in zip(buffers, identity, strict=True))

            def step(k: int, v: Expr) -> Stmt:
                old = tuple(tir.load(b, at[k] + v) for b in buffers)
                term, keep = stage.term(prior(k, v)), None
                if stage.keep and beside:
                    keep, term = beside.put(term[0]), (beside.get(),)
                new = combine(old, term)
                return tir.seq(keep, [tir.store(b, x, at[k] + v) for b, x in zip(buffers, new, strict=True)])

            statements += every(start)
            statements.append(self._loops(self.folds, lambda: tir.seq(every(step))))
            one = stage.result(tuple(tir.lit(1, d) for d in stage.dtypes))
            result, alloc = tir.local((total,), str(one.ty.dtype))
            statements.append(alloc)
            statements += every(
                lambda k, v: tir.store(result, stage.result(tuple(tir.load(b, at[k] + v) for b in buffers)), at[k] + v)
            )
            results.append(result)

        kept = [beside.get] if beside and any(stage.keep for stage in self.stages) else []

        def write(k: int, v: Expr) -> Stmt:
            return self.write([*prior(k, v), *(get() for get in kept)])

        def writes() -> Stmt:
            return tir.seq(p(partial(write, k)) for k, p in enumerate(points))

        return tir.seq(statements, self._loops(self.folds, writes) if self.again else writes())

    @property
    def _crowded(self) -> bool:
        """Whether what is folded lies in one cache set, where it would not stay until it is read again."""
        return any(s and s * F32 % CACHE_WAY == 0 and g.extent > WAYS for g in self.folds for s in g.strides)

    def _loops(self, groups: Sequence[Group], inner: Callable[[], Stmt]) -> Stmt:
        if not groups:
            return inner()

        def turn(x: Expr) -> Stmt:
            if isinstance(x, tirx.Var):
                self.space.body.limit(x, groups[0].extent)
            self.space.set(groups[0], x)
            return self._loops(groups[1:], inner)

        return tir.loop(groups[0].extent, turn)

    def _across(self, points: list[Point]) -> Stmt:
        return tir.seq(point(lambda v: self._row()) for point in points)

    def _row(self) -> Stmt:
        """Everything for one output position, with the vector across a folded loop."""
        prior: Prior = []
        statements: list[Stmt] = []
        kept: Kept | None = None
        for stage in self.stages:
            if stage.keep:
                kept = self._row_of_terms(stage, statements)
            value = stage.result(self._folded(stage, list(prior), statements, kept if stage.keep else None))
            result, alloc = tir.local((1,), str(value.ty.dtype))
            statements += [alloc, tir.store(result, value, 0)]
            prior.append(tir.load(result, 0))
        if self.again:
            statements.append(self._sweep(lambda slot, v: self.write([*prior, *([kept.get()] if kept else [])])))
        else:
            statements.append(self.write(prior))
        return tir.seq(statements)

    @property
    def _slots(self) -> int:
        assert self.vector is not None
        return min(self.slots, max(1, self.vector.extent // self.lanes))

    @property
    def _width(self) -> int:
        assert self.vector is not None
        return self.vector.extent

    def _row_of_terms(self, stage: Stage, statements: list[Stmt]) -> Kept | None:
        """A short row is kept on the stack, where the vectors' loop is all that is folded."""
        if len(self.folds) != 1 or self._width > self.kept:
            return self.beside
        row, alloc = tir.local((self._width,), stage.dtypes[0], "row")
        statements.append(alloc)
        return Kept(lambda x: tir.store(row, x, self._at), lambda: tir.load(row, self._at))

    def _folded(self, stage: Stage, prior: Prior, statements: list[Stmt], kept: Kept | None = None) -> Parts:
        """Fold into vectors, those into one, and its halves into each other."""
        assert self.vector is not None
        lanes, slots, rest = self.lanes, self._slots, self.vector.extent % self.lanes
        sizes = ([lanes * slots] if self.vector.extent >= lanes else []) + ([rest] if rest else [])
        buffers = [[tir.local((n,), d) for d in stage.dtypes] for n in sizes]
        for group, n in zip(buffers, sizes, strict=True):
            statements += [s for _, s in group]
            statements.append(tir.vectorized(n, lambda v: _store([b for b, _ in group], stage.identity, v)))

        def step(slot: int, v: Expr) -> Stmt:
            mine = [b for b, _ in (buffers[-1] if slot < 0 else buffers[0])]
            at = v if slot < 0 else slot * lanes + v
            old = tuple(tir.load(b, at) for b in mine)
            term = stage.term(prior)
            if kept is None:
                return _store(mine, stage.combine(old, term), at)
            return tir.seq(kept.put(term[0]), _store(mine, stage.combine(old, (kept.get(),)), at))

        statements.append(self._sweep(step))
        main = [b for b, _ in buffers[0]]

        def fold(n: int, other: list[Buffer], start: int) -> None:
            statements.append(
                tir.vectorized(n, lambda v: _store(main, stage.combine(_load(main, v), _load(other, start + v)), v))
            )

        for slot in range(1, sizes[0] // lanes):
            fold(lanes, main, slot * lanes)
        if len(buffers) > 1:
            fold(rest, [b for b, _ in buffers[1]], 0)
        left = min(sizes[0], lanes)
        while left > 1:
            half = (left + 1) // 2
            fold(left - half, main, half)
            left = half
        return _load(main, tir.i32(0))

    def _sweep(self, fn: Callable[[int, Expr], Stmt]) -> Stmt:
        """`fn(slot, lane)` at every folded position; slot -1 is the incomplete vector at the end."""
        vector, lanes, slots = self.vector, self.lanes, self._slots
        assert vector is not None
        whole, left = divmod(vector.extent, lanes * slots)

        def vec(base: Expr, slot: int, n: int) -> Stmt:
            def one(v: Expr) -> Stmt:
                if isinstance(v, tirx.Var):
                    self.space.body.limit(v, n)
                self._at = base + v
                self.space.set(vector, self._at)
                return fn(slot, v)

            return tir.vectorized(n, one)

        def chunk(k: Expr) -> Stmt:
            if isinstance(k, tirx.Var):
                self.space.body.limit(k, whole)
            return tir.interleaved([vec(k * (lanes * slots) + u * lanes, u, lanes) for u in range(slots)])

        def inner() -> Stmt:
            first = whole * slots * lanes
            full = [vec(tir.i32(first + u * lanes), u, lanes) for u in range(left // lanes)]
            rest = left % lanes
            tail = vec(tir.i32(vector.extent - rest), -1, rest) if rest else None
            return tir.seq(tir.loop(whole, chunk) if whole else None, full, tail)

        return self._loops([g for g in self.folds if g is not vector], inner)


def _load(buffers: Sequence[Buffer], at: Expr) -> Parts:
    return tuple(tir.load(b, at) for b in buffers)


def _store(buffers: Sequence[Buffer], values: Parts, at: Any) -> Stmt:
    return tir.seq(tir.store(b, x, at) for b, x in zip(buffers, values, strict=True))
