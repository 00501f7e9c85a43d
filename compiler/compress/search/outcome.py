"""What a search for a compressed model found: the candidates that were made, their figures, and the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .evaluate import Measures
from .limits import Figures, Limits, pareto
from .methods import Candidate


@dataclass(frozen=True, eq=False)
class Point:
    """A candidate that was made."""

    measures: Measures
    figures: Figures

    @property
    def candidate(self) -> Candidate:
        return self.measures.job.candidate


@dataclass(frozen=True)
class Outcome:
    """All points, the float model's first. `best`: meets the limits, or where none does is the nearest.

    binding  limits without which another point would be better, and that point (None: none was made)
    left     methods that are no use here, and why
    hurried  the time was over before everything of promise was tried
    """

    limits: Limits
    points: Sequence[Point]
    best: Point
    binding: dict[str, Point | None]
    left: dict[str, str]
    seconds: float
    hurried: bool = False

    @property
    def met(self) -> bool:
        return not self.limits.excess(self.best.figures)

    @property
    def pareto(self) -> list[Point]:
        return pareto((p, p.figures) for p in self.points)
