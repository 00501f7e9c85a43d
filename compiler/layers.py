"""Layers: convolutions and matrix products by constants, which quantization and compression change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .ir import Graph, Node, Value
from .op import const_array, evaluate, is_const
from .ops.common import Tensor

LAYERS = frozenset(["Conv", "ConvTranspose", "MatMul"])


@dataclass(frozen=True)
class Layer:
    """A node with constant weights: `value` is what its kernel computes first, its bias included."""

    node: Node
    weights: Tensor
    axis: int  # of the weights, along which each output channel has a scale
    bias: Tensor | None  # what is added per output channel
    value: Value  # the node's result, or that of the Add behind a matrix product

    @property
    def name(self) -> str:
        return self.node.name or (self.node.origin[-1] if self.node.origin else self.node.op)

    @property
    def input(self) -> Value:
        return self.node.args[0]


def constant(value: Value) -> Tensor | None:
    """The array of a constant, also of one that is stored in a narrower type; None for what is computed."""
    if is_const(value):
        return const_array(value)
    if value.node.op == "Cast" and is_const(value.node.args[0]):
        return evaluate(value.node, [const_array(value.node.args[0])])[0]
    return None


def layers_of(graph: Graph) -> list[Layer]:
    """Every node that can be a layer, in order."""
    uses, users = graph.uses(), graph.users()
    found = (_layer(node, uses, users) for node in graph.nodes() if node.op in LAYERS)
    return [layer for layer in found if layer is not None]


def _layer(node: Node, uses: dict[Value, int], users: dict[Value, list[Node]]) -> Layer | None:
    weights = constant(node.args[1])
    value = Value(node)
    if weights is None or value.type.dtype != "f32" or constant(node.args[0]) is not None:
        return None
    if node.op != "MatMul":
        bias = constant(node.args[2])
        return None if bias is None else Layer(node, weights, 0 if node.op == "Conv" else 1, bias, value)
    if weights.ndim < 2 or len(node.args[0].shape) < 2:
        return None
    add = users[value][0] if uses.get(value) == 1 and users.get(value) else None
    if add is not None and add.op == "Add" and add.types[0].shape == value.shape:
        other = next((constant(a) for a in add.args if a != value), None)
        if other is not None and other.size in (1, weights.shape[-1]) and max(other.shape[:-1], default=1) == 1:
            bias = np.broadcast_to(other.reshape(-1), weights.shape[-1:])
            return Layer(node, weights, weights.ndim - 1, bias, Value(add))
    return Layer(node, weights, weights.ndim - 1, None, value)


def data_args(node: Node) -> tuple[Value, ...]:
    """The arguments that are computed."""
    return tuple(a for a in node.args if constant(a) is None)
