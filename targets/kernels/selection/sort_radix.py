"""TensorIR of a selection by radix sorting: a histogram or the best of groups bound what is sorted, digits follow from
the lowest."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from ... import tir
from ...tir import Buffer, Expr, Stmt
from ..plain import Tensors
from .sort_emit import increment, keys_of, write, zero
from .sort_groups import Groups
from .sort_keys import Entries, Entry, Keys, with_named
from .sort_rows import BINS, DIGIT, size_of

Task = Callable[[Expr], Stmt]


def grouped_rows(t: Tensors) -> Task:
    return sorted_rows(t, grouped=True)


def sorted_rows(t: Tensors, grouped: bool = False) -> Task:
    """Entries lie in either half of their array; a digit that all of them share moves none."""
    _, n, k = size_of(t.node)
    keys = keys_of(t)
    held, counts = Entries(t.scratch[: keys.parts]), t.scratch[keys.parts]

    def task(row: Expr) -> Stmt:
        kept, alloc = tir.local((1,), "int32", "kept")
        half, alloc_half = tir.local((1,), "int32", "half")
        count, here = tir.load(kept, 0), tir.load(half, 0)
        if k == n:
            lanes = max(1, t.problem.target.cpu.lanes(64))
            first = tir.seq(entered(keys, held, row * n, n, lanes), tir.store(kept, tir.i32(n), 0))
        elif grouped:
            first = Groups(t, keys, held, counts, t.scratch[-1]).keep(row * n, kept)
        else:
            first = _bounded(keys, held, counts, row * n, n, k, kept)

        return tir.seq(
            alloc,
            alloc_half,
            first,
            passes(keys, held, counts, count, n, half),
            tir.loop(k, lambda j: write(t, row, j, keys.index(held.load(here + j))), "result"),
        )

    return task


def passes(keys: Keys, held: Entries, counts: Buffer, count: Expr, n: int, half: Buffer) -> Stmt:
    """Sort the first `count` entries of arrays of 2 n, the best first, equal ones as they stand; then `half` says
    where they begin."""
    here, digits = tir.load(half, 0), keys.bits // 8

    def one_pass(d: int) -> Stmt:
        shared = tir.load(counts, _digit(keys, held.load(here), d) + d * DIGIT)
        moves = tir.seq(_distribute(keys, held, counts, d, count, here, n), tir.store(half, n - here, 0))
        return tir.when(shared < count, moves)

    return tir.seq(
        tir.store(half, tir.i32(0), 0),
        _counts(keys, held, counts, digits, count),
        [one_pass(d) for d in range(digits)],
    )


def entered(keys: Keys, to: Entries, base: Expr, n: int, lanes: int) -> Stmt:
    """Entries of all elements of a row."""

    def fill(j: Expr) -> Stmt:
        return to.store(keys.entry(base, j), j)

    whole = n // lanes
    return tir.seq(
        tir.loop(whole, lambda r: tir.vectorized(lanes, lambda v: fill(r * lanes + v)), "fill") if whole else None,
        [fill(tir.i32(j)) for j in range(whole * lanes, n)],
    )


def _bounded(keys: Keys, to: Entries, bins: Buffer, base: Expr, n: int, k: int, kept: Buffer) -> Stmt:
    """Entries of what is in the bins that the best k lie in; `kept` is how many there are."""
    bound, alloc = tir.local((1,), "int32", "bound")
    above, alloc_above = tir.local((1,), "int32", "above")

    def bin_of(i: Expr) -> Expr:
        return _bin(keys, keys.key_of(keys.entry(base, i)))

    def lower() -> Stmt:
        return tir.seq(
            tir.store(bound, tir.load(bound, 0) - 1, 0),
            tir.store(above, tir.load(above, 0) + tir.load(bins, tir.load(bound, 0)), 0),
        )

    def keep(i: Expr) -> Stmt:
        """The entry is written in any case; the next one takes its place where it does not count."""

        def one(e: Entry) -> Stmt:
            inside = tirx.Select(_bin(keys, keys.key_of(e)) >= tir.load(bound, 0), tir.i32(1), tir.i32(0))
            return tir.seq(to.store(e, tir.load(kept, 0)), tir.store(kept, tir.load(kept, 0) + inside, 0))

        return with_named(keys.entry(base, i), one)

    return tir.seq(
        alloc,
        alloc_above,
        zero(bins, BINS),
        tir.loop(n, lambda i: increment(bins, bin_of(i)), "i"),
        tir.store(bound, tir.i32(BINS), 0),
        tir.store(above, tir.i32(0), 0),
        tir.repeat(tirx.And(tir.load(above, 0) < k, tir.load(bound, 0) > 0), lower()),
        tir.store(kept, tir.i32(0), 0),
        tir.loop(n, keep, "i"),
    )


def _bin(keys: Keys, key: Expr) -> Expr:
    """The leading bits of a key."""
    width = BINS.bit_length() - 1
    if keys.packed:
        return tirx.Cast("int32", key >> tir.lit(max(keys.bits - width, 0), "int64"))
    return tirx.Cast("int32", key >> tir.lit(64 - width, "int64")) + BINS // 2


def _digit(keys: Keys, e: Entry, d: int) -> Expr:
    at = tirx.Cast("int32", (keys.key_of(e) >> tir.lit(8 * d, "int64")) & tir.lit(DIGIT - 1, "int64"))
    return at ^ tir.i32(DIGIT // 2) if not keys.packed and d == 7 else at


def _counts(keys: Keys, held: Entries, counts: Buffer, digits: int, kept: Expr) -> Stmt:
    """How often each value of each digit occurs."""

    def one(e: Entry) -> Stmt:
        return tir.seq(increment(counts, _digit(keys, e, d) + d * DIGIT) for d in range(digits))

    return tir.seq(zero(counts, DIGIT * digits), tir.loop(kept, lambda i: with_named(held.load(i), one), "i"))


def _distribute(keys: Keys, held: Entries, counts: Buffer, d: int, kept: Expr, here: Expr, n: int) -> Stmt:
    """A stable pass over one digit into the other half, greatest values first."""
    total, alloc = tir.local((1,), "int32", "total")

    def before(i: Expr) -> Stmt:
        at, name = tir.let((DIGIT - 1 - i) + d * DIGIT, "at")
        mine, name_mine = tir.let(tir.load(counts, at), "mine")
        return tir.seq(
            name,
            name_mine,
            tir.store(counts, tir.load(total, 0), at),
            tir.store(total, tir.load(total, 0) + mine, 0),
        )

    def move(e: Entry) -> Stmt:
        at, name = tir.let(_digit(keys, e, d) + d * DIGIT, "digit")
        to, name_to = tir.let(tir.load(counts, at), "to")
        return tir.seq(name, name_to, tir.store(counts, to + 1, at), held.store(e, to))

    source, name_source = tir.let(here, "source")
    return tir.seq(
        alloc,
        name_source,
        tir.store(total, n - here, 0),
        tir.loop(DIGIT, before, "value"),
        tir.loop(kept, lambda i: with_named(held.load(source + i), move), "i"),
    )
