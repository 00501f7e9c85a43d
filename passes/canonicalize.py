"""Brings graphs to one form: nothing redundant, scales inside weights, padding inside windows, transposes cancelled.

The rules that fit on a line are in `canonicalize.rules` and `composites.rules`; those here need loops over axes or
arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from pathlib import Path

import numpy as np

from edgec.compiler.ir import Attr, Graph, Node, Value
from edgec.compiler.op import OPS, build, const, const_array, full_attrs, int_attr, ints_attr, is_const
from edgec.compiler.pipeline import close, graph_pass
from edgec.compiler.plugins import RULES, load_plugins
from edgec.compiler.rewrite import AnyRule, Sweep, python_rule, rewrite
from edgec.compiler.rules.language import Rule, load_rules
from edgec.compiler.session import Session

from .branches import sum_of_convolutions
from .joined_channels import channels_before_concat

__all__ = ["canonicalize"]

Ints = tuple[int, ...]
POOLS = ("MaxPool", "AveragePool")
REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd")
ONE_WAY = ("QuantizeLinear", "DequantizeLinear", "PRelu")  # elementwise, but only the first argument gives the shape
NOT_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp", "Softplus")


@graph_pass("canonicalize", promise=close)
def canonicalize(graph: Graph, *, session: Session) -> Graph:
    """Removes what does nothing and moves scales, shifts, padding and transposes to where they cost nothing."""
    load_plugins()
    here = Path(__file__)
    paths = (here.with_suffix(".rules"), here.with_name("composites.rules"), *RULES.get("canonicalize", ()))
    return rewrite(graph, [*_rules(paths), *PYTHON_RULES], session)


@lru_cache(maxsize=4)
def _rules(paths: tuple[Path, ...]) -> tuple[Rule, ...]:
    return tuple(load_rules(*paths))


def _again(node: Node, args: Sequence[Value], *merged: Node, label: str = "", **attrs: Attr) -> Value:
    """The same operator on other arguments; origins of `merged` are added."""
    origin = tuple(dict.fromkeys(o for n in (*merged, node) for o in n.origin))
    return build(node.op, *args, origin=origin, label=label, **{**node.attrs, **attrs})


# ---- padding ---------------------------------------------------------------------------------------------------------


@python_rule("Conv", *POOLS)
def pad_into_window(value: Value, sweep: Sweep) -> Value | str | None:
    """Padding of the spatial axes becomes the window's own."""
    node, pad = value.node, value.node.args[0].node
    if pad.op != "Pad":
        return None
    rank, attrs = len(pad.args[0].shape), full_attrs(pad)
    pads = ints_attr(pad, "pads")
    before, after = pads[:rank], pads[rank:]
    if attrs["mode"] != "constant" or min(pads) < 0 or any((*before[:2], *after[:2])):
        return "the padding is not constant, negative, or not of the spatial axes only"
    fill, source = attrs["value"], pad.args[0]
    own = ints_attr(node, "pads") or (0,) * (2 * (rank - 2))
    joined = tuple(a + b for a, b in zip(own, (*before[2:], *after[2:]), strict=True))
    extra: dict[str, Attr] = {"pads": joined}
    if node.op == "MaxPool":
        if not _ignored_by_max(fill, source, node, own, joined):
            return f"padding with {fill} may be the largest element of a window"
    elif fill != 0.0:
        return f"the padding is {fill}, not 0"
    if node.op == "AveragePool":
        if full_attrs(node)["ceil_mode"] or (any(own) and not full_attrs(node)["count_include_pad"]):
            return "the pool counts its own padding differently"
        extra["count_include_pad"] = 1
    return _again(node, (source, *node.args[1:]), pad, label=node.name, **extra)


def _ignored_by_max(fill: Attr, source: Value, node: Node, own: Ints, joined: Ints) -> bool:
    """Padding never wins: it is -inf, or 0 beside values that are not negative; every window has a real element."""
    kernel = ints_attr(node, "kernel_shape")
    covered = all(p < k for p, k in zip(joined, kernel * 2, strict=True)) and not full_attrs(node)["ceil_mode"]
    if not covered or any(d != 1 for d in ints_attr(node, "dilations")):
        return False
    producer = source.node
    clipped = producer.op == "Clip" and float(str(full_attrs(producer)["min"])) >= 0
    return fill == -np.inf or (fill == 0.0 and not any(own) and (producer.op in NOT_NEGATIVE or clipped))


@python_rule(*POOLS)
def pool_nothing(value: Value, sweep: Sweep) -> Value | str | None:
    """A pool over windows of one element."""
    node = value.node
    ones = set(ints_attr(node, "kernel_shape")) | set(ints_attr(node, "strides") or (1,)) == {1}
    return node.args[0] if ones and not any(ints_attr(node, "pads")) else None


@python_rule("Reshape")
def pad_through_view(value: Value, sweep: Sweep) -> Value | str | None:
    """Padding moves behind a view that only adds or drops axes of size 1: there, a window may take it."""
    node, pad = value.node, value.node.args[0].node
    if pad.op != "Pad":
        return None
    if sweep.uses(Value(pad)) != 1:
        return f"{pad} has {sweep.uses(Value(pad))} uses"
    rank, padded, source, pads = len(pad.types[0].shape), pad.types[0].shape, pad.args[0], ints_attr(pad, "pads")
    inner = [axis for axis in range(rank) if padded[axis] != 1]
    outer = [axis for axis, n in enumerate(value.shape) if n != 1]
    still = all(pads[axis] == pads[rank + axis] == 0 for axis in range(rank) if axis not in inner)
    if not still or [padded[a] for a in inner] != [value.shape[a] for a in outer]:
        return "the view moves more than axes of size 1"
    shape, moved = list(value.shape), [0] * (2 * len(value.shape))
    for a, b in zip(inner, outer, strict=True):
        shape[b], moved[b], moved[len(shape) + b] = source.shape[a], pads[a], pads[rank + a]
    view = build("Reshape", source, origin=node.origin, shape=tuple(shape))
    return _again(pad, (view,), node, label=node.name, pads=tuple(moved))


# ---- shapes ----------------------------------------------------------------------------------------------------------


@python_rule(*REDUCTIONS)
def reduce_nothing(value: Value, sweep: Sweep) -> Value | str | None:
    """A reduction over axes of size 1 is a view."""
    node, source = value.node, value.node.args[0]
    if any(source.shape[axis] != 1 for axis in ints_attr(node, "axes")) or source.type.dtype != value.type.dtype:
        return None
    return build("Reshape", source, origin=node.origin, label=node.name, shape=value.shape)


@python_rule()
def expand_into_map(value: Value, sweep: Sweep) -> Value | str | None:
    """An elementwise operator broadcasts by itself."""
    node = value.node
    if OPS[node.op].kind != "elementwise" or len(node.args) < 2 or not any(a.node.op == "Expand" for a in node.args):
        return None
    if node.op in ONE_WAY:
        return f"{node.op} does not broadcast its first argument"
    for place, arg in enumerate(node.args):
        if arg.node.op == "Expand":
            others = [a.shape for k, a in enumerate(node.args) if k != place]
            if np.broadcast_shapes(arg.node.args[0].shape, *others) == value.shape:
                args = (*node.args[:place], arg.node.args[0], *node.args[place + 1 :])
                return _again(node, args, arg.node, label=node.name)
    return "the result has its shape from the Expand"


@python_rule()
def expand_sinks(value: Value, sweep: Sweep) -> Value | str | None:
    """An elementwise operator that has its shape from Expand alone works on the smaller values before it."""
    node = value.node
    if OPS[node.op].kind != "elementwise" or len(node.types) != 1 or not any(a.node.op == "Expand" for a in node.args):
        return None
    if node.op in ONE_WAY or any(v.type.q is not None for v in (value, *node.args)):
        return f"{node.op} does not broadcast, or is quantized"
    sources = [a.node.args[0] if a.node.op == "Expand" else a for a in node.args]
    small = np.broadcast_shapes(*(a.shape for a in sources))
    if prod(small) >= value.type.size:
        return "nothing is repeated"
    made = _again(node, sources, *(a.node for a in node.args if a.node.op == "Expand"), label=node.name)
    return build("Expand", made, origin=node.origin, shape=value.shape)


@python_rule("Concat")
def concat_concat(value: Value, sweep: Sweep) -> Value | str | None:
    """Concatenations along one axis become one."""
    node = value.node
    rank = len(value.shape)
    axis = int_attr(node, "axis") % rank
    inner = [a.node for a in node.args if a.node.op == "Concat" and int_attr(a.node, "axis") % rank == axis]
    if not inner:
        return None
    single = [n for n in inner if sweep.uses(Value(n)) == 1]
    if not single:
        return f"{inner[0]} has {sweep.uses(Value(inner[0]))} uses"
    args = [x for a in node.args for x in (a.node.args if a.node in single else (a,))]
    return _again(node, args, *single, label=node.name)


@python_rule("Gather")
def gather_range(value: Value, sweep: Sweep) -> Value | str | None:
    """Constant indices one after the other are a slice, which the planner can often place without a copy."""
    node, (source, where) = value.node, value.node.args
    if not is_const(where):
        return "the indices are computed"
    axis = int_attr(node, "axis") % len(source.shape)
    indices = np.asarray(const_array(where), np.int64).reshape(-1) % max(source.shape[axis], 1)
    if len(indices) == 0 or list(indices) != list(range(indices[0], indices[0] + len(indices))):
        return "the indices are not one after the other"
    start, end = int(indices[0]), int(indices[-1]) + 1
    part = build(
        "Slice", source, origin=node.origin, label=node.name, starts=(start,), ends=(end,), axes=(axis,), steps=(1,)
    )
    return build("Reshape", part, origin=node.origin, label=node.name, shape=value.shape)


# ---- transposes sink, so that they meet and cancel -------------------------------------------------------------------


@python_rule()
def transpose_sinks(value: Value, sweep: Sweep) -> Value | str | None:
    """A transpose moves behind elementwise operators, Concat, Pad and reductions; there are never more after."""
    node = value.node
    transposes = [a.node for a in node.args if a.node.op == "Transpose"]
    if not transposes or any(v.type.q is not None for v in (value, *node.args)):
        return None
    perm = ints_attr(transposes[0], "perm")
    if all(sweep.uses(Value(t)) > node.args.count(Value(t)) for t in transposes):
        return f"{transposes[0]} has other uses"
    sunk = _sunk(value, perm)
    if isinstance(sunk, Value):
        origin = tuple(dict.fromkeys(o for n in (*transposes, node) for o in n.origin))
        return build("Transpose", sunk, origin=origin, label=node.name, perm=perm)
    return sunk


@python_rule(*REDUCTIONS)
def reduce_of_transpose(value: Value, sweep: Sweep) -> Value | str | None:
    """A reduction that drops its axes needs no transpose where the others stay in order."""
    node, transpose = value.node, value.node.args[0].node
    if transpose.op != "Transpose" or full_attrs(node)["keepdims"]:
        return None
    perm, axes = ints_attr(transpose, "perm"), ints_attr(node, "axes")
    rest = [perm[axis] for axis in range(len(perm)) if axis not in axes]
    if rest != sorted(rest):
        return "the axes that stay change their order"
    moved = tuple(sorted(perm[axis] for axis in axes))
    return _again(node, transpose.args, transpose, label=node.name, axes=moved)


def _sunk(value: Value, perm: Ints) -> Value | str | None:
    """The operator on untransposed arguments."""
    node = value.node
    if OPS[node.op].kind == "elementwise" and node.op not in ONE_WAY:
        args = [_before(a, perm) for a in node.args]
        if all(a is not None for a in args):
            return _again(node, [a for a in args if a is not None])
        return "another argument is not transposed alike"
    if node.op == "Concat":
        if any(a.node.op != "Transpose" or ints_attr(a.node, "perm") != perm for a in node.args):
            return "another argument is not transposed alike"
        return _again(node, [a.node.args[0] for a in node.args], axis=perm[int_attr(node, "axis") % len(perm)])
    if node.op == "Pad":
        pads, rank = ints_attr(node, "pads"), len(perm)
        places = [perm.index(axis) for axis in range(rank)]
        moved = tuple(pads[p] for p in places) + tuple(pads[rank + p] for p in places)
        return _again(node, [node.args[0].node.args[0]], pads=moved)
    if node.op in REDUCTIONS and full_attrs(node)["keepdims"]:
        axes = tuple(sorted(perm[axis] for axis in ints_attr(node, "axes")))
        return _again(node, [node.args[0].node.args[0]], axes=axes)
    return None


def _before(arg: Value, perm: Ints) -> Value | None:
    """The argument as it is before a transpose by `perm`; None where that takes another transpose."""
    if arg.node.op == "Transpose" and ints_attr(arg.node, "perm") == perm:
        return arg.node.args[0]
    if prod(arg.shape) == 1 and len(arg.shape) <= 1:
        return arg
    if not is_const(arg) or len(arg.shape) > len(perm):
        return None
    array = const_array(arg)
    full = array.reshape((1,) * (len(perm) - array.ndim) + array.shape)
    inverse = tuple(perm.index(axis) for axis in range(len(perm)))
    return const(np.ascontiguousarray(full.transpose(inverse)), arg.node.name, arg.node.origin)


PYTHON_RULES: tuple[AnyRule, ...] = (
    pad_into_window,
    pad_through_view,
    pool_nothing,
    reduce_nothing,
    expand_into_map,
    expand_sinks,
    concat_concat,
    gather_range,
    reduce_of_transpose,
    sum_of_convolutions,
    channels_before_concat,
    transpose_sinks,
)
