"""What a candidate will cost and lose, by what others did: before any time is spent on it.

Methods are taken as independent: errors add up, costs multiply. What was measured of candidates nearby corrects that.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, inf, log, log10
from statistics import median

import numpy as np

from ...driver import Costs
from ...ops.common import Tensor
from .limits import Figures
from .methods import METHODS, Candidate

OTHER_CODE = 5.0  # strength by which kernels that are made for something else are apart
APART = 0.5  # strength that two methods differ by
NEAR = 0.15  # of the range of strengths: measurements at this distance count for a third
DOUBT = 0.3  # the weight of the prediction itself beside them
MOST = 4.0  # times as much harm as the sum
STEEP = 100.0  # times the error of the strongest measurement that stronger ones are thought to make
LEAST = 0.02  # share of a cost that a method leaves, however steep its curve


@dataclass(frozen=True)
class Known:
    """What was measured of a candidate: `code` bytes, and `costs` as they really are."""

    costs: Costs
    latency: float
    code: int
    drop: float
    noise: float  # energy of the outputs' error over their own


class Curve:
    """A measured quantity over the strength of one method, from 0 on: linear in between, beyond the last point as steep
    as before it. `rising`: an error, which never falls, whatever the noise of measurements; from 0 it grows with the
    square of the strength, then by factors."""

    def __init__(self, points: Mapping[float, float], start: float, rising: bool = False) -> None:
        self.x, self.y, self.rising = [0.0], [start], rising
        for x in sorted(points):
            self.x.append(x)
            self.y.append(max(self.y[-1], points[x]) if rising else points[x])

    def at(self, x: float) -> float:
        if len(self.x) == 1:
            return self.y[0]
        k = min(max(bisect_right(self.x, x), 1), len(self.x) - 1)
        low, high = self.y[k - 1], self.y[k]
        part = (x - self.x[k - 1]) / (self.x[k] - self.x[k - 1])
        if not self.rising:
            return low + (high - low) * part
        if low <= 0:
            return low + (high - low) * part**2
        return float(min(low * (high / low) ** part, STEEP * high))


GROUPS = {group: k for k, group in enumerate(dict.fromkeys(row.group for row in METHODS.values()))}
NUMBERS = {name: k + 1 for k, name in enumerate(METHODS)}


@lru_cache(maxsize=1 << 16)
def _place(candidate: Candidate) -> Tensor:
    """Of each group the strength, and the number of the method. Small code is far from any other."""
    made = np.zeros((2, len(GROUPS)))
    for name, strength in candidate.strengths:
        made[:, GROUPS[METHODS[name].group]] = strength if METHODS[name].text else OTHER_CODE, NUMBERS[name]
    return made


def distance(a: Candidate, b: Candidate) -> float:
    """Sum of the differences in strength; where methods of a group differ, half a strength more."""
    return float(_distances(_place(a), _place(b)[None])[0])


def _distances(one: Tensor, others: Tensor) -> Tensor:
    far = np.abs(others[:, 0] - one[0]) + APART * (others[:, 1] != one[1])
    return np.asarray(far.sum(axis=1))


class Predictor:
    """Learns from every measurement; `whole` is the float model."""

    def __init__(self, whole: Known) -> None:
        self.whole = whole
        self.known: dict[Candidate, Known] = {}
        self.costs: dict[Candidate, Costs] = {}
        self._lessons: _Lessons | None = None

    def learn(self, candidate: Candidate, found: Known) -> None:
        """A measurement; a later one of the same candidate takes its place."""
        self.known[candidate] = found
        self._lessons = None

    def look(self, candidate: Candidate, costs: Costs) -> None:
        """Costs as the shapes alone have them."""
        self.costs[candidate] = costs
        self._lessons = None

    def predicted(self, candidate: Candidate) -> Figures:
        lessons = self._lessons = self._lessons or _Lessons(self.whole, self.known, self.costs)
        costs = self.costs.get(candidate) or lessons.costs(candidate)
        drop, noise = lessons.alone(candidate)
        speed, code, more_drop, more_noise = lessons.nearby(candidate)
        drop, noise = max(drop + more_drop, 0.0), max(noise + more_noise, 0.0)
        sqnr = -10 * log10(noise) if noise > 0 else inf
        size = int(costs.weights + costs.steps * code)
        return Figures(costs.us * speed, size, costs.arena, drop, sqnr, candidate.bytes_in)


class _Lessons:
    """What measurements say of methods alone, as curves, and of what these leave open, by candidate."""

    def __init__(self, whole: Known, known: Mapping[Candidate, Known], costs: Mapping[Candidate, Costs]) -> None:
        self.whole, self.base = whole, _numbers(whole.costs)
        self.single = [(c.strengths[0], k) for c, k in known.items() if len(c.strengths) == 1]
        self.curves: dict[str, tuple[list[Curve], list[Curve]]] = {}
        self.together = 1.0, 1.0
        self.together = self._ratio(known, lambda k: k.drop, 0), self._ratio(known, lambda k: k.noise, 1)
        self.shapes = Rows()
        for candidate, real in {**{c: k.costs for c, k in known.items()}, **costs}.items():
            pairs = zip(_numbers(real), self._product(candidate), strict=True)
            self.shapes.add(candidate, [log(max(a, 1e-9) / max(b, 1e-9)) for a, b in pairs])
        self.speed, self.error = Rows(), Rows()
        for candidate, k in {Candidate(): whole, **known}.items():
            drop, noise = self.alone(candidate)
            speed = log(max(k.latency, 1e-9) / max(k.costs.us, 1e-9))
            self.speed.add(candidate, [speed, k.code / max(k.costs.steps, 1)])
            self.error.add(candidate.model, [max(k.drop, 0.0) - drop, k.noise - noise])

    def of(self, name: str) -> tuple[list[Curve], list[Curve]]:
        """Ratios of costs over the strength of a method, and drop and noise; where it was not measured alone, of
        another one of its group."""
        if name not in self.curves:
            mine = {s: k for (n, s), k in self.single if n == name}
            group = METHODS[name].group
            mine = mine or {s: k for (n, s), k in self.single if METHODS[n].group == group}
            ratios = {
                s: [a / max(b, 1e-9) for a, b in zip(_numbers(k.costs), self.base, strict=True)]
                for s, k in mine.items()
            }
            costs = [Curve({s: r[i] for s, r in ratios.items()}, 1.0) for i in range(len(self.base))]
            drop = Curve({s: max(k.drop, 0.0) for s, k in mine.items()}, 0.0, rising=True)
            noise = Curve({s: k.noise for s, k in mine.items()}, 0.0, rising=True)
            self.curves[name] = costs, [drop, noise]
        return self.curves[name]

    def costs(self, candidate: Candidate) -> Costs:
        """Products of what its methods do alone, corrected by how far off such products were nearby."""
        off = np.exp(self.shapes.mean(candidate, DOUBT))
        us, size, arena, steps = off * self._product(candidate)
        return Costs(float(us), int(size), int(arena), round(steps))

    def _product(self, candidate: Candidate) -> list[float]:
        made = list(self.base)
        for name, strength in candidate.strengths:
            for i, curve in enumerate(self.of(name)[0]):
                made[i] *= max(curve.at(strength), LEAST)
        return made

    def _ratio(self, known: Mapping[Candidate, Known], read: Callable[[Known], float], which: int) -> float:
        """By how much methods together do more harm than the sum of what each does; 1 where nothing is known."""
        ratios = [
            max(read(k), 0.0) / total
            for c, k in known.items()
            if len(c.model.strengths) > 1 and (total := self.alone(c)[which]) > 0
        ]
        return min(max(median([1.0, *ratios]), 0.5), MOST)

    def alone(self, candidate: Candidate) -> tuple[float, float]:
        """Sums of the drops and of the noise that what is done to the model makes alone, and as they turned out to add
        up."""
        drop, noise = (
            sum(self.of(name)[1][k].at(strength) for name, strength in candidate.model.strengths) for k in range(2)
        )
        factors = self.together if len(candidate.model.strengths) > 1 else (1.0, 1.0)
        return drop * factors[0], noise * factors[1]

    def nearby(self, candidate: Candidate) -> tuple[float, float, float, float]:
        """Latency per modelled microsecond, bytes of code per step, and how far off the sums of drop and noise were
        nearby; sums are trusted where nothing close is known."""
        speed, code = self.speed.mean(candidate)
        drop, noise = self.error.mean(candidate.model, DOUBT)
        return exp(speed), float(code), float(drop), float(noise)


class Rows:
    """Numbers that belong to candidates."""

    def __init__(self) -> None:
        self._places: list[Tensor] = []
        self._rows: list[Sequence[float]] = []
        self._stacked: tuple[Tensor, Tensor] | None = None

    def add(self, candidate: Candidate, numbers: Sequence[float]) -> None:
        self._places.append(_place(candidate))
        self._rows.append(numbers)

    def mean(self, candidate: Candidate, doubt: float = 0.0) -> Tensor:
        """The mean row, close candidates above all; `doubt` is the weight of zeros."""
        if self._stacked is None:
            self._stacked = np.stack(self._places), np.asarray(self._rows)
        places, rows = self._stacked
        weights = np.exp(-_distances(_place(candidate), places) / NEAR) + 1e-9
        return np.asarray(weights @ rows / (weights.sum() + doubt))


def _numbers(costs: Costs) -> tuple[float, float, float, float]:
    return costs.us, float(costs.weights), float(costs.arena), float(costs.steps)
