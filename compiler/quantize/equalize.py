"""Evens out the ranges of channels that share a scale: a factor moves from where a channel is made to where it is read.

Cross-layer equalization (Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019),
with measured ranges of activations, because weights have a scale per channel anyway; behind a normalization it is what
SmoothQuant does (Xiao et al., 2023). Behind a function such as x * sigmoid(x), with which factors do not commute, the
factor is a multiplication of its own, and the function is computed on the sums: only where that gains much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..ir import Array, Graph, Node, Value
from ..op import build, const, full_attrs, rebuild
from .channels import Channelled
from .placement import Layer, Placement, channel_axis
from .statistics import Channel

DEEPEST = 2.0**-10  # factors of a tensor's channels differ by no more
STRENGTH = 1.0
ROOM = 1.5
GAIN = 4.0  # of noise, for which a function is computed in float


@dataclass(frozen=True)
class Equalized:
    """The graph with other weights, the layers whose functions are to be computed in float, and remarks."""

    graph: Graph
    real: frozenset[str]


def axes_of(plan: Placement, channels: Channelled) -> dict[Value, int]:
    """What must be measured: values in 8 bits with channels, and the results of layers."""
    axes = {v: channels.of[v][0] for v in plan.points if v in channels.of}
    axes.update({layer.value: channel_axis(layer) for layer in plan.layers})
    return axes


def equalize(
    plan: Placement, channels: Channelled, measured: Mapping[Value, Channel], strength: float = STRENGTH
) -> Equalized:
    """Factors for all channels that are free, moved into weights."""
    factors, real = _factors(plan, channels, measured, strength)
    return Equalized(_Mover(plan, channels, factors).graph(), frozenset(real))


def _factors(
    plan: Placement, channels: Channelled, measured: Mapping[Value, Channel], strength: float
) -> tuple[Array, set[str]]:
    """A factor for each channel number, 1 where it is pinned."""
    real = _functions(plan, channels, measured)
    count = len(channels.parent)
    roots = channels.root(np.arange(count))
    reach, largest = np.zeros(count), np.zeros(count)
    for value, (_, numbers) in channels.of.items():
        if value in measured and value in plan.points:
            far = _reach(value, measured[value])
            np.maximum.at(reach, roots[numbers], far)
            np.maximum.at(largest, roots[numbers], far.max(initial=0.0))
    free = channels.free(np.arange(count)) & (largest[roots] > 0)
    factor = np.ones(count)
    share = np.maximum(reach[roots] / np.maximum(largest[roots], 1e-30), DEEPEST)
    factor[free] = (share**strength * largest[roots])[free]
    for value, (_, numbers) in channels.of.items():  # limits must be one number for all channels
        if value.node.op == "Clip" and not _clips(value, factor[numbers], measured.get(value)):
            channels.pinned.update(map(int, numbers))
            return _factors(plan, channels, measured, strength)
    return factor, real


def _reach(value: Value, measured: Channel) -> Array:
    """How far channels reach; where limits become one number for all of them, with room for what did not come."""
    if value.node.op != "Clip":
        return measured.reach
    return np.minimum(ROOM * measured.largest, float(str(full_attrs(value.node)["max"])))


def _clips(value: Value, factors: Array, measured: Channel | None) -> bool:
    """Whether one limit for all scaled channels cuts off nothing but what the old one cut off, or what never came."""
    limit = float(str(full_attrs(value.node)["max"]))
    if limit == np.inf or (factors == factors[0]).all():
        return True
    if measured is None:
        return False
    return bool((measured.largest <= limit / factors.max() * factors * 1.5).all())


def _functions(plan: Placement, channels: Channelled, measured: Mapping[Value, Channel]) -> set[str]:
    """Layers whose functions gain enough; the channels of the others are pinned."""
    real: set[str] = set()
    layers = {layer.value: layer for layer in plan.layers}
    for value in channels.made:
        source = plan.sources.get(value, value)
        if source == value or source not in layers:
            continue
        numbers = channels.of[value][1]
        if channels.free(numbers).all() and _gain(plan, channels, value, measured) > GAIN:
            real.add(layers[source].name)
        else:
            channels.pinned.update(map(int, numbers))
    return real


def _gain(plan: Placement, channels: Channelled, value: Value, measured: Mapping[Value, Channel]) -> float:
    """How many times less noise the layers that read the channels of a value get from it."""
    roots = channels.root(channels.of[value][1])
    before = after = 0.0
    for layer in plan.layers:
        x = layer.input
        if x not in channels.of or not np.isin(channels.root(channels.of[x][1]), roots).any():
            continue
        reach, weight = measured[x].reach, importance(layer, measured[layer.value])
        before += float((weight * reach.max() ** 2).sum())
        after += float((weight * reach**2).sum())
    return before / after if after > 0 else 1.0


def importance(layer: Layer, result: Channel) -> Array:
    """How much noise in an input channel disturbs the result, relative to what varies there."""
    squares = np.square(per_input(layer, layer.weights.astype(np.float64)))
    return np.asarray((squares / np.maximum(result.variance, 1e-12)[:, None]).sum(0))


def per_input(layer: Layer, weights: Array) -> Array:
    """Root of the sum of squares of the weights that lead from each input channel to each output channel."""
    w = weights
    if layer.node.op == "MatMul":
        return np.asarray(np.abs(np.moveaxis(w, -1, 0).reshape(w.shape[-1], -1, w.shape[-2])).max(1))
    squares = np.sqrt(np.square(w).reshape(*w.shape[:2], -1).sum(-1))
    group = int(str(full_attrs(layer.node)["group"]))
    if layer.node.op == "ConvTranspose":
        out = np.zeros((w.shape[1] * group, w.shape[0]))
        for g, rows in enumerate(np.split(np.arange(w.shape[0]), group)):
            out[np.ix_(range(g * w.shape[1], (g + 1) * w.shape[1]), rows)] = squares[rows].T
        return out
    out = np.zeros((w.shape[0], w.shape[1] * group))
    for g, rows in enumerate(np.split(np.arange(w.shape[0]), group)):
        out[np.ix_(rows, range(g * w.shape[1], (g + 1) * w.shape[1]))] = squares[rows]
    return out


class _Mover:
    """Rebuilds the graph with factors in its weights."""

    def __init__(self, plan: Placement, channels: Channelled, factors: Array) -> None:
        self.plan, self.channels = plan, channels
        self.factors = factors[channels.root(np.arange(len(factors)))]
        self.layers = {layer.node: layer for layer in plan.layers}
        self.adds = {layer.value.node: layer for layer in plan.layers if layer.value.node != layer.node}
        self.new: dict[Value, Value] = {}

    def graph(self) -> Graph:
        made = set(self.channels.made)
        graph = self.plan.graph
        for node in graph.nodes():
            for was, now in zip(node.results, self._node(node).results, strict=True):
                function = was in made and self.plan.sources.get(was, was) != was
                self.new[was] = self._multiplied(was, now) if function else now
        outputs = tuple(self.new[v] for v in graph.outputs)
        return replace(graph, outputs=outputs, output_names=tuple(name for name, _ in graph.results))

    def of(self, value: Value) -> Array:
        found = self.channels.of.get(value)
        return np.ones(1) if found is None else self.factors[found[1]]

    def _node(self, node: Node) -> Node:
        args = [self.new[a] for a in node.args]
        if node in self.layers:
            return rebuild(node, self._layer(self.layers[node], args))
        if node in self.adds:
            layer = self.adds[node]
            place = 1 - node.args.index(Value(layer.node))
            args[place] = _scaled(args[place], layer.bias, 1 / self.of(layer.value))
            return rebuild(node, args)
        if node.op == "LayerNormalization" and Value(node) in self.channels.of:
            for k in (1, 2):
                args[k] = _divided(args[k], self.of(Value(node)))
        if node.op == "Clip" and Value(node) in self.channels.of:
            factors = self.of(Value(node))
            limit = float(str(full_attrs(node)["max"]))
            return rebuild(node, args, max=limit / float(factors.max()))
        return node if tuple(args) == node.args else rebuild(node, args)

    def _layer(self, layer: Layer, args: list[Value]) -> list[Value]:
        read, made = self.of(layer.input), self.of(layer.value)
        weights = scaled_weights(layer, read, 1 / made)
        args[1] = _scaled(args[1], weights, np.ones(1))
        if layer.bias is not None and len(args) > 2:
            args[2] = _scaled(args[2], layer.bias, 1 / made)
        return args

    def _multiplied(self, was: Value, now: Value) -> Value:
        axis, _ = self.channels.of[was]
        factors = self.of(was)
        if (factors == 1).all():
            return now
        shape = [-1 if k == axis else 1 for k in range(len(was.shape))]
        inverse = const((1 / factors).astype(np.float32).reshape(shape))
        return build("Mul", now, inverse, origin=was.node.origin, label=f"{was.name}.even")


def scaled_weights(layer: Layer, read: Array, made: Array) -> Array:
    """Weights times a factor per input channel and one per output channel."""
    w = layer.weights.astype(np.float64)
    inputs = w.shape[-2] if layer.node.op == "MatMul" else layer.input.shape[1]
    read, made = np.broadcast_to(read, inputs), np.broadcast_to(made, layer.value.shape[channel_axis(layer)])
    tail = (1,) * (w.ndim - 2)
    if layer.node.op == "MatMul":
        return np.asarray(w * read[:, None] * made, np.float32)
    group = int(str(full_attrs(layer.node)["group"]))
    if layer.node.op == "ConvTranspose":
        rows = np.repeat(made.reshape(group, 1, -1), w.shape[0] // group, 1).reshape(w.shape[0], -1)
        return np.asarray(w * read.reshape(-1, 1, *tail) * rows.reshape(*rows.shape, *tail), np.float32)
    columns = np.repeat(read.reshape(group, 1, -1), w.shape[0] // group, 1).reshape(w.shape[0], -1)
    return np.asarray(w * made.reshape(-1, 1, *tail) * columns.reshape(*columns.shape, *tail), np.float32)


def _scaled(was: Value, array: Array | None, factors: Array) -> Value:
    assert array is not None
    made = (array * factors).astype(np.float32)
    return const(made, was.name, was.node.origin)


def _divided(was: Value, factors: Array) -> Value:
    from .placement import constant

    array = constant(was)
    assert array is not None
    return const((array / factors).astype(np.float32), was.name, was.node.origin)
