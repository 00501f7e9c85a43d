"""softmax_lines__cuda: Softmax and LogSoftmax along the last axis, a row in the registers of one or more warps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.op import int_attr
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ...generic.choice import one_anchor
from .shape import FLOATS, chosen, lines_of, offer

if TYPE_CHECKING:
    from ....tir import Expr
    from .row import Row as Line

NAME = "softmax_lines__cuda"


def match(problem: Problem) -> Literal[True] | str:
    if problem.dtype not in FLOATS:
        return "computes f32 and f16"
    if lines_of(problem, _axes(problem)) is None:
        return "folds the last axis"
    return one_anchor(problem, same_shape=True)


def _axes(problem: Problem) -> tuple[int, ...]:
    return (int_attr(problem.anchor, "axis") % len(problem.anchor.types[0].shape),)


def choices(problem: Problem) -> Sequence[Choice]:
    lines = lines_of(problem, _axes(problem))
    assert lines is not None
    return offer(NAME, problem, lines, 2)


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .emit import folded_lines

    lines, keep = chosen(problem, choice, _axes(problem)), 1 if problem.anchor.op == "Softmax" else -1
    return folded_lines(problem, symbol, lines, 1, lambda line: _stages(line, lines.held), again=True, keep=keep)


def _stages(line: Line, held: bool) -> Any:
    """All in f32, also of f16: one rounding. A NaN may be lost from the maximum; the sum finds it again."""
    from .... import floats, mathlib
    from .... import scalar as s
    from ....conversions import widen
    from ....tir import lit
    from ...reduce_stages import add, extreme, simple

    anchor = line.problem.anchor

    def value() -> Expr:
        return widen(line.body.at(anchor.args[0], line.index()))

    def power(top: Expr) -> Expr:
        return mathlib.exp_below(value() - top)

    top = simple("float32", extreme("float32", True), lambda old, x: floats.at_least(x, old), lambda prior: value())
    total = simple("float32", lit(0, "float32"), add, lambda prior: power(prior[0]))
    if anchor.op == "LogSoftmax":
        total.result = lambda parts: s.log(parts[0])
        return [top, total], lambda prior: value() - prior[0] - prior[1]
    total.result = lambda parts: lit(1, "float32") / parts[0]
    if held:  # the exponentials have taken the place of the numbers
        return [top, total], lambda prior: value() * prior[1]
    return [top, total], lambda prior: power(prior[0]) * prior[1]


kernel(
    Row(
        NAME,
        frozenset({"Softmax", "LogSoftmax"}),
        match,
        choices,
        emit,
        "softmax along the last axis, rows in registers",
        isa=frozenset({"CUDA"}),
    )
)
