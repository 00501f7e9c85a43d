"""TensorIR of non-maximum suppression in one block: the best of all threads by a tree in shared memory."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.op import int_attr

from .... import tir
from ....cuda.block import barrier, shared
from ....tir import Expr, Stmt, load, store
from ...common import ceil_div
from ...plain import Tensors
from ...plain_lines import Line
from ...selection.sort_keys import Keys
from ...selection.suppress_emit import allowed, most_of, overlap, sides_of


class Suppression:
    def __init__(self, t: Tensors, threads: int, block: Expr, thread: Expr) -> None:
        self.t, self.threads, self.thread = t, threads, thread
        batches, classes, self.boxes = t.node.args[1].shape
        self.size = int_attr(t.node, "size")
        self.turns = ceil_div(self.boxes, threads)
        self.batch, self.label = tir.split(block, batches, classes)
        scores, flat = tir.flat(t.args[1])
        kind = t.node.args[1].type.dtype
        self.keys = Keys(Line(scores, kind), 8 * dtype(kind).bytes, largest=True)
        self.best, best = shared((threads,), "int64", "best")  # an entry is a score with the box's number
        self.left, left = tir.local((self.turns,), "int8", "left")  # whether a box of the thread is
        self.mine, self.count, self.kept = (
            tir.Cell("int64", "mine"),
            tir.Cell("int32", "count"),
            tir.Cell("int32", "kept"),
        )
        self.head = [flat, best, left, self.mine.made, self.count.made, self.kept.made]
        self.nobody = self.keys.worst()[0]

    def code(self) -> Stmt:
        again = tirx.And(load(self.best, 0) > self.nobody, self.count.now < most_of(self.t))
        first = self.thread.equal(tir.i32(0))
        turn = tir.seq(
            self.kept.set(self.keys.index((load(self.best, 0),))),
            tir.when(first, self.t.write(0, self.kept.now, self.batch, self.label, self.count.now)),
            self.count.add(1),
            barrier(),
            self._each(self._strike),
            self._agree(),
        )
        fill = tir.loop(
            ceil_div(self.size, self.threads),
            lambda r: self._empty(r * self.threads + self.thread),
            "r",
        )
        number = tir.when(first, self.t.write(1, self.count.now, self.batch, self.label))
        begin = [self.count.set(0), self._each(self._begin), self._agree()]
        return tir.seq(self.head, begin, tir.repeat(again, turn), fill, number)

    def _each(self, make: Callable[[Expr, Expr], Stmt]) -> Stmt:
        """`make(turn, box)` for the thread's boxes, which look for the best of them."""

        def one(r: Expr) -> Stmt:
            box, named = tir.let(r * self.threads + self.thread, "box")
            made = make(r, box)
            return tir.seq(named, made if self.boxes % self.threads == 0 else tir.when(box < self.boxes, made))

        return tir.seq(self.mine.set(self.nobody), tir.loop(self.turns, one, "turn"))

    def _begin(self, turn: Expr, box: Expr) -> Stmt:
        may, named = tir.let(allowed(self.t, self.t.read(1, self.batch, self.label, box)), "may")
        return tir.seq(named, store(self.left, tirx.Cast("int8", may), turn), tir.when(may, self._offer(box)))

    def _offer(self, box: Expr) -> Stmt:
        base = (self.batch * self.t.node.args[1].shape[1] + self.label) * self.boxes
        (entry,) = self.keys.entry(base, box)
        return self.mine.set(tirx.max(self.mine.now, entry))

    def _strike(self, turn: Expr, box: Expr) -> Stmt:
        """A box that is left goes if it is the one that was kept, or overlaps it."""
        ours, theirs = (sides_of(self.t, self.batch, x) for x in (box, self.kept.now))
        gone = tirx.Or(box.equal(self.kept.now), overlap(self.t, ours, theirs))
        other = tir.when(gone, store(self.left, tir.lit(0, "int8"), turn), self._offer(box))
        return tir.when(load(self.left, turn) > tir.lit(0, "int8"), other)

    def _agree(self) -> Stmt:
        """The best of all threads is the first of the array."""
        parts = [store(self.best, self.mine.now, self.thread), barrier()]
        half = self.threads // 2
        while half:
            better = tirx.max(load(self.best, self.thread), load(self.best, self.thread + half))
            parts += [tir.when(self.thread < half, store(self.best, better, self.thread)), barrier()]
            half //= 2
        return tir.seq(parts)

    def _empty(self, i: Expr) -> Stmt:
        there = tirx.And(i >= self.count.now, i < self.size)
        return tir.when(there, self.t.write(0, tir.i32(0), self.batch, self.label, i))
