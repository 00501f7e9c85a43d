"""Chooses the integers of each layer's weights, and its bias, such that its results on calibration data stay the same.

Layer after layer, in order: inputs are those of the quantized layers before it, the aim is the float model's result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType

import numpy as np

from ..columns import columns, result_axis, rows_of, weights_of
from ..cores import Cores, shared_out
from ..covariance import Covariance
from ..ir import Node, Value
from ..layers import Layer, constant
from ..op import evaluate, int_attr
from ..ops.common import Tensor
from .judged import judged, least_energies
from .noise import Weakest, weakest, worst_sqnr
from .placement import FOLDED, Placement
from .ranges import Scale, rounded
from .rounding import rounded_weights
from .short_scales import End
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


@dataclass
class Walk:
    """Values of all samples, in float and as the quantized layers make them; samples are shared out over `cores`."""

    cores: Cores
    ends: Mapping[Node, End]
    real: dict[Value, list[Tensor]] = field(default_factory=dict)
    rough: dict[Value, list[Tensor]] = field(default_factory=dict)


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
    with shared_out() as cores:
        return _walked(plan, scales, feeds, tell, (learn, correct), Walk(cores, ends))


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
            weights[layer.node] = _corrected(plan, layer, walk, weights[layer.node], scales[layer.input])
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

    def outside(a: Tensor) -> int:
        return int(((a < s.low - s.scale / 2) | (a > s.high + s.scale / 2)).sum())

    return sum(walk.cores.each(outside, arrays)) / max(sum(a.size for a in arrays), 1)


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
    node: Node, walk: Walk, values: Mapping[Value, list[Tensor]], other: Mapping[int, Tensor]
) -> list[Future[tuple[Tensor, ...]]]:
    """The results of one node for all samples, which are being computed; `other`: what some arguments are instead."""
    fixed = {k: array for k, a in enumerate(node.args) if (array := constant(a)) is not None} | dict(other)
    count = max((len(values[a]) for a in node.args if a in values), default=1)

    def of_sample(n: int) -> tuple[Tensor, ...]:
        return evaluate(node, [fixed[k] if k in fixed else values[a][n] for k, a in enumerate(node.args)])

    return [walk.cores.begin(of_sample, n) for n in range(count)]


def _run(node: Node, walk: Walk, exact: list[Future[tuple[Tensor, ...]]], instead: Mapping[int, Tensor]) -> None:
    """Results of one node for all samples, of which the float model's are begun."""
    same = not instead and all(walk.rough[a] is walk.real[a] for a in node.args if a in walk.real)
    rough = exact if same else _begun(node, walk, walk.rough, instead)
    columns = [[list(column) for column in zip(*(f.result() for f in begun), strict=True)] for begun in (exact, rough)]
    for value, real, made in zip(node.results, *columns, strict=True):
        walk.real[value] = real
        walk.rough[value] = real if same else made


def _corrected(plan: Placement, layer: Layer, walk: Walk, made: Weights, x: Scale) -> Weights:
    """The bias makes up for the mean error of the results, where these matter to what reads them.

    Bias correction (Nagel et al., 2019), with means measured on calibration data, and errors weighted by the squared
    slope of the functions behind.
    """
    value = layer.value
    axis = result_axis(layer.node)
    others = tuple(k for k in range(len(value.shape)) if k != axis)
    shapes, normal = _behind(plan, value), normalizes(plan, walk, value)
    total, weight = np.zeros(value.shape[axis]), np.full(value.shape[axis], 1e-12)

    def sums(number: int) -> tuple[Tensor, Tensor]:
        real, rough = walk.real[value][number], walk.rough[value][number]
        slope = _slope(shapes, real) if normal is None else normal(number)
        off = ((real - rough) * slope).sum(axis=others, dtype=np.float64)
        return off, np.broadcast_to(slope, real.shape).sum(axis=others, dtype=np.float64)

    for off, slopes in walk.cores.each(sums, range(len(walk.real[value]))):
        total += off
        weight += slopes
    shift = np.nan_to_num(total / weight, nan=0.0, posinf=0.0, neginf=0.0)
    if shapes and normal is None:
        shift = np.where(helps(shapes, walk, value, axis, shift), shift, 0.0)
    bias = made.real_bias(x.scale)
    assert bias is not None
    new = with_bias(layer, made.stored, made.scale, bias + shift, x.scale)
    moved = new.real_bias(x.scale)
    assert moved is not None
    change = (moved - bias).reshape([-1 if k == axis else 1 for k in range(len(value.shape))])
    walk.rough[value] = [rough + change for rough in walk.rough[value]]
    return new


def helps(shapes: Sequence[Callable[[Tensor], Tensor]], walk: Walk, value: Value, axis: int, shift: Tensor) -> Tensor:
    """Whether a shift of each channel lowers the error behind functions: the mean error of the few elements that a Relu
    lets through, say, is none of the others, which it would let through as well."""
    others = tuple(k for k in range(len(value.shape)) if k != axis)
    along = shift.astype(np.float32).reshape([-1 if k == axis else 1 for k in range(len(value.shape))])

    def errors(number: int) -> Tensor:
        real, rough = walk.real[value][number], walk.rough[value][number]
        with np.errstate(all="ignore"):
            found = [
                np.square(f(x) - f(real)).sum(axis=others, dtype=np.float64)
                for x in (rough, rough + along)
                for f in shapes
            ]
        count = len(shapes)
        return np.asarray([sum(found[1:count], found[0]), sum(found[count + 1 :], found[count])])

    before, after = np.asarray(sum(walk.cores.each(errors, range(len(walk.real[value])))))
    return np.asarray(np.isfinite(after) & ~(after >= before))


def normalizes(plan: Placement, walk: Walk, value: Value) -> Callable[[int], Tensor] | None:
    """The squared slopes of a LayerNormalization behind sums that a value enters, by the number of a sample: a position
    of large elements counts for little. None where there is none."""
    sums: list[Value] = []
    end = value
    while True:
        readers = plan.users.get(end, [])
        norm = next((n for n in readers if n.op == "LayerNormalization"), None)
        add = next((n for n in readers if n.op == "Add" and n.types[0].shape == value.shape), None)
        if norm is not None or add is None:
            break
        other = next((a for a in add.args if a != end), end)
        if other not in walk.real:
            return None
        sums.append(other)
        end = Value(add)
    if norm is None:
        return None
    axes = tuple(range(int_attr(norm, "axis") % len(value.shape), len(value.shape)))

    def slope(number: int) -> Tensor:
        whole = sum((walk.real[other][number] for other in sums), walk.real[value][number])
        return np.asarray(1 / np.maximum(np.var(whole, axis=axes, keepdims=True, dtype=np.float64), 1e-12))

    return slope


def _slope(shapes: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
    """The squared slopes of functions at each element, 1 where there are none; where a step leads out of what a
    function is defined for, as of a logarithm near 0, that to the other side."""
    h = np.float32(1e-2 * (float(x.std(dtype=np.float64)) + 1e-6))
    slopes = []
    with np.errstate(all="ignore"):
        for f in shapes:
            above, here, below = f(x + h), f(x), f(x - h)
            both, one = (above - below) / (2 * h), (above - here) / h
            slope = np.where(np.isfinite(both), both, np.where(np.isfinite(one), one, 0))
            slopes.append(np.square(slope))
    return np.asarray(sum(slopes[1:], slopes[0]) if slopes else np.ones((), np.float32))


def _behind(plan: Placement, value: Value) -> list[Callable[[Tensor], Tensor]]:
    """The functions through which alone a value is read: limits, or chains of elementwise operators."""
    readers = plan.users.get(value, [])
    if value in plan.graph.outputs or not readers:
        return []
    if len(readers) == 1 and readers[0].op in FOLDED:
        node = readers[0]
        return [lambda x: evaluate(node, [x])[0]]
    if any(plan.sources[r] != value for n in readers for r in n.results):
        return []
    return [plan.function(end) for end in plan.ends(value)]


def rounded32(x: Tensor, s: Scale) -> Tensor:
    return np.asarray(rounded(x, s), np.float32)


def _store(walk: Walk, value: Value, real: list[Tensor], rough: list[Tensor], scales: Mapping[Value, Scale]) -> None:
    """Keep a value of all samples, in 8 bits where it has a scale."""
    walk.real[value], walk.rough[value] = real, rough
    if value in scales:
        walk.rough[value] = list(walk.cores.each(lambda x: rounded32(x, scales[value]), rough))


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
    places = _thinned(layer)

    def of_sample(rough: Tensor) -> Covariance:
        whole = columns(layer.node, rough, layer.value.shape, places)
        return Covariance.of(whole if len(part) == whole.shape[1] else whole[:, part])

    return Covariance.over(walk.cores.each(of_sample, walk.rough[layer.input]))


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
