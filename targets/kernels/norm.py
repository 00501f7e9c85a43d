"""norm: LayerNormalization, InstanceNormalization and LpNormalization over any axes: statistics, then the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.ir import Node
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from .generic.choice import choices, fold_us, one_anchor

if TYPE_CHECKING:
    from ..tir import Expr
    from .generic.anchor import Context

OPERATORS = frozenset({"LayerNormalization", "InstanceNormalization", "LpNormalization"})


def match(problem: Problem) -> Literal[True] | str:
    return one_anchor(problem, same_shape=True)


def offers(problem: Problem) -> Sequence[Choice]:
    return choices("norm", problem, fold_us(problem, 4 * problem.anchor.types[0].size))


def axes_of(node: Node) -> tuple[int, ...]:
    attrs: Any = full_attrs(node)
    rank = len(node.types[0].shape)
    if node.op == "InstanceNormalization":
        return tuple(range(2, rank))
    axis = attrs["axis"] % rank
    return (axis,) if node.op == "LpNormalization" else tuple(range(axis, rank))


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .generic.anchor import folded_kernel

    make = stages_of(problem.anchor)
    return folded_kernel(
        problem, symbol, [], lambda context: make(problem.anchor, context), axes=axes_of(problem.anchor)
    )


def stages_of(node: Node) -> Callable[[Node, Any], Any]:
    """Makes the stages of a normalization and its result, for a context that says where they are built."""
    return _lp if node.op == "LpNormalization" else _normal


def _lp(node: Node, context: Context) -> Any:
    from tvm import tirx

    from .. import scalar as s
    from ..conversions import widen
    from ..floats import bind
    from ..tir import lit
    from .reduce_stages import add, computed_in, simple

    kind = computed_in(node.types[0].dtype)
    zero = lit(0, kind)
    square = full_attrs(node)["p"] == 2

    def value() -> Expr:
        return widen(context.body.at(node.args[0], context.index()))

    def term() -> Expr:
        return bind(value(), lambda x: x * x) if square else s.absolute(value())

    total = simple(kind, zero, add, lambda prior: context.guard(term(), zero))
    total.result = lambda parts: tirx.sqrt(parts[0]) if square else parts[0]
    return [total], lambda prior: tirx.Select(tirx.abs(prior[0]) <= zero, zero, value() / prior[0])


def _normal(node: Node, context: Context) -> Any:
    """Two passes, mean and then variance: one pass over squares would cancel."""
    from tvm import tirx

    from ..body import align
    from ..conversions import widen
    from ..floats import bind
    from ..tir import lit
    from .reduce_stages import add, computed_in, simple

    kind = computed_in(node.types[0].dtype)
    zero = lit(0, kind)
    attrs: Any = full_attrs(node)
    axes = axes_of(node)
    count = lit(prod(node.types[0].shape[a] for a in axes), kind)

    def value() -> Expr:
        return widen(context.body.at(node.args[0], context.index()))

    def parameter(k: int) -> Expr:
        index = context.index()
        argument = node.args[k]
        at = (index[1],) if node.op == "InstanceNormalization" else align(index, argument.shape)
        return widen(context.body.at(argument, at))

    mean = simple(kind, zero, add, lambda prior: context.guard(value(), zero))
    mean.result = lambda parts: parts[0] / count
    spread = simple(kind, zero, add, lambda prior: context.guard(bind(value() - prior[0], lambda x: x * x), zero))
    spread.result = lambda parts: lit(1, kind) / tirx.sqrt(parts[0] / count + lit(attrs["epsilon"], kind))
    return [mean, spread], lambda prior: (value() - prior[0]) * prior[1] * parameter(1) + parameter(2)


kernel(Row("norm", OPERATORS, match, offers, emit, "layer, instance and Lp normalization"))
