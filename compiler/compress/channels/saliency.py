"""What it costs in error to remove channels, family by family: in which order its classes go, and what is lost by then.

weight          squared norms of the weights that read a class
activation      the same, weighted by the mean square of what they read, on calibration data
reconstruction  error of what the readers compute when they make up for what is missing as well as they can: blocks of
                columns are eliminated from the inverse of their inputs' second moments, the cheapest first (Hassibi and
                Stork, "Second order derivatives for network pruning: optimal brain surgeon", 1993; for structures:
                Kurtic, Frantar and Alistarh, "ZipLM", 2023)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...calibration.request import Progress
from ...layers import constant
from ...ops.common import Tensor
from .groups import Coupling, Family
from .readers import Numbering, Reader, energy

Saliency = Literal["weight", "activation", "reconstruction"]
DAMPING = 1e-2
ROUNDS = 48  # in which a family's classes are chosen
LARGE = 1024  # columns from which inverses are in f32; damping by their number keeps that sound
LOOKS = 8  # how often what is lost is measured on the way
LEAST = 8  # a family keeps at least one class in so many


@dataclass(frozen=True, eq=False)
class Curve:
    """`errors[k]`: what is lost when the first k classes of `order` are gone, the readers having made up for it;
    `plain[k]`: when they have not."""

    family: Family
    order: tuple[int, ...]
    errors: Tensor
    plain: Tensor


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
        return energy(self.rows - self.reader.rows.astype(self.rows.dtype), self.held) * self.scale

    def plain(self, classes: Sequence[int]) -> float:
        """What is lost there when nothing makes up for some classes but the bias."""
        gone = self.at[list(classes)].reshape(-1)
        return energy(self.reader.rows[:, gone], self.held[np.ix_(gone, gone)]) * self.scale
