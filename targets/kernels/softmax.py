"""softmax: Softmax and LogSoftmax along any axis: greatest element, sum of exponentials, result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from .generic_choice import choices, fold_us, one_anchor

if TYPE_CHECKING:
    from ..tir import Expr
    from .generic_anchor import Context


def match(problem: Problem) -> Literal[True] | str:
    return one_anchor(problem, same_shape=True)


def offers(problem: Problem) -> Sequence[Choice]:
    return choices("softmax", problem, fold_us(problem, 30 * problem.anchor.types[0].size))


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from math import inf

    from .. import mathlib
    from .. import scalar as s
    from ..conversions import widen
    from ..tir import lit
    from .generic_anchor import folded_kernel
    from .reduce_stages import add, computed_in, extreme, simple

    anchor = problem.anchor
    attrs: Any = full_attrs(anchor)
    kind = computed_in(anchor.types[0].dtype)

    def make(context: Context) -> Any:
        def value() -> Expr:
            return widen(context.body.at(anchor.args[0], context.index()))

        def power(x: Expr) -> Expr:
            """exp of what is not above zero."""
            return mathlib.exp_within(x, high=inf) if kind == "float32" else s.exp(x)

        # a NaN may be lost from the maximum: the sum of exponentials finds it again
        low, zero = extreme(kind, True), lit(0, kind)
        top = simple(kind, low, lambda old, x: mathlib.at_least(x, old), lambda prior: context.guard(value(), low))
        total = simple(kind, zero, add, lambda prior: context.guard(power(value() - prior[0]), zero))
        if anchor.op == "LogSoftmax":
            total.result = lambda parts: s.log(parts[0])
            return [top, total], lambda prior: value() - prior[0] - prior[1]
        total.result = lambda parts: lit(1, kind) / parts[0]
        return [top, total], lambda prior: power(value() - prior[0]) * prior[1]

    return folded_kernel(problem, symbol, [], make, axes=(attrs["axis"] % len(anchor.types[0].shape),))


kernel(Row("softmax", frozenset({"Softmax", "LogSoftmax"}), match, offers, emit, "softmax along any axis"))
