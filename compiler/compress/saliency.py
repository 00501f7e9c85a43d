"""What it costs in error to remove channels, family by family: in which order its classes go, and what is lost by then.

weight          squared norms of the weights that read a class
activation      the same, weighted by the mean square of what they read, on calibration data
reconstruction  error of what the readers compute when they make up for what is missing as well as they can: blocks of
                columns are eliminated from the inverse of their inputs' second moments, the cheapest first (Hassibi and
                Stork, "Second order derivatives for network pruning: optimal brain surgeon", 1993; for structures:
                Kurtic, Frantar and Alistarh, "ZipLM", 2023)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..calibration.request import Progress
from ..ir import Graph, Node, Value
from ..ops.common import Tensor
from ..quantize.placement import constant
from .columns import columns, groups_of, positions, rows_of
from .groups import Coupling, Family
from .walk import Feeds, Step, Walk

Saliency = Literal["weight", "activation", "reconstruction"]
DAMPING = 1e-2
ROUNDS = 48  # in which a family's classes are chosen
LARGE = 1024  # columns from which inverses are in f32; damping by their number keeps that sound
LOOKS = 8  # how often what is lost is measured on the way
HELD = 4  # one in so many samples is held out
LEAST = 8  # a family keeps at least one class in so many
POSITIONS = (2048, 12288)


@dataclass(frozen=True, eq=False)
class Curve:
    """`errors[k]`: what is lost when the first k classes of `order` are gone, the readers having made up for it;
    `plain[k]`: when they have not."""

    family: Family
    order: tuple[int, ...]
    errors: Tensor
    plain: Tensor


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
        return _energy(self.rows, self.moments.held) + 1e-30


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
    """The sums of computed values that layers' results go into alone, a constant bias passed."""
    users, behind = graph.users(), dict[Node, list[Reader]]()
    for node, readers in found.items():
        value = Value(node)
        for _ in range(2):
            reading = users.get(value, [])
            if len(reading) != 1 or reading[0].op != "Add" or reading[0].types[0] != value.type:
                break
            value = Value(reading[0])
            if all(constant(a) is None and a.shape == value.shape for a in value.node.args):
                behind.setdefault(value.node, []).extend(readers)
                break
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
    total, groups = positions(node), groups_of(node) if node.op != "MatMul" else 1
    width = node.args[1].type.size // (node.types[0].shape[-1] if node.op == "MatMul" else 1)
    each = min(total, -(-min(max(4 * width, POSITIONS[0]), POSITIONS[1]) // len(inputs)))
    sums = [_Sums(), _Sums()]
    for number, x in enumerate(inputs):
        places = np.arange(total)
        if each < total:
            places = np.sort(np.random.default_rng(number).choice(total, each, replace=False))
        sums[number % HELD == HELD - 1].add(columns(node, x, node.types[0].shape, places))
    if not sums[1].count:
        sums[1] = sums[0]
    (mean, own), (_, held) = (s.moments() for s in sums)
    return [Moments(own[g], mean[g], sums[0].count, held[g]) for g in range(groups)]


@dataclass
class _Sums:
    """Of columns [groups, inputs, positions]."""

    square: Tensor | float = 0.0
    total: Tensor | float = 0.0
    count: int = 0

    def add(self, x: Tensor) -> None:
        self.square = self.square + np.matmul(x, x.transpose(0, 2, 1)).astype(np.float64)
        self.total = self.total + x.sum(2, dtype=np.float64)
        self.count += x.shape[2]

    def moments(self) -> tuple[Tensor, Tensor]:
        """Means, and covariances."""
        mean = np.asarray(self.total) / self.count
        return mean, np.asarray(self.square) / self.count - mean[:, :, None] * mean[:, None, :]


def _energy(rows: Tensor, covariance: Tensor) -> float:
    return float(np.einsum("oi,oi->", rows @ covariance, rows))


def curves(
    known: Coupling,
    families: Sequence[Family],
    numbering: Numbering,
    readers: Sequence[Reader],
    kind: Saliency,
    tell: Progress,
) -> list[Curve]:
    """A curve for each family."""
    made = []
    for family, start in zip(families, numbering.starts, strict=True):
        mine = []
        for reader in readers:
            inside = (reader.classes >= start) & (reader.classes < start + family.width)
            if inside.any():
                at = np.flatnonzero(inside)
                order = np.argsort(reader.classes[at], kind="stable")
                mine.append((reader, at[order].reshape(family.width, -1)))
        if not mine:
            made.append(_from_makers(known, family))
        elif kind == "reconstruction":
            made.append(_eliminated(family, mine))
        else:
            made.append(_sorted(family, mine, kind))
        tell("saliency", len(made), len(families))
    return made


Parts = Sequence[tuple[Reader, Tensor]]  # readers, and the columns of each class


def _sorted(family: Family, parts: Parts, kind: Saliency) -> Curve:
    scores = np.zeros(family.width)
    for reader, at in parts:
        weight = np.square(reader.rows).sum(0)
        if kind == "activation" and reader.moments is not None:
            weight = weight * (np.diag(reader.moments.covariance) + 0.0)
        scores += weight[at].sum(1) / reader.variance
    order = np.argsort(scores, kind="stable")
    errors = np.concatenate([[0.0], np.cumsum(scores[order])])
    return Curve(family, tuple(map(int, order)), errors, errors)


def _from_makers(known: Coupling, family: Family) -> Curve:
    """Nothing multiplies these channels with weights: squared norms of the weights that make them."""
    scores, of = np.full(family.width, 1e-12), np.full(known.count, -1)
    for k, numbers in enumerate(family.classes):
        of[numbers] = k
    for node in family.makers:
        weights, channels = constant(node.args[1]), known.layers[node].outputs
        if weights is None or channels is None:
            continue
        axis = weights.ndim - 1 if node.op == "MatMul" else 0 if node.op == "Conv" else 1
        norms = np.square(weights, dtype=np.float64).sum(tuple(k for k in range(weights.ndim) if k != axis))
        which = of[channels.numbers[: len(norms)]]
        np.add.at(scores, which[which >= 0], norms[which >= 0] / (norms.sum() + 1e-30))
    order = np.argsort(scores, kind="stable")
    errors = np.concatenate([[0.0], np.cumsum(scores[order])])
    return Curve(family, tuple(map(int, order)), errors, errors)


def _eliminated(family: Family, parts: Parts) -> Curve:
    """The cheapest classes first, the others making up for them."""
    states = [_State.of(reader, at) for reader, at in parts]
    alive, order = list(range(family.width)), list[int]()
    counts, errors, plain = [0], [0.0], [0.0]
    at_once, end = max(1, family.width // ROUNDS), max(1, family.width // LEAST)
    for number in range(family.width):
        if len(alive) <= end:
            break
        scores = np.sum([state.scores(alive) for state in states], axis=0)
        chosen = [alive[k] for k in np.argsort(scores, kind="stable")[: min(at_once, len(alive) - end)]]
        for state in states:
            state.remove(chosen)
        order += chosen
        alive = [k for k in alive if k not in chosen]
        if family.width <= LOOKS or number % (ROUNDS // LOOKS) == 0 or len(alive) <= end:
            counts.append(len(order))
            errors.append(sum(state.error() for state in states))
            plain.append(sum(state.plain(order) for state in states))
    steps = np.arange(len(order) + 1)
    lost = np.maximum.accumulate(np.interp(steps, counts, errors))
    return Curve(family, tuple(order), lost, np.interp(steps, counts, plain))


@dataclass
class _State:
    """Of one reader: the inverse of its covariance without the columns that are gone, and its rows by then."""

    reader: Reader
    held: Tensor
    inverse: Tensor
    rows: Tensor
    at: Tensor
    scale: float

    @staticmethod
    def of(reader: Reader, at: Tensor) -> _State:
        assert reader.moments is not None
        own = reader.moments.covariance
        floor = float(np.square(reader.moments.mean).mean())
        few = len(own) / reader.moments.count  # what is fitted on few positions serves others less
        weight = max(DAMPING, few) * float(np.diag(own).mean()) + 1e-6 * floor + 1e-12
        kind = np.float32 if len(own) >= LARGE else np.float64
        inverse = np.linalg.inv((own + weight * np.eye(len(own))).astype(kind))
        held, rows = reader.moments.held.astype(kind), reader.rows.astype(kind)
        return _State(reader, held, (inverse + inverse.T) / 2, rows, at, 1 / reader.variance)

    def scores(self, classes: Sequence[int]) -> Tensor:
        """What each class alone would cost now."""
        at = self.at[list(classes)]
        blocks = np.linalg.inv(self.inverse[at[:, :, None], at[:, None, :]])
        rows = self.rows[:, at].transpose(1, 0, 2)  # classes, outputs, columns
        return np.asarray(np.einsum("cot,cot->c", np.matmul(rows, blocks), rows) * self.scale)

    def remove(self, classes: Sequence[int]) -> None:
        """The others make up for some classes."""
        gone = self.at[list(classes)].reshape(-1)
        across = np.linalg.inv(self.inverse[np.ix_(gone, gone)]) @ self.inverse[gone]
        self.rows -= self.rows[:, gone] @ across
        self.inverse -= self.inverse[:, gone] @ across
        self.rows[:, gone] = 0.0

    def error(self) -> float:
        """What is lost by now, on samples that are held out."""
        return _energy(self.rows - self.reader.rows.astype(self.rows.dtype), self.held) * self.scale

    def plain(self, classes: Sequence[int]) -> float:
        """What is lost there when nothing makes up for some classes but the bias."""
        gone = self.at[list(classes)].reshape(-1)
        return _energy(self.reader.rows[:, gone], self.held[np.ix_(gone, gone)]) * self.scale
