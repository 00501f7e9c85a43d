"""One graph in which 8 bits can be switched on and off while it runs, those of every layer or of every value: what each
of them alone does to the outputs costs a run, not a compilation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from ..ir import Graph, Node, Type, Value
from ..op import build, const, rebuild
from ..ops.common import Tensor
from .judged import judged
from .placement import Placement
from .qdq import Writer
from .ranges import Scale
from .weights import Weights, bias_scale

SWITCHES = "edgec.switches"


def switches(count: int) -> Value:
    """An input of so many numbers."""
    return Value(Node("Input", (), (Type("f32", (count,)),), {}, SWITCHES))


def switch(every: Value, number: int, rank: int = 0) -> Value:
    """One of them, with so many axes."""
    one = build("Slice", every, starts=(number,), ends=(number + 1,), axes=(0,), steps=(1,))
    return build("Reshape", one, shape=(1,) * rank)


def switched_graph(
    plan: Placement, scales: Mapping[Value, Scale], weights: Mapping[Node, Weights], judge: bool = False
) -> Graph:
    """The graph with an input more: a number per layer, 1 where it is in 8 bits, 0 where it is not. `judge`: its
    outputs are what answers are judged by."""
    made = _Layers(plan, scales, weights)
    return made.judged() if judge else made.graph()


def switched_values(plan: Placement, scales: Mapping[Value, Scale]) -> Graph:
    """The graph with real weights and an input more: a number per group of values, 1 where these are in 8 bits. Scores
    come as they are before a Softmax at the end, which hides the errors of what is sure."""
    owners = {v: (k,) for k, group in enumerate(plan.groups) for v in group.values}
    return _Values(plan, scales, {}, owners, len(plan.groups)).judged()


class _Switch(Writer):
    """`owners`: the numbers of the switches of which any puts a value in 8 bits."""

    def __init__(
        self,
        plan: Placement,
        scales: Mapping[Value, Scale],
        weights: Mapping[Node, Weights],
        owners: Mapping[Value, Collection[int]],
        count: int,
    ) -> None:
        super().__init__(plan, scales, weights)
        self.switches = switches(count)
        self.owners = owners
        self.gates: dict[tuple[int, ...], Value] = {}

    def graph(self) -> Graph:
        made = super().graph()
        return replace(made, inputs=(*made.inputs, self.switches))

    def judged(self) -> Graph:
        """With what answers are judged by as outputs."""
        made, ends = self.graph(), judged(self.plan.graph)
        values = tuple(self.new[v] for _, v in ends)
        return replace(made, outputs=values, output_names=tuple(f"judged{k}" for k in range(len(ends))))

    def _stored(self, was: Value, now: Value) -> Value:
        rough = super()._stored(was, now)
        return build("Add", now, build("Mul", build("Sub", rough, now), self._gate(was)))

    def _gate(self, value: Value) -> Value:
        """1 where any of the switches of a value is on."""
        numbers = tuple(sorted(self.owners.get(value, ()))) or (0,)
        if numbers not in self.gates:
            each = [switch(self.switches, k) for k in numbers]
            self.gates[numbers] = reduce(lambda a, b: build("Max", a, b), each)
        return self.gates[numbers]


class _Values(_Switch):
    def judged(self) -> Graph:
        made = super().judged()
        outputs = tuple(v.node.args[0] if v.node.op == "Softmax" else v for v in made.outputs)
        return replace(made, outputs=outputs)

    def _node(self, node: Node) -> Node:
        args = [self.new[a] for a in node.args]
        return node if tuple(args) == node.args else rebuild(node, args)


class _Layers(_Switch):
    def __init__(self, plan: Placement, scales: Mapping[Value, Scale], weights: Mapping[Node, Weights]) -> None:
        self.number = {layer.node: k for k, layer in enumerate(plan.layers)}
        super().__init__(plan, scales, weights, _owners(plan, self.number), len(plan.layers))

    def _node(self, node: Node) -> Node:
        args = [self.new[a] for a in node.args]
        layer = self.layers.get(node)
        if layer is not None:
            return self._both(node, args, layer.weights, layer.bias)
        if node in self.adds:
            layer = self.adds[node]
            place = 1 - node.args.index(Value(layer.node))
            off = self._bias_error(layer.node, layer.bias)
            moved = build("Mul", const(off), switch(self.switches, self.number[layer.node]))
            args[place] = build("Add", args[place], moved)
        return node if tuple(args) == node.args else replace(node, args=tuple(args))

    def _both(self, node: Node, args: Sequence[Value], real: Tensor, bias: Tensor | None) -> Node:
        """The layer, and what its rounded weights add to it."""
        off = [const((self.weights[node].real - real).astype(np.float32))]
        if len(args) > 2:
            off.append(const(self._bias_error(node, bias)))
        exact, error = Value(rebuild(node, args)), Value(replace(rebuild(node, [args[0], *off]), name=""))
        return build("Add", exact, build("Mul", error, switch(self.switches, self.number[node]))).node

    def _bias_error(self, node: Node, bias: Tensor | None) -> Tensor:
        made, x = self.weights[node], self.scales[node.args[0]]
        assert made.bias is not None and bias is not None
        step = bias_scale(made.scale, x.scale, len(made.bias)).astype(np.float64)
        return np.asarray(made.bias * step - bias, np.float32)


def _owners(plan: Placement, number: Mapping[Node, int]) -> dict[Value, set[int]]:
    """The layers that a value leads to without another in between: any of them puts it in 8 bits, for all that read it.
    Where what lies between is real for want of 8 bits before it, that is one rounding more than is compiled."""
    owners: dict[Value, set[int]] = {}
    for node in reversed(list(plan.graph.nodes())):
        mine = {number[node]} if node in number else set().union(*(owners.get(v, ()) for v in node.results))
        for arg in node.args[:1] if node in number else node.args:
            owners.setdefault(arg, set()).update(mine)
    return owners
