"""What the steps of quantization share: the data, what is asked for, and the making of a state from a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf

import numpy as np

from ..calibration.data import Calibration
from ..calibration.request import Progress
from ..calibration.runner import running
from ..calibration.statistics import Channel, channel_statistics
from ..errors import EdgecError
from ..ir import Graph, Node, Value
from ..macs import macs
from ..ops.common import Tensor
from ..session import Session
from .absorb import absorbed
from .branches import branched
from .calibrate import observed, scales
from .channels import Channelled
from .equalize import axes_of, equalize
from .fallback import PROBES, changes, inputs_alone, trials, worst_first
from .held import by_value, storing
from .judged import judged, least_energies
from .margins import probes, widened
from .noise import Weakest, weakest, worst_sqnr
from .placement import Placement, given, place
from .ranges import Method, Scale
from .reconstruct import OUTPUTS, Outcome, reconstruct
from .settings import Wanted
from .shorten import ends_of, reachable, short_biases
from .straight import straightened
from .weights import Weights, nearest_weights

SAMPLES = 32  # that layers are reconstructed on at least, where there are so many
MANY = 256  # beyond which more gain nothing
WORK = 1.6e9  # multiplications that more samples than these may cost: small models are where few samples mislead most


@dataclass(frozen=True)
class Options:
    """What the pass `quantize` is asked for."""

    method: Method = "auto"
    equalize: bool = True
    learn: bool = True
    correct: bool = True
    samples: int | None = None
    slower: bool = False
    real: float | None = None

    def __post_init__(self) -> None:
        if self.real is not None and not 0 <= self.real <= 1:
            raise EdgecError(f"quantize: real={self.real:g}: expected a share of the layers, from 0 to 1")


@dataclass(frozen=True)
class State:
    """The work so far; `weakest` is the answer that is farthest off, `effects` what layers alone do to the outputs,
    `reasons` why they are in f32."""

    plan: Placement
    scales: Mapping[Value, Scale]
    weights: Mapping[Node, Weights] = field(default_factory=dict)
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    sqnr: float = inf
    weakest: Weakest | None = None
    drop: float | None = None
    effects: Mapping[str, float] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Job:
    """What all steps need."""

    data: Calibration
    wanted: Wanted
    options: Options
    session: Session
    tell: Progress

    def begun(self, graph: Graph) -> State:
        """Channels evened out, then ranges, with room where it costs nothing."""
        plan, threads = place(branched(graph)), self.session.threads
        if self.options.equalize:
            plan = self.evened(plan)
        observers = observed(plan, self.data, self.tell, threads, shown(plan))
        ranges = scales(plan, observers, self.options.method)
        if self.options.method == "auto":
            ranges = widened(plan, ranges, self.samples(probes(plan)), self.tell, threads)
        return State(plan, ranges)

    @property
    def short(self) -> bool:
        """Whether multipliers and biases are to fit 16 bits: all that the model is compiled for takes them so, or it is
        not known."""
        target = self.session.target
        return target is None or all(program.widens for program in target.programs)

    @property
    def once(self) -> bool:
        """Whether some core makes bytes of sums by one multiply-add."""
        target = self.session.target
        return target is None or any(program.rounds_once for program in target.programs)

    def harmful(self, state: State) -> tuple[Tensor, Tensor, float]:
        """The layers' numbers, the worst first, what each alone does to the outputs, its weights rounded to nearest:
        rounded with regard to each other, they make up for the noise of all layers. And what the inputs alone do."""
        plan = state.plan
        plain = {layer.node: nearest_weights(layer, state.scales[layer.input].scale) for layer in plan.layers}
        feeds = self.samples(PROBES)
        with trials(plan, state.scales, plain, self.session.threads, judge=True) as trial:
            harm = changes(trial, feeds, len(plan.layers), self.tell)
            inputs = inputs_alone(trial, feeds, len(plan.layers), scales_given(state.scales))
        return worst_first(plan, harm), harm, inputs

    def evened(self, plan: Placement) -> Placement:
        """Channels that share a scale made alike, as far as the numbers stay what they are."""
        channels = Channelled(plan)
        measured = self.statistics(plan, channels)
        moved = absorbed(plan, measured)
        if moved.layers:
            plan = place(moved.graph)
            channels = Channelled(plan)
            measured = self.statistics(plan, channels)
        made = equalize(plan, channels, measured)
        return place(made.graph, real=made.real)

    def statistics(self, plan: Placement, channels: Channelled) -> dict[Value, Channel]:
        """Of the channels of all values that may be evened out."""
        axes, threads = axes_of(plan, channels), self.session.threads
        return channel_statistics(plan.graph, axes, self.data, self.tell, threads, beside=shown(plan))

    def reconstructed(self, state: State) -> State:
        """The state with integers for its weights."""
        feeds = self.samples(self.enough(state.plan.graph))
        learn, correct = self.options.learn, self.options.correct
        scales = reachable(state.plan, state.scales, self.once) if self.short else state.scales
        after = ends_of(state.plan, scales, self.once) if self.short else {}
        weights, outcomes = reconstruct(state.plan, scales, feeds, self.tell, learn, correct, after)
        whole = outcomes[OUTPUTS]
        return replace(state, scales=scales, weights=weights, outcomes=outcomes, sqnr=whole.sqnr, weakest=whole.weakest)

    def nearest(self, state: State) -> float:
        """Signal to noise of the outputs in dB with weights rounded to nearest, on a few samples: to compare with."""
        feeds = self.samples(PROBES)
        _, outcomes = reconstruct(state.plan, state.scales, feeds, lambda *_: None, learn=False, correct=False)
        return outcomes[OUTPUTS].sqnr

    def known(self, state: State) -> Mapping[Value, Scale]:
        """The scales of the values that are in 8 bits now; those of new ones are measured."""
        values = [v for group in state.plan.groups for v in group.values]
        if all(v in state.scales for v in values):
            return {v: state.scales[v] for v in values}
        observers = observed(state.plan, self.data, self.tell, self.session.threads)
        found = scales(state.plan, observers, self.options.method)
        return {v: state.scales.get(v, found[v]) for v in values}

    def measured(self, state: State, real: Graph, rough: Graph) -> State:
        """The state with what the graphs answer: signal to noise of what is judged."""
        found, least = [], least_energies(real)
        with storing() as store:
            for graph in (real, rough):
                ends = [value for _, value in judged(graph)]
                with running(graph, ends, threads=self.session.threads, like=self.session.target) as run:
                    answers = (run(feed) for feed in self.samples(self.enough(real)))
                    found.append(by_value([store.all(arrays) for arrays in answers]))
            exact, got = found
            return replace(state, sqnr=worst_sqnr(exact, got, least), weakest=weakest(exact, got, least))

    def finished(self, state: State) -> State:
        """The state with scales and biases of few bits: the numbers that will be compiled."""
        if self.short:
            first = self.session.target.programs[0] if self.session.target is not None else None
            state = replace(state, weights=short_biases(state.plan, state.scales, state.weights, first))
        if self.once:
            state = replace(state, weights=straightened(state.plan, state.scales, state.weights))
        return state

    def enough(self, graph: Graph) -> int:
        """How many samples layers are reconstructed on: more than usual where the model is small."""
        asked = self.options.samples
        return int(np.clip(WORK / max(macs(graph), 1), SAMPLES, MANY)) if asked is None else asked

    def samples(self, most: int) -> list[Mapping[str, Tensor]]:
        """Samples, evenly spread over the data."""
        step = self.step(most)
        return [feed for number, feed in enumerate(self.data.feeds()) if number % step == 0]

    def step(self, most: int) -> int:
        """How far the samples that are used lie apart."""
        return max(1, -(-self.data.count // most))


def scales_given(scales: Mapping[Value, Scale]) -> dict[str, Scale]:
    """Of the inputs that have one, by name; of their copies for readers in 8 bits too."""
    return {source.name: s for v, s in scales.items() if (source := given(v)) is not None}


def shown(plan: Placement) -> list[Value]:
    """What all runs of the float model compute, so that its kernels are built once."""
    return [*axes_of(plan, Channelled(plan)), *(v for group in plan.groups for v in group.seen)]
