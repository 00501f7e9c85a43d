"""Non-maximum suppression, a task for each class of each batch, and the list of what was kept.

A heap gives the boxes by score, so that only those are put in order that are looked at. Each is held against all that
were kept, a vector of them at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.op import int_attr

from ... import tir
from ...floats import is_nan
from ...tir import Cell, Expr, Stmt, lit, load, store
from ..plain import Tensors
from .suppression_rows import SIDES


class Heap:
    """The scores and numbers of boxes, greatest score first, equal ones by number. `size` says how many there are."""

    def __init__(self, scores: Any, boxes: Any, kind: str) -> None:

        self.scores, self.boxes = scores, boxes
        self.size = tir.Cell("int32", "size")
        self.hole, self.child = tir.Cell("int32", "hole"), tir.Cell("int32", "child")
        self.score, self.box = tir.Cell(kind, "score"), tir.Cell("int32", "box")
        cells = (self.size, self.hole, self.child, self.score, self.box)
        self.made = tir.seq(cell.made for cell in cells)

    def append(self, score: Expr, box: Expr) -> Stmt:

        put = store(self.scores, score, self.size.now), store(self.boxes, box, self.size.now)
        return tir.seq(*put, self.size.add(1))

    def order(self) -> Stmt:
        """Make a heap of what was appended."""

        half = self.size.now // 2
        return tir.loop(half, lambda i: self._sink(half - 1 - i, half - 1 - i), "h")

    def take(self, best: Cell) -> Stmt:
        """Remove the first one; `best` is set to its number."""

        return tir.seq(best.set(load(self.boxes, 0)), self.size.add(-1), self._sink(tir.i32(0), self.size.now))

    def _sink(self, hole: Expr, item: Expr) -> Stmt:
        """Put the entry at `item` into the place `hole` or below it."""
        size, child = self.size.now, self.child.now
        other = tirx.min(child + 1, size - 1)
        up = [store(part, load(part, child), self.hole.now) for part in (self.scores, self.boxes)]
        turn = tir.seq(
            tir.when(self._before(other, load(self.scores, child), load(self.boxes, child)), self.child.set(other)),
            tir.when(
                self._before(child, self.score.now, self.box.now),
                tir.seq(up, self.hole.set(child), self.child.set(2 * child + 1)),
                self.child.set(size),
            ),
        )
        return tir.seq(
            self.score.set(load(self.scores, item)),
            self.box.set(load(self.boxes, item)),
            self.hole.set(hole),
            self.child.set(2 * self.hole.now + 1),
            tir.repeat(child < size, turn),
            store(self.scores, self.score.now, self.hole.now),
            store(self.boxes, self.box.now, self.hole.now),
        )

    def _before(self, at: Expr, score: Expr, box: Expr) -> Expr:
        ours = load(self.scores, at)
        return tirx.Or(ours > score, tirx.And(ours.equal(score), load(self.boxes, at) < box))


def suppress(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    kind, lanes = dtype(t.node.args[0].type.dtype).tvm, t.problem.target.cpu.lanes(32)
    batches, classes, _ = t.node.args[1].shape
    most_kept = int_attr(t.node, "size")

    def task(k: Expr) -> Stmt:
        batch, label = tir.split(k, batches, classes)
        heap, kept = Heap(t.scratch[0], t.scratch[1], kind), Kept(t, batch, kind, lanes)
        best = tir.Cell("int32", "best")
        limit = most_of(t)
        turn = tir.seq(
            heap.take(best),
            kept.look(best.now),
            tir.when(
                kept.hit.now.equal(tir.i32(0)),
                tir.seq(t.write(0, best.now, batch, label, kept.count.now), kept.keep()),
            ),
        )
        return tir.seq(
            heap.made,
            kept.made,
            best.made,
            heap.size.set(0),
            kept.count.set(0),
            _candidates(t, heap, batch, label, lanes),
            heap.order(),
            tir.repeat(tirx.And(heap.size.now > 0, kept.count.now < limit), turn),
            tir.ranged(kept.count.now, most_kept, lanes, lambda i: t.write(0, tir.i32(0), batch, label, i)),
            t.write(1, kept.count.now, batch, label),
        )

    return batches * classes, task


def _candidates(t: Tensors, heap: Heap, batch: Expr, label: Expr, lanes: int) -> Stmt:
    """Append every box whose score is allowed; whole vectors without any are passed over."""
    boxes, flags = t.node.args[1].shape[2], t.scratch[-1]

    def may(i: Expr) -> Expr:
        return allowed(t, t.read(1, batch, label, i))

    def one(i: Expr) -> Stmt:
        return tir.when(may(i), heap.append(t.read(1, batch, label, i), i))

    def block(b: Expr) -> Stmt:
        look = tir.vectorized(lanes, lambda v: store(flags, tirx.Cast("int32", may(b * lanes + v)), v))
        return tir.seq(look, tir.when(tir.any_of(flags, lanes), tir.loop(lanes, lambda i: one(b * lanes + i), "i")))

    many = boxes // lanes
    return tir.seq(
        tir.loop(many, block, "b") if many else None,
        tir.loop(boxes - many * lanes, lambda i: one(many * lanes + i), "i") if boxes % lanes else None,
    )


class Kept:
    """What was kept: `look` sets `hit` where a box is suppressed by it, `keep` adds the box that was looked at."""

    def __init__(self, t: Tensors, batch: Expr, kind: str, lanes: int) -> None:

        self.t, self.batch, self.kind, self.lanes = t, batch, kind, lanes
        self.count, self.hit, self.block = (tir.Cell("int32", name) for name in ("count", "hit", "block"))
        self.sides = [tir.Cell(kind, name) for name in ("left", "top", "right", "bottom", "area")]
        self.made = tir.seq(cell.made for cell in (self.count, self.hit, self.block, *self.sides))

    def look(self, box: Expr) -> Stmt:

        blocks = (self.count.now + self.lanes - 1) // self.lanes
        flags = self.t.scratch[-1]
        compare = tir.vectorized(
            self.lanes,
            lambda v: store(flags, tirx.Cast("int32", self._over(self.block.now * self.lanes + v)), v),
        )
        hit = tir.when(tir.any_of(flags, self.lanes), self.hit.set(1))
        return tir.seq(
            [cell.set(side) for cell, side in zip(self.sides, self._sides(box), strict=True)],
            self.hit.set(0),
            self.block.set(0),
            tir.repeat(
                tirx.And(self.block.now < blocks, self.hit.now.equal(tir.i32(0))),
                tir.seq(compare, hit, self.block.add(1)),
            ),
        )

    def keep(self) -> Stmt:
        """In a vector that is begun, all areas are zero at first: nothing is there yet."""

        count, zero = self.count.now, lit(0, self.kind)
        parts = self.t.scratch[2 : 2 + SIDES]
        fresh = tir.vectorized(self.lanes, lambda v: store(parts[-1], zero, count + v))
        return tir.seq(
            tir.when((count % self.lanes).equal(tir.i32(0)), fresh),
            [store(part, cell.now, count) for part, cell in zip(parts, self.sides, strict=True)],
            self.count.add(1),
        )

    def _sides(self, box: Expr) -> list[Expr]:
        return sides_of(self.t, self.batch, box)

    def _over(self, k: Expr) -> Expr:
        """Whether the box overlaps kept one `k` too much."""
        theirs = [load(part, k) for part in self.t.scratch[2 : 2 + SIDES]]
        return overlap(self.t, [cell.now for cell in self.sides], theirs)


def sides_of(t: Tensors, batch: Expr, box: Expr) -> list[Expr]:
    """Left, top, right, bottom and area. The area is not a number where a coordinate is not; such a box neither
    suppresses nor is suppressed."""
    kind = dtype(t.node.args[0].type.dtype).tvm
    a, b, c, d = (t.read(0, batch, box, k) for k in range(4))
    if int_attr(t.node, "center"):
        half = [x * lit(0.5, kind) for x in (c, d)]
        left, top, right, bottom = a - half[0], b - half[1], a + half[0], b + half[1]
        return [left, top, right, bottom, (right - left) * (bottom - top)]
    width, height = (tirx.Select(x < lit(0, kind), lit(0, kind) - x, x) for x in (c - a, d - b))
    return [tirx.min(a, c), tirx.min(b, d), tirx.max(a, c), tirx.max(b, d), width * height]


def overlap(t: Tensors, ours: Sequence[Expr], theirs: Sequence[Expr]) -> Expr:
    """Whether two boxes, as `sides_of` has them, overlap too much.

    The product is behind a selection: fused with the subtraction it would be rounded otherwise.
    """
    left, top, right, bottom, area = theirs
    zero = lit(0, dtype(t.node.args[0].type.dtype).tvm)
    width = tirx.min(ours[2], right) - tirx.max(ours[0], left)
    height = tirx.min(ours[3], bottom) - tirx.max(ours[1], top)
    meet = tirx.And(width > zero, height > zero)
    common = tirx.Select(meet, width * height, zero)
    union = ours[4] + area - common
    valid = tirx.And(tirx.And(common > zero, union > zero), tirx.And(ours[4] > zero, area > zero))
    return tirx.And(valid, common / union > load(t.args[3], 0))


def allowed(t: Tensors, score: Expr) -> Expr:
    """Whether a box with this score may be kept."""
    return score > load(t.args[4], 0) if len(t.args) > 4 else tirx.Not(is_nan(score))


def most_of(t: Tensors) -> Expr:
    """How many boxes are kept of a class at most."""
    return tirx.Cast("int32", tirx.min(load(t.args[2], *(0,) * len(t.args[2].shape)), int_attr(t.node, "size")))


def listed(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    shape, lanes = t.node.args[0].shape, t.problem.target.cpu.lanes(32)
    table, made = tir.flat(t.results[0])
    rank = len(shape)

    def task(_: Expr) -> Stmt:
        cursor = tir.Cell("int32", "cursor")

        def row(r: Expr) -> Stmt:
            at = tir.split(r, *shape[:-1]) if rank > 1 else ()

            def entry(k: Expr) -> Stmt:
                numbers = [*at, t.read(0, *at, k)]
                put = [store(table, tirx.Cast("int64", x), cursor.now * rank + i) for i, x in enumerate(numbers)]
                return tir.seq(put, cursor.add(1))

            return tir.loop(tirx.max(tirx.min(t.read(1, *at), shape[-1]), 0), entry, "k")

        zero = lit(0, "int64")
        return tir.seq(
            made,
            cursor.made,
            cursor.set(0),
            tir.loop(prod(shape[:-1]), row, "r"),
            tir.ranged(cursor.now * rank, prod(shape) * rank, lanes, lambda i: store(table, zero, i)),
            t.write(1, tirx.Cast("int64", cursor.now)),
        )

    return 1, task
