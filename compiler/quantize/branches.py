"""Values that are computed in f32 and read in f32 too, as in a residual stream, stay f32 there: only layers read their
8 bits.

A residual stream that is rounded at every normalization gathers noise, which costs accuracy and gains nothing where
the sum is computed in f32 anyway. So layers read a copy, a product with ones; its channels may then be evened out
without regard to the other readers, as SmoothQuant does (Xiao et al., 2023).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..ir import Graph, Node, Value
from ..op import build, const
from .placement import Placement, place

COPY = ".read"


def branched(graph: Graph) -> Graph:
    """The graph with a copy, for its readers in 8 bits, of each value that others read in f32."""
    plan = place(graph)
    shared = {v for v in plan.points if v not in plan.able and _in_float(plan, v) and any(_stored(plan, v))}
    if not shared:
        return graph
    new: dict[Value, Value] = {}
    copies: dict[Value, Value] = {}
    for node in graph.nodes():
        made = replace(node, args=tuple(_argument(plan, node, a, new, copies) for a in node.args))
        made = node if made.args == node.args else made
        for was, now in zip(node.results, made.results, strict=True):
            new[was] = now
            if was in shared:
                copies[was] = _copy(now)
    return graph.with_values(graph.inputs, tuple(new[v] for v in graph.outputs))


def _argument(plan: Placement, node: Node, was: Value, new: dict[Value, Value], copies: dict[Value, Value]) -> Value:
    return copies[was] if was in copies and _reads_stored(plan, node, was) else new[was]


def _copy(value: Value) -> Value:
    """The value times ones along its last axis, where that is what layers sum over."""
    ones = const(np.ones(value.shape[-1:], np.float32))
    return build("Mul", value, ones, origin=value.node.origin, label=f"{value.name}{COPY}")


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
