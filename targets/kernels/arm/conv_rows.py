"""The rows of dense int8 convolutions on AArch64, one for each way of multiplying bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..common import byte_layout, layouts_in
from ..conv.rows import flattens
from ..conv.shape import Window, conv_window, geometry
from .bytes import FEW, METHODS, Method, config, fits, plans, result_layout, shortest, weight_layout

KEPT = 3


def match(method: Method, problem: Problem) -> Literal[True] | str:
    node = problem.anchor
    if (fit := fits(problem, *node.args[:2])) is not True:
        return fit
    shape = conv_window(node)
    if isinstance(shape, str):
        return shape
    if shape.group > 1:
        return "has groups"
    if shape.channels_in <= FEW and method.each > FEW:
        return f"needs more than {FEW} input channels"
    return True


def window_of(problem: Problem) -> Window:
    """The window, with all pixels in one row where every operand can be read so."""
    return geometry(problem).flat() if flattens(problem) else geometry(problem)


def choices(method: Method, problem: Problem) -> Sequence[Choice]:
    return choices_of(f"conv_int8_{method.name}", method, problem, window_of(problem))


def choices_of(row: str, method: Method, problem: Problem, w: Window) -> Sequence[Choice]:
    """Those of a row whose window is `w`."""
    x, weight, _ = problem.anchor.args
    out = result_layout(problem.body.outputs[0].type, problem.target.cpu.lanes(32))
    found = []
    every = sorted(plans(problem, method, w), key=lambda p: p.cost_us)
    for plan in shortest(w, every, problem.target) if problem.target.small else every[:KEPT]:
        pixels = "" if w.by_columns else byte_layout(x.shape)
        fixed = {x: pixels, weight: weight_layout(problem, method, w, plan)}
        layouts = layouts_in(problem, fixed, out)
        found.append(Choice(row, layouts, (out,), config(plan, problem), plan.cost_us))
    return found


def emit(method: Method, problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .conv_emit import Sums

    return Sums(method, problem, choice, window_of(problem)).emit(symbol)


for _method in METHODS.values():
    kernel(
        Row(
            f"conv_int8_{_method.name}",
            frozenset({"Edgec.ConvInteger"}),
            partial(match, _method),
            partial(choices, _method),
            partial(emit, _method),
            f"dense convolution of signed bytes on AArch64 by {_method.name}",
            _method.isa,
        )
    )
