"""Gives layers new weights and biases such that a changed graph computes on calibration data what it computed before.

Layer after layer, in order: inputs are those that the repaired layers before really give, the aim is the value of the
graph before; least squares (He, Zhang and Sun, "Channel pruning for accelerating very deep neural networks", 2017). The
change is damped towards the present weights, by as much as serves samples best that the weights were not fitted on; a
layer that it does not serve there keeps what it has. Two layers that are one layer's factors are solved as one of their
rank: the principal components of the results (reduced-rank regression: Izenman, 1975).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
import numpy.typing as npt

from ...calibration.data import Calibration
from ...calibration.request import Progress
from ...columns import result_axis, rows_of, weights_of
from ...errors import EdgecError
from ...ir import Graph, Node, Value
from ...layers import constant
from ...op import const, rebuild
from ...ops.common import Tensor
from .bend import Bend, bend_of
from .fitting import Aims, Layer, factors, fitted
from .fitting import Fit as Fit
from .streams import sum_behind
from .walk import Feeds, Step, Walk, samples, steps


@dataclass(frozen=True, eq=False)
class Refit:
    """A layer of the changed graph that is to compute `aim` of the graph before.

    node  Conv, ConvTranspose or MatMul with constant weights
    aim   of a MatMul its result, or the sum with its bias
    kept  channels of `aim` that the layer's result still has; None: all
    mask  where a weight may be nonzero, in the weights' shape; None: everywhere
    first  what makes its input, if both are solved together: dense, and `node` has a window of one position then
    """

    node: Node
    aim: Value
    kept: tuple[int, ...] | None = None
    mask: npt.NDArray[np.bool_] | None = None
    first: Node | None = None

    @property
    def start(self) -> Node:
        """The node whose inputs it is solved for."""
        return self.first or self.node


def repaired(before: Graph, after: Graph, refits: Sequence[Refit], data: Calibration, tell: Progress) -> Graph:
    """`after` with other weights and biases in the refitted layers, none of which has a larger error by it."""
    return refitted(before, after, refits, samples(data, before), tell)[0]


def refitted(
    before: Graph, after: Graph, refits: Sequence[Refit], feeds: Feeds, tell: Progress
) -> tuple[Graph, dict[Node, Fit]]:
    """As `repaired`, on given samples; with what became of each refit's node."""
    asked = {refit.start: refit for refit in refits}
    if not asked:
        return after, {}
    adds = _biases(after, [refit.node for refit in refits])
    instead: dict[Node, dict[int, Tensor]] = {}
    fits: dict[Node, Fit] = {}

    def visit(step: Step, arrays: list[Sequence[Tensor]]) -> Mapping[int, Tensor]:
        refit = asked.get(step.node)
        if refit is not None:
            aims = aim_of[step.node].drawn(*arrays[len(step.args) :])
            fits[refit.node] = _refit(refit, adds.get(refit.node), arrays[0], aims, instead)
            tell("repair", len(fits), len(asked))
        return instead.get(step.node, {})

    aim_of = _aims(before, after, refits, adds)
    besides = {node: aim.beside for node, aim in aim_of.items() if aim.beside is not None}
    plan = list(steps(before, after, {n: aim.value for n, aim in aim_of.items()}, set(adds.values()), besides))
    Walk(plan, feeds).run(visit)
    return _with_constants(after, instead), fits


@dataclass(frozen=True)
class _Aim:
    """A value of the graph before that a layer is to make, together with `beside`; the function behind it."""

    value: Value
    beside: Value | None
    bend: Bend | None

    def drawn(self, arrays: Sequence[Tensor], besides: Sequence[Tensor] | None = None) -> Aims:
        return Aims(arrays, None, besides, self.bend)


def _aims(before: Graph, after: Graph, refits: Sequence[Refit], adds: Mapping[Node, Node]) -> dict[Node, _Aim]:
    """Of each refit's start. The last of the layers whose results are added up makes up for the others: it aims at the
    sum."""
    users, users_after, found = before.users(), after.users(), dict[Node, _Aim]()
    order = {node: k for k, node in enumerate(after.nodes())}
    for refit in refits:
        made = Value(adds.get(refit.node, refit.node))
        value, beside = refit.aim, None
        whole, now = sum_behind(users, before.outputs, value), sum_behind(users_after, after.outputs, made)
        if whole is not None and now is not None:
            other = next(a for a in now.args if a != made)
            if order[other.node] < order[refit.start]:
                value, beside = Value(whole), other
        found[refit.start] = _Aim(value, beside, bend_of(users, value, before.outputs))
    return found


def _biases(graph: Graph, asked: Sequence[Node]) -> dict[Node, Node]:
    """The sums with a constant vector that are a MatMul's bias."""
    uses, users, found = graph.uses(), graph.users(), dict[Node, Node]()
    for node in asked:
        value = Value(node)
        reader = users[value][0] if uses.get(value) == 1 and value in users else None
        if node.op != "MatMul" or reader is None or reader.op != "Add" or reader.types[0].shape != value.shape:
            continue
        other = constant(_other(reader, node))
        if other is not None and other.size in (1, value.shape[-1]) and other.shape[-1:] in ((), (1,), (other.size,)):
            found[node] = reader
    return found


def _other(add: Node, node: Node) -> Value:
    return add.args[1 - add.args.index(Value(node))]


def _refit(
    refit: Refit,
    add: Node | None,
    inputs: Sequence[Tensor],
    aims: Aims,
    instead: dict[Node, dict[int, Tensor]],
) -> Fit:
    """Find the constants that the layer reads from now on; none where its own serve as well."""
    node = refit.node
    if refit.kept is not None:
        aims = replace(aims, arrays=[np.take(a, refit.kept, result_axis(node)) for a in aims.arrays])
    if aims.arrays[0].shape != node.types[0].shape:
        raise EdgecError(
            f"repair: {node}: the aim {list(aims.arrays[0].shape)} does not fit its result {node.types[0]}"
        )
    layer = _layer(refit, add)
    if layer is None:
        return Fit(inf, inf)
    raw = add is not None and refit.aim.node.op == "MatMul" and aims.besides is None
    rows, bias, made = fitted(layer, inputs, replace(aims, raised=layer.bias if raw else None))
    if rows is layer.rows:
        return made
    shift = bias.reshape(-1).astype(layer.weights.dtype)
    if refit.first is None or layer.rank is None:
        instead[node] = {1: weights_of(node, rows, layer.weights)}
    else:
        last, first = factors(rows[0], layer.rank)
        instead[refit.first] = _changed(refit.first, first)
        instead[node] = _changed(node, last)
    if node.op != "MatMul":
        instead[node][2] = shift
    elif add is not None:
        other = _other(add, node)
        instead[add] = {add.args.index(other): shift.reshape(other.shape if other.type.size == shift.size else -1)}
    return made


def _changed(node: Node, rows: Tensor) -> dict[int, Tensor]:
    """Other weights, and no bias."""
    weights = constant(node.args[1])
    assert weights is not None
    made = {1: weights_of(node, rows[None], weights)}
    return made if node.op == "MatMul" else made | {2: np.zeros(len(rows), weights.dtype)}


def _layer(refit: Refit, add: Node | None) -> Layer | None:
    node = refit.node
    weights = constant(node.args[1])
    rows = rows_of(node, weights) if weights is not None else None
    if weights is None or rows is None:
        return None
    given: Tensor | None = np.zeros(rows.shape[:2])
    if node.op != "MatMul":
        given = constant(node.args[2])
    elif add is not None:
        given = constant(_other(add, node))
    if given is None:
        return None
    bias = np.broadcast_to(given.reshape(-1), rows.shape[0] * rows.shape[1]).reshape(rows.shape[:2])
    mask = None if refit.mask is None else rows_of(node, refit.mask)
    shifted = node.op != "MatMul" or add is not None
    layer = Layer(node, weights, rows.astype(np.float64), bias.astype(np.float64), mask, shifted)
    return layer if refit.first is None else _joined(layer, refit.first)


def _joined(layer: Layer, first: Node) -> Layer | None:
    """Two layers as one of their rank."""
    weights = constant(first.args[1])
    rows = rows_of(first, weights) if weights is not None else None
    before = constant(first.args[2]) if first.op != "MatMul" else np.zeros(layer.rows.shape[2])
    if rows is None or before is None or len(rows) > 1 or len(layer.rows) > 1:
        return None
    bias = layer.bias + np.matmul(layer.rows, before.astype(np.float64).reshape(-1))
    return replace(layer, node=first, rows=np.matmul(layer.rows, rows), bias=bias, rank=rows.shape[1])


def _with_constants(graph: Graph, instead: Mapping[Node, Mapping[int, Tensor]]) -> Graph:
    """The graph with other constants at some places."""
    new: dict[Value, Value] = {}
    for node in graph.nodes():
        args = [new[a] for a in node.args]
        for place, array in instead.get(node, {}).items():
            old = node.args[place].node
            args[place] = const(array, old.name, old.origin)
        made = node if tuple(args) == node.args else rebuild(node, args)
        new.update(zip(node.results, made.results, strict=True))
    return graph.with_values(tuple(new[v] for v in graph.inputs), tuple(new[v] for v in graph.outputs))
