"""The rows of int8 matrix products with a packed right operand on AArch64, one for each way of multiplying bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..conv.shape import rows_as_pixels
from .bytes import BLOCK, METHODS, Method, config, fits, plans, shortest, weight_layout

KEPT = 3


def match(method: Method, problem: Problem) -> Literal[True] | str:
    a, b = problem.anchor.args[:2]
    if (fit := fits(problem, a, b)) is not True:
        return fit
    if len(b.shape) != 2:
        return "the right operand is a stack of matrices"
    if problem.anchor.attrs.get("b_zero", 0) != 0:
        return "the right operand has a zero point"
    return True if b.shape[0] >= BLOCK else f"sums of fewer than {BLOCK} products"


def choices(method: Method, problem: Problem) -> Sequence[Choice]:
    w, right = rows_as_pixels(problem), problem.anchor.args[1]
    found = []
    every = sorted(plans(problem, method, w), key=lambda p: p.cost_us)
    for plan in shortest(w, every, problem.target) if problem.target.small else every[:KEPT]:
        packed = weight_layout(problem, method, w, plan)
        layouts = tuple(packed if v == right else "" for v in problem.body.inputs)
        found.append(Choice(f"matmul_int8_{method.name}", layouts, ("",), config(plan, problem), plan.cost_us))
    return found


def emit(method: Method, problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .matmul_emit import Rows

    return Rows(method, problem, choice, rows_as_pixels(problem)).emit(symbol)


for _method in METHODS.values():
    kernel(
        Row(
            f"matmul_int8_{_method.name}",
            frozenset({"Edgec.MatMulInteger"}),
            partial(match, _method),
            partial(choices, _method),
            partial(emit, _method),
            f"product of signed bytes with a packed right operand on AArch64 by {_method.name}",
            _method.isa,
        )
    )
