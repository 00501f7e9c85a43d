"""TensorIR of the best elements of a row: bitonic sorting of entries in shared memory by all threads of a block.

An entry is a key with its place in the row (selection/sort_keys.py); none are alike, so ties need no care. Runs of
2, 4, 8 ... entries become sorted, in turn best first and best last, so that two neighbours together rise and fall once.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from .... import tir
from ....cuda.block import barrier, shared
from ....tir import Expr, Stmt
from ...common import ceil_div
from ...plain import Tensors
from ...selection.sort_emit import keys_of, write
from ...selection.sort_keys import Entries, Keys, with_named
from ...selection.sort_rows import size_of
from .top_k_block import Plan


def best_of_row(t: Tensors, plan: Plan, row: Expr, thread: Expr) -> Stmt:
    """What one block does."""
    _, n, k = size_of(t.node)
    keys = keys_of(t)
    kinds = ("int64", "int32")[: keys.parts]
    held = [shared((plan.room,), kind, f"part{i}") for i, kind in enumerate(kinds)]
    sorter = Sorter(keys, Entries(tuple(buffer for buffer, _ in held)), plan, thread)
    base, named = tir.let(row * n, "base")

    def load(first: Expr | int, to: int) -> Stmt:
        """A run of the row from `first` on; past its end what no element is worse than."""

        def one(i: Expr) -> Stmt:
            at = first + i
            known = sorter.entries.store(keys.entry(base, at), to + i)
            whole = plan.turns * plan.run == n
            return known if whole else tir.when(at < n, known, sorter.entries.store(keys.worst(), to + i))

        return sorter.each(plan.run, one)

    def turn(number: Expr) -> Stmt:
        return tir.seq(load(number * plan.run, plan.run), sorter.sort(plan.run), sorter.merge())

    def result(i: Expr) -> Stmt:
        return write(t, row, i, keys.index(sorter.entries.load(i)))

    if plan.turns == 1:
        work = tir.seq(load(0, 0), sorter.sort(0))
    else:
        worst = sorter.each(plan.run, lambda i: sorter.entries.store(keys.worst(), i))
        work = tir.seq(worst, tir.loop(plan.turns, turn, "turn"))
    return tir.seq([made for _, made in held], named, work, sorter.each(k, result))


class Sorter:
    """Stages of sorting; before each, and after the last, the threads meet."""

    def __init__(self, keys: Keys, entries: Entries, plan: Plan, thread: Expr) -> None:
        self.keys, self.entries, self.plan, self.thread = keys, entries, plan, thread

    def each(self, count: int, make: Callable[[Expr], Stmt]) -> Stmt:
        """`make(i)` for 0 .. count - 1, shared out to the threads."""
        threads = self.plan.threads

        def turn(r: Expr) -> Stmt:
            at, named = tir.let(r * threads + self.thread, "at")
            return tir.seq(named, make(at) if count % threads == 0 else tir.when(at < count, make(at)))

        return tir.loop(ceil_div(count, threads), turn, "r")

    def sort(self, first: int) -> Stmt:
        """The run at `first`: best first at 0, else best last."""

        def level(by: Expr) -> Stmt:
            size = tir.i32(2) << by

            def best_first(i: Expr) -> Expr:
                """In turn from run to run; of the last level i has no such bit, it is one run."""
                bit = i & size
                return tirx.EQ(bit, tir.i32(0)) if first == 0 else tirx.NE(bit, tir.i32(0))

            return tir.loop(by + 1, lambda s: self.stage(first, tir.i32(1) << (by - s), best_first), "step")

        return tir.seq(tir.loop(self.plan.levels, level, "level"), barrier())

    def merge(self) -> Stmt:
        """The best of both halves, of which the second is best last, into the first, best first."""

        def better(i: Expr) -> Stmt:
            mine, other = self.entries.load(i), self.entries.load(self.plan.run + i)
            return with_named(
                other, lambda b: with_named(mine, lambda a: tir.when(self.keys.better(b, a), self.entries.store(b, i)))
            )

        levels = self.plan.levels
        down = tir.loop(levels, lambda s: self.stage(0, tir.i32(1) << (levels - 1 - s), None), "step")
        return tir.seq(self.each(self.plan.run, better), down, barrier())

    def stage(self, first: int, apart: Expr, best_first: Callable[[Expr], Expr] | None) -> Stmt:
        """Entries so far apart change places where they stand in the wrong order."""

        def one(p: Expr) -> Stmt:
            i, named = tir.let(2 * p - (p & (apart - 1)), "i")
            low, high = first + i, first + i + apart

            def order(a: tuple[Expr, ...], b: tuple[Expr, ...]) -> Stmt:
                wrong = self.keys.better(b, a)
                if best_first is not None:
                    wrong = tirx.Select(best_first(i), wrong, self.keys.better(a, b))
                return tir.when(wrong, tir.seq(self.entries.store(b, low), self.entries.store(a, high)))

            a, b = self.entries.load(low), self.entries.load(high)
            return tir.seq(named, with_named(a, lambda x: with_named(b, lambda y: order(x, y))))

        return tir.seq(barrier(), self.each(self.plan.run // 2, one))
