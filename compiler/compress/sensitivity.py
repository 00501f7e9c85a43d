"""How far the model's outputs change with channels that are missing: measured in one graph in which classes of channels
are switched off while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..calibration.request import Progress
from ..calibration.runner import running
from ..dtypes import dtype
from ..ir import Graph, Node, Type, Value
from ..op import build, const, rebuild
from ..ops.common import Tensor
from .groups import Channels, Coupling, Family
from .saliency import Curve, Numbering, Reader
from .walk import Feeds

SWITCHES = "edgec.channels"
PROBES = 4  # samples
PART = 2  # one class in so many of a family is switched off at a time
SHAPES = frozenset(["Softmax", "LogSoftmax", "Sigmoid"])  # that outputs are taken in front of


def sensitivities(
    known: Coupling,
    curves: Sequence[Curve],
    numbering: Numbering,
    readers: Sequence[Reader],
    feeds: Feeds,
    tell: Progress,
    threads: int,
) -> Tensor:
    """Of each family: error energy of the outputs, as a share of their variance, per error of its curve."""
    graph, ends = _switched(known, [c.family for c in curves], numbering, readers)
    step = -(-len(feeds) // PROBES)
    probes, found = feeds[::step], np.zeros(len(curves))
    with running(graph, ends, threads=threads) as run:
        on = np.ones(numbering.count + 1, np.float32)
        exact = [run({**feed, SWITCHES: on}) for feed in probes]
        for k, (curve, start) in enumerate(zip(curves, numbering.starts, strict=True)):
            count = max(1, min(len(curve.order), curve.family.width // PART))
            off = on.copy()
            off[[start + c for c in curve.order[:count]]] = 0.0
            got = [run({**feed, SWITCHES: off}) for feed in probes]
            found[k] = _distance(got, exact) / max(float(curve.plain[count]), 1e-12)
            tell("sensitivity", k + 1, len(curves))
    return found


def _distance(got: Sequence[Sequence[Tensor]], want: Sequence[Sequence[Tensor]]) -> float:
    """Error energy over the variance, summed over the outputs."""
    total = 0.0
    for made, exact in zip(zip(*got, strict=True), zip(*want, strict=True), strict=True):
        if exact[0].dtype.kind != "f" or not exact[0].size:
            continue
        a, b = (np.stack(arrays).astype(np.float64) for arrays in (made, exact))
        error = np.square(a - b).sum() / max(float(np.square(b - b.mean()).sum()), 1e-30)
        total += float(error) if np.isfinite(error) else 1.0
    return total


def _switched(
    known: Coupling, families: Sequence[Family], numbering: Numbering, readers: Sequence[Reader]
) -> tuple[Graph, list[Value]]:
    """The graph with an input more: a number per class, 0 where its readers see its mean instead; and its outputs."""
    switches = Value(Node("Input", (), (Type("f32", (numbering.count + 1,)),), {}, SWITCHES))
    means = _means(known, readers)
    unread = _unread(known, families, numbering, means)
    new: dict[Value, Value] = {}
    masked: dict[Value, Value] = {}
    for node in known.graph.nodes():
        args = [new[a] for a in node.args]
        if node in means:
            source = node.args[0]
            if source not in masked:
                masked[source] = _masked(args[0], known.of[source], numbering, switches, means[node])
            args[0] = masked[source]
        made = node if tuple(args) == node.args else rebuild(node, args)
        for old, value in zip(node.results, made.results, strict=True):
            new[old] = value
            if old in unread:
                zero = np.zeros(len(known.of[old].numbers))
                new[old] = _masked(value, known.of[old], numbering, switches, zero)
    ends = [v.node.args[0] if v.node.op in SHAPES else v for v in known.graph.outputs]
    graph = known.graph.with_values(known.graph.inputs, tuple(new[v] for v in known.graph.outputs))
    return replace(graph, inputs=(*graph.inputs, switches)), [new[v] for v in ends]


def _means(known: Coupling, readers: Sequence[Reader]) -> dict[Node, Tensor]:
    """Mean of each channel that a layer reads."""
    parts: dict[Node, list[Tensor]] = {}
    for reader in readers:
        if reader.moments is not None:
            parts.setdefault(reader.node, []).append(reader.moments.mean)
    found = {}
    for node, means in parts.items():
        channels = known.layers[node].inputs
        assert channels is not None
        found[node] = np.concatenate(means).reshape(len(channels.numbers), -1).mean(1)
    return found


def _unread(
    known: Coupling, families: Sequence[Family], numbering: Numbering, means: Mapping[Node, Tensor]
) -> set[Value]:
    """What makes the channels of families that no layer reads."""
    read = np.zeros(numbering.count + 1, bool)
    for node in means:
        channels = known.layers[node].inputs
        assert channels is not None
        read[numbering.of[channels.numbers]] = True
    found = set[Value]()
    for family, start in zip(families, numbering.starts, strict=True):
        if not read[start]:
            found |= {Value(maker) for maker in family.makers}
    return found


def _masked(value: Value, channels: Channels, numbering: Numbering, switches: Value, mean: Tensor) -> Value:
    classes = numbering.of[channels.numbers]
    places = np.where(classes >= 0, classes, numbering.count)  # the last number is always 1
    shape = [-1 if k == channels.axis else 1 for k in range(len(value.shape))]
    mask = build("Gather", switches, const(places.astype(np.int64)), axis=0)
    mask = build("Reshape", mask, shape=tuple(len(places) if n < 0 else 1 for n in shape))
    around = const(mean.reshape(shape).astype(dtype(value.type.dtype).numpy))
    if value.type.dtype != "f32":
        mask = build("Cast", mask, to=value.type.dtype)
    return build("Add", build("Mul", build("Sub", value, around), mask), around)
