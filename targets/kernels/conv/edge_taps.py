"""The taps of a tile at an image's edge, whose pixels do not all read the input at each: written out, or in loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from .shape import WRITTEN, Axis

WRITTEN_BOTH = 49  # taps of both axes that are at most written out at a corner

Inside = Sequence[bool | None]  # for each position whether it reads the input; None: it takes no part in this step
Step = Callable[["Expr | int", Inside], "Stmt | None"]


def at_edge(axis: Axis, positions: Sequence[Expr | int], step: Step, zero: Expr, other: int = 1) -> Stmt:
    """`step(tap, inside)` for the taps of a tile whose `positions` are constants.

    `zero`: the frame's; `other`: taps of the other axis, if those are written out too. A window of hundreds of taps,
    written out for each tile at an edge, is a block of tens of thousands of loads, with which LLVM's CodeGenPrepare
    does not end in minutes. So where there are many, a loop has those at which all positions are inside, and each
    position has loops for the rest.
    """
    inside = [[axis.inside(int(p), tap) for tap in range(axis.kernel)] for p in positions]
    if axis.kernel <= WRITTEN and axis.kernel * other <= WRITTEN_BOTH:
        return tir.seq(step(tap, [states[tap] for states in inside]) for tap in range(axis.kernel))
    full = range(max(_first(states) for states in inside), min(_end(states) for states in inside))
    parts = [_loop(full, zero, step, [True] * len(positions))] if full else []
    sides = [range(full.start), range(full.stop, axis.kernel)] if full else [range(axis.kernel)]
    for p, states in enumerate(inside):
        for side in sides:
            for state, run in groupby(side, states.__getitem__):
                parts.append(_loop(list(run), zero, step, [state if k == p else None for k in range(len(positions))]))
    return tir.seq(parts)


def both(row: bool | None, column: bool | None) -> bool | None:
    """The state of a pixel."""
    return None if row is None or column is None else row and column


def _first(states: Sequence[bool]) -> int:
    """The first tap inside: those inside follow each other."""
    return states.index(True) if True in states else len(states)


def _end(states: Sequence[bool]) -> int:
    return _first(states) + sum(states)


def _loop(taps: Sequence[int], zero: Expr, step: Step, inside: Inside) -> Stmt:
    """Consecutive taps."""
    return tir.loop(len(taps) + zero, lambda tap: tir.seq(step(tap, inside)), "tap", start=taps[0])
