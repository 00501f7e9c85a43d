"""Chooses the integers of each layer's weights, and its bias, such that its results on calibration data stay the same.

Layer after layer, in order: inputs are those of the quantized layers before it, the aim is the float model's result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

import numpy as np

from ..columns import columns, rows_of, weights_of
from ..cores import shared_out
from ..covariance import Covariance
from ..ir import Node, Value
from ..layers import Layer, constant
from ..op import evaluate
from ..ops.common import Tensor
from .bias import corrected
from .held import Place, by_value, storing
from .judged import judged, least_energies
from .noise import Weakest, weakest, worst_sqnr
from .placement import Placement
from .ranges import Scale, rounded
from .rounding import rounded_weights
from .short_scales import End
from .walk import Walk
from .weights import Weights, nearest_weights, weight_scales, with_bias

Progress = Callable[[str, int, int], None]
POSITIONS = 2048  # of one sample, that a layer's moments are taken over
TOGETHER = 6144  # inputs of an output, of which products of all pairs are held at once: 0.3 GB, a few times
OUTPUTS = ""  # the name under which the outcome of the whole model stands


@dataclass(frozen=True)
class Outcome:
    """Of a layer: its result's signal to noise in dB, and the share of its input that is outside its range; of the
    whole model also the answer that is farthest off."""

    sqnr: float
    saturated: float
    weakest: Weakest | None = None


def reconstruct(
    plan: Placement,
    scales: Mapping[Value, Scale],
    feeds: Sequence[Mapping[str, Tensor]],
    tell: Progress,
    learn: bool = True,
    correct: bool = True,
    ends: Mapping[Node, End] = MappingProxyType({}),
) -> tuple[dict[Node, Weights], dict[str, Outcome]]:
    """Weights of every layer. `learn`: rounded with regard to each other; `correct`: biases make up for the mean;
    `ends`: scales of what sums become, for layers whose multipliers are to be short (shorten.py)."""
    with storing() as store, shared_out() as cores:
        return _walked(plan, scales, feeds, tell, (learn, correct), Walk(cores, ends, store))


def _walked(
    plan: Placement,
    scales: Mapping[Value, Scale],
    feeds: Sequence[Mapping[str, Tensor]],
    tell: Progress,
    how: tuple[bool, bool],
    walk: Walk,
) -> tuple[dict[Node, Weights], dict[str, Outcome]]:
    learn, correct = how
    outcomes: dict[str, Outcome] = {}
    weights: dict[Node, Weights] = {}
    layers = {layer.node: layer for layer in plan.layers}
    adds = {layer.value.node: layer for layer in plan.layers if layer.value.node != layer.node}
    ends = {layer.value: layer for layer in plan.layers}
    saturated: dict[Node, float] = {}
    uses, answers = plan.graph.uses(), [v for _, v in judged(plan.graph)]
    for value in answers:  # which are looked at in the end
        uses[value] += 1
    for node in plan.graph.nodes():
        if node.op == "Input":
            given = [feed[node.name] for feed in feeds]
            _store(walk, Value(node), given, given, scales)
            continue
        if node.op == "Const":
            continue
        exact = _begun(node, walk, walk.real, {})  # the float model does not wait for the weights
        if node in layers:
            weights[node] = _solve(layers[node], walk, scales[layers[node].input], learn)
            saturated[node] = _saturated(walk, node.args[0], scales[node.args[0]])
            tell("round", len(weights), len(layers))
        _run(node, walk, exact, _constants(node, layers, adds, weights, scales))
        layer = ends.get(Value(node))
        if layer is not None and correct and layer.bias is not None:
            weights[layer.node] = corrected(plan, layer, walk, weights[layer.node], scales[layer.input])
        if layer is not None:
            outcomes[layer.name] = Outcome(_sqnr(walk, layer.value), saturated.pop(layer.node))
        for value in node.results:
            if value in scales:
                _store(walk, value, walk.real[value], walk.rough[value], scales)
        for arg in node.args:
            uses[arg] -= 1
            if not uses[arg]:
                walk.real.pop(arg, None), walk.rough.pop(arg, None)
    real, rough = ([side[v] for v in answers] for side in (walk.real, walk.rough))
    least = least_energies(plan.graph)
    outcomes[OUTPUTS] = Outcome(worst_sqnr(real, rough, least), 0.0, weakest(real, rough, least))
    return weights, outcomes


def _saturated(walk: Walk, value: Value, s: Scale) -> float:
    """Share of elements of a float value outside the range of 8 bits."""
    arrays = walk.real[value]

    def outside(number: int) -> tuple[int, int]:
        a = arrays[number]
        return int(((a < s.low - s.scale / 2) | (a > s.high + s.scale / 2)).sum()), a.size

    counts, sizes = zip(*walk.cores.each(outside, range(len(arrays))), strict=True)
    return float(sum(counts) / max(sum(sizes), 1))


def _sqnr(walk: Walk, value: Value) -> float:
    return worst_sqnr([walk.real[value]], [walk.rough[value]])


def _constants(
    node: Node,
    layers: Mapping[Node, Layer],
    adds: Mapping[Node, Layer],
    weights: Mapping[Node, Weights],
    scales: Mapping[Value, Scale],
) -> dict[int, Tensor]:
    """What the arguments at some places really are."""
    layer = layers.get(node) or adds.get(node)
    if layer is None:
        return {}
    made = weights[layer.node]
    bias = made.real_bias(scales[layer.input].scale)
    if node in adds:
        place = 1 - node.args.index(Value(layer.node))
        assert bias is not None
        return {place: bias.reshape(node.args[place].shape)}
    return {1: made.real, **({2: bias} if bias is not None and len(node.args) > 2 else {})}


def _begun(
    node: Node, walk: Walk, values: Mapping[Value, Sequence[Tensor]], other: Mapping[int, Tensor]
) -> list[Future[tuple[Place, ...]]]:
    """The results of one node for all samples, which are being computed; `other`: what some arguments are instead."""
    fixed = {k: array for k, a in enumerate(node.args) if (array := constant(a)) is not None} | dict(other)
    count = max((len(values[a]) for a in node.args if a in values), default=1)

    def of_sample(n: int) -> tuple[Place, ...]:
        made = evaluate(node, [fixed[k] if k in fixed else values[a][n] for k, a in enumerate(node.args)])
        return walk.store.all(made)

    return [walk.cores.begin(of_sample, n) for n in range(count)]


def _run(node: Node, walk: Walk, exact: list[Future[tuple[Place, ...]]], instead: Mapping[int, Tensor]) -> None:
    """Results of one node for all samples, of which the float model's are begun."""
    same = not instead and all(walk.rough[a] is walk.real[a] for a in node.args if a in walk.real)
    rough = exact if same else _begun(node, walk, walk.rough, instead)
    found = [by_value([f.result() for f in begun]) for begun in (exact, rough)]
    for value, real, made in zip(node.results, *found, strict=True):
        walk.real[value] = real
        walk.rough[value] = real if same else made


def rounded32(x: Tensor, s: Scale) -> Tensor:
    return np.asarray(rounded(x, s), np.float32)


def _store(
    walk: Walk, value: Value, real: Sequence[Tensor], rough: Sequence[Tensor], scales: Mapping[Value, Scale]
) -> None:
    """Keep a value of all samples, in 8 bits where it has a scale."""
    walk.real[value], walk.rough[value] = real, rough
    if value in scales:
        walk.rough[value] = walk.each(lambda number: rounded32(rough[number], scales[value]), len(rough))


def _solve(layer: Layer, walk: Walk, x: Scale, learn: bool) -> Weights:
    """The weights' integers."""
    rows = rows_of(layer.node, layer.weights) if learn and layer.node.op != "ConvTranspose" else None
    end = walk.ends.get(layer.node)
    if rows is None:
        return nearest_weights(layer, x.scale, end)
    scale = weight_scales(layer, x.scale, end)
    step = scale.astype(np.float64).reshape(len(rows), -1)
    parts = np.array_split(np.arange(rows.shape[-1]), -(-rows.shape[-1] // TOGETHER))
    solved = [rounded_weights(rows[..., p].astype(np.float64), step, _covariance(layer, walk, p)) for p in parts]
    steps = np.concatenate(solved, axis=-1)
    made = weights_of(layer.node, steps, np.empty(layer.weights.shape, steps.dtype))
    return with_bias(layer, made, scale, layer.bias, x.scale)


def _covariance(layer: Layer, walk: Walk, part: Tensor) -> Covariance:
    """Of what the quantized layers before give to some inputs of each output."""
    places, rough = _thinned(layer), walk.rough[layer.input]

    def of_sample(number: int) -> Covariance:
        whole = columns(layer.node, rough[number], layer.value.shape, places)
        return Covariance.of(whole if len(part) == whole.shape[1] else whole[:, part])

    return Covariance.over(walk.cores.each(of_sample, range(len(rough))))


def _thinned(layer: Layer) -> Tensor:
    """Positions of a layer's result, evenly spread, not many more than are read."""
    shape = layer.value.shape
    if layer.node.op == "MatMul":
        count = prod(shape[:-1])
        return np.arange(0, count, -(-count // POSITIONS))
    batch, _, *sizes = shape
    wide = max(sum(n > 1 for n in sizes), 1)
    thin = int(np.ceil((prod(sizes) * batch / POSITIONS) ** (1 / wide)))
    numbers = np.arange(batch * prod(sizes)).reshape(batch, *sizes)
    return numbers[(slice(None), *(slice(min(thin // 2, n - 1), None, thin) for n in sizes))].reshape(-1)
