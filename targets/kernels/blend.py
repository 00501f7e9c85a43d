"""blend: weighted sums of positions along one axis, in any layout and type; positions and weights are data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.op import int_attr
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from .generic.choice import choices, fold_us, one_anchor

if TYPE_CHECKING:
    from ..tir import Expr
    from .generic.anchor import Context


def match(problem: Problem) -> Literal[True] | str:
    return one_anchor(problem, same_shape=False)


def offers(problem: Problem) -> Sequence[Choice]:
    node = problem.anchor
    taps = node.args[1].shape[0]
    along_last = int_attr(node, "axis") % len(node.types[0].shape) == len(node.types[0].shape) - 1
    return choices("blend", problem, fold_us(problem, node.types[0].size * taps * (8 if along_last else 1)))


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .generic.anchor import folded_kernel

    taps = problem.anchor.args[1].shape[0]
    return folded_kernel(problem, symbol, [(taps, 1)], _stages, unroll=4)


def _stages(context: Context) -> Any:
    from tvm import tirx

    from edgec.compiler.dtypes import dtype

    from ..conversions import widen
    from ..tir import lit
    from .reduce_stages import add, simple

    node = context.problem.anchor
    x, positions, weights = node.args
    axis = int_attr(node, "axis") % len(x.shape)
    kind = dtype(weights.type.dtype).tvm

    def term() -> Expr:
        index = context.index()
        (tap,) = context.positions()
        entry = (tap, index[axis])
        at = context.body.within(context.body.at(positions, entry), 0, x.shape[axis] - 1)
        element = context.body.at(x, (*index[:axis], at, *index[axis + 1 :]))
        return tirx.Cast(kind, widen(element)) * context.body.at(weights, entry)

    return [simple(kind, lit(0, kind), add, lambda prior: term())], lambda prior: prior[0]


kernel(Row("blend", frozenset({"Edgec.Blend"}), match, offers, emit, "weighted sums of positions along one axis"))
