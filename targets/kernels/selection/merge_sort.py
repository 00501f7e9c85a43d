"""A stable merge sort of the numbers 0 .. n-1 by what they stand for, in scratch, without a branch on the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx

from ... import tir
from ...tir import Expr, Stmt, load, store
from .rows import levels


def sorted_at(n: int) -> int:
    """Where the sorted half of each buffer begins: merges go from one half to the other."""
    return n if levels(n) % 2 else 0


def merge_sort(n: int, buffers: Sequence[Any], less: Callable[[Expr, Expr], tuple[Stmt, Expr]]) -> Stmt:
    """Sort the first n entries of each of the `buffers`, of 2 n each, which move together.

    `less(i, j)`: (statements, whether entry `i` comes before entry `j`), for positions in the buffers.
    """
    left, right = tir.Cell("int32", "left"), tir.Cell("int32", "right")

    def merged(level: Expr, pair: Expr) -> Stmt:
        """Two runs of 2^level entries become one in the other half."""
        width, source = tir.i32(1) << level, (level % 2) * n
        start = pair * 2 * width
        middle, end = tirx.min(start + width, n), tirx.min(start + 2 * width, n)

        def step(k: Expr) -> Stmt:
            i, j = source + tirx.min(left.now, middle - 1), source + tirx.min(right.now, end - 1)
            before, smaller = less(j, i)
            from_right = tirx.And(right.now < end, tirx.Or(left.now >= middle, smaller))
            pick = tirx.Select(from_right, j, i)
            went = tirx.Cast("int32", from_right)
            moved = [store(b, load(b, taken.now), (n - source) + start + k) for b in buffers]
            return tir.seq(before, flag.set(went), taken.set(pick), moved, right.add(flag.now), left.add(1 - flag.now))

        return tir.seq(left.set(start), right.set(middle), tir.loop(end - start, step, "k"))

    flag, taken = tir.Cell("int32", "flag"), tir.Cell("int32", "taken")
    cells = [cell.made for cell in (left, right, flag, taken)]

    def level(which: Expr) -> Stmt:
        pairs = (n + (tir.i32(2) << which) - 1) >> (which + 1)
        return tir.loop(pairs, lambda pair: merged(which, pair), "pair")

    return tir.seq(cells, tir.loop(levels(n), level, "level") if levels(n) else None)
