"""TensorIR of a bound of the best elements of a row: where the k-th of the best of some groups lies, k elements do.

Elements are compared by vectors twice: with the best so far of each lane of a few vectors, the groups, and with the
bound, which is found among these by counting their leading bits. Only what is not below it is looked at one by one.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from ... import tir
from ...tir import Buffer, Expr, Stmt
from ..plain import Tensors
from ..reduce_stages import extreme
from .sort_emit import increment, zero
from .sort_keys import Entries, Keys, key, with_named
from .sort_rows import BINS, DIGIT, groups_of, size_of


class Groups:
    """Of each row; `held` gets the entries of what is within the bound, and in its upper half keys of the groups."""

    def __init__(self, t: Tensors, keys: Keys, held: Entries, bins: Buffer, best: Buffer) -> None:
        _, self.n, self.k = size_of(t.node)
        self.keys, self.held, self.bins, self.best = keys, held, bins, best
        self.lanes = t.line(0).lanes(t.problem.target.cpu)
        self.count, self.turns = groups_of(t.node, t.problem.target.cpu)
        self.least, self.shift = tir.Cell("int64", "least"), tir.Cell("uint64", "shift")

    def keep(self, base: Expr, kept: Buffer) -> Stmt:
        """Entries of the row that begins at `base` which may be among the best; `kept` is how many there are."""
        bound, alloc = tir.local((1,), str(self.best.dtype), "bound")
        return tir.seq(alloc, self._best_of_groups(base), self._find(bound), self._within(base, bound, kept))

    def _better(self, a: Expr, b: Expr) -> Expr:
        return a > b if self.keys.largest else a < b

    def _element(self, at: Expr) -> Expr:
        return self.keys.line.load(at)

    def _vectors(self, fn: Callable[[Expr], Stmt]) -> Stmt:
        """`fn(group)` of all groups, by vectors."""
        lanes = self.lanes
        return tir.loop(self.count // lanes, lambda r: tir.vectorized(lanes, lambda v: fn(r * lanes + v)), "group")

    def _best_of_groups(self, base: Expr) -> Stmt:
        """NaN is passed over: the bound may be lower for it, never higher."""
        worst = extreme(str(self.best.dtype), self.keys.largest)

        def meet(turn: Expr) -> Stmt:
            def one(at: Expr) -> Stmt:
                x, old = self._element(base + turn * self.count + at), tir.load(self.best, at)
                return tir.store(self.best, tirx.Select(self._better(x, old), x, old), at)

            return self._vectors(one)

        start = self._vectors(lambda at: tir.store(self.best, worst, at))
        return tir.seq(start, tir.loop(self.turns, meet, "turn"))

    def _find(self, bound: Buffer) -> Stmt:
        """The bound: the worst of the groups that share their leading bits with the k-th, or have greater ones."""
        (leading, made), (rank, made_rank) = (tir.local((1,), "int32", name) for name in ("leading", "rank"))
        second, made_second = tir.local((1,), "int32", "second")

        def filled(i: Expr) -> Stmt:
            value = key(tir.load(self.best, i), self.keys.bits, self.keys.largest)
            return tir.store(self.held.buffers[0], value, i + self.n)

        def first(i: Expr) -> Stmt:
            return increment(self.bins, tirx.shift_right(self._prefix(i), tir.i32(8)))

        def then(i: Expr) -> Stmt:
            prefix, name = tir.let(self._prefix(i), "prefix")
            inside = tirx.shift_right(prefix, tir.i32(8)).equal(tir.load(leading, 0))
            return tir.seq(name, tir.when(inside, increment(self.bins, tirx.bitwise_and(prefix, tir.i32(DIGIT - 1)))))

        def worst(i: Expr) -> Stmt:
            x, old = tir.load(self.best, i), tir.load(bound, 0)
            inside = self._prefix(i) >= tir.load(leading, 0) * DIGIT + tir.load(second, 0)
            return tir.when(tirx.And(inside, self._better(old, x)), tir.store(bound, x, 0))

        def over(fn: Callable[[Expr], Stmt]) -> Stmt:
            return tir.loop(self.count, fn, "i")

        return tir.seq(
            made,
            made_rank,
            made_second,
            self._vectors(filled),
            None if self.keys.packed else self._measured(),
            zero(self.bins, BINS),
            over(first),
            tir.store(rank, tir.i32(self.k), 0),
            _descend(self.bins, BINS, leading, rank),
            zero(self.bins, DIGIT),
            over(then),
            _descend(self.bins, DIGIT, second, rank),
            tir.store(bound, extreme(str(self.best.dtype), not self.keys.largest), 0),
            over(worst),
        )

    def _prefix(self, i: Expr) -> Expr:
        """The leading bits of a group's key, from 0: of BINS and of DIGIT values."""
        value = self._key(i)
        if not self.keys.packed:
            return tirx.Cast("int32", _apart(value, self.least.now) >> self.shift.now)
        width = (BINS * DIGIT).bit_length() - 1
        return tirx.Cast("int32", value >> tir.lit(self.keys.bits - width, "int64"))

    def _key(self, i: Expr) -> Expr:
        return tir.load(self.held.buffers[0], i + self.n)

    def _measured(self) -> Stmt:
        """Bits of 64 lead from where keys differ: numbers that are small for their type would share them all."""
        greatest = tir.Cell("int64", "greatest")

        def meet(i: Expr) -> Stmt:
            return tir.seq(
                self.least.set(tirx.min(self.least.now, self._key(i))),
                greatest.set(tirx.max(greatest.now, self._key(i))),
            )

        wide = _apart(greatest.now, self.least.now) >> self.shift.now >= tir.lit(BINS * DIGIT, "uint64")
        return tir.seq(
            (self.least.made, self.shift.made, greatest.made),
            self.least.set(self._key(tir.i32(0))),
            greatest.set(self.least.now),
            tir.loop(self.count, meet, "i"),
            self.shift.set(tir.lit(0, "uint64")),
            tir.repeat(wide, self.shift.add(tir.lit(1, "uint64"))),
        )

    def _within(self, base: Expr, bound: Buffer, kept: Buffer) -> Stmt:
        """Of elements that equal the bound the first k are kept."""
        ties = tir.Cell("int32", "ties")
        whole, limit = self.n // self.lanes, tir.load(bound, 0)

        def beyond(x: Expr) -> Expr:
            """False for NaN, which is kept: not to be turned around."""
            return tirx.Or(self._better(limit, x), tirx.And(tirx.EQ(limit, x), ties.now >= self.k))

        def consider(i: Expr) -> Stmt:
            count, x = tir.load(kept, 0), self._element(base + i)
            entry = with_named(self.keys.entry(base, i), lambda e: self.held.store(e, count))
            tied = tir.when(tirx.EQ(limit, x), ties.add(tir.i32(1)))
            return tir.when(beyond(x), tir.seq(), tir.seq(entry, tied, tir.store(kept, count + 1, 0)))

        def chunk(c: Expr) -> Stmt:
            first = c * self.lanes
            hits, room = tir.local((self.lanes,), "int32", "hits")

            def hit(v: Expr) -> Stmt:
                late = beyond(self._element(base + first + v))
                return tir.store(hits, tirx.Select(late, tir.i32(0), tir.i32(1)), v)

            look = tir.loop(self.lanes, lambda v: consider(first + v), "v")
            return tir.seq(room, tir.vectorized(self.lanes, hit), tir.when(tir.any_of(hits, self.lanes), look))

        return tir.seq(
            ties.made,
            ties.set(0),
            tir.store(kept, tir.i32(0), 0),
            tir.loop(whole, chunk, "chunk"),
            tir.loop(self.n - whole * self.lanes, lambda i: consider(i + whole * self.lanes), "rest"),
        )


def _apart(key: Expr, least: Expr) -> Expr:
    """How far a key lies above the least."""
    return tirx.Cast("uint64", key) - tirx.Cast("uint64", least)


def _descend(bins: Buffer, count: int, bound: Buffer, rank: Buffer) -> Stmt:
    """The greatest number at or above which the bins hold `rank`, and the rank within its bin."""
    lower = tir.seq(
        tir.store(rank, tir.load(rank, 0) - tir.load(bins, tir.load(bound, 0)), 0),
        tir.store(bound, tir.load(bound, 0) - 1, 0),
    )
    return tir.seq(
        tir.store(bound, tir.i32(count - 1), 0),
        tir.repeat(tir.load(rank, 0) > tir.load(bins, tir.load(bound, 0)), lower),
    )
