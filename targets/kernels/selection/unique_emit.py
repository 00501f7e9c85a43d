"""Slices that differ, through a stable sort of all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from edgec.compiler.op import full_attrs

from ... import tir
from ...conversions import fetched, is_float
from ...floats import is_nan
from ...tir import Expr, Stmt, load, store
from ..plain import Tensors
from ..plain_lines import Line
from .merge_sort import merge_sort, sorted_at
from .rows import by_digits, compared_as, sizes
from .sort_keys import Entries, Entry, Keys
from .sort_radix import entered, passes
from .sort_rows import bits_of


class Slices:
    """Compares slices by their numbers, element by element; NaN comes last and equals itself."""

    def __init__(self, t: Tensors, x: Any) -> None:

        self.t, self.x = t, x
        self.outer, self.n, self.inner = sizes(t.node)
        self.at, self.order = tir.Cell("int32", "at"), tir.Cell("int32", "order")
        self.made = tir.seq(self.at.made, self.order.made)

    @property
    def single(self) -> bool:
        return self.outer * self.inner == 1

    def element(self, slice: Expr, k: Expr) -> Expr:
        """Element `k` of a slice, as it is compared."""
        outer, inner = tir.split(k, self.outer, self.inner)
        value = fetched(load(self.x, (outer * self.n + slice) * self.inner + inner), self.t.node.args[0].type.dtype)
        return tirx.Cast(compared_as(self.t.node), value)

    def compare(self, a: Expr, b: Expr) -> Stmt:
        """Set `order` to 1 where slice `a` comes before `b`, to 2 where it comes after, to 0 where they are equal."""

        x, y = self.element(a, self.at.now), self.element(b, self.at.now)
        turn = tir.seq(
            tir.when(before(x, y), self.order.set(1)),
            tir.when(before(y, x), self.order.set(2)),
            self.at.add(1),
        )
        more = tirx.And(self.at.now < self.outer * self.inner, self.order.now.equal(tir.i32(0)))
        return tir.seq(self.at.set(0), self.order.set(0), tir.repeat(more, turn))


class Merged:
    """Slices in order, by a merge sort of their numbers; where slices are elements, these beside them."""

    def __init__(self, s: Slices) -> None:
        self.slices, self.places = s, s.t.scratch[2]
        fill = tir.loop(s.n, lambda i: store(self.places, i, i), "i")
        if not s.single:

            def smaller(i: Expr, j: Expr) -> tuple[Stmt, Expr]:
                return s.compare(load(self.places, i), load(self.places, j)), s.order.now.equal(tir.i32(1))

            self.made = tir.seq(fill, merge_sort(s.n, [self.places], smaller))
            return
        keys = s.t.scratch[3]
        copy = tir.loop(s.n, lambda i: store(keys, s.element(i, tir.i32(0)), i), "i")
        less = lambda i, j: (tir.seq(), before(load(keys, i), load(keys, j)))  # noqa: E731
        self.made = tir.seq(fill, copy, merge_sort(s.n, [self.places, keys], less))

    def place(self, k: Expr) -> Expr:
        """The number of the slice that is number `k` in order."""
        return load(self.places, sorted_at(self.slices.n) + k)

    def differs(self, k: Expr, other: Expr) -> tuple[Stmt, Expr]:
        """(statements, whether slices number `k` and `other` in order differ)."""
        compared = self.slices.compare(self.place(other), self.place(k))
        return compared, tirx.Not(self.slices.order.now.equal(tir.i32(0)))


class Digits:
    """Slices of one element in order, by a radix sort of keys."""

    def __init__(self, s: Slices) -> None:
        node, n = s.t.node, s.n
        self.keys = Keys(Line(s.x, node.args[0].type.dtype), bits_of(node), largest=False)
        self.held = Entries(s.t.scratch[2 : 2 + self.keys.parts])
        self.half, alloc = tir.local((1,), "int32", "half")
        lanes = max(1, s.t.problem.target.cpu.lanes(64))
        self.made = tir.seq(
            alloc,
            entered(self.keys, self.held, tir.i32(0), n, lanes),
            passes(self.keys, self.held, s.t.scratch[-1], tir.i32(n), n, self.half),
        )

    def _entry(self, k: Expr) -> Entry:
        return self.held.load(load(self.half, 0) + k)

    def place(self, k: Expr) -> Expr:
        """The number of the slice that is number `k` in order."""
        return self.keys.index(self._entry(k))

    def differs(self, k: Expr, other: Expr) -> tuple[Stmt, Expr]:
        """(statements, whether slices number `k` and `other` in order differ)."""
        return tir.seq(), tirx.NE(self.keys.key_of(self._entry(k)), self.keys.key_of(self._entry(other)))


def before(x: Expr, y: Expr) -> Expr:
    return tirx.Or(x < y, tirx.And(is_nan(y), tirx.Not(is_nan(x)))) if is_float(x) else x < y


def unique(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    (x, x_made), (y, y_made) = tir.flat(t.args[0]), tir.flat(t.results[0])
    slices, lanes = Slices(t, x), t.problem.target.cpu.lanes(32)
    n, count = slices.n, tir.Cell("int32", "count")
    order = Digits(slices) if by_digits(t.node, t.problem.target.cpu) else Merged(slices)
    clear = [
        tir.ranged(0, n, lanes, lambda i, k=k: t.write(k, tir.lit(0, "int64"), i))  # type: ignore[misc]
        for k in (1, 3)
    ]

    def task(_: Expr) -> Stmt:
        return tir.seq(
            (x_made, y_made, slices.made, count.made, count.set(0)),
            clear,
            order.made,
            _kinds(slices, order, count),
            _counts(slices),
            _values(slices, x, y, count, lanes),
            t.write(4, tirx.Cast("int64", count.now)),
        )

    return 1, task


def _kinds(s: Slices, order: Merged | Digits, count: Any) -> Stmt:
    """The first slice of each kind, and the kinds numbered in the order that is wanted."""
    first, kind = s.t.scratch[:2]
    in_order = bool(full_attrs(s.t.node)["sorted"])
    leader = tir.Cell("int32", "leader")

    def number(slice: Expr) -> Stmt:
        position = s.t.write(1, tirx.Cast("int64", slice), count.now)
        return tir.seq(store(kind, count.now, slice), position, count.add(1))

    def visit(k: Expr) -> Stmt:
        here, bind = tir.let(order.place(k), "here")
        fresh = tir.seq(leader.set(here), number(here) if in_order else None)
        compared, differs = order.differs(k, tirx.max(k - 1, 0))
        new = tirx.Or(k.equal(tir.i32(0)), differs)
        return tir.seq(bind, compared, tir.when(new, fresh), store(first, leader.now, here))

    walk = tir.seq(leader.made, leader.set(0), tir.loop(s.n, visit, "k"))
    by_place = tir.loop(s.n, lambda i: tir.when(load(first, i).equal(i), number(i)), "i")
    return walk if in_order else tir.seq(walk, by_place)


def _counts(s: Slices) -> Stmt:
    """Of which kind each slice is, and how many there are of each."""
    first, kind = s.t.scratch[:2]
    which = tir.Cell("int32", "which")

    def visit(i: Expr) -> Stmt:
        more = s.t.read_back(3, which.now) + tir.lit(1, "int64")
        return tir.seq(
            which.set(load(kind, load(first, i))),
            s.t.write(2, tirx.Cast("int64", which.now), i),
            s.t.write(3, more, which.now),
        )

    return tir.seq(which.made, tir.loop(s.n, visit, "i"))


def _values(s: Slices, x: Any, y: Any, count: Any, lanes: int) -> Stmt:
    """The first slice of each kind, and zeros after them."""

    def rows(p: Expr) -> Stmt:
        def copy(r: Expr) -> Stmt:
            place = tirx.Cast("int32", s.t.read_back(1, r))
            read, write = (p * s.n + place) * s.inner, (p * s.n + r) * s.inner
            return tir.ranged(0, s.inner, lanes, lambda q: store(y, load(x, read + q), write + q))

        start, end = (p * s.n + count.now) * s.inner, (p + 1) * (s.n * s.inner)
        fill = tir.ranged(start, end, lanes, lambda i: store(y, tir.lit(0, y.dtype), i))
        return tir.seq(tir.loop(count.now, copy, "r"), fill)

    return tir.loop(s.outer, rows, "p")
