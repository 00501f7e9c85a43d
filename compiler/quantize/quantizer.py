"""The whole way from a float graph and calibration data to a QDQ graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..ir import Array, Graph, Node, Value
from ..macs import node_macs
from ..session import Session
from .calibrate import observed, scales
from .channels import Channelled
from .data import Calibration, calibration
from .equalize import axes_of, equalize
from .placement import Layer, Placement, layers_of, place
from .qdq import quantized_graph
from .ranges import Method, Scale
from .reconstruct import Outcome, reconstruct
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
    session.quantization = report = Report(samples=data.count, notes=notes)
    for note in notes:
        session.note(note)
    report.layers = [_record(layer, state) for layer in everything]
    return quantized_graph(state.plan, state.scales, state.weights)


def _state(graph: Graph, data: Calibration, options: Options, session: Session, tell: Progress) -> State:
    """Channels evened out, then ranges, then integers."""
    plan = place(graph)
    real: frozenset[str] = frozenset()
    if options.equalize:
        channels = Channelled(plan)
        measured = channel_statistics(graph, axes_of(plan, channels), data, tell, session.threads)
        made = equalize(plan, channels, measured)
        real, plan = made.real, place(made.graph, real=made.real)
    observers = observed(plan, data, tell, session.threads)
    found = scales(plan, observers, options.method)
    feeds = _chosen(data, options.samples)
    weights, outcomes = reconstruct(plan, found, feeds, tell, options.learn, options.correct)
    return State(plan.graph, plan, found, weights, outcomes)


def _chosen(data: Calibration, most: int) -> list[Mapping[str, Array]]:
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
    found = {l.name: l for l in state.plan.layers}.get(layer.name)
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
