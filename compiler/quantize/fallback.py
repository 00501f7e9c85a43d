"""Which layers go back to f32 so that a quantized model answers as the float one does: the fewest and cheapest.

Layers are ordered by what each alone does to the outputs, per multiplication that it would cost to leave it in f32; as
many from the front as are needed are found by bisection, each trial a run of the model with switches. What integers
answer differs a little from what switches do, so that the caller measures the outcome, and takes some more if need be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf, log10

import numpy as np

from ..calibration.data import Calibration
from ..calibration.runner import running
from ..errors import EdgecError
from ..ir import Graph, Value
from ..macs import node_macs
from ..ops.common import Tensor
from .held import Held, Store
from .judged import least_energies
from .noise import energies, worst_sqnr
from .placement import Placement
from .ranges import Scale, rounded
from .settings import Score
from .switch import SWITCHES, switched_graph, switched_values

Progress = Callable[[str, int, int], None]
Feed = Mapping[str, Tensor]
Answer = Callable[[Feed], list[Tensor]]
POOR = 20.0  # dB of the outputs below which layers go back to f32 unasked
SPENT = 0.15  # share of the multiplications that may be spent on that
SPARE = 6.0  # dB above what is poor that are aimed at where layers together do more harm than one by one
MORE_SPENT = 0.5  # and where the outputs are unusable otherwise
GAIN = 1.0  # dB that it must bring each time
FAIR = 30.0  # dB of the outputs below which a few cheap layers go back that make most of the noise
SLIGHT = 0.01  # share of the multiplications that these may be
DEARER = 1.05  # how many times as long the model may take with them, modelled
MUCH = 6.0  # dB that they must bring: three quarters of the noise
LOST = 1e6  # error energy over energy that no answer exceeds, those with infinities or NaN included
PROBES = 4  # samples that a layer's own effect is measured on


@dataclass
class Trial:
    """A model with switches: `run(feed, on)`, with `on` as many numbers as layers; `least` is the energy per element
    that each result counts at least."""

    names: Sequence[str]
    run: Callable[[Feed, Tensor], list[Tensor]]
    least: Sequence[float] = ()

    def answer(self, on: Tensor) -> Answer:
        """The model with these layers in 8 bits."""
        return lambda feed: self.run(feed, on)


@contextmanager
def trials(plan: Placement, scales, weights, threads: int, judge: bool = False) -> Iterator[Trial]:  # type: ignore[no-untyped-def]
    """The model with switches, compiled. `judge`: it gives what answers are judged by, not the outputs."""
    least = least_energies(plan.graph) if judge else ()
    with trial_of(switched_graph(plan, scales, weights, judge), threads, "-integers", least) as trial:
        yield trial


@contextmanager
def value_trials(plan: Placement, scales: Mapping[Value, Scale], threads: int) -> Iterator[Trial]:
    """The model with real weights and a switch per group of values, compiled."""
    least = least_energies(plan.graph)
    with trial_of(switched_values(plan, scales), threads, "-integers", least) as trial:
        yield trial


@contextmanager
def trial_of(graph: Graph, threads: int, passes: str = "", least: Sequence[float] = ()) -> Iterator[Trial]:
    """A graph with switches, compiled."""
    names = [name for name, _ in graph.results]
    with running(graph, graph.outputs, threads=threads, passes=passes) as run:
        yield Trial(names, lambda feed, on: run({**feed, SWITCHES: on.astype(np.float32)}), least)


def changes(trial: Trial, feeds: Sequence[Feed], count: int, tell: Progress) -> Tensor:
    """What each layer alone does to the outputs: error energy over their energy."""
    exact = [trial.run(feed, np.zeros(count)) for feed in feeds]
    found = np.zeros(count)
    for k in range(count):
        on = np.zeros(count)
        on[k] = 1.0
        found[k] = np.mean([distance(trial.run(f, on), e, trial.least) for f, e in zip(feeds, exact, strict=True)])
        tell("sensitivity", k + 1, count)
    return found


def inputs_alone(trial: Trial, feeds: Sequence[Feed], count: int, scales: Mapping[str, Scale]) -> float:
    """Signal to noise in dB of the float model's outputs where nothing but its inputs, those that have a scale, is in 8
    bits: how much the model magnifies errors."""
    off = np.zeros(count)
    real = [trial.run(feed, off) for feed in feeds]
    made = [{k: rounded(x, scales[k]).astype(x.dtype) if k in scales else x for k, x in feed.items()} for feed in feeds]
    rough = [trial.run(feed, off) for feed in made]
    return worst_sqnr(list(zip(*real, strict=True)), list(zip(*rough, strict=True)), trial.least)


def distance(got: Sequence[Tensor], want: Sequence[Tensor], least: Sequence[float] = ()) -> float:
    """Error energy over energy, `least` per element where that is more, of the worst output."""
    worst = 0.0
    for a, b, base in zip(got, want, least or [0.0] * len(want), strict=True):
        if b.dtype.kind == "f" and b.size:
            signal, noise = energies(b, a, base)
            worst = max(worst, min(noise / max(signal, 1e-30), LOST))
    return worst


def disagreement(got: Sequence[Tensor], want: Sequence[Tensor]) -> float:
    """Of one sample: whether the first output's largest element is another, where that is one row of scores; else the
    error energy over the energy."""
    first = want[0]
    if (first.size > 1 and first.size == first.shape[-1]) or (first.ndim == 4 and first.size == first.shape[1] > 1):
        return float(np.argmax(got[0]) != np.argmax(first))
    return distance(got, want)


def drop_of(
    names: Sequence[str], real: Answer, data: Calibration, score: Score | None, store: Store
) -> Callable[[Answer], float]:
    """How much worse a model is than the `real` one, which is run once; `names` are those of the outputs, of which the
    `store` has the real ones."""
    if score is not None:
        best = number(score, _named(names, real))
        return lambda answer: best - number(score, _named(names, answer))
    exact = [Held(store.all(real(feed))) for feed in data.feeds()]

    def share(answer: Answer) -> float:
        return float(np.mean([disagreement(answer(f), list(e)) for f, e in zip(data.feeds(), exact, strict=True)]))

    return share


def _named(names: Sequence[str], answer: Answer) -> Callable[[Feed], dict[str, Tensor]]:
    return lambda feed: dict(zip(names, answer(feed), strict=True))


def number(score: Score, run: Callable[[Feed], Mapping[str, Tensor]]) -> float:
    """What the user's function says of a model, checked."""
    try:
        found = score(run)
    except Exception as error:  # whatever the user's function raises
        raise EdgecError(f"score: {type(error).__name__}: {error}") from error
    if np.ndim(found) or np.asarray(found).dtype.kind not in "fiub" or not np.isfinite(found):
        raise EdgecError(f"score: gave {found!r}; expected a number")
    return float(found)


def worst_first(plan: Placement, harm: Tensor) -> Tensor:
    """The layers' numbers, those first that do most harm for what they cost in f32."""
    cost = np.asarray([node_macs(layer.node) for layer in plan.layers], np.float64)
    return np.argsort(-harm / np.maximum(cost, 1.0) ** 0.5, kind="stable")


def with_skipped(order: Tensor, number: int) -> Tensor:
    """1 for each layer that stays in 8 bits when the first ones of an order do not."""
    on = np.ones(len(order))
    on[order[:number]] = 0.0
    return on


def fewest(order: Tensor, drop: Callable[[Tensor], float], allowed: float, tell: Progress) -> int:
    """How many of an order go back to f32. Scores of a few samples rise and fall by chance, so that small counts are
    tried first, in steps that are no longer than half of what was tried."""
    count = len(order)
    tried: dict[int, float] = {}

    def at(number: int) -> float:
        if number not in tried:
            tried[number] = drop(with_skipped(order, number))
            tell("fallback", len(tried), 0)
        return tried[number]

    if at(0) <= allowed:
        return 0
    low, high = 0, 1
    while high < count and at(high) > allowed:  # everything in f32 is the float model
        low, high = high, min(count, high + max(1, high // 2))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle) <= allowed else (middle, high)
    return high


def more(order: Tensor, number: int, drop: Callable[[Tensor], float], allowed: float, tell: Progress) -> int:
    """The next count that keeps the drop, where `number` did so by chance: in steps of a quarter."""
    while number < len(order):
        number = min(len(order), number + max(1, number // 4))
        tell("fallback", number, 0)
        if number < len(order) and drop(with_skipped(order, number)) <= allowed:
            break
    return number


def cheap(plan: Placement) -> Tensor:
    """Whether each layer alone is slight: no more than that share of the multiplications."""
    cost = np.asarray([node_macs(layer.node) for layer in plan.layers], np.float64)
    return np.asarray(cost <= SLIGHT * cost.sum())


def predicted(harm: Tensor, on: Tensor) -> float:
    """By how many dB the outputs' noise would be less, if what each layer alone makes added up; `on` is 1 for each
    layer that stays in 8 bits."""
    before, after = float(harm.sum()), float(harm[on == 1].sum())
    return 0.0 if before <= 0 else inf if after <= 0 else 10 * log10(before / after)


def rescued(plan: Placement, harm: Tensor, spent: float = SPENT, aim: float = POOR) -> Tensor:
    """1 for each layer that stays in 8 bits when nobody says what may be lost: those that do most harm per
    multiplication go, until the outputs should be at `aim` dB or too much would be in f32. Layers that could not bring
    the outputs below that if all were like them stay."""
    cost = np.asarray([node_macs(layer.node) for layer in plan.layers], np.float64)
    on, bearable = np.ones(len(harm)), 10 ** (-aim / 10)
    for k in worst_first(plan, harm):
        if harm[on == 1].sum() <= bearable:
            break
        if harm[k] * len(harm) > bearable and cost[on == 0].sum() + cost[k] <= spent * cost.sum():
            on[k] = 0.0
    return on
