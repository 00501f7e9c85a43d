"""The row of f32 pooling over blocked channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from .common import (
    blocked_layout,
    ceil_div,
    epilogue_fits,
    layouts_in,
    operations,
    vectors_fit,
)
from .conv_shape import Window, unrolled, window
from .depthwise_rows import banded, cost, staged_bytes

NAME = "pool_f32_blocked"


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


def choices(problem: Problem) -> Sequence[Choice]:
    w, cpu = geometry(problem), problem.target.cpu
    blocked = blocked_layout(len(problem.anchor.types[0].shape), cpu.lanes(32))
    after = operations(problem)
    most = cpu.vector_registers // 2 - 1
    layouts = layouts_in(problem, {problem.anchor.args[0]: blocked}, blocked)
    found = []
    for parts in (0, 1):
        columns = ceil_div(w.width.out, ceil_div(w.width.out, most) + parts)
        us = cost(w, cpu, (1, columns), after, unrolled(w, problem.target))
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
