"""softmax: Softmax and LogSoftmax along any axis: greatest element, sum of exponentials, result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.dtypes import dtype
from edgec.compiler.op import int_attr
from edgec.compiler.ops.normalization import sum_fits
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from .generic.choice import choices, fold_us, one_anchor

if TYPE_CHECKING:
    from ..tir import Expr
    from .generic.anchor import Context


def match(problem: Problem) -> Literal[True] | str:
    return one_anchor(problem, same_shape=True)


def offers(problem: Problem) -> Sequence[Choice]:
    return choices("softmax", problem, fold_us(problem, 30 * problem.anchor.types[0].size))


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .generic.anchor import folded_kernel

    anchor = problem.anchor
    axis = int_attr(anchor, "axis") % len(anchor.types[0].shape)
    return folded_kernel(problem, symbol, [], lambda context: _stages(context, axis), axes=(axis,))


def _stages(context: Context, axis: int) -> Any:
    from .. import floats, mathlib
    from .. import scalar as s
    from ..conversions import narrow, widen
    from ..tir import lit
    from .reduce_stages import add, computed_in, extreme, simple

    anchor = context.problem.anchor
    own, count = anchor.types[0].dtype, anchor.types[0].shape[axis]
    kind = computed_in(own)
    half = dtype(own).bytes == 2 and anchor.op == "Softmax"  # rounds at each step

    def value() -> Expr:
        return widen(context.body.at(anchor.args[0], context.index()))

    def rounded(x: Expr) -> Expr:
        return widen(narrow(x, dtype(own).tvm)) if half else x

    def power(top: Expr) -> Expr:
        """exp of the distance to the greatest, which is not above zero."""
        x = rounded(value() - top)
        return rounded(mathlib.exp_below(x) if kind == "float32" else s.exp(x))

    # a NaN may be lost from the maximum: the sum of exponentials finds it again
    low, zero = extreme(kind, True), lit(0, kind)
    top = simple(kind, low, lambda old, x: floats.at_least(x, old), lambda prior: context.guard(value(), low))
    total = simple(kind, zero, add, lambda prior: context.guard(power(prior[0]), zero))
    if anchor.op == "LogSoftmax":
        total.result = lambda parts: s.log(parts[0])
        return [top, total], lambda prior: value() - prior[0] - prior[1]
    if half:
        total.result = lambda parts: rounded(parts[0]) if sum_fits(own, count) else parts[0]
        return [top, total], lambda prior: power(prior[0]) / prior[1]
    total.result = lambda parts: lit(1, kind) / parts[0]
    total.keep = kind == "float32"
    return [top, total], lambda prior: (prior[2] if len(prior) > 2 else power(prior[0])) * prior[1]


kernel(Row("softmax", frozenset({"Softmax", "LogSoftmax"}), match, offers, emit, "softmax along any axis"))
