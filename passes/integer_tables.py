"""Functions of one quantized tensor as tables: whatever stands between DequantizeLinear and QuantizeLinear."""

from __future__ import annotations

import numpy as np

from edgec.compiler.ir import Array, Node, Value
from edgec.compiler.op import OPS, const_array, evaluate, is_const

LONGEST = 24  # nodes of a function


def function_of_one(value: Value) -> tuple[Node, list[Node]] | None:
    """The only DequantizeLinear that a value is computed from, element by element, and the nodes after it in order.

    Constants of one element are part of the function.
    """
    sources: set[Node] = set()
    nodes: list[Node] = []
    seen: set[Node] = set()

    def visit(v: Value) -> bool:
        node = v.node
        if node in seen or node in sources:
            return True
        if is_const(v):
            return v.type.size == 1
        if node.op == "DequantizeLinear" and not is_const(node.args[0]):
            sources.add(node)
            return len(sources) == 1 and node.types[0].shape == value.shape
        if OPS[node.op].kind != "elementwise" or node.op == "QuantizeLinear" or len(seen) >= LONGEST:
            return False
        seen.add(node)
        if not all(visit(a) for a in node.args):
            return False
        nodes.append(node)
        return True

    if not visit(value) or len(sources) != 1 or not nodes:
        return None
    return sources.pop(), nodes


def tabulated(source: Node, nodes: list[Node], end: Node, every: Array) -> Array:
    """What `end`, a QuantizeLinear, gives for each of `every`, the real numbers that `source` can be."""
    known: dict[Value, Array] = {Value(source): every}

    def of(value: Value) -> Array:
        return const_array(value).reshape(()) if is_const(value) else known[value]

    for node in nodes:
        (known[Value(node)],) = evaluate(node, [of(a) for a in node.args])
    (result,) = evaluate(end, [np.broadcast_to(of(end.args[0]), every.shape), *(of(a) for a in end.args[1:])])
    return result
