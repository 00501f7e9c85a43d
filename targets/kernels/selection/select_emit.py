"""Kernels that move what is selected to the front, block by block, with zeros after it: NonZero and Compress.

Which entries of a block are selected is found without a branch. Tasks do not depend on each other: each counts, with
vectors, what is selected before and after its own part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx

from edgec.compiler.op import int_attr

from ... import tir
from ...casts import number, truth
from ...conversions import fetched
from ...tir import Expr, Stmt, load, store
from ..plain import Tensors
from .rows import BLOCK, WORTH


@dataclass(frozen=True)
class Selection:
    """`size` entries, `rows` times; `weight` elements each. `test(i)`: whether an entry is selected.

    `move(row, cursor, found)` puts the entries `places[0 .. found)` at `cursor`, `fill(row, start, end)` zeros into a
    stretch of the result; `note(count)` writes the count. `places` is scratch of BLOCK i32.
    """

    size: int
    rows: int
    weight: int
    places: Any
    test: Callable[[Expr], Expr]
    move: Callable[[Expr, Expr, Expr], Stmt]
    fill: Callable[[Expr, Expr, Expr], Stmt]
    note: Callable[[Expr], Stmt]

    def tasks(self, threads: int, lanes: int) -> tuple[int, Callable[[Expr], Stmt]]:
        """Number of tasks, and the statements of one."""
        blocks = -(-self.size // BLOCK)
        wanted = max(1, min(threads, self.size * self.weight // WORTH))
        each = max(1, -(-blocks // wanted))
        parts = -(-blocks // each)

        def task(t: Expr) -> Stmt:
            row, part = tir.split(t, self.rows, parts)
            return self._part(row, part, each, parts, lanes)

        return self.rows * parts, task

    def _part(self, row: Expr, part: Expr, each: int, parts: int, lanes: int) -> Stmt:
        """`each` blocks of a row, and zeros where these lie in the result and nothing is."""
        cursor, found = tir.Cell("int32", "cursor"), tir.Cell("int32", "found")
        start = part * (each * BLOCK)
        end = tirx.min(start + each * BLOCK, self.size)

        def block(b: Expr) -> Stmt:
            first = start + b * BLOCK
            extent = tirx.max(tirx.min(self.size - first, BLOCK), 0)

            def look(i: Expr) -> Stmt:
                one = tirx.Cast("int32", self.test(first + i))
                return tir.seq(store(self.places, first + i, found.now), found.add(one))

            moved = self.move(row, cursor.now, found.now)
            return tir.seq(found.set(0), tir.loop(extent, look, "i"), moved, cursor.add(found.now))

        blocks = tir.loop(each, block, "b")
        zeros = self.fill(row, tirx.max(cursor.now, start), end)
        first = tirx.And(row.equal(tir.i32(0)), part.equal(tir.i32(0)))
        note = tir.when(first, self.note(cursor.now)) if self.rows * parts > 1 else self.note(cursor.now)
        cells = tir.seq(cursor.made, found.made, cursor.set(0))
        if parts == 1:
            return tir.seq(cells, blocks, zeros, note)
        before, after = self._count(tir.i32(0), start, lanes, cursor), self._count(end, self.size, lanes, cursor)
        return tir.seq(cells, before, blocks, after, zeros, note)

    def _count(self, start: Expr, end: Expr | int, lanes: int, cursor: Any) -> Stmt:
        """Add to `cursor` how many entries of a stretch are selected."""
        total, made = tir.local((lanes,), "int32", "total")
        many = (end - start) // lanes
        rest = start + many * lanes

        def selected(i: Expr) -> Expr:
            return tirx.Cast("int32", self.test(i))

        def step(i: Expr, v: Expr) -> Stmt:
            return store(total, load(total, v) + selected(start + i * lanes + v), v)

        return tir.seq(
            made,
            tir.vectorized(lanes, lambda v: store(total, tir.i32(0), v)),
            tir.loop(many, lambda i: tir.vectorized(lanes, lambda v: step(i, v)), "i"),
            [cursor.add(load(total, k)) for k in range(lanes)],
            tir.loop(end - rest, lambda i: cursor.add(selected(rest + i)), "i"),
        )


def nonzero(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    shape, kind = t.node.args[0].shape, t.node.args[0].type.dtype
    size, lanes = prod(shape), t.problem.target.cpu.lanes(32)
    (x, x_made), (found, found_made) = tir.flat(t.args[0]), tir.flat(t.results[0])

    def move(row: Expr, cursor: Expr, count: Expr) -> Stmt:
        def write(k: Expr) -> Stmt:
            digits = tir.split(load(t.scratch[0], k), *shape)
            return tir.seq(
                store(found, tirx.Cast("int64", digit), axis * size + cursor + k) for axis, digit in enumerate(digits)
            )

        return tir.ranged(0, count, lanes, write)

    def fill(row: Expr, start: Expr, end: Expr) -> Stmt:
        zero = tir.lit(0, "int64")
        return tir.seq(
            tir.ranged(start, end, lanes, lambda i, axis=axis: store(found, zero, axis * size + i))  # type: ignore[misc]
            for axis in range(len(shape))
        )

    def note(count: Expr) -> Stmt:
        return t.write(1, tirx.Cast("int64", count))

    def test(i: Expr) -> Expr:
        return truth(number(fetched(load(x, i), kind), kind))

    tasks, task = Selection(size, 1, 1, t.scratch[0], test, move, fill, note).tasks(t.problem.threads, lanes)
    return tasks, lambda k: tir.seq(x_made, found_made, task(k))


def compress(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    x, condition = t.node.args
    axis, lanes = int_attr(t.node, "axis") % len(x.shape), t.problem.target.cpu.lanes(32)
    size, outer, inner = condition.shape[0], prod(x.shape[:axis]), prod(x.shape[axis + 1 :])
    (source, source_made), (target, target_made) = tir.flat(t.args[0]), tir.flat(t.results[0])

    def move(row: Expr, cursor: Expr, count: Expr) -> Stmt:
        def entry(k: Expr) -> Stmt:
            read = (row * x.shape[axis] + load(t.scratch[0], k)) * inner
            write = (row * size + cursor + k) * inner
            return tir.ranged(0, inner, lanes, lambda q: store(target, load(source, read + q), write + q))

        return tir.loop(count, entry, "k")

    def fill(row: Expr, start: Expr, end: Expr) -> Stmt:
        first, last = (row * size + start) * inner, (row * size + end) * inner
        return tir.ranged(first, last, lanes, lambda i: store(target, tir.lit(0, target.dtype), i))

    def note(count: Expr) -> Stmt:
        return t.write(1, tirx.Cast("int64", count))

    def test(i: Expr) -> Expr:
        return t.read(1, i)

    tasks, task = Selection(size, outer, inner, t.scratch[0], test, move, fill, note).tasks(t.problem.threads, lanes)
    return tasks, lambda k: tir.seq(source_made, target_made, task(k))
