"""Follows channels through a graph: which of them must have one scale if a factor is to move from where a channel is
made to where it is read.

A channel is made by a layer, a normalization or a function; it is read by layers. On the way it may pass operators that
commute with a positive factor: Relu, sums, poolings, maps. Whatever else reads it pins it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from ..columns import result_axis
from ..ir import Node, Value
from ..layers import Layer, constant, data_args
from ..op import full_attrs, int_attr, ints_attr
from ..ops.common import Tensor
from .placement import Placement

Channels = tuple[int, Tensor]  # the axis, and a number for each channel along it


class Channelled:
    """`of[value]`: its channels; `made[value]`: what makes them; `root(numbers)` joins those that share a factor."""

    def __init__(self, plan: Placement) -> None:
        self.plan = plan
        self.of: dict[Value, Channels] = {}
        self.made: list[Value] = []
        self.parent = np.zeros(0, np.int64)
        self.pinned: set[int] = set()
        self.limits: dict[Value, float] = {}  # results of Clips, and what these cut off
        self._layers = {layer.value: layer for layer in plan.layers}
        self._firsts = {layer.node: layer for layer in plan.layers}
        for node in plan.graph.nodes():
            self._visit(node)
        for value in plan.graph.outputs:
            self._pin(value)

    def root(self, numbers: Tensor) -> Tensor:
        """The representative of each channel."""
        found = numbers
        while True:
            above = self.parent[found]
            if (above == found).all():
                return found
            found = above

    def free(self, numbers: Tensor) -> Tensor:
        """Whether the factor of a channel may be chosen."""
        pinned = self.root(np.asarray(sorted(self.pinned), np.int64)) if self.pinned else np.zeros(0, np.int64)
        return ~np.isin(self.root(numbers), pinned)

    def _make(self, value: Value, axis: int) -> None:
        count, start = value.shape[axis], len(self.parent)
        numbers = np.arange(start, start + count)
        self.parent = np.concatenate([self.parent, numbers])
        self.of[value] = (axis, numbers)
        self.made.append(value)

    def _join(self, a: Tensor, b: Tensor) -> None:
        for x, y in zip(self.root(a), self.root(b), strict=True):
            x, y = int(self.root(np.asarray([x]))[0]), int(self.root(np.asarray([y]))[0])
            self.parent[max(x, y)] = min(x, y)

    def _pin(self, *values: Value) -> None:
        for value in values:
            if value in self.of:
                self.pinned.update(map(int, self.of[value][1]))

    def _visit(self, node: Node) -> None:
        results = node.results
        layer = self._firsts.get(node)
        if layer is not None:
            if not self.reads(layer):
                self._pin(layer.input)
            if layer.value == Value(node):
                self._make(layer.value, result_axis(layer.node))
            return
        if len(results) == 1 and results[0] in self._layers:
            self._make(results[0], result_axis(self._layers[results[0]].node))
            return
        data = data_args(node)
        if not any(a in self.of for a in data):
            if node.op == "LayerNormalization":
                self._normalized(node)
            elif node.op == "Mul":
                self._scaled(node)
            return
        if len(results) == 1 and self._passes(node, data):
            return
        self._pin(*data)
        if node.op == "LayerNormalization":
            self._normalized(node)
        elif len(results) == 1 and self.plan.sources.get(results[0], results[0]) != results[0]:
            self._function(results[0])
        elif node.op == "Mul":
            self._scaled(node)

    def reads(self, layer: Layer) -> bool:
        """Whether a layer reads channels along the axis that its weights are summed over."""
        x = layer.input
        if x not in self.of:
            return True
        axis = self.of[x][0]
        return axis == (1 if layer.node.op != "MatMul" else len(x.shape) - 1)

    def _normalized(self, node: Node) -> None:
        scale, shift = constant(node.args[1]), constant(node.args[2])
        rank = len(node.types[0].shape)
        vectors = scale is not None and shift is not None and scale.ndim == 1 and shift.ndim == 1
        if vectors and int_attr(node, "axis") % rank == rank - 1:
            self._make(Value(node), rank - 1)

    def _scaled(self, node: Node) -> None:
        """A product with a constant per channel takes any factor along, where it is read in 8 bits."""
        factors = next((c for a in node.args if (c := constant(a)) is not None), None)
        axis = len(node.types[0].shape) - 1
        if factors is not None and factors.ndim == 1 and factors.size > 1 and Value(node) in self.plan.points:
            self._make(Value(node), axis)

    def _function(self, value: Value) -> None:
        """A function of a layer's result makes channels where it is read in 8 bits."""
        source = self.plan.sources[value]
        if value in self.plan.points and source in self._layers:
            self._make(value, result_axis(self._layers[source].node))

    def _passes(self, node: Node, data: Sequence[Value]) -> bool:
        """Whether the operator commutes with factors of channels; then its result has channels too."""
        (result,) = node.results
        if node.op in ("Add", "Sub") and len(data) == 2:
            return self._summed(result, data)
        if node.op == "Concat":
            return self._concatenated(node, result, data)
        if node.op == "Mul" and len(data) == 2:
            return self._gated(result, data)
        if len(data) != 1 or data[0] not in self.of:
            return False
        axis, numbers = self.of[data[0]]
        moved = _moved(node, data[0], axis, numbers)
        if moved is None:
            return False
        self.of[result] = moved
        if node.op == "Clip":
            self.limits[result] = _limit(node)
        return True

    def _summed(self, result: Value, data: Sequence[Value]) -> bool:
        a, b = (self.of.get(v) for v in data)
        if a is None or b is None or a[0] != b[0] or any(v.shape != result.shape for v in data):
            return False
        self._join(a[1], b[1])
        self.of[result] = a
        return True

    def _concatenated(self, node: Node, result: Value, data: Sequence[Value]) -> bool:
        parts = [self.of.get(v) for v in data]
        axis = int_attr(node, "axis") % len(result.shape)
        known = [p for p in parts if p is not None]
        if data != node.args or len({p[0] for p in known}) != 1:
            return False
        if axis == known[0][0]:
            numbers = [p[1] if p is not None else self._anonymous(v, axis) for p, v in zip(parts, data, strict=True)]
            self.of[result] = (axis, np.concatenate(numbers))
            return True
        if len(known) < len(parts):
            return False
        for other in known[1:]:
            self._join(known[0][1], other[1])
        self.of[result] = known[0]
        return True

    def _anonymous(self, value: Value, axis: int) -> Tensor:
        """Numbers for channels that have no factor."""
        start = len(self.parent)
        numbers = np.arange(start, start + value.shape[axis])
        self.parent = np.concatenate([self.parent, numbers])
        self.pinned.update(map(int, numbers))
        return numbers

    def _gated(self, result: Value, data: Sequence[Value]) -> bool:
        """Of a product, one factor passes and the other is pinned."""
        for value, other in (data, data[::-1]):
            if value in self.of and value.shape == result.shape and value != other and other.shape != result.shape:
                self._pin(other)
                self.of[result] = self.of[value]
                return True
        return False


def _moved(node: Node, source: Value, axis: int, numbers: Tensor) -> Channels | None:
    """Channels behind an operator of one argument; None where it does not commute with their factors."""
    attrs, rank = full_attrs(node), len(source.shape)
    if node.op == "Relu" or (node.op == "Clip" and _limit(node) > 0):
        return axis, numbers
    if node.op in ("MaxPool", "AveragePool", "Resize", "Edgec.Layout") and axis == 1:
        return axis, numbers
    if node.op == "Pad":
        pads = ints_attr(node, "pads")
        zero = attrs["mode"] != "constant" or attrs["value"] == 0.0
        return (axis, numbers) if zero and not pads[axis] and not pads[axis + rank] else None
    if node.op == "ReduceMean":
        axes = [a % rank for a in ints_attr(node, "axes")]
        kept = axis if attrs["keepdims"] else axis - sum(a < axis for a in axes)
        return None if axis in axes else (kept, numbers)
    if node.op == "Transpose":
        return ints_attr(node, "perm").index(axis), numbers
    if node.op == "Slice":
        return axis, _sliced(node, axis, numbers)
    if node.op == "Reshape":
        return _reshaped(source.shape, node.types[0].shape, axis, numbers)
    return None


def _limit(node: Node) -> float:
    """The magnitude up to which a Clip leaves positive and negative elements alone, or makes them zero."""
    attrs = full_attrs(node)
    least, most = float(str(attrs["min"])), float(str(attrs["max"]))
    return min(most, -least if least < 0 else np.inf) if least <= 0 else 0.0


def _sliced(node: Node, axis: int, numbers: Tensor) -> Tensor:
    for a, start, end, step in zip(*(ints_attr(node, k) for k in ("axes", "starts", "ends", "steps")), strict=True):
        if a % len(node.types[0].shape) == axis:
            stop = None if step < 0 and end < 0 else end
            return np.asarray(numbers[start:stop:step])
    return numbers


def _reshaped(old: Sequence[int], new: Sequence[int], axis: int, numbers: Tensor) -> Channels | None:
    """The channel axis stays whole, or becomes one with the axes behind it."""
    before = prod(old[:axis])
    for place in range(len(new)):
        if prod(new[:place]) != before:
            continue
        if new[place] == old[axis] and prod(new[place + 1 :]) == prod(old[axis + 1 :]):
            return place, numbers
        if new[place] == prod(old[axis:]) and prod(new[place + 1 :]) == 1:
            return place, np.repeat(numbers, prod(old[axis + 1 :]))
    return None
