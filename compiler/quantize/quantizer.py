"""The whole way from a float graph and calibration data to a QDQ graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..ir import Graph, Node, Value
from ..macs import node_macs
from ..ops.common import Tensor
from ..session import Session
from .calibrate import observed, scales
from .channels import Channelled
from .data import Calibration, calibration
from .equalize import axes_of, equalize
from .fallback import POOR, PROBES, changes, drop_of, kept, rescued, trials
from .placement import Layer, Placement, layers_of, place
from .qdq import quantized_graph
from .ranges import Method, Scale
from .reconstruct import OUTPUTS, Outcome, reconstruct
from .report import Record, Report
from .settings import Wanted
from .statistics import channel_statistics
from .weights import Weights

Progress = Callable[[str, int, int], None]
SAMPLES = 16  # that layers are reconstructed on
FEW = 8


@dataclass(frozen=True)
class Options:
    """What the pass `quantize` is asked for."""

    method: Method = "auto"
    equalize: bool = True
    learn: bool = True
    correct: bool = True
    samples: int = SAMPLES


@dataclass
class State:
    """The work so far."""

    graph: Graph
    plan: Placement
    scales: Mapping[Value, Scale] = field(default_factory=dict)
    weights: Mapping[Node, Weights] = field(default_factory=dict)
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    sqnr: float | None = None


def quantized(graph: Graph, wanted: Wanted, options: Options, session: Session) -> Graph:
    """The graph in 8 bits; the session gets the report."""
    tell = _progress(session)
    if any(n.op in ("QuantizeLinear", "DequantizeLinear") for n in graph.nodes()):
        session.note("the model is quantized already: its own scales stay, the calibration data is not used")
        return graph
    everything = layers_of(graph)
    if not everything:
        session.note("nothing is quantized: the model has no convolution or matrix product of f32 by constant weights")
        return graph
    data = calibration(wanted.calib, graph, wanted.prepare)
    notes = _looked_at(data, tell)
    state = _state(graph, data, options, session, tell)
    session.quantization = report = Report(samples=data.count, output_sqnr=state.sqnr)
    reasons, changed = _fallen_back(state, data, wanted, session, tell, report)
    for note in notes:
        session.note(note)
    report.layers = [_record(layer, state) for layer in everything]
    for record in report.layers:
        record.reason = reasons.get(record.name, record.reason)
        record.change = changed.get(record.name)
    return quantized_graph(state.plan, state.scales, state.weights)


def _state(graph: Graph, data: Calibration, options: Options, session: Session, tell: Progress) -> State:
    """Channels evened out, then ranges, then integers."""
    plan = place(graph)
    if options.equalize:
        channels = Channelled(plan)
        measured = channel_statistics(graph, axes_of(plan, channels), data, tell, session.threads)
        made = equalize(plan, channels, measured)
        plan = place(made.graph, real=made.real)
    observers = observed(plan, data, tell, session.threads)
    found = scales(plan, observers, options.method)
    feeds = _chosen(data, options.samples)
    weights, outcomes = reconstruct(plan, found, feeds, tell, options.learn, options.correct)
    return State(plan.graph, plan, found, weights, outcomes, outcomes[OUTPUTS].sqnr)


def _fallen_back(
    state: State, data: Calibration, wanted: Wanted, session: Session, tell: Progress, report: Report
) -> tuple[dict[str, str], dict[str, float]]:
    """Puts layers of `state` back into f32 until the drop is allowed; reasons, and the effect of each layer alone."""
    poor = report.output_sqnr is not None and report.output_sqnr < POOR
    if wanted.max_drop is None and not poor:
        return {}, {}
    layers = state.plan.layers
    with trials(state.plan, state.scales, state.weights, session.threads) as trial:
        harm = changes(trial, _chosen(data, PROBES), len(layers), tell)
        if wanted.max_drop is None:
            on = rescued(state.plan, harm)
        else:
            drop = drop_of(trial, data, wanted.score, len(layers))
            on, report.drop = kept(state.plan, harm, drop, wanted.max_drop, tell)
    effect = {layer.name: float(h) for layer, h in zip(layers, harm, strict=True)}
    skipped = [layer.name for layer, kept_in in zip(layers, on, strict=True) if not kept_in]
    if skipped:
        state.plan = place(state.graph, skipped, state.plan.real)
        state.scales = _known_scales(state, data, session, tell)
    if wanted.max_drop is None:
        session.note(
            f"{len(skipped)} of {len(layers)} layers stay in f32: the outputs were off by {report.output_sqnr:.1f} dB"
        )
    elif len(skipped) == len(layers):
        session.note(f"max_drop {wanted.max_drop:g} is kept by f32 everywhere only: no layer is quantized")
    elif skipped:
        session.note(f"{len(skipped)} of {len(layers)} layers stay in f32 to keep max_drop {wanted.max_drop:g}")
    why = "in f32: by itself in int8 it changes the outputs by {:.2g} of their energy, the most per multiplication"
    return {name: why.format(effect[name]) for name in skipped}, effect


def _known_scales(state: State, data: Calibration, session: Session, tell: Progress) -> Mapping[Value, Scale]:
    """The scales of the values that are in 8 bits now; those of new ones are measured."""
    missing = [g for g in state.plan.groups if not all(v in state.scales for v in g.values)]
    if not missing:
        return {v: state.scales[v] for g in state.plan.groups for v in g.values}
    found = scales(state.plan, observed(state.plan, data, tell, session.threads), "auto")
    return {v: state.scales.get(v, s) for v, s in found.items()}


def _chosen(data: Calibration, most: int) -> list[Mapping[str, Tensor]]:
    """Samples, evenly spread over the data."""
    step = max(1, -(-data.count // most))
    return [feed for number, feed in enumerate(data.feeds()) if number % step == 0]


def _looked_at(data: Calibration, tell: Progress) -> list[str]:
    """Read all samples once: each is checked; what looks odd is said."""
    zero = True
    for number, feed in enumerate(data.feeds()):
        zero = zero and not any(a.any() for a in feed.values())
        tell("read", number + 1, 0)
    notes = []
    if zero:
        notes.append("the calibration data is all zeros: ranges are those of the answers to zero, and of little use")
    if data.count == 1:
        notes.append("one calibration sample: ranges are those of it alone; some dozens give better ones")
    elif data.count < FEW:
        notes.append(f"{data.count} calibration samples: some dozens give better ranges")
    return notes


def _record(layer: Layer, state: State) -> Record:
    made = Record(layer.name, layer.node.op, layer.node.origin, node_macs(layer.node), "f32")
    found = {one.name: one for one in state.plan.layers}.get(layer.name)
    if found is None:
        return made
    s, w, outcome = state.scales[found.input], state.weights[found.node], state.outcomes.get(layer.name)
    made.precision, made.scale, made.zero, made.method = "int8", s.scale, s.zero, s.method
    made.weight_scales = float(w.scale.min()), float(w.scale.max())
    if layer.name in state.plan.real:
        made.reason = "its channels differ: the function of its result is computed in f32, with a factor per channel"
    if outcome is not None:
        made.sqnr, made.saturated = outcome.sqnr, outcome.saturated
    return made


def _progress(session: Session) -> Progress:
    tell = session.settings.get("progress")
    return tell if callable(tell) else _silent


def _silent(stage: str, done: int, total: int) -> None:
    pass
