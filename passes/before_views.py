"""Moves arithmetic with constants before the maps that keep it out of the kernel of a convolution or a product.

What is added to a reshaped, transposed or concatenated result is a kernel of its own; before these maps it is part of
the kernel that forms the result, and the maps are often only a matter of reading. For targets where one more kernel
costs more than its work.
"""

from __future__ import annotations

from math import prod

import numpy as np

from edgec.compiler.ir import Array, Graph, Node, Value
from edgec.compiler.op import build, const, const_array, int_attr, ints_attr, is_const
from edgec.compiler.pipeline import exact, graph_pass
from edgec.compiler.rewrite import Sweep, python_rule, rewrite
from edgec.compiler.rules.match import fold
from edgec.compiler.session import Session

CONTRACTIONS = frozenset({"Conv", "MatMul"})
ARITHMETIC = ("Add", "Mul")


@graph_pass(
    "before-views",
    promise=exact,
    after={"canonicalize": "it brings arithmetic to one form", "attention": "it knows maps in their usual order"},
)
def before_views(graph: Graph, *, session: Session) -> Graph:
    """Arithmetic with constants joins the convolution or product before reshapes, transposes and concatenations."""
    return rewrite(graph, [channels_last_before_merge, constant_over_parts, constant_before_view], session)


@python_rule("Transpose")
def channels_last_before_merge(value: Value, sweep: Sweep) -> Value | str | None:
    """Pixels that are merged into one axis, then channels last: the other way round a convolution writes it so."""
    view = value.node.args[0]
    if view.node.op != "Reshape" or not _follows(view, sweep):
        return None
    source = view.node.args[0]
    if (groups := _merged(source.shape, view.shape)) is None:
        return "the reshape does more than merge axes"
    perm = tuple(axis for k in ints_attr(value.node, "perm") for axis in groups[k])
    if perm != (0, *range(2, len(perm)), 1):
        return "channels do not become the last axis"
    origin = _origin(view.node, value.node)
    turned = build("Transpose", source, origin=origin, label=value.node.name, perm=perm)
    return build("Reshape", turned, origin=origin, label=value.node.name, shape=value.shape)


@python_rule(*ARITHMETIC)
def constant_over_parts(value: Value, sweep: Sweep) -> Value | str | None:
    """Where some parts of a concatenation are constants, and the others follow a contraction."""
    whole, number = _with_constant(value)
    if whole is None or number is None or whole.node.op != "Concat":
        return None
    if sweep.uses(whole) != 1 or not all(is_const(p) or _follows(p, sweep) for p in whole.node.args):
        return "the parts are read elsewhere, or are no results of a contraction"
    if not any(is_const(p) for p in whole.node.args):
        return "no part is constant"
    axis = int_attr(whole.node, "axis") % len(whole.shape)
    array = _ranked(const_array(number), len(whole.shape))
    parts, start = [], 0
    for part in whole.node.args:
        size = part.shape[axis]
        taken = array if array.shape[axis] == 1 else array.take(range(start, start + size), axis)
        made = build(
            value.node.op, part, const(np.ascontiguousarray(taken)), origin=value.node.origin, label=value.node.name
        )
        parts.append(fold(made.node) or made)
        start += size
    return build("Concat", *parts, origin=_origin(whole.node, value.node), label=value.node.name, axis=axis)


@python_rule(*ARITHMETIC)
def constant_before_view(value: Value, sweep: Sweep) -> Value | str | None:
    """A constant whose every number meets one element goes through reshapes; through transposes any."""
    view, number = _with_constant(value)
    if view is None or number is None or view.node.op not in ("Reshape", "Transpose") or not _follows(view, sweep):
        return None
    source = view.node.args[0]
    moved = _before(const_array(number), view.node, source)
    if moved is None:
        return "the constant is repeated along axes that the reshape changes"
    other = const(moved, number.node.name, number.node.origin)
    made = build(value.node.op, source, other, origin=value.node.origin, label=value.node.name)
    attrs = {"perm": view.node.attrs["perm"]} if view.node.op == "Transpose" else {"shape": value.shape}
    return build(view.node.op, made, origin=view.node.origin, label=value.node.name, **attrs)


def _with_constant(value: Value) -> tuple[Value | None, Value | None]:
    """The two operands where one is constant and the other has the result's shape."""
    for one, other in (value.node.args, value.node.args[::-1]):
        if is_const(other) and not is_const(one) and one.shape == value.shape:
            return one, other
    return None, None


def _follows(value: Value, sweep: Sweep) -> bool:
    """Whether a contraction leads here, through maps and arithmetic with constants that nothing else reads."""
    while sweep.uses(value) == 1 and value.node.op not in CONTRACTIONS:
        node = value.node
        below = node.args[0] if node.op in ("Reshape", "Transpose") else None
        if node.op in ARITHMETIC:
            below = _with_constant(value)[0]
        if below is None:
            return False
        value = below
    return value.node.op in CONTRACTIONS and sweep.uses(value) == 1


def _before(array: Array, view: Node, source: Value) -> Array | None:
    """The constant as it meets the view's source."""
    shape = view.types[0].shape
    if view.op == "Transpose":
        inverse = np.argsort(ints_attr(view, "perm"))
        return np.ascontiguousarray(_ranked(array, len(shape)).transpose(inverse))
    if array.size == 1:
        return array.reshape(())
    if array.size == prod(shape):
        return array.reshape(source.shape)
    per_column = array.size == array.shape[-1] == shape[-1] == source.shape[-1]
    return array.reshape(-1) if per_column else None


def _ranked(array: Array, rank: int) -> Array:
    """The constant with as many axes as what it is broadcast to."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def _merged(before: tuple[int, ...], after: tuple[int, ...]) -> list[list[int]] | None:
    """Which neighbouring axes make each axis of a shape; None where some axis is cut."""
    groups: list[list[int]] = []
    place = 0
    for size in after:
        group: list[int] = []
        have = 1
        while place < len(before) and (not group or have < size):
            group.append(place)
            have *= before[place]
            place += 1
        if not group or have != size:
            return None
        groups.append(group)
    return groups if place == len(before) else None


def _origin(*nodes: Node) -> tuple[str, ...]:
    return tuple(dict.fromkeys(o for n in nodes for o in n.origin))
