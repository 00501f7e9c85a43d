"""What reads channels that may go, by groups of layers, and the second moments of what they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...calibration.request import Progress
from ...columns import columns, positions, rows_of
from ...covariance import Covariance
from ...ir import Graph, Node, Value
from ...layers import constant
from ...ops.common import Tensor
from ..repair.streams import sum_behind
from ..repair.walk import Feeds, Step, Walk
from .groups import Coupling, Family

HELD = 4  # one in so many samples is held out
POSITIONS = (2048, 12288)


@dataclass
class Moments:
    """Of one group of a reader: covariance and mean of its columns over `count` positions of samples, and covariance
    over those of samples that are held out."""

    covariance: Tensor
    mean: Tensor
    count: int
    held: Tensor


@dataclass
class Reader:
    """A group of a layer: rows [outputs, columns], and which class (over all families) each column is of, or -1."""

    node: Node
    rows: Tensor
    classes: Tensor
    moments: Moments | None = None
    stream: float | None = None  # variance of the sum that its results are added to, summed

    @property
    def variance(self) -> float:
        """What its error is held against: the variance of its results, or of what they become a part of."""
        if self.stream is not None:
            return self.stream + 1e-30
        if self.moments is None:
            return float(np.square(self.rows).sum()) + 1e-30
        return energy(self.rows, self.moments.held) + 1e-30


@dataclass(frozen=True)
class Numbering:
    """Classes of all families in a row: of each channel number its class, or -1; the first class of each family."""

    of: Tensor
    starts: tuple[int, ...]
    count: int


def numbered(known: Coupling, families: Sequence[Family]) -> Numbering:
    of, starts, count = np.full(known.count, -1), [], 0
    for family in families:
        starts.append(count)
        for numbers in family.classes:
            of[numbers] = count
            count += 1
    return Numbering(of, tuple(starts), count)


def readers_of(known: Coupling, numbering: Numbering, feeds: Feeds | None, tell: Progress) -> list[Reader]:
    """What reads channels that may go; with second moments where there are samples."""
    found: dict[Node, list[Reader]] = {}
    for node, layer in known.layers.items():
        weights, rows = constant(node.args[1]), None
        if layer.inputs is not None and not layer.depthwise and weights is not None:
            classes = numbering.of[layer.inputs.numbers]
            rows = rows_of(node, weights) if (classes >= 0).any() else None
        if rows is not None:
            groups = len(rows)
            taps = rows.shape[2] * groups // len(classes)
            split = np.repeat(classes.reshape(groups, -1), taps, axis=1)
            found[node] = [Reader(node, r.astype(np.float64), c) for r, c in zip(rows, split, strict=True)]
    if feeds is not None and found:
        _measure(known, found, feeds, tell)
    return [reader for readers in found.values() for reader in readers]


def _measure(known: Coupling, found: Mapping[Node, list[Reader]], feeds: Feeds, tell: Progress) -> None:
    ends = known.graph
    plan = [Step(n, True, tuple((a, True) for a in n.args)) for n in ends.nodes()]
    done, adds = [0], _sums_behind(known.graph, found)

    def visit(step: Step, arrays: list[Sequence[Tensor]]) -> Mapping[int, Tensor]:
        for reader in adds.get(step.node, []):
            reader.stream = _spread(step.node, arrays)
        if step.node in found:
            for reader, moments in zip(found[step.node], moments_of(step.node, arrays[0]), strict=True):
                reader.moments = moments
            done[0] += 1
            tell("moments", done[0], len(found))
        return {}

    Walk(plan, feeds).run(visit)


def _sums_behind(graph: Graph, found: Mapping[Node, list[Reader]]) -> dict[Node, list[Reader]]:
    """The sums of branches that layers' results go into alone."""
    users, behind = graph.users(), dict[Node, list[Reader]]()
    for node, readers in found.items():
        total = sum_behind(users, graph.outputs, Value(node))
        if total is not None:
            behind.setdefault(total, []).extend(readers)
    return behind


def _spread(node: Node, arrays: Sequence[Sequence[Tensor]]) -> float:
    """Variance of a sum over positions and samples, added up over its channels."""
    axis = 1 if len(node.types[0].shape) > 2 else -1
    total, square, count = 0.0, 0.0, 0
    for a, b in zip(*arrays, strict=True):
        rows = np.moveaxis(a + b, axis, 0).reshape(node.types[0].shape[axis], -1)
        total = total + rows.sum(1, dtype=np.float64)
        square, count = square + np.square(rows, dtype=np.float64).sum(1), count + rows.shape[1]
    return float(np.sum(np.asarray(square) / count - np.square(np.asarray(total) / count)))


def moments_of(node: Node, inputs: Sequence[Tensor]) -> list[Moments]:
    """Of each group of a layer, whose inputs in all samples are given."""
    total = positions(node)
    width = node.args[1].type.size // (node.types[0].shape[-1] if node.op == "MatMul" else 1)
    each = min(total, -(-min(max(4 * width, POSITIONS[0]), POSITIONS[1]) // len(inputs)))

    def of_sample(number: int) -> Covariance:
        places = np.arange(total)
        if each < total:
            places = np.sort(np.random.default_rng(number).choice(total, each, replace=False))
        return Covariance.of(columns(node, inputs[number], node.types[0].shape, places))

    held_out = range(HELD - 1, len(inputs), HELD)
    whole = Covariance.over(of_sample(k) for k in range(len(inputs)) if k not in held_out)
    held = Covariance.over(map(of_sample, held_out)) if held_out else whole
    return [Moments(c, m, whole.count, h) for c, m, h in zip(whole.matrix(), whole.mean(), held.matrix(), strict=True)]


def energy(rows: Tensor, covariance: Tensor) -> float:
    return float(np.einsum("oi,oi->", rows @ covariance, rows))
