"""generic_window: MaxPool and AveragePool of any rank, with padding, dilation and ceil mode; any layout and type."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from .choice import choices, fold_us, one_anchor

if TYPE_CHECKING:
    from ...tir import Expr, Index
    from .anchor import Context


def match(problem: Problem) -> Literal[True] | str:
    return one_anchor(problem, same_shape=False)


def offers(problem: Problem) -> Sequence[Choice]:
    attrs: Any = full_attrs(problem.anchor)
    return choices(
        "generic_window", problem, 2 * fold_us(problem, problem.anchor.types[0].size * prod(attrs["kernel_shape"]))
    )


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .anchor import folded_kernel

    attrs: Any = full_attrs(problem.anchor)
    return folded_kernel(problem, symbol, [(k, 1) for k in attrs["kernel_shape"]], _stages)


def _stages(context: Context) -> Any:
    from tvm import tirx

    from ... import scalar as s
    from ...conversions import narrow, widen
    from ...tir import lit
    from ..reduce_stages import add, computed_in, extreme, simple

    node = context.problem.anchor
    attrs: Any = full_attrs(node)
    kind = computed_in(node.types[0].dtype)
    greatest = node.op == "MaxPool"
    start = extreme(kind, True) if greatest else lit(0, kind)

    def term() -> Expr:
        index, inside = tap(context)
        x = narrow(widen(context.body.at(node.args[0], index)), kind)
        if node.op == "Edgec.SumPool":
            x = x - lit(attrs["zero"], kind)
        for condition in inside:
            x = context.body.choose(condition, x, start)
        return x

    def finish(prior: Any) -> Expr:
        if node.op != "AveragePool":
            return prior[0]
        return prior[0] / tirx.Cast(kind, _count(context))

    return [simple(kind, start, s.maximum if greatest else add, lambda prior: term())], finish


def tap(context: Context) -> tuple[Index, list[Expr]]:
    """The element of a window at the current positions: its index, clamped, and the conditions for its being there."""
    n, c, *at = context.index()
    size = context.problem.anchor.args[0].shape[2:]
    source: list[Any] = []
    inside: list[Any] = []
    for k, place in enumerate(context.positions()):
        first, dilation = _first(context, at[k], k)
        t = first + place * dilation
        inside += [t >= 0, t < size[k]]
        source.append(context.body.within(t, 0, size[k] - 1))
    return (n, c, *source), inside


def _first(context: Context, o: Expr, k: int) -> tuple[Expr, int]:
    """Where a window begins, and the distance of its elements."""
    attrs: Any = full_attrs(context.problem.anchor)
    stride, dilation = (attrs[key][k] if attrs[key] else 1 for key in ("strides", "dilations"))
    return o * stride - (attrs["pads"][k] if attrs["pads"] else 0), dilation


def _count(context: Context) -> Expr:
    """Elements that a window covers: of the input, and of the declared padding where that counts."""
    from ... import tir

    node = context.problem.anchor
    attrs: Any = full_attrs(node)
    _, _, *at = context.index()
    rank = len(at)
    total: Any = tir.i32(1)
    for k, taps in enumerate(attrs["kernel_shape"]):
        first, dilation = _first(context, at[k], k)
        begin, end = (
            (attrs["pads"][k], attrs["pads"][k + rank]) if attrs["pads"] and attrs["count_include_pad"] else (0, 0)
        )
        one, none = tir.i32(1), tir.i32(0)
        covered: Any = none
        for tap in range(taps):
            t = first + tap * dilation
            here = context.body.choose(t < node.args[0].shape[2 + k] + end, one, none)
            covered = covered + context.body.choose(t >= -begin, here, none)
        total = total * covered
    return context.body.analyzer.simplify(total)


kernel(
    Row("generic_window", frozenset({"MaxPool", "AveragePool", "Edgec.SumPool"}), match, offers, emit, "any pooling")
)
