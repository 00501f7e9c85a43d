"""Writes a quantized graph: QuantizeLinear and DequantizeLinear around what is kept in 8 bits, integer weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..ir import Graph, Node, Value
from ..layers import constant
from ..op import build, const, rebuild
from ..ops.common import Tensor
from .placement import Placement
from .ranges import Scale
from .weights import Weights, bias_scale


def quantized_graph(plan: Placement, scales: Mapping[Value, Scale], weights: Mapping[Node, Weights]) -> Graph:
    """The graph of `plan` with a scale for each of its points and weights for each of its layers."""
    return Writer(plan, scales, weights).graph()


class Writer:
    """Rebuilds a graph; `new` maps values of the old one to those that stand for them."""

    def __init__(self, plan: Placement, scales: Mapping[Value, Scale], weights: Mapping[Node, Weights]) -> None:
        self.plan, self.scales, self.weights = plan, scales, weights
        self.new: dict[Value, Value] = {}
        self.parameters: dict[Scale, tuple[Value, Value]] = {}
        self.layers = {layer.node: layer for layer in plan.layers}
        self.adds = {layer.value.node: layer for layer in plan.layers if layer.value.node != layer.node}

    def graph(self) -> Graph:
        for node in self.plan.graph.nodes():
            results = self._node(node).results
            if node.op == "Mul" and (same := _times_ones(node)) is not None:
                results = (self.new[same],)
            for was, now in zip(node.results, results, strict=True):
                self.new[was] = self._stored(was, now) if was in self.scales else now
        graph = self.plan.graph
        outputs = tuple(self.new[v] for v in graph.outputs)
        names = tuple(name for name, _ in graph.results)
        return replace(graph, outputs=outputs, output_names=names)

    def _node(self, node: Node) -> Node:
        args = [self.new[a] for a in node.args]
        layer = self.layers.get(node)
        if layer is not None:
            args[1] = self._weights(node, self.weights[node])
            if len(args) > 2:
                args[2] = self._bias(node.args[2], self.weights[node], self.scales[layer.input])
        elif node in self.adds:
            layer = self.adds[node]
            place = 1 - node.args.index(Value(layer.node))
            args[place] = self._bias(node.args[place], self.weights[layer.node], self.scales[layer.input])
        return node if tuple(args) == node.args else rebuild(node, args)

    def _stored(self, was: Value, now: Value) -> Value:
        scale = self.scales[was]
        if scale not in self.parameters:
            self.parameters[scale] = const(np.float32(scale.scale)), const(np.uint8(scale.zero))
        real, zero = self.parameters[scale]
        origin = was.node.origin
        q = build("QuantizeLinear", now, real, zero, origin=origin, label=f"{was.name}.q", axis=0)
        return build("DequantizeLinear", q, real, zero, origin=origin, label=f"{was.name}.real", axis=0)

    def _weights(self, node: Node, w: Weights) -> Value:
        return _real(w.stored, w.scale, w.axis, node.args[1])

    def _bias(self, was: Value, w: Weights, x: Scale) -> Value:
        assert w.bias is not None
        return _real(w.bias, bias_scale(w.scale, x.scale, len(w.bias)), 0, was)


def _times_ones(node: Node) -> Value | None:
    """The argument that a product with ones leaves as it is: a copy for readers in 8 bits that got no factors."""
    for value, other in (node.args, node.args[::-1]):
        ones = constant(other)
        if ones is not None and value.type == node.types[0] and (ones == 1).all():
            return value
    return None


def _real(stored: Tensor, scale: Tensor, axis: int, was: Value) -> Value:
    """What integers stand for, under the name of the constant that they replace."""
    name, origin = was.name, was.node.origin
    zero = const(np.zeros(scale.shape, stored.dtype))
    whole = const(stored, f"{name}.q" if name else "", origin)
    return build("DequantizeLinear", whole, const(scale), zero, origin=origin, label=name, axis=axis)
