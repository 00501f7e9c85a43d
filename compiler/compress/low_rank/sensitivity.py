"""How much each layer's splits matter to the outputs: what the error of its results becomes there.

Some of a layer's forms, from the most accurate to the roughest that may be chosen, take its place alone, layer after
layer; between them the harm per error is interpolated. Noise of the same energy says little: what a split loses lies in
the directions in which results vary least.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...calibration.request import Progress
from ...ir import Graph, Node, Value
from ...layers import Layer
from ...macs import macs
from ...op import build, const
from ...ops.common import Tensor
from ...quantize.fallback import changes, trial_of
from ...quantize.switch import switch, switches
from .pieces import weights_of
from .split import Split, composed, rebuilt

PROBES = (4, 64)  # samples: at least, and at most
WORK = 1e12  # multiplications that all runs may take
LEAST = 1e-3  # of the largest harm per error, that every layer has


@dataclass(frozen=True)
class Probe:
    """A change of a layer's weights and of its results' mean, and the error that it makes."""

    weights: Tensor
    bias: Tensor
    error: float


Harm = Callable[[float], float]  # of the outputs, for an error of a layer's results; both as shares of their energy


def probe(layer: Layer, made: Split) -> Probe:
    """A layer in pieces, as a change of the layer."""
    whole = weights_of(layer)
    assert made.weights is not None
    change = composed(made.form.pieces, made.weights, whole.shape) - whole
    bias = np.zeros(len(whole)) if layer.bias is None or made.bias is None else made.bias - layer.bias
    return Probe(change.astype(np.float32), np.asarray(bias, np.float32), made.error)


def harms(
    graph: Graph,
    probes: Mapping[Node, Sequence[Probe]],
    feeds: Sequence[Mapping[str, Tensor]],
    threads: int,
    tell: Progress,
) -> dict[Node, Harm]:
    """For each layer what its error does, from changes of it alone."""
    count = sum(map(len, probes.values()))
    switched = _switched(graph, probes, count)
    wanted = min(max(int(WORK / max(count * macs(switched), 1)), PROBES[0]), PROBES[1])
    some = feeds[:: -(-len(feeds) // wanted)]
    with trial_of(switched, threads) as trial:
        found = changes(trial, some, count, tell)
    errors = np.asarray([max(one.error, 1e-12) for some_ in probes.values() for one in some_])
    ratios = found / errors
    most = float(ratios[np.isfinite(ratios)].max(initial=0.0)) or 1.0
    ratios = np.maximum(np.where(np.isfinite(ratios), ratios, most), LEAST * most)
    starts = np.cumsum([0, *map(len, probes.values())])
    return {
        node: _interpolated(errors[start:end], ratios[start:end])
        for node, start, end in zip(probes, starts, starts[1:], strict=False)
    }


def _interpolated(errors: Tensor, ratios: Tensor) -> Harm:
    order = np.argsort(errors)
    at, height = np.log(errors[order]), np.log(ratios[order])

    def harm(error: float) -> float:
        return error * float(np.exp(np.interp(np.log(max(error, 1e-12)), at, height)))

    return harm if len(errors) else lambda error: error


def _switched(graph: Graph, probes: Mapping[Node, Sequence[Probe]], count: int) -> Graph:
    """The graph with an input of a number per probe: 1 makes its change."""
    every = switches(count)
    place = dict(zip(probes, np.cumsum([0, *map(len, probes.values())]).tolist(), strict=False))

    def changed(old: Node, args: tuple[Value, ...]) -> tuple[Value, ...] | None:
        value = Value(Node(old.op, args, old.types, old.attrs, old.name, old.origin))
        for k, one in enumerate(probes.get(old, ())):
            on = switch(every, place[old] + k, len(value.shape))
            value = build("Add", value, build("Mul", _change(old, args[0], one), on))
        return (value,) if probes.get(old) else None

    made = rebuilt(graph, changed)
    outputs = tuple(build("Sqrt", v) if _distribution(v) else v for v in made.outputs)
    return Graph(made.name, (*made.inputs, every), outputs, made.output_names)


def _change(layer: Node, x: Value, one: Probe) -> Value:
    if layer.op == "MatMul":
        return build("Add", build("MatMul", x, const(np.ascontiguousarray(one.weights.T))), const(one.bias))
    return Value(replace(layer, args=(x, const(one.weights), const(one.bias))))


def _distribution(value: Value) -> bool:
    """Whether elements are probabilities. The squared distance of their roots (Hellinger's) is as the divergence for
    small changes, where that of probabilities that are almost 0 or 1 says nothing."""
    while value.node.op == "Reshape":
        value = value.node.args[0]
    return value.node.op == "Softmax"
