"""The whole way of removing channels: what may go, what each costs, how many of each, repair, and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal

from ...calibration.request import calibration_of, needed_calibration, progress_of
from ...errors import EdgecError
from ...ir import Graph, Node
from ...macs import node_macs
from ...ops.common import Tensor
from ...quantize.modelled import Costs, modelled
from ...session import Session
from ..repair.repair import Fit, refitted
from ..repair.walk import Feeds, samples
from ..report import Record, Report
from .cut import Cut, refits_of, removed, without
from .groups import Channels, Coupling, Family, coupled, label
from .ratios import Plan, multiple, planned, works
from .readers import numbered, readers_of
from .saliency import Saliency, curves

METHOD = "channels"


@dataclass(frozen=True)
class Options:
    """What the pass `prune` is asked for in channels."""

    share: float
    saliency: Literal["auto", "weight", "activation", "reconstruction"] = "auto"
    repair: bool = True
    round: int | None = None
    samples: int = 512


def pruned(graph: Graph, options: Options, session: Session) -> Graph:
    """The graph without channels; the session gets records and notes."""
    _checked(options)
    known = coupled(graph)
    families = [f for f in known.families() if f.width > 1]
    if not families:
        return _left(known, _nothing(known), session)
    work = _Work(known, families, options, session)
    plan = work.planned()
    cut, gone = work.cut(plan)
    if not gone.any():
        return _left(known, "none of the cuts that the target's kernels allow is small enough", session)
    before, now = work.costs, work.modelled(cut.graph)
    if before is not None and now is not None and now.total >= before.total:
        why = f"the model would be no faster, {now.total:.0f} us modelled, than it is, {before.total:.0f} us"
        return _left(known, why, session)
    after, fits = work.repaired(cut, gone)
    _report(session).layers += _records(known, cut, fits, before, now)
    session.note(work.said(plan, before, now))
    return after


def _left(known: Coupling, why: str, session: Session) -> Graph:
    """The graph as it is, with the reason."""
    session.note(f"no channels are removed: {why}")
    _report(session).layers += [
        replace(r, reason=r.reason or f"left as it is: {why}") for r in _records(known, None, {}, None, None)
    ]
    return known.graph


def _checked(options: Options) -> None:
    if not 0 <= options.share < 1:
        raise EdgecError(
            f"prune: channels={options.share:g}: expected a share of the multiplications, from 0 to below 1"
        )
    if options.round is not None and options.round < 1:
        raise EdgecError(f"prune: round={options.round}: expected a number of channels, 1 or more")
    if options.samples < 1:
        raise EdgecError(f"prune: samples={options.samples}: expected a number of samples, 1 or more")


def _report(session: Session) -> Report:
    session.compression = session.compression or Report()
    return session.compression


def _nothing(known: Coupling) -> str:
    if any(n.op in ("QuantizeLinear", "DequantizeLinear") for n in known.graph.nodes()):
        return "the model is quantized already; prune the float model"
    if not known.layers:
        return "the model has no convolution or matrix product of floats by constant weights"
    reasons = dict.fromkeys(known.why(layer.outputs) for layer in known.layers.values())
    shown = [r for r in reasons if r][:2]
    return "in no layer can any go" + (f"; {'; '.join(shown)}" if shown else "")


class _Work:
    """What all steps share; `costs` are those of the model as it is."""

    def __init__(self, known: Coupling, families: Sequence[Family], options: Options, session: Session) -> None:
        self.known, self.families, self.options, self.session = known, families, options, session
        self.tell = progress_of(session)
        self.costs = self.modelled(known.graph)
        self.feeds = self._samples()

    def _samples(self) -> Feeds | None:
        data = calibration_of(self.session, self.known.graph)
        kind = self.options.saliency
        if data is None and kind in ("activation", "reconstruction"):
            data = needed_calibration(self.session, self.known.graph, f"prune: saliency={kind}")
        if data is None:
            repair = ", and no layer makes up for what is missing" if self.options.repair else ""
            self.session.note(f"no calibration data is given: channels go by the norms of their weights{repair}")
            return None
        return samples(data, self.known.graph, self.options.samples)

    def modelled(self, graph: Graph) -> Costs | None:
        target = self.session.target
        return None if target is None else modelled(graph, replace(self.session, target=target.programs[0]))

    def planned(self) -> Plan:
        """How many of each family go."""
        numbering = numbered(self.known, self.families)
        readers = readers_of(self.known, numbering, self.feeds, self.tell)
        self.curves = curves(self.known, self.families, numbering, readers, self._kind(), self.tell)
        unit = self.options.round or multiple(self.session.target)
        target = self.session.target
        cpu = None if target is None else target.programs[0].cpu
        layers = works(self.known, numbering, self._layer_costs(), cpu)
        rest = 0.0 if self.costs is None else max(self.costs.total - sum(w.cost for w in layers), 0.0)
        return planned(self.options.share, self.curves, layers, unit, self.options.round is not None, rest)

    def _kind(self) -> Saliency:
        if self.options.saliency != "auto":
            return self.options.saliency
        return "weight" if self.feeds is None else "reconstruction"

    def _layer_costs(self) -> dict[Node, float]:
        """Modelled times, or multiplications where no target is known."""
        costs = self.costs
        if costs is None:
            return {}
        total = sum(node_macs(n) for n in self.known.layers)
        usual = costs.total / max(total, 1)
        return {n: costs.layers.get(n.name) or usual * node_macs(n) for n in self.known.layers}

    def cut(self, plan: Plan) -> tuple[Cut, Tensor]:
        """The graph without the channels of a plan, a rewrite per family."""
        classes: list[Tensor] = []
        for curve, count in zip(self.curves, plan.gone, strict=True):
            if count and self.session.step(METHOD, _leader(curve.family)):
                classes += [curve.family.classes[k] for k in curve.order[:count]]
        gone = removed(self.known, classes)
        return without(self.known, gone), gone

    def repaired(self, cut: Cut, gone: Tensor) -> tuple[Graph, dict[Node, Fit]]:
        if self.feeds is None or not self.options.repair:
            return cut.graph, {}
        refits = refits_of(self.known, cut, gone)
        return refitted(self.known.graph, cut.graph, refits, self.feeds, self.tell)

    def said(self, plan: Plan, before: Costs | None, after: Costs | None) -> str:
        asked = f" of {100 * self.options.share:.3g} %" if plan.share < self.options.share else ""
        text = f"{100 * plan.share:.1f} %{asked} of the multiplications of the layers that can be cut are removed"
        if before is not None and after is not None:
            text += f"; modelled {after.total:,.0f} us, {before.total:,.0f} us before"
        return text


def _leader(family: Family) -> Node | str:
    return family.makers[0] if family.makers else "channels"


def _records(
    known: Coupling,
    cut: Cut | None,
    fits: Mapping[Node, Fit],
    before: Costs | None,
    now: Costs | None,
) -> list[Record]:
    """Of every layer, cut or not."""
    found = []
    for node, layer in known.layers.items():
        new = cut.nodes[node] if cut is not None else node
        fit = fits.get(new)
        made = Record(label(node), METHOD, node.args[1].shape, new.args[1].shape, node_macs(node), node_macs(new))
        made.error = fit.after if fit is not None and isfinite(fit.after) else None
        made.cost_before = before.layers.get(node.name) if before else None
        made.cost_after = now.layers.get(node.name) if now else None
        made.reason = _reason(known, layer.outputs, new.types[0].shape == node.types[0].shape)
        if cut is not None and not made.reason and new.args[1].shape == node.args[1].shape:
            made.reason = "its outputs stay: others cost less error for the time"
        found.append(made)
    return found


def _reason(known: Coupling, outputs: Channels | None, whole: bool) -> str:
    if not whole:
        return ""
    why = known.why(outputs)
    return f"its outputs stay: {why}" if why else ""
