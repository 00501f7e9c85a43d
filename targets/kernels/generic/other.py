"""generic_other: CumSum and CumProd, running totals along one axis; vectors lie along the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from .choice import choices, fold_us, one_anchor


def match(problem: Problem) -> Literal[True] | str:
    if problem.body.outputs[0].type.layout:
        return "writes row-major only"
    return one_anchor(problem, same_shape=True)


def offers(problem: Problem) -> Sequence[Choice]:
    return choices("generic_other", problem, fold_us(problem, 8 * problem.anchor.types[0].size), blocked=False)


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .kernel import kernel_function
    from .other_emit import Totals

    return kernel_function(problem, symbol, lambda io: Totals(problem, io).region())


kernel(Row("generic_other", frozenset({"CumSum", "CumProd"}), match, offers, emit, "running totals"))
