"""The row of sums and maxima of bytes over windows on Helium: four channels of a pixel at a time, sixteen for maxima
alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ...common import ceil_div, epilogue_fits, input_index
from ...conv.shape import Window, window
from .shape import BYTES, ENDS, QUAD, beside, channels_last

NAME = "pool_int8_mve"


def match(problem: Problem) -> Literal[True] | str:
    x = problem.anchor.args[0]
    if x.type.dtype not in ("i8", "u8") or input_index(problem.body, x) < 0:
        return "reads bytes as they lie"
    shape = window(problem.anchor)
    if isinstance(shape, str):
        return shape
    if len(problem.anchor.types) != 1 or any(0 in t.shape for t in (x.type, problem.anchor.types[0])):
        return "makes one result that has elements"
    return epilogue_fits(problem)


def geometry(problem: Problem) -> Window:
    w = window(problem.anchor)
    assert isinstance(w, Window)
    return w


def whole_vectors(problem: Problem) -> bool:
    """Whether sixteen channels at a time are compared: where nothing follows."""
    x, out = problem.anchor.args[0], problem.body.outputs[0]
    few = x.shape[1] <= BYTES - QUAD
    return problem.anchor.op == "MaxPool" and out.node is problem.anchor and not few


def choices(problem: Problem) -> Sequence[Choice]:
    w, x = geometry(problem), problem.anchor.args[0]
    fixed = channels_last(len(x.shape), True)
    layouts = tuple(fixed if v == x else beside(problem, v) for v in problem.body.inputs)
    out = beside(problem, problem.body.outputs[0])
    each, many = 6.0 * w.taps + 10.0 * w.height.kernel + ENDS + 20.0, QUAD
    if whole_vectors(problem):
        each, many = 4.0 * w.taps + 10.0 * w.height.kernel + 10.0, BYTES
    us = w.batch * w.pixels * ceil_div(w.channels_out, many) * each / (problem.target.cpu.ghz * 1e3) + 0.2
    return [Choice(NAME, layouts, (out,), (), us)]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .pool_emit import Pool

    return Pool(problem, choice, geometry(problem)).emit(symbol)


kernel(
    Row(
        NAME,
        frozenset({"MaxPool", "Edgec.SumPool"}),
        match,
        choices,
        emit,
        "sums and maxima of bytes over windows on Helium, four channels at a time",
        frozenset({"MVE"}),
    )
)
