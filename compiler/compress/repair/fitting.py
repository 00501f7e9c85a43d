"""New weights and bias for one layer, from what it reads and what it is to compute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np

from ...columns import columns, positions, results
from ...ir import Node
from ...ops.common import Tensor
from .bend import Bend, bent_aims
from .normal import Normal, lowered, solved

DAMPINGS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
FEWER = (1e-3, 1e-2, 1e-1)
LARGE = 2048  # inputs of an output from which fewer dampings are tried
# Positions per input of an output that a layer is fitted on, within these limits, where there are so many.
PER_INPUT = 32
LEAST, MOST = 16384, 65536
DOUBT = 2.0  # how much less an error must be, in shares of it that go with the root of the positions held out
HELD = 4  # one in so many samples is held out
ROUNDS = 12  # of aims behind a function
ROOM = 6e7  # numbers that columns may be kept in for that


@dataclass(frozen=True)
class Fit:
    """A layer's error on held-out samples as a share of the aim's variance there, before and after."""

    before: float
    after: float


@dataclass(frozen=True)
class Layer:
    """Weights as rows [groups, outputs, inputs], and the bias [groups, outputs]; `shifted`: there is one to change;
    `rank`: that the rows have at most."""

    node: Node
    weights: Tensor
    rows: Tensor
    bias: Tensor
    mask: Tensor | None
    shifted: bool
    rank: int | None = None


Found = tuple[Tensor, Tensor, Fit]


@dataclass(frozen=True)
class Aims:
    """What a layer's results are to be, by sample. `raised`: by a bias that they lack; `besides`: what is added to the
    results, and is not part of them; `bend`: the function through which alone results, with that, are read."""

    arrays: Sequence[Tensor]
    raised: Tensor | None = None
    besides: Sequence[Tensor] | None = None
    bend: Bend | None = None

    def at(self, node: Node, sample: int, places: Tensor) -> tuple[Tensor, Tensor | None]:
        """Results at some places, and what is added to them there."""
        aim = results(node, self.arrays[sample], places)
        if self.raised is not None:
            aim = aim + self.raised[:, :, None].astype(np.float32)
        if self.besides is None:
            return aim, None
        beside = results(node, self.besides[sample], places)
        return aim - beside, beside


def fitted(layer: Layer, inputs: Sequence[Tensor], aims: Aims) -> Found:
    """Rows and bias that serve held-out samples best; the layer's own where nothing is better."""
    bend = aims.bend
    bent = bend is not None and layer.mask is None
    fit, held = _drawn(layer, inputs, aims, bent)
    found = _straight(layer, fit.sums, held.sums)
    if bend is not None and fit.columns:
        return _bent(layer, fit, held, bend, found)
    return found[:3]


@dataclass
class _Drawn:
    """What is known of some samples: sums, and the columns and aims themselves where they are asked for."""

    sums: Normal
    columns: list[Tensor] = field(default_factory=list)
    aims: list[Tensor] = field(default_factory=list)
    besides: list[Tensor] = field(default_factory=list)

    def and_of(self, other: _Drawn) -> _Drawn:
        """Of both."""
        columns, aims = self.columns + other.columns, self.aims + other.aims
        return _Drawn(self.sums.joined(other.sums), columns, aims, self.besides + other.besides)

    def behind(self, bend: Bend) -> Bend:
        """The function of results alone."""
        if not self.besides:
            return bend
        beside = np.concatenate(self.besides, axis=2)
        return lambda made: bend(made + beside)


def _drawn(layer: Layer, inputs: Sequence[Tensor], aims: Aims, keep: bool) -> tuple[_Drawn, _Drawn]:
    """Of samples to fit on, and of those held out."""
    groups, outputs, width = layer.rows.shape
    made = _Drawn(Normal.empty(groups, width, outputs)), _Drawn(Normal.empty(groups, width, outputs))
    total = positions(layer.node)
    wanted = min(max(PER_INPUT * width, LEAST), MOST)
    each = min(total, -(-wanted // len(inputs)))
    keep = keep and groups * max(width, outputs) * each * len(inputs) <= ROOM
    for number, x in enumerate(inputs):
        chosen = np.arange(total)
        if each < total:
            chosen = np.sort(np.random.default_rng(number).choice(total, each, replace=False))
        parts = [chosen[1::2], chosen[::2]] if len(inputs) < HELD else [chosen]
        for part, places in enumerate(parts):
            held = number % HELD == HELD - 1 if len(parts) == 1 else part == 0
            aim, beside = aims.at(layer.node, number, places)
            read = columns(layer.node, x, layer.node.types[0].shape, places)
            made[int(held)].sums.add(read, aim)
            if keep:
                made[int(held)].columns.append(read)
                made[int(held)].aims.append(aim)
                made[int(held)].besides += [] if beside is None else [beside]
    return made


def _straight(layer: Layer, fit: Normal, held: Normal) -> tuple[Tensor, Tensor, Fit, float | None]:
    """By the results themselves; with the damping."""
    if not (fit.usable and held.usable):
        return layer.rows, layer.bias, Fit(inf, inf), None
    before = held.error(layer.rows, layer.bias)
    best = before * max(1 - DOUBT / held.count**0.5, 0.0)
    chosen: float | None = None
    for damping in FEWER if layer.rows.shape[2] >= LARGE else DAMPINGS:
        error = held.error(*_stored(layer, *_solved(layer, fit, damping)))
        if error < best:
            chosen, best = damping, error
        elif chosen is not None:
            break
    scale = max(held.spread(), 1e-30)
    rows, bias = layer.rows, layer.bias
    if chosen is None:
        best = before
    else:  # all samples serve better than some
        rows, bias = _stored(layer, *_solved(layer, fit.joined(held), chosen))
    return rows, bias, Fit(before / scale, best / scale), chosen


def _solved(layer: Layer, sums: Normal, damping: float) -> tuple[Tensor, Tensor]:
    rows, bias = solved(sums, layer.rows, layer.bias, damping, layer.mask, layer.shifted)
    return (rows, bias) if layer.rank is None else lowered(sums, rows, bias, layer.rank, layer.shifted)


def factors(rows: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Rows of some rank as [outputs, rank] with orthonormal columns, and [rank, inputs]."""
    left, values, right = np.linalg.svd(rows, full_matrices=False)
    return left[:, :rank], values[:rank, None] * right[:rank]


def _stored(layer: Layer, rows: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """As the graph will have them."""
    kind = layer.weights.dtype
    return rows.astype(kind).astype(np.float64), bias.astype(kind).astype(np.float64)


def _bent(
    layer: Layer, fit: _Drawn, held: _Drawn, bend: Bend, found: tuple[Tensor, Tensor, Fit, float | None]
) -> Found:
    """By what a function makes of the results: what it does not tell apart is no error."""
    if found[3] is None:
        return found[:3]
    xs, ys = (np.concatenate(parts, axis=2) for parts in (held.columns, held.aims))
    bent = held.behind(bend)
    real = bent(ys)

    def error(rows: Tensor, bias: Tensor) -> float:
        return float(np.square(bent(_made(xs, rows, bias)) - real, dtype=np.float64).sum())

    scale = max(float(np.square(real - real.mean(2, keepdims=True), dtype=np.float64).sum()), 1e-30)
    before = error(layer.rows, layer.bias)
    start = _solved(layer, fit.sums, found[3])
    errors = [error(*start)]
    for rows, bias in _rounds(layer, fit, bend, start, found[3]):
        errors.append(error(rows, bias))
        if errors[-1] > 0.999 * errors[-2]:
            break
    count = int(np.argmin(errors))
    if errors[count] >= before:
        return layer.rows, layer.bias, Fit(before / scale, before / scale)
    rows, bias = found[:2]
    tries = _rounds(layer, fit.and_of(held), bend, (rows, bias), found[3])
    for _ in range(count):
        rows, bias = next(tries)
    return *_stored(layer, rows, bias), Fit(before / scale, errors[count] / scale)


def _made(x: Tensor, rows: Tensor, bias: Tensor) -> Tensor:
    return np.asarray(np.matmul(rows.astype(np.float32), x) + bias[:, :, None].astype(np.float32))


def _rounds(
    layer: Layer, drawn: _Drawn, bend: Bend, start: tuple[Tensor, Tensor], damping: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """Solutions for aims that are moved to where the function does not tell them from the results, again and again."""
    x, y = np.concatenate(drawn.columns, axis=2), np.concatenate(drawn.aims, axis=2)
    rows, bias = start
    sums, bend = drawn.sums, drawn.behind(bend)
    real = bend(y)
    for _ in range(ROUNDS):
        aim = bent_aims(bend, real, y, _made(x, rows, bias))
        moved = Normal(
            sums.xx,
            np.matmul(x, aim.transpose(0, 2, 1)).astype(np.float64),
            sums.yy,
            sums.x,
            aim.sum(2, dtype=np.float64),
            sums.count,
        )
        rows, bias = _solved(layer, moved, damping)
        yield rows, bias
