"""Measures candidates for the kernels that take most of a model's time, within the seconds given.

The most expensive kernels come first, and get candidates in proportion to their modelled time: the best of each pair of
layouts before the second best of any.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from edgec.compiler.errors import EdgecError
from edgec.compiler.registry import Choice, Problem
from edgec.compiler.target import Target
from edgec.compiler.toolchain import runs_here
from edgec.compiler.tunings import Tunings, candidate

from .host import features

Progress = Callable[[str, int, int], None]

HOPELESS = 3.0  # layouts whose best candidate is modelled so many times worse than the best of all are left out
MOST = 24  # candidates of one kernel
RACE_MS = 15.0  # per candidate
Entry = tuple[Problem, Sequence[Choice], int]  # what to compute, all offers cheapest first, how often the model does it


def tuner(
    target: Target, seconds: float, tunings: Tunings, progress: Progress, note: Callable[[str], None]
) -> Callable[[Sequence[Entry]], None]:
    """What the layout pass calls with all distinct kernels, once per level of the target; fills `tunings`.

    Levels that run here share the seconds; where none does, that is an `EdgecError`.
    """
    if target.gpu:
        raise EdgecError(f"--tune: kernels for {target.name} run on a GPU, where they are chosen by their model alone")
    reasons = {level.name: why_not_here(level) for level in target.programs}
    able = [name for name, reason in reasons.items() if not reason]
    if not able:
        where = "tune on such a machine, and bring its database with --tune-db"
        raise EdgecError(f"--tune: kernels for {target.name} do not run here: {min(reasons.values())}; {where}")

    def tune(entries: Sequence[Entry]) -> None:
        name = entries[0][0].target.name if entries else ""
        if name in able:
            worker = Tuner(seconds / len(able), tunings, progress)
            worker(entries)
            note(f"tuned {name}: {worker.measured} candidates of {worker.kernels} kernels measured")
            for reason in worker.refused:
                note(f"tune: a candidate cannot be built: {reason}")
        elif name:
            note(f"not tuned for {name}: {reasons[name]}")

    return tune


@dataclass
class Tuner:
    """Measures within `seconds`. `measured` and `kernels` count what was done."""

    seconds: float
    tunings: Tunings
    progress: Progress = lambda stage, done, total: None
    measured: int = 0
    kernels: int = 0
    seconds_each: float = 0.25  # to build and to time one: an estimate that learns
    refused: list[str] = field(default_factory=list)

    def __call__(self, entries: Sequence[Entry]) -> None:
        deadline = time.perf_counter() + self.seconds
        order = sorted((e for e in entries if len(e[1]) > 1), key=_weight, reverse=True)
        weights = [_weight(e) for e in order]
        for i, (problem, offers, _) in enumerate(order):
            self.progress("tune", i, len(order))
            left = deadline - time.perf_counter()
            if left < 2 * self.seconds_each:
                return
            share = max(left * weights[i] / (sum(weights[i:]) or 1.0), 3 * self.seconds_each)
            count = min(MOST, int(min(share, left) / self.seconds_each))
            self._measure(problem, list(promising(offers))[: max(count, 2)])
        self.progress("tune", len(order), len(order))

    def _measure(self, problem: Problem, wanted: Sequence[Choice]) -> None:
        from .race import Race, build_candidates, figures

        known = self.tunings.known(problem)
        if len(wanted) < 2 or all(candidate(choice) in known for choice in wanted):
            return
        started = time.perf_counter()
        built = build_candidates(problem, wanted, os.cpu_count() or 1)
        ready = [b for b in built if not isinstance(b, str)]
        self.refused += [b for b in built if isinstance(b, str)]
        if not ready:
            return
        us = figures(Race(ready).rounds(RACE_MS * len(ready)))
        self.tunings.record(problem, dict(zip([b.job.choice for b in ready], us, strict=True)))
        self.measured += len(ready)
        self.kernels += 1
        each = (time.perf_counter() - started) / len(wanted)
        self.seconds_each += 0.5 * (each - self.seconds_each)


def promising(offers: Sequence[Choice]) -> Iterator[Choice]:
    """The best of each pair of layouts, then the second best of each, and so on."""
    classes: dict[object, list[Choice]] = {}
    for offer in offers:
        classes.setdefault((offer.layouts_in, offer.layouts_out), []).append(offer)
    best = min((offer.cost_us for offer in offers), default=0.0)
    hopeful = [rows for rows in classes.values() if rows[0].cost_us <= HOPELESS * best]
    for rank in range(max(map(len, hopeful), default=0)):
        yield from (rows[rank] for rows in hopeful if rank < len(rows))


def why_not_here(target: Target) -> str:
    """Why this machine cannot run, and so not measure, the target's kernels; "" where it can."""
    if not runs_here(target.triple):
        return f"they are for {target.triple}"
    if missing := target.cpu.isa - features():
        return f"this CPU lacks {', '.join(sorted(missing))}"
    return ""


def _weight(entry: Entry) -> float:
    """Modelled microseconds that the model spends in a kernel."""
    _, offers, times = entry
    return offers[0].cost_us * times if offers else 0.0
