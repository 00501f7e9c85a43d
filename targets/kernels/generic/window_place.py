"""generic_window_place: where the greatest element of each window lies, the second result of MaxPool."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from .choice import choices, fold_us
from .window import match, tap

if TYPE_CHECKING:
    from ...tir import Expr
    from .anchor import Context
    from .stage import Parts, Prior


def offers(problem: Problem) -> Sequence[Choice]:
    attrs: Any = full_attrs(problem.anchor)
    steps = problem.anchor.types[0].size * prod(attrs["kernel_shape"])
    return choices("generic_window_place", problem, 4 * fold_us(problem, steps), blocked=False)


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .anchor import folded_kernel

    attrs: Any = full_attrs(problem.anchor)
    return folded_kernel(problem, symbol, [(k, 1) for k in attrs["kernel_shape"]], _stages)


def _stages(context: Context) -> Any:
    """(position in the plane, value) pairs; of equal values the first counts, whatever the order of the folds."""
    from tvm import tirx

    from ... import tir
    from ...conversions import narrow, widen
    from ..reduce_stages import best_of, computed_in, extreme
    from .stage import Stage

    node = context.problem.anchor
    kind = computed_in(node.args[0].type.dtype)
    size = node.args[0].shape[2:]
    nowhere, worst = tir.lit(2**31 - 1, "int32"), extreme(kind, True)

    def term(prior: Prior) -> Parts:
        index, inside = tap(context)
        place: Any = 0
        for x, n in zip(index[2:], size, strict=True):
            place = place * n + x
        context.body.pin(place)
        x = narrow(widen(context.body.at(node.args[0], index)), kind)
        for condition in inside:
            place = context.body.choose(condition, tir.expr(place), nowhere)
            x = context.body.choose(condition, x, worst)
        return tir.expr(place), x

    def combine(a: Parts, b: Parts) -> Parts:
        return best_of(a, b, greatest=True, last=False)

    def finish(prior: Prior) -> Expr:
        n, c, *_ = context.index()
        context.body.pin(n * node.args[0].shape[1] + c)
        plane = tirx.Cast("int64", n * node.args[0].shape[1] + c) * tir.lit(prod(size), "int64")
        place = tirx.Select(tirx.EQ(prior[0], nowhere), tir.i32(0), prior[0])
        return plane + tirx.Cast("int64", _stored(place, size) if full_attrs(node)["storage_order"] else place)

    return [Stage(("int32", kind), (nowhere, worst), term, combine, lambda parts: parts[0])], finish


def _stored(place: Expr, size: tuple[int, ...]) -> Expr:
    """A row-major position as a column-major one: the first axis moves fastest."""
    from ... import tir

    total: Any = 0
    for k, x in enumerate(tir.split(place, *size)):
        total = total + x * prod(size[:k])
    return total


kernel(
    Row(
        "generic_window_place",
        frozenset({"Edgec.MaxPoolPlace"}),
        match,
        offers,
        emit,
        "positions of the greatest elements of windows",
    )
)
