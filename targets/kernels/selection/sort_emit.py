"""TensorIR of selections: by counting what is better, and by a heap of the best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from edgec.compiler.op import full_attrs

from ... import tir
from ...conversions import widen
from ...tir import Buffer, Expr, Stmt
from ..plain import Tensors
from .sort_keys import Entries, Entry, Keys, with_named
from .sort_rows import bits_of, size_of

Task = Callable[[Expr], Stmt]


def keys_of(t: Tensors) -> Keys:
    return Keys(t.line(0), bits_of(t.node), bool(full_attrs(t.node)["largest"]))


def write(t: Tensors, row: Expr, slot: Expr, index: Expr) -> Stmt:
    """Put an element of a row among the results."""
    _, n, k = size_of(t.node)
    values, places = t.out(0), t.out(1)
    return tir.seq(
        tir.store(values.buffer, tir.load(t.line(0).buffer, row * n + index), row * k + slot),
        places.store(tirx.Cast("int64", index), row * k + slot),
    )


def zero(buffer: Buffer, count: int) -> Stmt:
    return tir.loop(
        count // 16, lambda r: tir.vectorized(16, lambda v: tir.store(buffer, tir.i32(0), r * 16 + v)), "zero"
    )


def increment(buffer: Buffer, at: Expr) -> Stmt:
    place, name = tir.let(at, "bin")
    return tir.seq(name, tir.store(buffer, tir.load(buffer, place) + 1, place))


def counted(t: Tensors) -> Task:
    """The rank of an element is the number of better ones."""
    _, n, k = size_of(t.node)
    keys, lanes = keys_of(t), max(1, t.problem.target.cpu.lanes(64))
    held = Entries(t.scratch)
    rounds = -(-n // lanes)
    room = rounds * lanes

    def task(row: Expr) -> Stmt:
        base = row * n

        def fill(j: Expr) -> Stmt:
            return held.store(keys.entry(base, j), j)

        def ranked(i: Expr, mine: Entry) -> Stmt:
            better, alloc = tir.local((lanes,), "int64", "better")

            def step(r: Expr, v: Expr) -> Stmt:
                one = tirx.Select(keys.better(held.load(r * lanes + v), mine), _i64(1), _i64(0))
                return tir.store(better, tir.load(better, v) + one, v)

            rank, name = tir.let(tirx.Cast("int32", tir.across("add", tir.load(better, tir.ramp(0, lanes)))), "rank")
            return tir.seq(
                alloc,
                tir.vectorized(lanes, lambda v: tir.store(better, _i64(0), v)),
                tir.steps(rounds, lambda r: tir.vectorized(lanes, lambda v: step(r, v)), "r", 4),
                name,
                tir.when(rank < k, write(t, row, rank, i)),
            )

        whole = n // lanes
        return tir.seq(
            tir.loop(whole, lambda r: tir.vectorized(lanes, lambda v: fill(r * lanes + v))) if whole else None,
            [fill(tir.i32(j)) for j in range(whole * lanes, n)],
            [held.store(keys.worst(), j) for j in range(n, room)],
            tir.loop(n, lambda i: with_named(held.load(i), lambda mine: ranked(i, mine)), "i"),
        )

    return task


def _i64(x: int) -> Expr:
    return tir.lit(x, "int64")


def heaped(t: Tensors) -> Task:
    """A heap whose root is the worst of the best: what is no better than the root is passed over, vectors at a time."""
    _, n, k = size_of(t.node)
    keys, heap = keys_of(t), Entries(t.scratch)
    lanes = t.line(0).lanes(t.problem.target.cpu)
    whole = (n - k) // lanes
    rest = k + whole * lanes

    def task(row: Expr) -> Stmt:
        base = row * n
        bound, alloc = tir.local((1,), _compared(t), "bound")

        def tighten() -> Stmt:
            return tir.store(bound, widen(keys.line.load(base + keys.index(heap.load(0)))), 0)

        def offer(e: Entry) -> Stmt:
            return tir.when(keys.better(e, heap.load(0)), tir.seq(_sift(keys, heap, e, tir.i32(0), k), tighten()))

        def consider(i: Expr) -> Stmt:
            return with_named(keys.entry(base, i), offer)

        def chunk(c: Expr) -> Stmt:
            first = c * lanes + k
            find, some = _some_better(keys, base + first, bound, lanes)
            return tir.seq(find, tir.when(some, tir.loop(lanes, lambda v: consider(first + v), "v")))

        return tir.seq(
            alloc,
            tir.loop(k, lambda i: heap.store(keys.entry(base, i), i), "first"),
            _heapify(keys, heap, k),
            tighten(),
            tir.loop(whole, chunk, "chunk") if whole else None,
            tir.loop(n - rest, lambda i: consider(rest + i), "rest") if n > rest else None,
            _in_order(keys, heap, k),
            tir.loop(k, lambda j: write(t, row, j, keys.index(heap.load(j))), "result"),
        )

    return task


def _some_better(keys: Keys, first: Expr, bound: Any, lanes: int) -> tuple[Stmt, Expr]:
    """(statements, whether any element of a vector may be better than the bound)."""
    hits, room = tir.local((lanes,), "int32", "hits")

    def hit(v: Expr) -> Stmt:
        late = _no_better(widen(keys.line.load(first + v)), tir.load(bound, 0), keys.largest)
        return tir.store(hits, tirx.Select(late, tir.i32(0), tir.i32(1)), v)

    return tir.seq(room, tir.vectorized(lanes, hit)), tir.across("add", tir.load(hits, tir.ramp(0, lanes))) > 0


def _compared(t: Tensors) -> str:
    """The type in which elements are compared as they are."""
    return str(widen(t.line(0).load(0)).ty.dtype)


def _no_better(x: Expr, bound: Expr, largest: bool) -> Expr:
    """Whether an element need not be looked at. NaN always is: no comparison with it holds."""
    return x <= bound if largest else x >= bound


def _sift(keys: Keys, heap: Entries, e: Entry, start: Expr, size: Expr | int) -> Stmt:
    """Put an entry at the hole `start` of a heap of `size` entries, or below."""
    hole, alloc = tir.local((1,), "int32", "hole")
    child, alloc_child = tir.local((1,), "int32", "child")

    def at(buffer: Any) -> Expr:
        return tir.load(buffer, 0)

    left, last = at(hole) * 2 + 1, tir.expr(size) - 1
    right = tirx.min(left + 1, last)
    worse = tirx.Select(keys.better(heap.load(left), heap.load(right)), right, left)
    turn = tir.seq(
        tir.store(child, worse, 0),
        tir.when(
            keys.better(e, heap.load(at(child))),
            tir.seq(heap.move(at(hole), at(child)), tir.store(hole, at(child), 0)),
            tir.seq(heap.store(e, at(hole)), tir.store(hole, tir.expr(size) + 1, 0)),
        ),
    )
    return tir.seq(
        alloc,
        alloc_child,
        tir.store(hole, start, 0),
        tir.repeat(left <= last, turn),
        tir.when(at(hole) <= last, heap.store(e, at(hole))),
    )


def _heapify(keys: Keys, heap: Entries, k: int) -> Stmt:
    def below(i: Expr) -> Stmt:
        node, name = tir.let(k // 2 - 1 - i, "node")
        return tir.seq(name, with_named(heap.load(node), lambda e: _sift(keys, heap, e, node, k)))

    return tir.loop(k // 2, below, "node") if k > 1 else tir.seq()


def _in_order(keys: Keys, heap: Entries, k: int) -> Stmt:
    """The worst goes to the end, again and again."""

    def out(i: Expr) -> Stmt:
        end, name = tir.let(k - 1 - i, "end")

        def swap(e: Entry) -> Stmt:
            return tir.seq(heap.move(end, 0), _sift(keys, heap, e, tir.i32(0), end))

        return tir.seq(name, with_named(heap.load(end), swap))

    return tir.loop(k - 1, out, "end") if k > 1 else tir.seq()
