"""The whole way from a float graph and calibration data to a QDQ graph."""

from __future__ import annotations

from typing import Any

from ..calibration.data import Calibration
from ..calibration.likeness import Likeness
from ..calibration.request import Progress, needed_calibration, progress_of
from ..cores import products_alone
from ..ir import Graph
from ..layers import Layer, layers_of
from ..macs import node_macs
from ..registry import asked_once
from ..session import Session
from .affordable import Verdict
from .back_to_f32 import improve, keep_drop, keep_fast, rescue, spare
from .fallback import FAIR, POOR
from .job import Job, Options, State
from .judged import judged, selected, shares
from .noise import warning
from .qdq import quantized_graph
from .reconstruct import OUTPUTS
from .report import Record, Report
from .settings import Wanted
from .tables import narrow_tables

FEW = 8  # samples: fewer are spoken of


@products_alone()
@asked_once()
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
    inputs, remarks = _looked_at(data, tell)
    for note in remarks:
        session.note(note)
    job = Job(data, wanted, options, session, tell)
    state = job.begun(graph)
    if options.real:
        state = spare(job, state, options.real)
    state = job.reconstructed(state)
    if state.sqnr < POOR and options.real is None:
        state = rescue(job, state)
    elif state.sqnr < FAIR and options.real is None and wanted.max_drop is None:
        state = improve(job, state)
    if wanted.max_drop is not None:
        state, verdict = keep_drop(job, graph, state, wanted.max_drop)
    else:
        state, verdict = keep_fast(job, graph, state)
        state = job.finished(state)
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
    session.quantization = report = Report([], data.count, drop=state.drop, inputs=inputs)
    if state.plan.layers:
        _told(job, state, graph, report)
    if verdict is not None:
        report.cost_f32, report.cost_int8 = verdict.real.total, verdict.stored.total
    report.layers = [_record(layer, state, verdict) for layer in everything]
    return made


def _told(job: Job, state: State, graph: Graph, report: Report) -> None:
    """How far off the outputs are, in the report; a note where they are unusable, of all samples or of one."""
    report.output_sqnr, least = state.sqnr, state.weakest
    report.selected, report.shares = selected(graph), shares(graph)
    name, number = "", 0
    if least is not None:
        report.sample_sqnr = least.sqnr
        name, number = judged(graph)[least.output][0], least.sample * job.step(job.enough(graph))
    note = warning(least, state.sqnr, name, number)
    if note is not None:
        job.session.note(note)


def _looked_at(data: Calibration, tell: Progress) -> tuple[list[dict[str, Any]], list[str]]:
    """Read all samples once: each is checked. Numbers of each input, and remarks on what looks odd."""
    zero, seen = True, {name: Likeness() for name in data.inputs}
    for number, feed in enumerate(data.feeds()):
        zero = zero and not any(a.any() for a in feed.values())
        for name, likeness in seen.items():
            likeness.see(feed[name])
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
    return [likeness.row(name) for name, likeness in seen.items() if likeness.count], notes


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
