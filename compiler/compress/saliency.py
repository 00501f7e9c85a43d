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
from ..ir import Node, Value
from ..ops.common import Tensor
from ..quantize.placement import constant
from .columns import columns, groups_of, positions, rows_of
from .groups import Coupling, Family
from .walk import Feeds, Step, Walk

Saliency = Literal["weight", "activation", "reconstruction"]
DAMPING = 1e-2
ROUNDS = 48  # in which a family's classes are chosen
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
    """Of one group of a reader: covariance and mean of its columns, and the variance of what it makes of them."""

    covariance: Tensor
    mean: Tensor
    count: int  # positions that they are of


@dataclass
class Reader:
    """A group of a layer: rows [outputs, columns], and which class (over all families) each column is of, or -1."""

    node: Node
    rows: Tensor
    classes: Tensor
    moments: Moments | None = None

    @property
    def variance(self) -> float:
        """Of its results, summed."""
        if self.moments is None:
            return float(np.square(self.rows).sum()) + 1e-30
        return float(np.einsum("oi,oi->", self.rows @ self.moments.covariance, self.rows)) + 1e-30


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
    ends = known.graph.with_values(known.graph.inputs, tuple(Value(n) for n in found))
    plan = [Step(n, True, tuple((a, True) for a in n.args)) for n in ends.nodes()]
    done = [0]

    def visit(step: Step, arrays: list[Sequence[Tensor]]) -> Mapping[int, Tensor]:
        if step.node in found:
            for reader, moments in zip(found[step.node], _moments(step.node, arrays[0]), strict=True):
                reader.moments = moments
            done[0] += 1
            tell("moments", done[0], len(found))
        return {}

    Walk(plan, feeds).run(visit)


def _moments(node: Node, inputs: Sequence[Tensor]) -> list[Moments]:
    total, groups = positions(node), groups_of(node) if node.op != "MatMul" else 1
    width = node.args[1].type.size // (node.types[0].shape[-1] if node.op == "MatMul" else 1)
    each = min(total, -(-min(max(4 * width, POSITIONS[0]), POSITIONS[1]) // len(inputs)))
    square: Tensor | None = None
    mean: Tensor | None = None
    count = 0
    for number, x in enumerate(inputs):
        places = np.arange(total)
        if each < total:
            places = np.sort(np.random.default_rng(number).choice(total, each, replace=False))
        made = columns(node, x, node.types[0].shape, places)
        product, sums = np.matmul(made, made.transpose(0, 2, 1)).astype(np.float64), made.sum(2, dtype=np.float64)
        square, mean = (product, sums) if square is None or mean is None else (square + product, mean + sums)
        count += len(places)
    assert square is not None and mean is not None
    square, mean = square / count, mean / count
    return [Moments(square[g] - np.outer(mean[g], mean[g]), mean[g], count) for g in range(groups)]


def curves(
    known: Coupling, families: Sequence[Family], numbering: Numbering, readers: Sequence[Reader], kind: Saliency
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
    alive, order, errors = list(range(family.width)), list[int](), [0.0]
    at_once = max(1, family.width // ROUNDS)
    while len(alive) > max(1, family.width // LEAST):
        scores = np.sum([state.scores(alive) for state in states], axis=0)
        chosen = [alive[k] for k in np.argsort(scores, kind="stable")[: min(at_once, len(alive) - 1)]]
        lost = sum(state.remove(chosen) for state in states)
        errors += [errors[-1] + lost * (k + 1) / len(chosen) for k in range(len(chosen))]
        order += chosen
        alive = [k for k in alive if k not in chosen]
    plain = np.sum([_plain(reader, at, order) for reader, at in parts], axis=0)
    return Curve(family, tuple(order), np.asarray(errors), plain)


def _plain(reader: Reader, at: Tensor, order: Sequence[int]) -> Tensor:
    """Errors when nothing makes up for the first classes of an order but the bias."""
    assert reader.moments is not None
    found = [0.0]
    for k in range(1, len(order) + 1):
        gone = at[list(order[:k])].reshape(-1)
        rows = reader.rows[:, gone]
        part = reader.moments.covariance[np.ix_(gone, gone)]
        found.append(float(np.einsum("oi,oi->", rows @ part, rows)) / reader.variance)
    return np.asarray(found)


@dataclass
class _State:
    """Of one reader: the inverse of its covariance without the columns that are gone, and its rows by then."""

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
        inverse = np.linalg.inv(own + weight * np.eye(len(own)))
        return _State((inverse + inverse.T) / 2, reader.rows.copy(), at, 1 / reader.variance)

    def scores(self, classes: Sequence[int]) -> Tensor:
        """What each class alone would cost now."""
        at = self.at[list(classes)]
        blocks = np.linalg.inv(self.inverse[at[:, :, None], at[:, None, :]])
        rows = self.rows[:, at].transpose(1, 0, 2)  # classes, outputs, columns
        return np.asarray(np.einsum("cot,cot->c", np.matmul(rows, blocks), rows) * self.scale)

    def remove(self, classes: Sequence[int]) -> float:
        """The others make up for some classes; what they cannot is lost."""
        gone = self.at[list(classes)].reshape(-1)
        block = np.linalg.inv(self.inverse[np.ix_(gone, gone)])
        rows = self.rows[:, gone]
        lost = float(np.einsum("oi,oi->", rows @ block, rows)) * self.scale
        across = block @ self.inverse[gone]
        self.rows -= rows @ across
        self.inverse -= self.inverse[:, gone] @ across
        self.rows[:, gone] = 0.0
        return max(lost, 0.0)
