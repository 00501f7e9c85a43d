"""norm_lines__cuda: layer, instance and Lp normalization over the last axes, a row in the registers of one or more
warps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ...generic.choice import one_anchor
from ...norm import OPERATORS, axes_of, stages_of
from .shape import FLOATS, chosen, lines_of, offer

NAME = "norm_lines__cuda"


def match(problem: Problem) -> Literal[True] | str:
    if problem.dtype not in FLOATS:
        return "computes f32 and f16"
    if lines_of(problem, axes_of(problem.anchor)) is None:
        return "folds the last axes"
    return one_anchor(problem, same_shape=True)


def choices(problem: Problem) -> Sequence[Choice]:
    lines = lines_of(problem, axes_of(problem.anchor))
    assert lines is not None
    return offer(NAME, problem, lines, 1 if problem.anchor.op == "LpNormalization" else 2)


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .emit import folded_lines

    axes = axes_of(problem.anchor)
    lines, stages = chosen(problem, choice, axes), stages_of(problem.anchor)
    return folded_lines(problem, symbol, lines, len(axes), lambda line: stages(problem.anchor, line), again=True)


kernel(
    Row(
        NAME,
        OPERATORS,
        match,
        choices,
        emit,
        "normalization over the last axes, rows in registers",
        isa=frozenset({"CUDA"}),
    )
)
