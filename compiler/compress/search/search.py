"""Which candidates are worth the time: what is cheap and strong first, then each method alone, then what is predicted
to be best of all together.

The same cheap settings serve both; what comes out best is then made with care ("full").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace

from ...errors import EdgecError
from .evaluate import Job, Level, Measures
from .limits import GRAIN, SMALL_DROP, Figures, Limits, binding
from .methods import SMALL, Candidate, Method, grid, neighbours
from .outcome import Outcome, Point
from .predict import Known, Predictor, distance

ALONE = 0.5  # share of the time that methods alone may take
CARE = 0.3  # share of the time that is left for what is made with care
NEARLY = 1.3  # drop of a draft over the limit that care may mend
PATIENCE = 4  # rounds without a better model
SLACK = 0.05  # share of the limits that predictions may be over
CAREFUL = 0.75  # of the drop that predictions may come to, for each of these rounds
APART = 0.09  # strength between candidates of one round
FAR = 4  # times the drop that is allowed
STRONG = (0.5, 0.8)  # channels that go with int8 where that alone does not meet the limits
LOOKED_AT = 3  # candidates per worker whose costs are looked at before one is made

Submit = Callable[[Job], "Future[Measures]"]
Tell = Callable[[Measures, Figures], None]


class Search:
    """One model on one target. `submit` starts a job; `width`: so many at the same time; `seconds`: no job starts
    later; `grain`: drops that differ by less are the same."""

    def __init__(
        self,
        methods: Sequence[Method],
        limits: Limits,
        submit: Submit,
        *,
        seconds: float,
        grain: float = GRAIN,
        width: int = 1,
        tell: Tell = lambda measures, figures: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.methods, self.limits, self.submit, self.width, self.tell = list(methods), limits, submit, width, tell
        self.clock, self.started, self.seconds, self.grain = clock, clock(), seconds, grain
        self.made: dict[tuple[Candidate, Level], Measures] = {}
        self.left: dict[str, str] = {}
        self.failed: set[Candidate] = set()
        self.base: float | None = None
        self.hurried = False

    def run(self) -> Outcome:
        """The whole search."""
        whole = self.submit(Job(Candidate(), "full")).result()
        if whole.fault:
            raise EdgecError(whole.fault)
        self.base = whole.score
        self.predictor = Predictor(_known(whole))
        self._keep(whole)
        if not self.limits.resources or self.limits.excess(self.figures(whole)):
            self._first()
            self._alone()
            self._together()
            self._with_care()
        return self.outcome()

    # What is known

    @property
    def whole(self) -> Measures:
        return self.made[Candidate(), "full"]

    @property
    def fastest(self) -> float:
        """Milliseconds of the float model: the least that were seen, where they are measured."""
        return min((m.reference for m in self.made.values() if m.reference), default=self.whole.latency)

    def figures(self, m: Measures) -> Figures:
        latency = m.latency / m.reference * self.fastest if m.reference else m.latency
        return Figures(latency, m.weights + m.code, m.arena, m.drop, m.sqnr, m.job.candidate.bytes_in)

    def key(self, figures: Figures) -> tuple[float, ...]:
        return self.limits.key(figures, self.fastest, grain=self.grain)

    def points(self) -> list[Point]:
        return [Point(m, self.figures(m)) for m in self.made.values()]

    def outcome(self) -> Outcome:
        points = self.points()
        careful = {p.candidate: p.figures for p in points if p.measures.job.level == "full"}
        left = [p for p in points if p.measures.job.level == "full" or not self._mended(p, careful.get(p.candidate))]
        best = min(left, key=lambda p: (self.key(p.figures), p.measures.job.level != "full"))
        bound = binding(self.limits, [(p, p.figures) for p in points], best.figures, self.fastest, self.grain)
        return Outcome(self.limits, points, best, bound, self.left, self.clock() - self.started, self.hurried)

    def _mended(self, draft: Point, full: Figures | None) -> bool:
        """Whether the same candidate made with care takes a draft's place: it does, unless it breaks a limit."""
        return full is not None and self.key(full)[0] <= self.key(draft.figures)[0]

    # What is tried

    def _first(self) -> None:
        """What is cheap and strong, so that a short time has an answer too: int8, with inputs as bytes where nothing
        else is small enough, then with small code where flash is short, and then with many channels removed."""
        rows = [row for row in self.methods if row.group == "int8"]
        for bytes_in in (False, True):
            if not bytes_in or self._missed():
                self._drafts([{row.name: 1.0} for row in rows if row.bytes_in == bytes_in])
        if "flash" in self._missed() and any(row.name == SMALL for row in self.methods):
            self._drafts([self._nearest() | {SMALL: 1.0}])
        missed = self._missed()
        if not missed or not any(row.name == "channels" for row in self.methods):
            return
        given = self._nearest()
        for strength in STRONG:
            self._drafts([given | {"channels": strength}])
            before, missed = missed, self._missed()
            if not missed or any(missed[what] >= before.get(what, 0.0) for what in missed):
                return  # what is still missed is not missed by less: channels are no help

    def _nearest(self) -> dict[str, float]:
        """What was done for the best model so far."""
        return dict(min(self.points(), key=lambda p: self.key(p.figures)).candidate.strengths)

    def _missed(self) -> dict[str, float]:
        """What the nearest model exceeds of the limits of resources."""
        free = replace(self.limits, drop=None)
        return min((free.excess(p.figures) for p in self.points()), key=lambda missed: sum(missed.values()))

    def _drafts(self, wanted: Iterable[Mapping[str, float]]) -> None:
        self._evaluate(Job(Candidate.of(strengths), "draft", self.base) for strengths in wanted)

    def _alone(self) -> None:
        """Each method at a few strengths; one that changes nothing is left out of all that follows."""
        rounds = max((len(row.probes) for row in self.methods), default=0)
        jobs = (
            Job(Candidate.of({row.name: row.probes[k]}), "draft", self.base)
            for k in range(rounds)
            for row in self.methods
            if k < len(row.probes) and self._worth(row.name, row.probes[k])
        )
        self._evaluate((job for job in jobs if (job.candidate, job.level) not in self.made), ALONE)
        tried = {name for c, _ in self.made for name, _ in c.strengths}
        self.left = {name: why for name, why in self.left.items() if name not in tried}
        groups = {row.group for row in self.methods if row.name in tried}
        self.methods = [row for row in self.methods if row.group in groups and row.name in tried]

    def _worth(self, name: str, strength: float) -> bool:
        """Whether a method need be tried alone so: not where less of it loses far too much, or more of it nothing that
        matters."""
        allowed = self.limits.drop
        if name == SMALL and "flash" not in self.limits.excess(self.figures(self.whole)):
            return False
        for (candidate, _), m in self.made.items():
            if len(candidate.strengths) == 1 and candidate.strengths[0][0] == name:
                other = candidate.strengths[0][1]
                if other < strength and allowed is not None and m.drop > FAR * max(allowed, SMALL_DROP):
                    return False
                if other > strength and m.drop <= (allowed or 0.0):
                    return False
        return True

    def _together(self) -> None:
        """What is predicted to be better than the best so far, while that comes true now and then."""
        waited = 0
        while waited < PATIENCE and not self._over(1 - CARE):
            best = min(self.key(p.figures) for p in self.points())
            careful = self._careful(waited)
            ranked = self._ranked(best, careful)[: LOOKED_AT * self.width]
            self._evaluate(Job(c, "cost", self.base) for c in ranked if c not in self.predictor.costs)
            chosen: list[Candidate] = []
            for candidate in self._ranked(best, careful):
                if len(chosen) < self.width and all(distance(candidate, c) >= APART for c in chosen):
                    chosen.append(candidate)
            if not chosen:
                return
            self._evaluate(Job(c, "draft", self.base) for c in chosen)
            waited = 0 if min(self.key(p.figures) for p in self.points()) < best else waited + 1

    def _careful(self, waited: int) -> Limits:
        """The limits that predictions are held against: at first a little more of time and flash than is allowed, which
        predictions may be wrong by; less of everything as they fail."""
        found, slack = self.limits, 1 + SLACK * 0.5**waited
        return replace(
            found,
            latency=found.latency and found.latency * slack,
            flash=found.flash and found.flash * slack,
            drop=found.drop and found.drop * CAREFUL**waited,
        )

    def _ranked(self, best: tuple[float, ...], limits: Limits) -> list[Candidate]:
        """Candidates that are not made yet and predicted to be better than the best, those first that are best; of
        equal ones those that do less."""
        known = {candidate for candidate, _ in self.made} | self.failed
        near = sorted(self.points(), key=lambda p: self.key(p.figures))[: self.width + 1]
        wanted = dict.fromkeys([*grid(self.methods), *(n for p in near for n in neighbours(p.candidate))])
        keys = {
            c: limits.key(self.predictor.predicted(c), self.fastest, grain=self.grain) for c in wanted if c not in known
        }
        better = [c for c in keys if keys[c] < best]
        return sorted(better, key=lambda c: (*keys[c][:-1], len(c.strengths), keys[c][-1]))

    def _with_care(self) -> None:
        """The best draft, and those that care may make better than it: a little over the drop that is allowed, or
        nearly as good."""
        loose = replace(self.limits, drop=None if self.limits.drop is None else NEARLY * self.limits.drop)
        keys = {
            p: loose.key(p.figures, self.fastest, grain=self.grain)
            for p in self.points()
            if p.measures.job.level == "draft"
        }
        ranked = sorted(keys, key=lambda p: keys[p])
        best = min(ranked, key=lambda p: self.key(p.figures), default=None)
        if best is not None:
            first = keys[best]
            ranked = [p for p in ranked if keys[p] < first or (self.limits.resources and keys[p][:3] == first[:3])]
        chosen = ([best] if best is not None else []) + ranked[: 2 * self.width]
        better = [p.candidate for p in chosen if p.candidate.stages("draft") != p.candidate.stages("full")]
        self._evaluate(Job(c, "full", self.base) for c in dict.fromkeys(better))

    # How it is tried

    def _over(self, share: float) -> bool:
        """Whether so much of the time is over."""
        over = self.clock() - self.started >= share * self.seconds
        self.hurried |= over
        return over

    def _evaluate(self, jobs: Iterable[Job], share: float = 1.0) -> None:
        """Run jobs, as many at a time as there are workers, and learn from each; none starts when this share of the
        time is over."""
        waiting, pending = iter(jobs), set[Future[Measures]]()
        while True:
            while len(pending) < self.width:
                job = next(waiting, None)
                if job is None or self._over(share):
                    break
                pending.add(self.submit(job))
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                self._keep(future.result())

    def _keep(self, m: Measures) -> None:
        candidate, level = m.job.candidate, m.job.level
        if m.fault or (candidate.strengths and not m.changed):
            why = m.fault or (m.notes[-1] if m.notes else "it changes nothing")
            self.failed.add(candidate)
            if len(candidate.strengths) == 1:
                self.left[candidate.strengths[0][0]] = why
            return
        if level == "cost":
            self.predictor.look(candidate, m.costs)
            return
        self.made[candidate, level] = m
        self.predictor.learn(candidate, _known(m))
        self.tell(m, self.figures(m))


def _known(m: Measures) -> Known:
    return Known(m.costs, m.latency, m.code, m.drop, 10 ** (-m.sqnr / 10))
