"""generic_reduce: the Reduce family, ArgMax and ArgMin, with maps before and elementwise operators after."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.ir import Node
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from .choice import choices, fold_us, one_anchor

if TYPE_CHECKING:
    from ...tir import Expr


ARG = ("ArgMax", "ArgMin")
OPERATORS = frozenset(
    [f"Reduce{n}" for n in "Sum Mean Max Min Prod SumSquare L1 L2 LogSum LogSumExp".split()] + list(ARG) + ["Edgec.Sum"]
)


def match(problem: Problem) -> Literal[True] | str:
    return one_anchor(problem, same_shape=False)


def offers(problem: Problem) -> Sequence[Choice]:
    return choices("generic_reduce", problem, fold_us(problem, problem.anchor.args[0].type.size))


def axes_of(node: Node) -> tuple[int, ...]:
    attrs: Any = full_attrs(node)
    return (attrs["axis"] % len(node.args[0].shape),) if node.op in ARG else tuple(attrs["axes"])


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .anchor import Context, block_of, folded_kernel
    from .fold import ABREAST

    anchor = problem.anchor
    argument, axes = anchor.args[0], axes_of(anchor)
    keepdims = full_attrs(anchor)["keepdims"]
    rank, count = len(argument.shape), prod(argument.shape[a] for a in axes)

    def make(context: Context) -> Any:
        def element() -> Expr:
            at = dict(zip(axes, context.positions(), strict=True))
            index = context.index()
            kept = iter(x for k, x in enumerate(index) if not (keepdims and k in at))
            source = tuple(at[k] if k in at else next(kept) for k in range(rank))
            return context.body.at(argument, source)

        from ..reduce_stages import Reduction

        in_order = all(block == 1 for _, block in context.folds)
        reduction = Reduction(anchor, count, element, context, in_order)
        return reduction.stages(), reduction.finish

    folds = [(argument.shape[a], block_of(problem, argument, a)) for a in axes]
    abreast = 1 if problem.target.microcontroller else ABREAST  # lines of a cache are read as a whole
    return folded_kernel(problem, symbol, folds, make, unroll=abreast)


kernel(Row("generic_reduce", OPERATORS, match, offers, emit, "any reduction over any axes"))
