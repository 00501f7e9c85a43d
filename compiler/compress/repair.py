"""Gives layers new weights and biases such that a changed graph computes on calibration data what it computed before.

Layer after layer, in order: inputs are those that the repaired layers before really give, the aim is the value of the
graph before; least squares (He, Zhang and Sun, "Channel pruning for accelerating very deep neural networks", 2017). The
change is damped towards the present weights, by as much as serves samples best that the weights were not fitted on; a
layer that it does not serve there keeps what it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

from ..calibration.data import Calibration
from ..calibration.request import Progress
from ..errors import EdgecError
from ..ir import Graph, Node, Value
from ..op import const, rebuild
from ..ops.common import Tensor
from ..quantize.placement import constant
from .columns import columns, positions, result_axis, results, rows_of, weights_of
from .normal import Normal, solved
from .walk import Feeds, Step, Walk, samples, steps

DAMPINGS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
FEWER = (1e-3, 1e-2, 1e-1)
LARGE = 2048  # inputs of an output from which fewer dampings are tried
PER_INPUT = (
    8  # positions per input of an output that a layer is fitted on, within these limits, where there are so many
)
LEAST, MOST = 4096, 16384
HELD = 4  # one in so many samples is held out


@dataclass(frozen=True, eq=False)
class Refit:
    """A layer of the changed graph that is to compute `aim` of the graph before.

    node  Conv, ConvTranspose or MatMul with constant weights
    aim   of a MatMul its result, or the sum with its bias
    kept  channels of `aim` that the layer's result still has; None: all
    mask  where a weight may be nonzero, in the weights' shape; None: everywhere
    """

    node: Node
    aim: Value
    kept: tuple[int, ...] | None = None
    mask: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Fit:
    """A layer's error on held-out samples as a share of the aim's variance there, before and after."""

    before: float
    after: float


def repaired(before: Graph, after: Graph, refits: Sequence[Refit], data: Calibration, tell: Progress) -> Graph:
    """`after` with other weights and biases in the refitted layers, none of which has a larger error by it."""
    return refitted(before, after, refits, samples(data, before), tell)[0]


def refitted(
    before: Graph, after: Graph, refits: Sequence[Refit], feeds: Feeds, tell: Progress
) -> tuple[Graph, dict[Node, Fit]]:
    """As `repaired`, on given samples; with what became of each refit's node."""
    asked = {refit.node: refit for refit in refits}
    if not asked:
        return after, {}
    adds = _biases(after, asked)
    instead: dict[Node, dict[int, Tensor]] = {}
    fits: dict[Node, Fit] = {}

    def visit(step: Step, arrays: list[Sequence[Tensor]]) -> Mapping[int, Tensor]:
        refit = asked.get(step.node)
        if refit is not None:
            fits[refit.node] = _refit(refit, adds.get(refit.node), arrays[0], arrays[-1], instead)
            tell("repair", len(fits), len(asked))
        return instead.get(step.node, {})

    plan = list(steps(before, after, {r.node: r.aim for r in refits}, set(adds.values())))
    Walk(plan, feeds).run(visit)
    return _with_constants(after, instead), fits


def _biases(graph: Graph, asked: Mapping[Node, Refit]) -> dict[Node, Node]:
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


@dataclass(frozen=True)
class _Layer:
    """Weights as rows [groups, outputs, inputs], and the bias [groups, outputs]; `shifted`: there is one to change."""

    node: Node
    weights: Tensor
    rows: Tensor
    bias: Tensor
    mask: Tensor | None
    shifted: bool


def _layer(refit: Refit, add: Node | None) -> _Layer | None:
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
    return _Layer(node, weights, rows.astype(np.float64), bias.astype(np.float64), mask, shifted)


def _refit(
    refit: Refit,
    add: Node | None,
    inputs: Sequence[Tensor],
    aims: Sequence[Tensor],
    instead: dict[Node, dict[int, Tensor]],
) -> Fit:
    """Find the constants that the layer reads from now on; none where its own serve as well."""
    node = refit.node
    if refit.kept is not None:
        aims = [np.take(a, refit.kept, result_axis(node)) for a in aims]
    if aims[0].shape != node.types[0].shape:
        raise EdgecError(f"repair: {node}: the aim {list(aims[0].shape)} does not fit its result {node.types[0]}")
    layer = _layer(refit, add)
    if layer is None:
        return Fit(inf, inf)
    raw = add is not None and refit.aim.node.op == "MatMul"
    fit, held = _sums(layer, inputs, aims, layer.bias if raw else None)
    rows, bias, made = _best(layer, fit, held)
    if rows is layer.rows:
        return made
    shift = bias.reshape(-1).astype(layer.weights.dtype)
    instead[node] = {1: weights_of(node, rows, layer.weights)}
    if node.op != "MatMul":
        instead[node][2] = shift
    elif add is not None:
        other = _other(add, node)
        instead[add] = {add.args.index(other): shift.reshape(other.shape if other.type.size == shift.size else -1)}
    return made


def _sums(
    layer: _Layer, inputs: Sequence[Tensor], aims: Sequence[Tensor], raised: Tensor | None
) -> tuple[Normal, Normal]:
    """Normal equations of the samples to fit on, and of those held out; aims are `raised` by a bias they lack."""
    groups, outputs, width = layer.rows.shape
    made = Normal.empty(groups, width, outputs), Normal.empty(groups, width, outputs)
    total = positions(layer.node)
    wanted = min(max(PER_INPUT * width, LEAST), MOST)
    each = min(total, -(-wanted // len(inputs)))
    for number, (x, y) in enumerate(zip(inputs, aims, strict=True)):
        chosen = np.arange(total)
        if each < total:
            chosen = np.sort(np.random.default_rng(number).choice(total, each, replace=False))
        parts = [chosen[1::2], chosen[::2]] if len(inputs) < HELD else [chosen]
        for part, places in enumerate(parts):
            held = number % HELD == HELD - 1 if len(parts) == 1 else part == 0
            aim = results(layer.node, y, places)
            if raised is not None:
                aim = aim + raised[:, :, None].astype(np.float32)
            made[int(held)].add(columns(layer.node, x, layer.node.types[0].shape, places), aim)
    return made


def _best(layer: _Layer, fit: Normal, held: Normal) -> tuple[Tensor, Tensor, Fit]:
    """The rows and bias that serve the held-out samples best; the layer's own where nothing is better."""
    if not (fit.usable and held.usable):
        return layer.rows, layer.bias, Fit(inf, inf)
    before = best = held.error(layer.rows, layer.bias)
    chosen: float | None = None
    for damping in FEWER if layer.rows.shape[2] >= LARGE else DAMPINGS:
        error = held.error(*_solved(layer, fit, damping))
        if error < best:
            chosen, best = damping, error
        elif chosen is not None:
            break
    scale = max(held.spread(), 1e-30)
    rows, bias = layer.rows, layer.bias
    if chosen is not None:  # all samples serve better than some
        rows, bias = _solved(layer, fit.joined(held), chosen)
    return rows, bias, Fit(before / scale, best / scale)


def _solved(layer: _Layer, sums: Normal, damping: float) -> tuple[Tensor, Tensor]:
    """New rows and bias, as the graph will have them."""
    rows, bias = solved(sums, layer.rows, layer.bias, damping, layer.mask, layer.shifted)
    kind = layer.weights.dtype
    return rows.astype(kind).astype(np.float64), bias.astype(kind).astype(np.float64)


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
