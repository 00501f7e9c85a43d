"""Tasks of a kernel that prepares something and then does many units: all of them, or where tasks are few, a share.

What a task prepares for its units, every share of them prepares for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING

from .common import ceil_div

if TYPE_CHECKING:
    from ..tir import Expr, Stmt

Run = Callable[[Sequence["Expr"], Callable[[Callable[["Expr"], "Stmt"]], "Stmt"]], "Stmt"]
PER_THREAD = 4  # tasks, at least


def shared_tasks(outer: Sequence[int], units: int, threads: int, run: Run) -> tuple[int, Callable[[Expr], Stmt]]:
    """(number of tasks, statements of one). `run(positions, each)` makes them: `each(fn)` is `fn` of every unit."""
    from .. import tir
    from .common_emit import chunked

    wanted = 1 if threads == 1 else ceil_div(PER_THREAD * threads, max(prod(outer), 1))
    size = ceil_div(units, max(1, min(units, wanted)))
    shares = ceil_div(units, size)

    def task(number: Expr) -> Stmt:
        *positions, share = tir.split(number, *outer, shares)

        def each(unit: Callable[[Expr], Stmt]) -> Stmt:
            if shares == 1:
                return tir.loop(units, unit, "unit")
            return chunked(units, size, share, unit)

        return run(positions, each)

    return prod(outer) * shares, task
