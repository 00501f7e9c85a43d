"""The whole way from a float graph and calibration data to a QDQ graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from math import inf

import numpy as np

from ..calibration.data import Calibration
from ..calibration.request import Progress, needed_calibration, progress_of
from ..calibration.runner import running
from ..calibration.statistics import Channel, channel_statistics
from ..cores import products_alone
from ..errors import EdgecError
from ..ir import Graph, Node, Value
from ..macs import macs, node_macs
from ..ops.common import Tensor
from ..session import Session
from .absorb import absorbed
from .affordable import Verdict, affordable
from .branches import branched
from .calibrate import observed, scales
from .channels import Channelled
from .equalize import axes_of, equalize
from .fallback import (
    GAIN,
    MORE_SPENT,
    POOR,
    PROBES,
    SPENT,
    changes,
    drop_of,
    fewest,
    more,
    rescued,
    trials,
    with_skipped,
    worst_first,
)
from .margins import probes, widened
from .noise import UNUSABLE, USELESS, Weakest, warning, weakest, worst_sqnr
from .placement import Layer, Placement, layers_of, place
from .qdq import quantized_graph
from .ranges import Method, Scale
from .reconstruct import OUTPUTS, Outcome, reconstruct
from .report import Record, Report
from .settings import Wanted
from .tables import narrow_tables
from .weights import Weights, nearest_weights

SAMPLES = 32  # that layers are reconstructed on at least, where there are so many
MANY = 256  # beyond which more gain nothing
WORK = 1.6e9  # multiplications that more samples than these may cost: small models are where few samples mislead most
FEW = 8


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


@products_alone()
def quantized(graph: Graph, wanted: Wanted, options: Options, session: Session) -> Graph:
    """The graph in 8 bits; the session gets the report."""
    tell = progress_of(session)
    if any(n.op in ("QuantizeLinear", "DequantizeLinear") for n in graph.nodes()):
        session.note("the model is quantized already: its own scales stay, the calibration data is not used")
        return graph
    everything = layers_of(graph)
    if not everything:
        session.note("nothing is quantized: the model has no convolution or matrix product of f32 by constant weights")
        return graph
    data = needed_calibration(session, graph, "quantize")
    for note in _looked_at(data, tell):
        session.note(note)
    job = Job(data, wanted, options, session, tell)
    state = job.begun(graph)
    if state.sqnr < POOR and options.real is None:
        state = job.rescued(state)
    if wanted.max_drop is not None:
        state, verdict = job.within(graph, state, wanted.max_drop)
    else:
        state, verdict = job.affordable(graph, state)
    if verdict is not None and verdict.slower:
        none = "" if state.plan.layers else "; none is left in int8"
        session.note(f"{len(verdict.slower)} of {len(everything)} layers stay in f32, which is faster there{none}")
    made = quantized_graph(state.plan, state.scales, state.weights) if state.plan.layers else graph
    made, tables = narrow_tables(made) if state.plan.layers else (made, 0)
    if tables:
        session.note(f"{tables} table{'s' * (tables > 1)} of embeddings in int8, a scale per row")
    kept = {layer.name for layer in state.plan.layers}
    if tables or any(name not in kept for name in state.outcomes if name != OUTPUTS):
        state = job.measured(state, graph, made)
    session.quantization = report = Report([], data.count, drop=state.drop)
    if state.plan.layers:
        job.told(state, graph, report)
    if verdict is not None:
        report.cost_f32, report.cost_int8 = verdict.real.total, verdict.stored.total
    report.layers = [_record(layer, state, verdict) for layer in everything]
    return made


@dataclass
class Job:
    """What all steps need."""

    data: Calibration
    wanted: Wanted
    options: Options
    session: Session
    tell: Progress

    def begun(self, graph: Graph) -> State:
        """Channels evened out, then ranges, with room where it costs nothing, then integers."""
        plan, threads = place(branched(graph)), self.session.threads
        if self.options.equalize:
            plan = self.evened(plan)
        observers = observed(plan, self.data, self.tell, threads, shown(plan))
        ranges = scales(plan, observers, self.options.method)
        if self.options.method == "auto":
            ranges = widened(plan, ranges, self.samples(probes(plan)), self.tell, threads)
        state = State(plan, ranges)
        return self.reconstructed(self.spared(state, self.options.real) if self.options.real else state)

    def spared(self, state: State, share: float) -> State:
        """The state with a share of the layers in f32, those that do most harm; before weights are rounded with regard
        to each other."""
        order, harm = self.harmful(state)
        on = with_skipped(order, max(1, round(share * len(order))))
        return self.without(state, harm, on, "in f32: alone in int8 it changes the outputs by {:.2g} of their energy")

    def harmful(self, state: State) -> tuple[Tensor, Tensor]:
        """The layers' numbers, the worst first, and what each alone does to the outputs, its weights rounded to
        nearest: rounded with regard to each other, they make up for the noise of all layers."""
        plan = state.plan
        plain = {layer.node: nearest_weights(layer, state.scales[layer.input].scale) for layer in plan.layers}
        with trials(plan, state.scales, plain, self.session.threads) as trial:
            harm = changes(trial, self.samples(PROBES), len(plan.layers), self.tell)
        return worst_first(plan, harm), harm

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
        weights, outcomes = reconstruct(state.plan, state.scales, feeds, self.tell, learn, correct)
        whole = outcomes[OUTPUTS]
        return replace(state, weights=weights, outcomes=outcomes, sqnr=whole.sqnr, weakest=whole.weakest)

    def rescued(self, state: State) -> State:
        """Layers that spoil the outputs go back to f32, more of them where these would be unusable, as many as it takes
        where they would be useless; the others are then reconstructed on what is better now."""
        _, harm = self.harmful(state)
        why = "in f32: alone in int8 it changes the outputs by {:.2g} of their energy"
        on, best = np.ones(len(harm)), state
        for spent, enough in ((SPENT, POOR), (MORE_SPENT, UNUSABLE), (1.0, USELESS)):
            chosen = rescued(state.plan, harm, spent)
            if best.sqnr < enough and chosen.any() and (chosen != on).any():
                made = self.reconstructed(self.without(state, harm, chosen, why))
                if made.sqnr > best.sqnr + GAIN:
                    on, best = chosen, made
        if best.sqnr < USELESS and self.wanted.max_drop is None:
            on = np.zeros(len(harm))
            best = self.without(state, harm, on, why)
            self.session.note(
                f"all layers stay in f32: in int8 the outputs were off by {state.sqnr:.1f} dB, of no use; --max-drop "
                "says what may be lost"
            )
        elif not on.all():
            self.session.note(
                f"{int((on == 0).sum())} of {len(on)} layers stay in f32: with all in int8 the outputs were off by "
                f"{state.sqnr:.1f} dB, now by {best.sqnr:.1f} dB"
            )
        else:
            self.session.note(
                f"in int8 the outputs are off by {state.sqnr:.1f} dB, and it is no few layers' fault; --max-drop says "
                "what may be lost"
            )
        return best

    def within(self, graph: Graph, state: State, allowed: float) -> tuple[State, Verdict | None]:
        """As few and cheap layers back in f32 as keep the drop that is allowed, measured on what will be compiled."""
        plan, count = state.plan, len(state.plan.layers)
        names = [name for name, _ in graph.results]
        why = f"in f32 to keep max_drop {allowed:g}: alone in int8 it changes the outputs by {{:.2g}} of their energy"
        with trials(plan, state.scales, state.weights, self.session.threads) as trial:
            harm = changes(trial, self.samples(PROBES), count, self.tell)
            drop = drop_of(names, trial.answer(np.zeros(count)), self.data, self.wanted.score)
            order = worst_first(plan, harm)

            def dropped(on: Tensor) -> float:
                return drop(trial.answer(on))

            number = fewest(order, dropped, allowed, self.tell)
            while True:
                made, verdict = self.affordable(graph, self.without(state, harm, with_skipped(order, number), why))
                integers = quantized_graph(made.plan, made.scales, made.weights)
                with running(integers, integers.outputs, threads=self.session.threads, like=self.session.target) as run:
                    found = drop(run)
                self.tell("confirm", number, count)
                if found <= allowed or number == count:
                    break
                number = more(order, number, dropped, allowed, self.tell)
        if number == count:
            self.session.note(f"max_drop {allowed:g} is kept by f32 everywhere only: no layer is quantized")
        elif number:
            self.session.note(f"{number} of {count} layers stay in f32 to keep max_drop {allowed:g}")
        return replace(made, drop=found), verdict

    def affordable(self, graph: Graph, state: State) -> tuple[State, Verdict | None]:
        """The state without layers that the target computes faster in f32; it keeps the weights that it has."""
        target = self.session.target
        if target is None or not state.plan.layers or self.options.slower:
            return state, None
        inner = replace(self.session, target=target.programs[0])
        found: dict[Collection[str], State] = {}

        def graph_without(names: Collection[str]) -> Graph:
            found[tuple(names)] = made = self.skipping(state, names)
            return quantized_graph(made.plan, made.scales, made.weights)

        verdict = affordable(graph, [layer.name for layer in state.plan.layers], graph_without, inner)
        if not verdict.slower:
            return state, verdict
        made = found.get(tuple(verdict.slower)) or self.skipping(state, verdict.slower)
        return replace(made, reasons={**state.reasons, **verdict.slower}), verdict

    def skipping(self, state: State, names: Collection[str]) -> State:
        """The state with more layers in f32."""
        if not names:
            return state
        plan = place(state.plan.graph, [*state.plan.skipped, *names], state.plan.real)
        made = replace(state, plan=plan)
        return replace(made, scales=self.known(made))

    def without(self, state: State, harm: Tensor, on: Tensor, why: str) -> State:
        """The state with the layers in f32 for which `on` is 0."""
        layers = state.plan.layers
        effects = {layer.name: float(h) for layer, h in zip(layers, harm, strict=True)}
        skipped = [layer.name for layer, stays in zip(layers, on, strict=True) if not stays]
        reasons = {**state.reasons, **{name: why.format(effects[name]) for name in skipped}}
        return self.skipping(replace(state, reasons=reasons, effects={**state.effects, **effects}), skipped)

    def known(self, state: State) -> Mapping[Value, Scale]:
        """The scales of the values that are in 8 bits now; those of new ones are measured."""
        values = [v for group in state.plan.groups for v in group.values]
        if all(v in state.scales for v in values):
            return {v: state.scales[v] for v in values}
        observers = observed(state.plan, self.data, self.tell, self.session.threads)
        found = scales(state.plan, observers, self.options.method)
        return {v: state.scales.get(v, found[v]) for v in values}

    def measured(self, state: State, real: Graph, rough: Graph) -> State:
        """The state with what the graphs answer: signal to noise of the outputs."""
        found = []
        for graph in (real, rough):
            with running(graph, graph.outputs, threads=self.session.threads, like=self.session.target) as run:
                found.append([run(feed) for feed in self.samples(self.enough(real))])
        exact, got = (list(zip(*arrays, strict=True)) for arrays in found)
        return replace(state, sqnr=worst_sqnr(exact, got), weakest=weakest(exact, got))

    def told(self, state: State, graph: Graph, report: Report) -> None:
        """How far off the outputs are, in the report; a note where they are unusable, of all samples or of one."""
        report.output_sqnr, least = state.sqnr, state.weakest
        name, number = "", 0
        if least is not None:
            report.sample_sqnr = least.sqnr
            name, number = graph.results[least.output][0], least.sample * self.step(self.enough(graph))
        note = warning(least, state.sqnr, name, number)
        if note is not None:
            self.session.note(note)

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


def shown(plan: Placement) -> list[Value]:
    """What all runs of the float model compute, so that its kernels are built once."""
    return [*axes_of(plan, Channelled(plan)), *(v for group in plan.groups for v in group.seen)]


def _looked_at(data: Calibration, tell: Progress) -> list[str]:
    """Read all samples once: each is checked; what looks odd is said."""
    zero = True
    for number, feed in enumerate(data.feeds()):
        zero = zero and not any(a.any() for a in feed.values())
        tell("read", number + 1, 0)
    notes = []
    if data.prepare and not data.pictures:
        notes.append("the calibration data holds no pictures: calib_prep is not used")
    if data.left:
        notes.append(f"the last {data.left} of the calibration data's samples fill no batch: they are not used")
    if zero:
        notes.append("the calibration data is all zeros: ranges are those of the answers to zero, and of little use")
    if data.count == 1:
        notes.append("one calibration sample: ranges are those of it alone; some dozens give better ones")
    elif data.count < FEW:
        notes.append(f"{data.count} calibration samples: some dozens give better ranges")
    return notes


def _record(layer: Layer, state: State, verdict: Verdict | None) -> Record:
    name = layer.name
    made = Record(name, layer.node.op, layer.node.origin, node_macs(layer.node), "f32")
    if verdict is not None:
        made.cost_f32, made.cost_int8 = verdict.real.layers.get(name), verdict.stored.layers.get(name)
    made.reason, made.change = state.reasons.get(name, ""), state.effects.get(name)
    found = next((one for one in state.plan.layers if one.name == name), None)
    if found is None:
        return made
    s, w = state.scales[found.input], state.weights[found.node]
    made.precision, made.scale, made.zero, made.method = "int8", s.scale, s.zero, s.method
    made.weight_scales = float(w.scale.min()), float(w.scale.max())
    if name in state.plan.real:
        made.reason = "its channels differ: the function of its result is computed in f32, with a factor per channel"
    if name in state.outcomes:
        made.sqnr, made.saturated = state.outcomes[name].sqnr, state.outcomes[name].saturated
    return made
