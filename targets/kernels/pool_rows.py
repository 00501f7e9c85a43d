"""The row of f32 pooling over blocked channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu

from .common import (
    blocked_layout,
    ceil_div,
    epilogue_fits,
    layouts_in,
    operations,
    vectors_fit,
)
from .conv.depthwise_rows import banded, cost, staged_bytes
from .conv.shape import Axis, Window, segments, unrolled, window

NAME = "pool_f32_blocked"
WORTH = 0.9  # of the joins, at most, that are left where columns are joined first
SPARE = 2  # registers beside those of columns
Windows = list[tuple[int, ...]]


def match(problem: Problem) -> Literal[True] | str:
    node = problem.anchor
    if (fit := vectors_fit(problem, node.args[0])) is not True:
        return fit
    shape = window(node)
    if isinstance(shape, str):
        return shape
    if shape.width.kernel > 15:
        return "the window is wider than 15"
    return epilogue_fits(problem)


def geometry(problem: Problem) -> Window:
    shape = window(problem.anchor)
    assert isinstance(shape, Window)
    return shape


def seen(axis: Axis, count: int, first: int | None) -> Windows:
    """The columns that each of `count` windows reads, from where the first begins; `first`: its position at an edge."""

    def inside(k: int, tap: int) -> bool:
        return first is None or axis.inside(first + k, tap)

    taps = range(axis.kernel)
    return [tuple(k * axis.stride + t * axis.dilation for t in taps if inside(k, t)) for k in range(count)]


def by_columns(w: Window, windows: Windows, cpu: Cpu) -> bool:
    """Whether to find the greatest of each column before that of windows."""
    columns, direct, after = _joins(w, windows)
    return columns + SPARE <= cpu.vector_registers and after < WORTH * direct


def _joins(w: Window, windows: Windows) -> tuple[int, int, int]:
    """Columns; joins without and with columns first. Neighbours share halves of windows: about one join for each
    power of two that fits."""
    columns = len({j for window in windows for j in window})
    direct = w.height.kernel * sum(map(len, windows))
    along = sum(max(0, (len(window) - 1).bit_length()) for window in windows if window)
    return columns, direct, w.height.kernel * columns + along


def work_left(w: Window, columns: int, cpu: Cpu) -> float:
    """The share of a window's joins that are made."""
    made = every = 0
    for s in segments(w.width, columns):
        windows = seen(w.width, s.length, s.start if s.edge else None)
        _, direct, after = _joins(w, windows)
        made += s.count * (after if by_columns(w, windows, cpu) else direct)
        every += s.count * direct
    return made / every if every else 1.0


def choices(problem: Problem) -> Sequence[Choice]:
    w, cpu = geometry(problem), problem.target.cpu
    greatest = problem.anchor.op == "MaxPool"
    blocked = blocked_layout(len(problem.anchor.types[0].shape), cpu.lanes(32))
    after = operations(problem)
    most = cpu.vector_registers // 2 - 1
    layouts = layouts_in(problem, {problem.anchor.args[0]: blocked}, blocked)
    found = []
    for parts in (0, 1):
        columns = ceil_div(w.width.out, ceil_div(w.width.out, most) + parts)
        us = cost(w, cpu, (1, columns), after, unrolled(w, problem.target))
        us *= work_left(w, columns, cpu) if greatest else 1.0
        cut, us = banded(w, cpu.lanes(32), 1, us, problem)
        config = (("mt", columns), ("rt", 1), ("hb", cut))
        found.append(Choice(NAME, layouts, (blocked,), config, us, staged_bytes(problem, w, 1)))
    return found


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .pool_emit import Average, Maximum

    kind = Maximum if problem.anchor.op == "MaxPool" else Average
    return kind(problem, choice, geometry(problem), problem.anchor.args[0]).emit(symbol)


kernel(
    Row(
        NAME,
        frozenset({"MaxPool", "AveragePool"}),
        match,
        choices,
        emit,
        "pooling: a vector of channels over a register tile of pixels",
    )
)
