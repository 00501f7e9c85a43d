"""What a user allows, how far a model is from it, and which of two models is the better one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import TypeVar

from ...budget import budget
from ...errors import EdgecError
from ...quantize.settings import checked_drop
from ...units import Limit, show_bytes, show_seconds

FLAGS = {"latency": "--max-latency", "flash": "--max-flash", "ram": "--max-ram", "drop": "--max-drop"}
GRAIN = 1e-3  # of a drop
SMALL_DROP = 0.01  # a drop that is off by so much is as bad as one of a resource that is off by its whole limit
NOISE = 1.03  # two measured latencies within it are the same
T = TypeVar("T")


@dataclass(frozen=True)
class Figures:
    """Of one model: milliseconds, bytes, and how much worse than the float model it answers; `sqnr` in dB; whether its
    inputs are bytes, unlike the float model's."""

    latency: float
    flash: int
    ram: int
    drop: float = 0.0
    sqnr: float = inf
    bytes_in: bool = False

    def of(self, what: str) -> float:
        value = getattr(self, what)
        assert isinstance(value, (int, float))
        return float(value)


@dataclass(frozen=True)
class Limits:
    """None: no limit. `drop` in points of the score; without one, as share of the answers."""

    latency: float | None = None
    flash: float | None = None
    ram: float | None = None
    drop: float | None = None

    def given(self) -> dict[str, float]:
        return {what: limit for what in FLAGS if (limit := getattr(self, what)) is not None}

    @property
    def resources(self) -> bool:
        """Whether anything but the drop is limited: then the least drop is wanted, else the least latency."""
        return any(what != "drop" for what in self.given())

    def excess(self, found: Figures, without: str = "") -> dict[str, float]:
        """By how much limits are missed, relative to them."""
        missed = {}
        for what, limit in self.given().items():
            over = found.of(what) - limit
            if over > 0 and what != without:
                missed[what] = over / (max(limit, SMALL_DROP) if what == "drop" else limit)
        return missed

    def key(self, found: Figures, fastest: float, without: str = "", grain: float = GRAIN) -> tuple[float, ...]:
        """The smaller, the better: limits are met, inputs as they were, no slower than the float model (`fastest`
        milliseconds), and then the least drop, or where only the drop is limited the least latency. Drops that differ
        by less than `grain`, and signals to noise that differ by less than a decibel, are the same."""
        missed = self.excess(found, without)
        slower = float(found.latency > NOISE * fastest)
        drop = float(round(max(found.drop, 0.0) / grain))
        noise = -float(round(found.sqnr)) if isfinite(found.sqnr) else -inf
        aim = (drop, noise, found.latency) if self.resources else (found.latency, drop, noise)
        return (sum(missed.values()), float(found.bytes_in), slower, *aim)


def limits_of(latency: Limit, flash: Limit, ram: Limit, drop: float | None) -> Limits:
    """Limits as users write them, checked; numbers are seconds and bytes."""
    most = checked_drop(drop)
    found = budget(latency, flash, ram)
    milliseconds = None if found.latency is None else 1000 * found.latency
    made = Limits(milliseconds, found.flash, found.ram, most)
    if not made.given():
        raise EdgecError(f"no limit is given; expected one or more of {', '.join(FLAGS.values())}")
    return made


def shown(what: str, value: float) -> str:
    """A figure for people."""
    if what == "latency":
        return show_seconds(value / 1000)
    return show_bytes(value) if what in ("flash", "ram") else f"{value:.4g}"


def binding(
    limits: Limits, points: Sequence[tuple[T, Figures]], best: Figures, fastest: float, grain: float = GRAIN
) -> dict[str, T | None]:
    """The limits without which another point would be better, and that point. Where there is none, but something was
    lost for the limits: the one that the best is closest to, without a point."""
    found: dict[str, T | None] = {}
    for what in limits.given():
        one, figures = min(points, key=lambda p: limits.key(p[1], fastest, what, grain))
        if limits.key(figures, fastest, what, grain) < limits.key(best, fastest, what, grain):
            found[what] = one
    if not found and best.drop > 0 and limits.resources:
        used = {what: best.of(what) / limit for what, limit in limits.given().items() if limit}
        found[max(used, key=lambda what: used[what])] = None
    return found


def missed(limits: Limits, nearest: Figures) -> str:
    """By how much each limit is missed, for people; the limit that is missed most comes first."""
    over: Mapping[str, float] = limits.excess(nearest)
    return ", ".join(
        f"{FLAGS[what]} {shown(what, limits.given()[what])} by {shown(what, nearest.of(what) - limits.given()[what])}"
        for what in sorted(over, key=lambda what: -over[what])
    )


def pareto(points: Iterable[tuple[T, Figures]]) -> list[T]:
    """Those that no other beats in all figures; of equal ones the first."""
    rows = [(one, tuple(f.of(what) if what != "drop" else max(f.drop, 0.0) for what in FLAGS)) for one, f in points]
    kept = []
    for k, (one, mine) in enumerate(rows):
        beaten = any(
            all(a <= b for a, b in zip(other, mine, strict=True)) and (other != mine or j < k)
            for j, (_, other) in enumerate(rows)
            if j != k
        )
        if not beaten:
            kept.append(one)
    return kept
