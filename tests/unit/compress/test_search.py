"""The search for a candidate within limits, on models that are only formulas."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from math import inf, log10
from typing import Any

import pytest

from edgec.compiler.compress.search.evaluate import Job, Measures
from edgec.compiler.compress.search.limits import Limits
from edgec.compiler.compress.search.methods import METHODS, SMALL, Candidate, grid, methods_of, neighbours
from edgec.compiler.compress.search.outcome import Outcome
from edgec.compiler.compress.search.predict import Curve, Predictor, distance
from edgec.compiler.compress.search.search import Search
from edgec.compiler.driver import Costs
from edgec.compiler.errors import EdgecError

WHOLE = Costs(us=10_000.0, weights=1_000_000, arena=200_000, steps=50)
HARM = {"channels": 0.10, "low-rank": 0.20, "sparsity": 0.05, "blocks": 0.2}  # drop at full strength


def fake(job: Job) -> Measures:
    """Costs multiply, errors add up with the squares of strengths, and a little more where methods meet."""
    given = dict(job.candidate.strengths)
    us, weights, arena, drop = WHOLE.us, float(WHOLE.weights), float(WHOLE.arena), 0.0
    for name, strength in given.items():
        if name == SMALL:
            us *= 1.1
            continue
        if METHODS[name].group == "int8":
            us, weights, arena = (
                us * (1 - 0.5 * strength),
                weights * (1 - 0.75 * strength),
                arena * (1 - 0.4 * strength),
            )
            arena *= 0.5 if METHODS[name].bytes_in else 1.0
            drop += 0.004 * strength
            continue
        us *= 1 - 0.9 * strength
        weights *= 1 - (0.9 if name != "sparsity" else 0.0) * strength
        drop += HARM[name] * strength**2
    drop *= 1 + 0.3 * (len(job.candidate.model.strengths) > 1)
    costs = Costs(us, int(weights), int(arena), WHOLE.steps)
    if job.level == "cost":
        return Measures(job, costs, changed=True)
    sizes = {"weights": int(weights), "code": 15_000 if job.candidate.small else 40_000, "arena": int(arena)}
    sqnr = -10 * log10(drop) if drop > 0 else inf
    found = Measures(
        job, costs, changed=bool(given), latency=us / 1000, reference=WHOLE.us / 1000, drop=drop, sqnr=sqnr
    )
    return replace(found, **sizes)


class Tried:
    """Evaluates at once, and remembers."""

    def __init__(self, evaluate: Callable[[Job], Measures] = fake) -> None:
        self.evaluate, self.jobs = evaluate, list[Job]()

    def __call__(self, job: Job) -> Future[Measures]:
        self.jobs.append(job)
        future: Future[Measures] = Future()
        future.set_result(self.evaluate(job))
        return future

    @property
    def made(self) -> list[Job]:
        return [job for job in self.jobs if job.level != "cost"]


def found(limits: Limits, tried: Tried | None = None, methods: Any = None, **more: Any) -> Outcome:
    tried = tried or Tried()
    rows = methods_of(methods, list(limits.given()))
    return Search(rows, limits, tried, **{"seconds": 1e9, "width": 2, **more}).run()


def test_the_fastest_within_a_drop() -> None:
    limits = Limits(drop=0.02)
    tried = Tried()
    outcome = found(limits, tried)
    assert outcome.met and outcome.best.figures.drop <= 0.02
    best = min(
        (fake(Job(c, "full")) for c in grid(list(METHODS.values())) if fake(Job(c, "full")).drop <= 0.02),
        key=lambda m: m.latency,
    )
    assert outcome.best.figures.latency <= 1.15 * best.latency
    assert len(tried.made) < 40 < len(grid(methods_of(None, ["drop"])))
    assert outcome.best.measures.job.level == "full"


def test_the_least_drop_within_limits() -> None:
    limits = Limits(latency=3.0, flash=250_000)
    outcome = found(limits)
    assert outcome.met and outcome.best.figures.latency <= 3.0 and outcome.best.figures.flash <= 250_000
    good = [m for c in grid(methods_of(None, ["latency", "flash"])) if (m := fake(Job(c, "full"))).latency <= 3.0]
    least = min(m.drop for m in good if m.weights + m.code <= 250_000)
    assert outcome.best.figures.drop <= least + 0.005
    assert outcome.binding


def test_a_model_that_meets_its_limits_stays_as_it_is() -> None:
    tried = Tried()
    outcome = found(Limits(flash=2_000_000, drop=0.0), tried)
    assert outcome.met and str(outcome.best.candidate) == "as it is" and len(tried.jobs) == 1
    assert not outcome.binding


def test_what_cannot_be_met() -> None:
    outcome = found(Limits(latency=0.001, flash=300_000))
    assert not outcome.met
    assert list(outcome.limits.excess(outcome.best.figures)) == ["latency"]
    assert outcome.best.figures.latency == min(p.figures.latency for p in outcome.points)


def test_a_method_that_changes_nothing_is_left_out() -> None:
    def none(job: Job) -> Measures:
        made = fake(job)
        if "low-rank" in dict(job.candidate.strengths):
            return replace(made, changed=False, notes=("low-rank: no layer is split",))
        if {"sparsity", "blocks"} & {name for name, _ in job.candidate.strengths}:
            return Measures(job, fault="prune: no")
        return made

    tried = Tried(none)
    outcome = found(Limits(latency=3.0), tried)
    assert outcome.left == {"low-rank": "low-rank: no layer is split", "sparsity": "prune: no", "blocks": "prune: no"}
    together = [dict(job.candidate.strengths) for job in tried.jobs if len(job.candidate.strengths) > 1]
    assert together and not any("low-rank" in c or "sparsity" in c for c in together)


def test_slower_than_the_float_model_only_where_nothing_else_fits() -> None:
    def slow(job: Job) -> Measures:
        made = fake(job)
        eight = any(METHODS[name].group == "int8" for name, _ in job.candidate.strengths)
        return (
            replace(made, latency=made.latency * 40, costs=replace(made.costs, us=40 * made.costs.us))
            if eight
            else made
        )

    assert "int8" not in str(found(Limits(flash=600_000), Tried(slow)).best.candidate)
    needed = found(Limits(flash=300_000), Tried(slow), methods=["int8"])
    assert needed.met and needed.best.figures.latency > 10.0


def test_inputs_become_bytes_only_where_memory_asks_for_it() -> None:
    assert "inputs" not in str(found(Limits(ram=150_000)).best.candidate)
    outcome = found(Limits(ram=90_000))
    assert outcome.met and "int8-inputs" in str(outcome.best.candidate)


def test_a_few_layers_in_f32_where_eight_bits_everywhere_lose_too_much() -> None:
    def bad(job: Job) -> Measures:
        made = fake(job)
        strength = max((s for n, s in job.candidate.strengths if METHODS[n].group == "int8"), default=0.0)
        return replace(made, drop=made.drop + 2.0 * max(strength - 0.93, 0.0))

    outcome = found(Limits(drop=0.02), Tried(bad))
    assert outcome.met
    assert 0.7 <= max(s for n, s in outcome.best.candidate.strengths if METHODS[n].group == "int8") < 1.0
    assert outcome.best.figures.latency < 0.7 * WHOLE.us / 1000


def test_strengths_that_cannot_be_of_use_are_not_tried_alone() -> None:
    tried = Tried(lambda job: replace(fake(job), drop=0.0))
    found(Limits(drop=0.02), tried)
    assert [str(job.candidate) for job in tried.made].count("int8 95 %") == 0
    tried = Tried(lambda job: replace(fake(job), drop=0.5 if job.candidate.strengths else 0.0))
    found(Limits(drop=0.02), tried)
    assert not any(str(job.candidate) in ("channels 50 %", "low-rank 60 %", "sparsity 80 %") for job in tried.made)
    assert any(str(job.candidate) == "int8 95 %" for job in tried.made)


def test_nothing_starts_when_the_time_is_over() -> None:
    now = [0.0]
    tried = Tried()

    def slow(job: Job) -> Measures:
        now[0] += 100.0
        return fake(job)

    tried.evaluate = slow
    found(Limits(latency=2.0), tried, seconds=450.0, width=1, clock=lambda: now[0])
    assert len(tried.jobs) == 5


@pytest.mark.parametrize(
    "limits, last",
    [
        (Limits(flash=330_000), "int8-small"),
        (Limits(flash=280_000), "int8-small, small-code"),
        (Limits(flash=200_000), "channels 50 %, int8-small, small-code"),
        (Limits(flash=90_000), "channels 80 %, int8-small, small-code"),
        (Limits(flash=200_000, ram=90_000), "channels 50 %, int8-inputs, small-code"),
        (Limits(latency=1.0), "channels 80 %, int8"),
    ],
)
def test_a_short_time_is_for_what_is_cheap_and_strong(limits: Limits, last: str) -> None:
    now = [0.0]

    def slow(job: Job) -> Measures:
        now[0] += 10.0
        return fake(job)

    tried = Tried(slow)
    outcome = found(limits, tried, seconds=50.0, width=1, clock=lambda: now[0])
    assert outcome.hurried and str(outcome.best.candidate) == last
    assert len(tried.jobs) <= 5


def test_more_channels_do_not_go_early_where_they_are_no_help() -> None:
    def wide(job: Job) -> Measures:
        return replace(fake(job), arena=150_000)

    tried = Tried(wide)
    found(Limits(ram=100_000), tried, methods=["int8", "channels"])
    early = [str(job.candidate) for job in tried.made[:5]]
    assert early[1:4] == ["int8-small", "int8-inputs", "channels 50 %"]
    assert not early[4].startswith("channels 80 %")


def test_channels_go_alone_early_where_eight_bits_are_no_use() -> None:
    def floats(job: Job) -> Measures:
        made = fake(job)
        eight = any(METHODS[name].group == "int8" for name, _ in job.candidate.strengths)
        return replace(made, changed=False) if eight else made

    tried = Tried(floats)
    found(Limits(flash=600_000), tried)
    early = ["int8-small", "small-code", "channels 50 %, small-code"]
    assert [str(job.candidate) for job in tried.made[1:4]] == early


def test_code_is_small_only_where_flash_asks_for_it() -> None:
    assert all(
        "small-code" not in {row.name for row in methods_of(None, [what])} for what in ("latency", "ram", "drop")
    )
    tried = Tried()
    found(Limits(flash=2_000_000, latency=3.0), tried, methods=["int8", "small-code"])
    assert len(tried.jobs) > 1 and not any(job.candidate.small for job in tried.jobs)
    fast = found(Limits(flash=330_000), methods=["int8", "small-code"])
    assert fast.met and not fast.best.candidate.small  # it costs time
    little = found(Limits(flash=120_000), methods=["int8", "channels", "small-code"])
    less = found(Limits(flash=120_000), methods=["int8", "channels"])
    assert little.met and little.best.candidate.small
    assert little.best.figures.drop < less.best.figures.drop


def test_what_small_code_saves_is_learnt_apart_from_what_is_done_to_the_model() -> None:
    predictor = Predictor(known(Job(Candidate(), "full")))
    small = {SMALL: 1.0}
    for strengths in ({"int8": 1.0}, {"channels": 0.5}, {"int8": 1.0} | small):
        predictor.learn(Candidate.of(strengths), known(Job(Candidate.of(strengths), "draft")))
    both = {"int8": 1.0, "channels": 0.5}
    fast, little = (predictor.predicted(Candidate.of(s)) for s in (both, both | small))
    assert fast.flash - little.flash == pytest.approx(25_000, rel=0.1)
    assert little.drop == pytest.approx(fast.drop)


def test_time_that_is_enough_is_not_said_to_be_over() -> None:
    assert not found(Limits(drop=0.02)).hurried


def test_a_model_that_cannot_be_made_at_all() -> None:
    with pytest.raises(EdgecError, match="ONNX cannot say If"):
        found(Limits(drop=0.1), Tried(lambda job: Measures(job, fault="ONNX cannot say If")))


def test_errors_never_fall_with_strength() -> None:
    curve = Curve({0.2: 0.03, 0.5: 0.01, 0.8: 0.06}, 0.0, rising=True)
    values = [curve.at(x / 20) for x in range(21)]
    assert values == sorted(values)
    assert curve.at(0.1) == pytest.approx(0.0075) and curve.at(0.35) == 0.03 and curve.at(0.9) > 0.06
    assert curve.at(0.65) == pytest.approx((0.03 * 0.06) ** 0.5)
    assert Curve({}, 1.0).at(0.7) == 1.0


def known(job: Job) -> Any:
    from edgec.compiler.compress.search.search import _known

    return _known(fake(job))


def test_predictions_add_errors_and_multiply_costs_until_measurements_say_otherwise() -> None:
    predictor = Predictor(known(Job(Candidate(), "full")))
    for name, strength in (("channels", 0.5), ("int8", 1.0)):
        one = Candidate.of({name: strength})
        predictor.learn(one, known(Job(one, "draft")))
    both = Candidate.of({"channels": 0.5, "int8": 1.0})
    first, real = predictor.predicted(both), fake(Job(both, "full"))
    assert first.drop == pytest.approx(0.025 + 0.004) and first.latency == pytest.approx(real.latency)
    assert first.flash == pytest.approx(real.weights + real.code, rel=0.01)
    predictor.learn(both, known(Job(both, "draft")))
    again = predictor.predicted(Candidate.of({"channels": 0.55, "int8": 1.0}))
    assert again.drop > 0.025 * 1.1 + 0.004 + 0.003  # the sums of close ones were too low


def test_candidates() -> None:
    one = Candidate.of({"int8": 1.0, "channels": 0.3})
    assert str(one) == "channels 30 %, int8"
    assert one.stages() == ("prune{channels=0.3}", "quantize{slower=false, real=0}")
    assert one.stages("draft") == ("prune{channels=0.3, samples=128}", "quantize{slower=false, real=0, samples=8}")
    assert one.stages("cost")[0] == "prune{channels=0.3, saliency=weight, repair=false}"
    near = {"channels 25 %, int8", "channels 35 %, int8", "channels 30 %, int8 98.5 %"}
    assert {str(c) for c in neighbours(one)} == near
    assert distance(one, one) == 0.0 < distance(one, Candidate.of({"channels": 0.3}))
    assert all(
        len({METHODS[n].group for n, _ in c.strengths}) == len(c.strengths) for c in grid(list(METHODS.values()))
    )


def test_every_row_is_a_pipeline() -> None:
    from edgec.compiler.pipeline import parse_pipeline

    for row in METHODS.values():
        for level in ("full", "draft", "cost"):
            assert bool(parse_pipeline(row.stage(row.strengths[0], level))) == (row.name != SMALL)


def test_methods_are_named_by_group() -> None:
    assert {row.name for row in methods_of(["int8"], ["latency"])} == {"int8", "int8-plain"}
    assert {row.name for row in methods_of(["int8"], ["ram"])} == {"int8-small", "int8-inputs"}
    with pytest.raises(EdgecError, match="no method 'int4'; did you mean 'int8'"):
        methods_of(["int4"], ["drop"])
