"""Evens out the ranges of channels that share a scale: a factor moves from where a channel is made to where it is read.

Cross-layer equalization (Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019),
with measured ranges of activations, because weights have a scale per channel anyway; behind a normalization it is what
SmoothQuant does (Xiao et al., 2023). Behind a function such as x * sigmoid(x), with which factors do not commute, the
factor is a multiplication of its own, and the function is computed on the sums: only where that gains much.

Behind a Clip, such as Relu6, a factor is exact as long as the channel stays within the limits: it is never so small
that what the channel is expected to reach would be cut off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..calibration.statistics import Channel
from ..columns import result_axis
from ..ir import Graph, Node, Value
from ..layers import Layer, constant
from ..op import build, const, full_attrs, rebuild
from ..ops.common import Tensor
from .channels import Channelled
from .placement import Placement
from .ranges import LEVELS
from .weights import MOST

DEEPEST = 2.0**-10  # factors of a tensor's channels differ by no more
STRENGTHS = (0.5, 1.0)
QUIET = 1e-2  # of the mean variance, that noise in a channel counts against at least
LESS = 0.8  # of the noise must be left at most, for factors to be moved
MUCH_LESS = 0.3  # for a function to be computed in float


@dataclass(frozen=True)
class Equalized:
    """The graph with other weights, the layers whose functions are to be computed in float, and remarks."""

    graph: Graph
    real: frozenset[str]


def axes_of(plan: Placement, channels: Channelled) -> dict[Value, int]:
    """What must be measured: values in 8 bits with channels, and the results of Clips and of layers."""
    axes = {v: channels.of[v][0] for v in plan.points if v in channels.of}
    axes.update({v: channels.of[v][0] for v in channels.limits})
    axes.update({layer.value: result_axis(layer.node) for layer in plan.layers})
    return axes


def equalize(plan: Placement, channels: Channelled, measured: Mapping[Value, Channel]) -> Equalized:
    """Factors for the channels whose readers get less noise by them, moved into weights."""
    factors = np.ones(len(channels.parent))
    real: set[str] = set()
    for values in _components(plan, channels, measured):
        found, names = _chosen(plan, channels, measured, values)
        if found is not None:
            factors[found != 1] = found[found != 1]
            real |= names
    return Equalized(_Mover(plan, channels, factors).graph(), frozenset(real))


def _components(plan: Placement, channels: Channelled, measured: Mapping[Value, Channel]) -> list[list[Value]]:
    """Measured values in 8 bits, those with channels in common together, where all channels are free."""
    owner: dict[int, int] = {}
    parts: dict[int, list[Value]] = {}
    for number, (value, (_, numbers)) in enumerate(channels.of.items()):
        if value not in measured or value not in plan.points:
            continue
        roots = {int(r) for r in channels.root(numbers)}
        parts[number] = [value]
        for old in {owner[r] for r in roots if r in owner}:
            parts[number] = parts.pop(old) + parts[number]
            owner.update({r: number for r, o in owner.items() if o == old})
        owner.update(dict.fromkeys(roots, number))
    return [p for p in parts.values() if all(channels.free(channels.of[v][1]).all() for v in p)]


def _chosen(
    plan: Placement, channels: Channelled, measured: Mapping[Value, Channel], values: list[Value]
) -> tuple[Tensor | None, set[str]]:
    """Factors by channel number with the least noise, and the layers whose functions they make real; None for none."""
    count = len(channels.parent)
    roots = channels.root(np.arange(count))
    reach = np.zeros(count)
    for value in values:
        np.maximum.at(reach, roots[channels.of[value][1]], measured[value].reach)
    made = {v for v in channels.made if set(roots[channels.of[v][1]].tolist()) & set(np.flatnonzero(reach).tolist())}
    layers = {layer.value: layer.name for layer in plan.layers}
    functions = {layers[s] for v in made if (s := plan.sources.get(v, v)) != v and s in layers}
    readers = [layer for layer in plan.layers if layer.input in values]
    best, found = _noise(channels, measured, readers, np.ones(count)), None
    best *= MUCH_LESS if functions else LESS
    floor = _floor(channels, measured, roots)
    for strength in STRENGTHS:
        share = np.maximum(reach[roots] / max(reach.max(), 1e-30), DEEPEST) ** strength
        factors = np.where(reach[roots] > 0, np.maximum(share, floor[roots]), 1.0)
        noise = _noise(channels, measured, readers, factors)
        if noise < best:
            best, found = noise, factors
    return found, functions if found is not None else set()


def _floor(channels: Channelled, measured: Mapping[Value, Channel], roots: Tensor) -> Tensor:
    """The least factor of each channel with which what it reaches stays within the limits of the Clips on its way."""
    floor = np.zeros(len(roots))
    for value, limit in channels.limits.items():
        np.maximum.at(floor, roots[channels.of[value][1]], np.minimum(measured[value].bound / limit, 1.0))
    return floor


def _noise(channels: Channelled, measured: Mapping[Value, Channel], readers: Sequence[Layer], factors: Tensor) -> float:
    """Noise in the results of layers, relative to what varies there: of their inputs' 8 bits, and of their weights'."""
    total = 0.0
    for layer in readers:
        x, y = measured[layer.input], measured[layer.value]
        scale = factors[channels.of[layer.input][1]]
        step = float((x.reach / scale).max()) / LEVELS * scale
        moved = scaled_weights(layer, scale, np.ones(1)).astype(np.float64)
        others = tuple(k for k in range(moved.ndim) if k != layer.axis)
        unit = np.maximum(np.abs(moved).max(axis=others, keepdims=True) / MOST, 1e-30)
        lost = scaled_weights(replace(layer, weights=(np.rint(moved / unit) * unit - moved)), 1 / scale, np.ones(1))
        square = x.square / max(x.count, 1)
        noise = np.square(per_input(layer, layer.weights.astype(np.float64))) * np.minimum(step**2 / 12, square)
        noise += np.square(per_input(layer, lost.astype(np.float64))) * square
        total += float((noise.sum(1) / np.maximum(y.variance, QUIET * y.variance.mean() + 1e-12)).mean())
    return total


def per_input(layer: Layer, weights: Tensor) -> Tensor:
    """Root of the sum of squares of the weights that lead from each input channel to each output channel."""
    w = weights
    if layer.node.op == "MatMul":
        return np.asarray(np.abs(np.moveaxis(w, -1, 0).reshape(w.shape[-1], -1, w.shape[-2])).max(1))
    squares = np.sqrt(np.square(w).reshape(*w.shape[:2], -1).sum(-1))
    group = int(str(full_attrs(layer.node)["group"]))
    if layer.node.op == "ConvTranspose":
        out = np.zeros((w.shape[1] * group, w.shape[0]))
        for g, rows in enumerate(np.split(np.arange(w.shape[0]), group)):
            out[np.ix_(np.arange(g * w.shape[1], (g + 1) * w.shape[1]), rows)] = squares[rows].T
        return out
    out = np.zeros((w.shape[0], w.shape[1] * group))
    for g, rows in enumerate(np.split(np.arange(w.shape[0]), group)):
        out[np.ix_(rows, np.arange(g * w.shape[1], (g + 1) * w.shape[1]))] = squares[rows]
    return out


class _Mover:
    """Rebuilds the graph with factors in its weights."""

    def __init__(self, plan: Placement, channels: Channelled, factors: Tensor) -> None:
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

    def of(self, value: Value) -> Tensor:
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
        if node.op == "Mul" and Value(node) in self.channels.made and self.plan.sources[Value(node)] == Value(node):
            k = next(k for k, a in enumerate(node.args) if constant(a) is not None)
            args[k] = _divided(args[k], self.of(Value(node)))
        return node if tuple(args) == node.args else rebuild(node, args)

    def _layer(self, layer: Layer, args: list[Value]) -> list[Value]:
        read = self.of(layer.input) if self.channels.reads(layer) else np.ones(1)
        made = self.of(layer.value)
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


def scaled_weights(layer: Layer, read: Tensor, made: Tensor) -> Tensor:
    """Weights times a factor per input channel and one per output channel."""
    w = layer.weights.astype(np.float64)
    inputs = w.shape[-2] if layer.node.op == "MatMul" else layer.input.shape[1]
    read, made = np.broadcast_to(read, inputs), np.broadcast_to(made, layer.value.shape[result_axis(layer.node)])
    tail = (1,) * (w.ndim - 2)
    if layer.node.op == "MatMul":
        return np.asarray(w * read[:, None] * made, np.float32)
    group = int(str(full_attrs(layer.node)["group"]))
    if layer.node.op == "ConvTranspose":
        rows = np.repeat(made.reshape(group, 1, -1), w.shape[0] // group, 1).reshape(w.shape[0], -1)
        return np.asarray(w * read.reshape(-1, 1, *tail) * rows.reshape(*rows.shape, *tail), np.float32)
    columns = np.repeat(read.reshape(group, 1, -1), w.shape[0] // group, 1).reshape(w.shape[0], -1)
    return np.asarray(w * made.reshape(-1, 1, *tail) * columns.reshape(*columns.shape, *tail), np.float32)


def _scaled(was: Value, array: Tensor | None, factors: Tensor) -> Value:
    assert array is not None
    made = (array * factors).astype(np.float32)
    return const(made, was.name, was.node.origin)


def _divided(was: Value, factors: Tensor) -> Value:
    array = constant(was)
    assert array is not None
    return const((array / factors).astype(np.float32), was.name, was.node.origin)
