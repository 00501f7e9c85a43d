"""Functions of one quantized tensor as tables: whatever becomes of its bytes, until they are bytes again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgec.compiler.ir import Array, Node, Value
from edgec.compiler.op import OPS, const_array, evaluate, is_const
from edgec.compiler.ops.integer import BYTES

LONGEST = 24  # nodes of a function


class _Walk:
    """What a value is computed from: tensors of bytes, and the nodes after them, in order."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.sources: dict[Value, None] = {}
        self.nodes: dict[Node, None] = {}

    def visit(self, value: Value) -> bool:
        """False where a value is no function of elements at its own place. Constants of one element are part of it."""
        node = value.node
        if node in self.nodes:
            return True
        if is_const(value):
            return value.type.size == 1
        if value.type.dtype in BYTES:
            self.sources[value] = None
            return value.shape == self.shape
        return self.enter(node)

    def enter(self, node: Node) -> bool:
        if OPS[node.op].kind != "elementwise" or len(node.types) != 1 or len(self.nodes) >= LONGEST:
            return False
        if not all(map(self.visit, node.args)):
            return False
        self.nodes[node] = None
        return True


def function_of_one(value: Value, place: Mapping[Node, int]) -> tuple[Value, list[Node]] | None:
    """The one tensor of bytes that a real value is computed from, and the nodes after it; `place` numbers all nodes.

    Where there are several, those that come from another through QuantizeLinear belong to the function.
    """
    walk = _Walk(value.shape)
    if not walk.visit(value):
        return None
    while len(walk.sources) > 1:
        last = max(walk.sources, key=lambda v: place[v.node])
        if last.node.op != "QuantizeLinear":
            return None
        del walk.sources[last]
        if not walk.enter(last.node):
            return None
    return (next(iter(walk.sources)), sorted(walk.nodes, key=place.__getitem__)) if walk.sources else None


def tabulated(source: Value, nodes: list[Node], every: Array) -> Array:
    """What the last of `nodes` gives for each of `every` byte of `source`."""
    known: dict[Value, Array] = {source: every}
    for node in nodes:
        args = [_constant(a) if is_const(a) else known[a] for a in node.args]
        (known[Value(node)],) = evaluate(node, args)
    return np.broadcast_to(known[Value(nodes[-1])], every.shape)


def _constant(value: Value) -> Array:
    """One number in no dimension; a table as it is."""
    array: Array = const_array(value)
    return array.reshape(()) if array.size == 1 else array
