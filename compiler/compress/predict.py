"""What a candidate will cost and lose, by what others did: before any time is spent on it.

Methods are taken as independent: errors add up, costs multiply. What was measured of candidates nearby corrects that.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import exp, inf, log, log10

from ..driver import Costs
from .limits import Figures
from .methods import METHODS, Candidate

NEAR = 0.15  # of the range of strengths: measurements at this distance count for a third
DOUBT = 0.3  # the weight of the prediction itself beside them
LEAST = 0.02  # share of a cost that a method leaves, however steep its curve


@dataclass(frozen=True)
class Known:
    """What was measured of a candidate: `code` bytes, and `costs` as they really are."""

    costs: Costs
    latency: float
    code: int
    drop: float
    noise: float  # energy of the outputs' error over their own


Read = Callable[[Known], float]


class Curve:
    """A measured quantity over the strength of one method, from 0 on: linear in between, beyond the last point as steep
    as before it. `rising`: it never falls, whatever the noise of the measurements."""

    def __init__(self, points: Mapping[float, float], start: float, rising: bool = False) -> None:
        self.x, self.y = [0.0], [start]
        for x in sorted(points):
            self.x.append(x)
            self.y.append(max(self.y[-1], points[x]) if rising else points[x])

    def at(self, x: float) -> float:
        if len(self.x) == 1:
            return self.y[0]
        k = min(max(bisect_right(self.x, x), 1), len(self.x) - 1)
        slope = (self.y[k] - self.y[k - 1]) / (self.x[k] - self.x[k - 1])
        return self.y[k - 1] + slope * (x - self.x[k - 1])


def distance(a: Candidate, b: Candidate) -> float:
    """Sum of the differences in strength; what only one of them does counts once more."""
    total = 0.0
    for group in {METHODS[name].group for name, _ in (*a.strengths, *b.strengths)}:
        mine, theirs = (next((one for one in c.strengths if METHODS[one[0]].group == group), None) for c in (a, b))
        if mine and theirs:
            total += abs(mine[1] - theirs[1]) + (0.0 if mine[0] == theirs[0] else 0.5)
        else:
            total += (mine or theirs or ("", 0.0))[1] + 0.5
    return total


@dataclass
class Predictor:
    """Learns from every measurement; `whole` is the float model."""

    whole: Known
    known: dict[Candidate, Known] = field(default_factory=dict)
    costs: dict[Candidate, Costs] = field(default_factory=dict)

    def predicted(self, candidate: Candidate) -> Figures:
        costs = self._costs(candidate)
        latency = costs.us * exp(self._nearby(candidate, lambda k: log(k.latency / max(k.costs.us, 1e-9))))
        code = costs.steps * self._nearby(candidate, lambda k: k.code / max(k.costs.steps, 1))
        drop = self._error(candidate, lambda k: max(k.drop, 0.0))
        if candidate.allowed is not None:
            drop = min(drop, candidate.allowed)
        noise = self._error(candidate, lambda k: k.noise)
        sqnr = -10 * log10(noise) if noise > 0 else inf
        return Figures(latency, int(costs.weights + code), costs.arena, drop, sqnr, candidate.bytes_in)

    def error_of(self, name: str, strength: float) -> float:
        """The drop of one method alone."""
        points = {s: max(k.drop, 0.0) for s, k in self._alone(name).items()}
        return Curve(points, 0.0, rising=True).at(strength)

    def _costs(self, candidate: Candidate) -> Costs:
        if candidate in self.costs:
            return self.costs[candidate]
        made = [1.0] * 4
        base = _numbers(self.whole.costs)
        for name, strength in candidate.strengths:
            alone = self._alone(name)
            for i in range(4):
                points = {s: _numbers(k.costs)[i] / max(base[i], 1e-9) for s, k in alone.items()}
                made[i] *= max(Curve(points, 1.0).at(strength), LEAST)
        us, weights, arena, steps = (a * b for a, b in zip(made, base, strict=True))
        return Costs(us, int(weights), int(arena), round(steps))

    def _alone(self, name: str) -> dict[float, Known]:
        """Measurements of one method without others; where there are none, of another one of its group."""
        single = [(c.strengths[0], k) for c, k in self.known.items() if len(c.strengths) == 1]
        group = METHODS[name].group
        mine = {s: k for (n, s), k in single if n == name}
        return mine or {s: k for (n, s), k in single if METHODS[n].group == group}

    def _error(self, candidate: Candidate, read: Read) -> float:
        """The sum of what its methods alone do, moved by how far off such sums were nearby."""
        off = self._mean(candidate, {c: read(k) - self._sum(c, read) for c, k in self.known.items()}, DOUBT)
        return max(self._sum(candidate, read) + off, 0.0)

    def _sum(self, candidate: Candidate, read: Read) -> float:
        total = 0.0
        for name, strength in candidate.strengths:
            points = {s: read(k) for s, k in self._alone(name).items()}
            total += Curve(points, 0.0, rising=True).at(strength)
        return total

    def _nearby(self, candidate: Candidate, read: Read) -> float:
        everything = {Candidate(): self.whole, **self.known}
        return self._mean(candidate, {c: read(k) for c, k in everything.items()}, 0.0)

    @staticmethod
    def _mean(candidate: Candidate, values: Mapping[Candidate, float], doubt: float) -> float:
        """Of all values, those of close candidates above all; `doubt` is the weight of 0."""
        weights = {c: exp(-distance(candidate, c) / NEAR) + 1e-9 for c in values}
        total = sum(weights.values()) + doubt
        return sum(w * values[c] for c, w in weights.items()) / total if total else 0.0


def _numbers(costs: Costs) -> tuple[float, float, float, float]:
    return costs.us, float(costs.weights), float(costs.arena), float(costs.steps)
