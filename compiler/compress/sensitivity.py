"""How much each layer matters to the outputs: what an error of its results, as a share of their energy, becomes there.

Each layer in turn has the channels of its results scaled, half of them up and half of them down; the model is compiled
once, with a switch per layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..calibration.request import Progress
from ..calibration.runner import running
from ..ir import Graph, Node, Type, Value
from ..op import build, const
from ..ops.common import Tensor
from ..quantize.fallback import distance
from ..quantize.placement import Layer, channel_axis
from .split import rebuilt

SIZE = 0.1  # of the change, as a share of each result; its energy is the square of that
PROBES = 4  # samples
LEAST = 1e-3  # of the largest sensitivity, that every layer has
SWITCHES = "edgec_switches"


def sensitivities(
    graph: Graph, layers: Sequence[Layer], feeds: Sequence[Mapping[str, Tensor]], threads: int, tell: Progress
) -> dict[Node, float]:
    """Error of the outputs, as a share of their energy, per error of a layer's results."""
    switched = _switched(graph, layers)
    count = len(layers)
    some = feeds[:: -(-len(feeds) // PROBES)]
    found = np.zeros(count)
    with running(switched, switched.outputs, threads=threads) as run:
        exact = [run({**feed, SWITCHES: np.zeros(count, np.float32)}) for feed in some]
        for k in range(count):
            on = np.zeros(count, np.float32)
            on[k] = 1.0
            changes = [distance(run({**f, SWITCHES: on}), e) for f, e in zip(some, exact, strict=True)]
            found[k] = float(np.mean(changes)) / SIZE**2
            tell("sensitivity", k + 1, count)
    found = np.where(np.isfinite(found), found, np.inf)
    most = float(found[np.isfinite(found)].max(initial=0.0)) or 1.0
    return {layer.node: float(np.clip(f, LEAST * most, most)) for layer, f in zip(layers, found, strict=True)}


def _switched(graph: Graph, layers: Sequence[Layer]) -> Graph:
    """The graph with an input of a number per layer: 1 changes its results."""
    switches = Value(Node("Input", (), (Type("f32", (len(layers),)),), {}, SWITCHES))
    place = {layer.value.node: k for k, layer in enumerate(layers)}
    axes = {layer.value.node: channel_axis(layer) for layer in layers}

    def changed(old: Node, args: tuple[Value, ...]) -> tuple[Value, ...] | None:
        if old not in place:
            return None
        k, shape = place[old], old.types[0].shape
        value = Value(Node(old.op, args, old.types, old.attrs, old.name, old.origin))
        signs = np.where(np.random.default_rng(k).permutation(shape[axes[old]]) % 2, SIZE, -SIZE).astype(np.float32)
        signs = signs.reshape([-1 if a == axes[old] else 1 for a in range(len(shape))])
        one = build("Slice", switches, starts=(k,), ends=(k + 1,), axes=(0,), steps=(1,))
        factor = build("Mul", build("Reshape", one, shape=(1,) * len(shape)), const(signs))
        return (build("Add", value, build("Mul", value, factor)),)

    made = rebuilt(graph, changed)
    return Graph(made.name, (*made.inputs, switches), made.outputs, made.output_names)
