"""generic_columns: Col2Im as a gather. Each pixel sums the columns that cover it, and only those.

Along an axis, tap k of window b lies on pixel p where b * stride + k * dilation = p + pad. With g the greatest common
divisor of stride and dilation, the taps of a pixel are k0, k0 + stride / g ..., if g divides p + pad.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod
from typing import TYPE_CHECKING, Any

from edgec.compiler.ir import Node
from edgec.compiler.op import full_attrs
from edgec.compiler.ops.columns import blocks
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from .generic_choice import choices, fold_us
from .window_generic import match

if TYPE_CHECKING:
    from ..tir import Expr
    from .generic_anchor import Context

NAME = "generic_columns"


def covers(node: Node) -> list[int]:
    """The most taps that lie on a pixel, along each axis."""
    attrs: Any = full_attrs(node)
    strides, _, dilations, _ = _sizes(node)
    steps = [s // gcd(s, d) for s, d in zip(strides, dilations, strict=True)]
    return [-(-n // step) for n, step in zip(attrs["block_shape"], steps, strict=True)]


def _sizes(node: Node) -> tuple[tuple[int, ...], ...]:
    attrs: Any = full_attrs(node)
    return blocks(*(attrs[key] for key in ("image_shape", "block_shape", "strides", "pads", "dilations")))


def offers(problem: Problem) -> Sequence[Choice]:
    steps = problem.anchor.types[0].size * prod(covers(problem.anchor))
    return choices(NAME, problem, 4 * fold_us(problem, steps))


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .generic_anchor import folded_kernel

    return folded_kernel(problem, symbol, [(n, 1) for n in covers(problem.anchor)], _stages)


def _stages(context: Context) -> Any:
    from ..conversions import narrow, widen
    from ..tir import lit
    from .reduce_stages import add, computed_in, simple

    node = context.problem.anchor
    attrs: Any = full_attrs(node)
    block, counts = attrs["block_shape"], _sizes(node)[-1]
    kind = computed_in(node.types[0].dtype)
    zero = lit(0, kind)

    def term() -> Expr:
        n, c, *at = context.index()
        inside: list[Expr] = []
        tap: Any = c
        window: Any = 0
        for k, turn in enumerate(context.positions()):
            place, number, conditions = _tap(context, k, at[k], turn)
            tap, window = tap * block[k] + place, window * counts[k] + number
            inside += conditions
        x = narrow(widen(context.body.at(node.args[0], (n, tap, window))), kind)
        for condition in inside:
            x = context.body.choose(condition, x, zero)
        return x

    return [simple(kind, zero, add, lambda prior: term())], lambda prior: prior[0]


def _tap(context: Context, k: int, pixel: Expr, turn: Expr) -> tuple[Any, Any, list[Expr]]:
    """(tap, window, conditions for their being there) of one of the turns over the taps of a pixel; both in range."""
    node = context.problem.anchor
    attrs: Any = full_attrs(node)
    strides, pads, dilations, counts = _sizes(node)
    stride, dilation, taps = strides[k], dilations[k], attrs["block_shape"][k]
    g = gcd(stride, dilation)
    step = stride // g
    place = pixel + pads[k]
    # dilation / g has an inverse modulo step: the first tap is what it makes of the place
    first = (place // g * pow(dilation // g, -1, step)) % step if step > 1 else 0
    tap = first + turn * step
    reached = place - tap * dilation
    window = reached // stride
    conditions = [tap < taps, reached >= 0, window < counts[k]]
    conditions += [(place % g).equal(0)] if g > 1 else []
    within = context.body.within
    return within(tap, 0, taps - 1), within(window, 0, counts[k] - 1), conditions


kernel(Row(NAME, frozenset({"Col2Im"}), match, offers, emit, "columns of windows into an image"))
