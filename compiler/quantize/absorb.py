"""Takes what never leaves a channel out of it: a part of the bias under which it hardly falls moves to its readers.

Bias absorption (Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019), with
means and deviations measured: Relu(x) = Relu(x - c) + c wherever x > c, and a constant is a reader's bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..calibration.statistics import Channel
from ..columns import result_axis
from ..ir import Graph, Node, Value
from ..layers import Layer, constant
from ..op import const, ints_attr
from ..ops.common import Tensor
from .placement import Placement

DEVIATIONS = 3.0  # below the mean, down to which a channel is expected to fall
LESS = 0.9  # of the range must be left at most


@dataclass(frozen=True)
class Absorbed:
    """The graph with other biases, and how many layers have them."""

    graph: Graph
    layers: int


def absorbed(plan: Placement, measured: Mapping[Value, Channel]) -> Absorbed:
    """Biases moved from layers to the readers of their results, where ranges shrink by it."""
    biases = {layer.node: bias for layer in plan.layers if (bias := _bias(plan, layer)) is not None}
    changes: dict[Value, Tensor] = {}
    count = 0
    for layer in plan.layers:
        readers = _readers(plan, layer, biases)
        if layer.node not in biases or not readers or layer.value not in measured:
            continue
        constant_part = _under(measured[layer.value])
        if constant_part is None:
            continue
        _add(changes, biases[layer.node], -constant_part)
        for reader in readers:
            _add(changes, biases[reader.node], _through(reader, constant_part))
        count += 1
    return Absorbed(_with_biases(plan.graph, changes), count)


def _bias(plan: Placement, layer: Layer) -> Value | None:
    """The constant that is a layer's bias alone."""
    node = layer.value.node
    if layer.bias is None:
        return None
    found = node.args[1 - node.args.index(Value(layer.node))] if node != layer.node else node.args[2]
    return found if found.node.op == "Const" and plan.uses[found] == 1 else None


def _readers(plan: Placement, layer: Layer, biases: Mapping[Node, Value]) -> list[Layer]:
    """The layers that read a layer's result behind a Relu, if they are all that does, and read no padding."""
    users = plan.users.get(layer.value, [])
    if len(users) != 1 or users[0].op != "Relu" or layer.value in plan.graph.outputs:
        return []
    behind = Value(users[0])
    nodes = plan.users.get(behind, [])
    found = [other for other in plan.layers if other.node in nodes and other.input == behind]
    whole = len(found) == len(nodes) and behind not in plan.graph.outputs and behind in plan.points
    return (
        found
        if whole and all(other.node in biases and _even(other, result_axis(layer.node)) for other in found)
        else []
    )


def _even(layer: Layer, axis: int) -> bool:
    """Whether a constant of an input channel is one of each output channel, wherever the window is."""
    if layer.node.op == "MatMul":
        return layer.weights.ndim == 2 and axis == len(layer.input.shape) - 1
    return layer.node.op == "Conv" and axis == 1 and not any(ints_attr(layer.node, "pads"))


def _under(channel: Channel) -> Tensor | None:
    """What channels hardly fall below; None where the range would stay about what it is."""
    floor = np.maximum(channel.mean / max(channel.count, 1) - DEVIATIONS * np.sqrt(channel.variance), 0.0)
    if not floor.any() or (channel.largest - floor).max() > LESS * channel.largest.max():
        return None
    return np.asarray(floor)


def _through(reader: Layer, values: Tensor) -> Tensor:
    """What a constant per input channel adds to each output channel."""
    w = reader.weights.astype(np.float64)
    if reader.node.op == "MatMul":
        return np.asarray(values @ w)
    sums = w.reshape(*w.shape[:2], -1).sum(-1)
    groups = len(values) // w.shape[1]
    parts = values.reshape(groups, 1, -1) * sums.reshape(groups, -1, w.shape[1])
    return np.asarray(parts.sum(-1).reshape(-1))


def _add(changes: dict[Value, Tensor], bias: Value, by: Tensor) -> None:
    changes[bias] = changes.get(bias, np.zeros(1)) + by


def _with_biases(graph: Graph, changes: Mapping[Value, Tensor]) -> Graph:
    def changed(node: Node) -> Value | None:
        by = changes.get(Value(node)) if node.op == "Const" else None
        if by is None:
            return None
        was = constant(Value(node))
        assert was is not None
        return const((was + by.reshape(was.shape)).astype(np.float32), node.name, node.origin)

    return graph.map(changed)
