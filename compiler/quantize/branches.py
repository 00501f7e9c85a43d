"""Values that are computed in f32 and read in f32 too, as in a residual stream, stay f32 there: only layers read their
8 bits.

A residual stream that is rounded at every normalization gathers noise, which costs accuracy and gains nothing where
the sum is computed in f32 anyway. So layers read a copy, a product with ones; its channels may then be evened out
without regard to the other readers, as SmoothQuant does (Xiao et al., 2023).

So it is with what a model is given, and with what only moves its elements: a spectrum that a mask is multiplied with at
the end, or a picture that a residual is added to, is not rounded there because the first layer reads it in 8 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..ir import Graph, Node, Value
from ..op import OPS, build, const
from .placement import Placement, moves, place
from .statistics import steep

COPY = ".read"


def branched(graph: Graph) -> Graph:
    """The graph with a copy, for its readers in 8 bits, of each value that others read in f32."""
    plan = place(graph)
    shared = {v for v in plan.points if v not in plan.able and _in_float(plan, v) and any(_stored(plan, v))}
    moved = _given(plan)
    if not shared and not moved:
        return graph
    new: dict[Value, Value] = {}
    copies: dict[Value, Value] = {}
    for node in graph.nodes():
        made = _rebuilt(node, [_argument(plan, node, a, new, copies) for a in node.args])
        for was, now in zip(node.results, made.results, strict=True):
            new[was] = now
            if was in shared or (was in moved and node.op == "Input"):
                copies[was] = _copy(now)
            elif was in moved:  # read in 8 bits, and once more in f32
                new[was], copies[was] = Value(_rebuilt(node, [new[a] for a in node.args]), was.index), now
    return graph.with_values(graph.inputs, tuple(new[v] for v in graph.outputs))


def _rebuilt(node: Node, args: Sequence[Value]) -> Node:
    return node if tuple(args) == node.args else replace(node, args=tuple(args))


def _argument(plan: Placement, node: Node, was: Value, new: dict[Value, Value], copies: dict[Value, Value]) -> Value:
    return copies[was] if was in copies and _reads_stored(plan, node, was) else new[was]


def _copy(value: Value) -> Value:
    """The value times ones along its last axis, where that is what layers sum over; what is given, times one, since
    its channels are as they come."""
    ones = const(np.ones(() if value.node.op == "Input" else value.shape[-1:], np.float32))
    return build("Mul", value, ones, origin=value.node.origin, label=f"{value.name}{COPY}")


def _given(plan: Placement) -> set[Value]:
    """Inputs in 8 bits that are read in f32 too, and in 8 bits what only moves their elements."""
    leads, found = _leads(plan), set[Value]()
    for source in plan.graph.inputs:
        moved = {source} & plan.points
        for node in plan.graph.nodes():
            if moved.intersection(node.args) and moves(node):
                moved.update(plan.points.intersection(node.results))
        ends = moved.intersection(plan.graph.outputs)
        if ends or any(_reads_float(plan, node, v, leads) for v in moved for node in plan.users.get(v, [])):
            found |= moved
    return found


def _reads_float(plan: Placement, node: Node, value: Value, leads: set[Value]) -> bool:
    """Whether nothing in 8 bits is made of what a node makes of a value."""
    layer = any(layer.node == node and layer.input == value for layer in plan.layers)
    return not layer and leads.isdisjoint(node.results)


def _leads(plan: Placement) -> set[Value]:
    """Values in 8 bits, and those that a kernel may hold on the way to one."""
    found = set(plan.points)
    for node in reversed(list(plan.graph.nodes())):
        held = OPS[node.op].kind == "elementwise" and not steep(node) and node not in plan.spread
        for value in node.results:
            if (held or value in plan.able) and any(not found.isdisjoint(n.results) for n in plan.users.get(value, [])):
                found.add(value)
    return found


def _reads_stored(plan: Placement, node: Node, value: Value) -> bool:
    """Whether a reader takes the 8 bits of a value: a layer, or what gives 8 bits again."""
    if any(layer.node == node and layer.input == value for layer in plan.layers):
        return True
    return any(v in plan.points for v in node.results)


def _stored(plan: Placement, value: Value) -> list[bool]:
    return [_reads_stored(plan, node, value) for node in plan.users.get(value, [])]


def _in_float(plan: Placement, value: Value) -> bool:
    """Whether something else reads it, too."""
    return value in plan.graph.outputs or not all(_stored(plan, value))
