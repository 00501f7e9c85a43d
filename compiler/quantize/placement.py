"""Decides which values of a float graph are kept in 8 bits, and which of them share a scale.

A layer (convolution or matrix product by constants) reads 8 bits. What lies between layers stays in 8 bits where it
can: sums, products, poolings, functions of one tensor, and maps, which only move elements and so keep the scale. Values
that a kernel holds in its accumulators never get a scale: before Relu or Clip, before a bias, on one side of a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..ir import Graph, Node, Value
from ..layers import LAYERS, Layer, constant, data_args, layers_of
from ..op import OPS, evaluate, full_attrs
from ..ops.common import Tensor
from .statistics import spread, steep

# Each element of the result is one of the argument, or zero.
MAPS = frozenset(
    "Reshape Transpose Slice Split Expand Tile Gather DepthToSpace SpaceToDepth MaxPool Edgec.Layout".split()
)
FOLDED = frozenset(["Relu", "Clip"])  # limits of the range that a kernel stores
MEANS = frozenset(["AveragePool", "ReduceMean"])
NOT_FUNCTIONS = frozenset(["QuantizeLinear", "DequantizeLinear", "Cast", "BitCast", "Where"])
SHRINKS = 16  # a mean over so many elements is cheaper on 8 bits even where its result stays a float


@dataclass(frozen=True)
class Group:
    """Values with one scale. `seen` are those whose elements are all the elements that the others hold."""

    values: tuple[Value, ...]
    seen: tuple[Value, ...]


@dataclass
class Placement:
    """What is quantized: `layers` in order, `groups` of values in 8 bits.

    `skipped` layers stay in float; functions of the results of `real` ones are computed on their sums, in float.
    """

    graph: Graph
    skipped: Collection[str] = ()
    real: Collection[str] = ()
    layers: list[Layer] = field(default_factory=list)
    points: set[Value] = field(default_factory=set)
    groups: list[Group] = field(default_factory=list)
    sources: dict[Value, Value] = field(default_factory=dict)
    able: set[Value] = field(default_factory=set)  # what can be computed in 8 bits

    @cached_property
    def spread(self) -> set[Node]:
        """What makes statistics and brings them back to the elements, as a normalization does: it stays f32."""
        return spread(self.graph)

    @cached_property
    def users(self) -> dict[Value, list[Node]]:
        return self.graph.users()

    @cached_property
    def uses(self) -> dict[Value, int]:
        return self.graph.uses()

    @cached_property
    def summed(self) -> set[Value]:
        """Results of the `real` layers."""
        return {layer.value for layer in self.layers if layer.name in self.real or "*" in self.real}

    def function(self, end: Value) -> Callable[[Tensor], Tensor]:
        """The chain of elementwise operators from the source of `end` to it, on any array of elements."""
        source, chain, seen = self.sources[end], list[Node](), set[Node]()

        def walk(value: Value) -> None:
            if value != source and value.node not in seen and constant(value) is None:
                seen.add(value.node)
                for arg in value.node.args:
                    walk(arg)
                chain.append(value.node)

        walk(end)

        def run(x: Tensor) -> Tensor:
            values: dict[Value, Tensor] = {source: x}
            for node in chain:
                args = [values[a] if a in values else np.reshape(_known(a), ()) for a in node.args]
                values[Value(node)] = evaluate(node, args)[0]
            return values[end]

        return run

    def ends(self, source: Value) -> list[Value]:
        """The values in 8 bits that are functions of `source`, itself excepted."""
        return [v for v in self.sources if self.sources[v] == source and v != source and v in self.points]


def _known(value: Value) -> Tensor:
    array = constant(value)
    assert array is not None
    return array


def place(graph: Graph, skipped: Collection[str] = (), real: Collection[str] = ()) -> Placement:
    """Find the layers that are not `skipped`, the values in 8 bits, and the groups of these."""
    plan = Placement(graph, skipped, real)
    found = {layer.node: layer for layer in layers_of(graph)}
    plan.layers = [layer for layer in found.values() if layer.name not in skipped]
    plan.able = _able(plan, found)
    wanted = _wanted(plan, plan.able)
    plan.points = {v for v in wanted if v.type.dtype == "f32" and not _inside(plan, v, wanted)}
    plan.groups = _groups(plan)
    return plan


def given(value: Value) -> Value | None:
    """The input that a value is, or that it is a copy of for readers in 8 bits (branches.py): the product with one."""
    node = value.node
    if node.op == "Mul" and node.args[0].node.op == "Input":
        one = constant(node.args[1])
        return node.args[0] if one is not None and one.shape == () and one == 1 else None
    return value if node.op == "Input" else None


def _able(plan: Placement, found: dict[Node, Layer]) -> set[Value]:
    """Values that can be made in 8 bits. Fills `plan.sources` on the way."""
    able = set[Value]()
    kept = {layer.node for layer in plan.layers}
    biases = {layer.value.node: layer for layer in found.values()}
    for node in plan.graph.nodes():
        for value in node.results:
            plan.sources[value] = value
        if given(Value(node)) is not None and node.types[0].dtype == "f32":
            able.add(Value(node))
            continue
        if node.op in ("Input", "Const") or node in plan.spread or any(t.dtype != "f32" for t in node.types):
            continue
        data = data_args(node)
        if node in found or node in biases:
            if (found.get(node) or biases[node]).node in kept:
                able.update(node.results)
        elif node.op in FOLDED and _computes(plan, data[0]):
            able.update(node.results if data[0] in able else ())
        elif node.op == "Concat":
            able.update(node.results if data == node.args and any(a in able for a in data) else ())
        elif node.op in MAPS or moves(node) or node.op in MEANS or node.op == "Resize":
            able.update(node.results if data and data[0] in able else ())
        elif OPS[node.op].kind == "elementwise" and node.op not in NOT_FUNCTIONS and data:
            _elementwise(plan, node, data, able)
    return able


def _elementwise(plan: Placement, node: Node, data: tuple[Value, ...], able: set[Value]) -> None:
    """A function of one tensor belongs to what it is a function of; sums and products are values of their own."""
    (value,) = node.results
    sources = {plan.sources[a] for a in data}
    uniform = all(_known(a).size == 1 for a in node.args if a not in data)
    if len(sources) == 1 and uniform and value.shape == data[0].shape:
        (plan.sources[value],) = sources
    if not steep(node) and all(a in able and given(plan.sources[a]) is None for a in data):
        able.add(value)


def moves(node: Node) -> bool:
    """Whether a node only moves elements or adds zeros."""
    attrs = full_attrs(node)
    if node.op == "Pad":
        return attrs["mode"] != "constant" or attrs["value"] == 0.0
    if node.op == "Resize":
        inside = attrs["coordinate_transformation_mode"] != "tf_crop_and_resize"
        return bool(attrs["mode"] == "nearest" and (inside or attrs["extrapolation_value"] == 0.0))
    return node.op in MAPS


def _computes(plan: Placement, value: Value) -> bool:
    """Whether a kernel computes the value, so that limits of its range cost nothing, and only one node reads it."""
    node = value.node
    if plan.uses.get(value) != 1 or plan.sources.get(value) != value or given(value) is not None:
        return False
    return node.op in LAYERS or node.op in MEANS or OPS[node.op].kind == "elementwise"


def _wanted(plan: Placement, able: set[Value]) -> set[Value]:
    """Values that somebody reads in 8 bits."""
    layers = {layer.node for layer in plan.layers}
    wanted: set[Value] = set()
    for node in reversed(list(plan.graph.nodes())):
        data = data_args(node)
        if node in layers:
            wanted.add(node.args[0])
        elif node.op in MEANS and node not in plan.spread and _shrinks(node, data[0], able):
            wanted.add(data[0])
        elif any(v in wanted for v in node.results) and given(Value(node)) is None:
            if moves(node) and data:
                wanted.add(data[0])
            elif all(v in able for v in node.results):
                wanted.update(v for v in data if v in able)
    return wanted


def _shrinks(mean: Node, data: Value, able: set[Value]) -> bool:
    """Whether a mean is cheaper on 8 bits of so much data."""
    return data in able and data.type.size >= SHRINKS * mean.types[0].size


def _inside(plan: Placement, value: Value, wanted: set[Value]) -> bool:
    """Whether a wanted value stays inside a kernel: it has no scale."""
    readers = plan.users.get(value, [])
    if value in plan.graph.outputs or not readers:
        return False
    source = plan.sources[value]
    if source != value and all(plan.sources[r] == source for n in readers for r in n.results):
        return True
    if value in plan.summed:
        results = [r for n in readers for r in n.results]
        if all(plan.sources[r] == value and r != value for r in results):
            return True
    if source in plan.summed and source != value and all(_scales_channels(plan, n) for n in readers):
        return True
    if len(readers) > 1 or plan.uses[value] > 1:
        return False
    reader = readers[0]
    (result,) = reader.results[:1]
    if reader.op in FOLDED and plan.sources[result] == result:
        return result in wanted
    if any(value == Value(layer.node) != layer.value for layer in plan.layers):
        return True
    if _by_channel(plan, value, reader):
        return result in wanted
    return reader.op == "Add" and _sum_of_layer(plan, value, reader)


def _scales_channels(plan: Placement, node: Node) -> bool:
    """Whether a node is a product with a factor per channel, which the kernel of its argument computes as well."""
    return node.op == "Mul" and len(data_args(node)) == 1 and plan.sources[Value(node)] == Value(node)


def _by_channel(plan: Placement, value: Value, reader: Node) -> bool:
    """Whether a node computes another function for each channel, a PRelu say, of a layer's sums."""
    function = OPS[reader.op].kind == "elementwise" and reader.op not in NOT_FUNCTIONS
    result, sums = Value(reader), any(value == layer.value for layer in plan.layers)
    return sums and function and data_args(reader) == (value,) and plan.sources[result] == result


def _sum_of_layer(plan: Placement, value: Value, add: Node) -> bool:
    """Of a sum, the argument that its layer's kernel adds the other to: the last layer that nothing else reads."""
    places = {layer.value: k for k, layer in enumerate(plan.layers)}

    def accumulates(v: Value) -> bool:
        return v in places and plan.uses[v] == 1 and v.shape == add.types[0].shape

    if not accumulates(value) or add.args[0] == add.args[1]:
        return False
    (other,) = (a for a in add.args if a != value)
    return not accumulates(other) or places[other] < places[value]


def _groups(plan: Placement) -> list[Group]:
    """Values that maps lead from one to the other share a scale, and so does what only a Concat reads."""
    order = [v for node in plan.graph.nodes() for v in node.results if v in plan.points]
    leader = {v: v for v in order}

    def find(v: Value) -> Value:
        while leader[v] != v:
            v = leader[v]
        return v

    derived: set[Value] = set()
    for value in order:
        for arg in _same_scale(plan, value):
            derived.add(arg if value.node.op == "Concat" else value)
            leader[find(arg)] = find(value)
    groups: dict[Value, list[Value]] = {}
    for value in order:
        groups.setdefault(find(value), []).append(value)
    return [Group(tuple(vs), tuple(v for v in vs if v not in derived) or tuple(vs)) for vs in groups.values()]


def _same_scale(plan: Placement, value: Value) -> Iterable[Value]:
    """The arguments, in 8 bits too, that have the scale of a result."""
    node = value.node
    if node.op == "Concat":
        return [a for a in node.args if a in plan.points and set(plan.users[a]) == {node}]
    if not moves(node):
        return []
    return [a for a in data_args(node)[:1] if a in plan.points]
