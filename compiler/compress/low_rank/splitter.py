"""The whole way from a float graph to one whose layers are split: forms, errors, choice, weights, repair."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, log

from ...calibration.data import Calibration
from ...calibration.request import Progress, calibration_of, progress_of
from ...errors import EdgecError
from ...ir import Graph, Node, Value
from ...layers import LAYERS, Layer, constant, layers_of
from ...macs import macs, node_macs
from ...ops.common import Tensor
from ...session import Session
from ..channels.groups import label
from ..repair.moments import Spread, Spreads, spreads
from ..repair.repair import Fit, Refit, refitted
from ..repair.walk import samples
from ..report import Record, Report
from .costs import LayerCosts
from .decompose import METHODS
from .forms import Form, Splittable, candidates, splittable
from .frontier import Offer, frontier
from .pieces import weights_of
from .selection import Selection, saving_of
from .sensitivity import Probe, harms, probe
from .split import Split, split, split_graph

TRIED = (0.02, 0.06, 0.18)  # errors of the forms whose harm to the outputs is measured
ENERGY = 0.99  # that layers keep where nothing else is asked for
POOR = 0.9  # a form that loses more of its layer's energy is none
HELD, FEW = 4, 8  # one in so many samples judges; from so many samples on

Samples = Sequence[Mapping[str, Tensor]]


@dataclass(frozen=True)
class Options:
    """What the pass `low-rank` is asked for."""

    macs: float | None = None
    total: float | None = None
    energy: float | None = None
    method: str = "auto"
    min_gain: float = 1.0
    samples: int = 256
    repair: bool = True

    def __post_init__(self) -> None:
        for name in ("macs", "total", "energy"):
            share = getattr(self, name)
            if share is not None and not 0 < share < 1:
                raise EdgecError(f"low-rank: {name}={share:g}; expected a share between 0 and 1")
        given = [name for name in ("macs", "total", "energy") if getattr(self, name) is not None]
        if len(given) > 1:
            raise EdgecError(f"low-rank: {' and '.join(given)} are given; expected one of them")
        if not self.min_gain > 0:
            raise EdgecError(f"low-rank: min-gain={self.min_gain:g}; expected a factor, such as 1.1")
        if self.samples < 1:
            raise EdgecError(f"low-rank: samples={self.samples}; expected at least 1")

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(METHODS) if self.method == "auto" else (self.method,)


def low_rank(graph: Graph, options: Options, session: Session) -> Graph:
    """The graph with layers in pieces where that wins; the session gets the report."""
    data, tell = calibration_of(session, graph), progress_of(session)
    layers, reasons = candidates(graph)
    job = Job(graph, options, session, data, tell, reasons=dict(reasons))
    if any(n.op in ("QuantizeLinear", "DequantizeLinear") for n in graph.nodes()):
        session.note("the model is quantized already; split the float model")
        return graph
    if not layers:
        session.note("nothing is split: the model has no convolution or matrix product that could be" + _few(reasons))
        return graph
    return job.run(layers)


def _halves(feeds: Samples | None) -> tuple[Samples | None, Samples | None]:
    """Samples to find weights on, and samples to judge them on; the same where there are few."""
    if feeds is None or len(feeds) < FEW:
        return feeds, feeds
    held = [k % HELD == HELD - 1 for k in range(len(feeds))]
    return [f for f, h in zip(feeds, held, strict=True) if not h], [f for f, h in zip(feeds, held, strict=True) if h]


def _few(reasons: Mapping[Node, str]) -> str:
    some = list(dict.fromkeys(reasons.values()))[:3]
    return f" ({'; '.join(some)})" if some else ""


@dataclass
class Job:
    """What all steps need, and why layers stay as they are."""

    graph: Graph
    options: Options
    session: Session
    data: Calibration | None
    tell: Progress
    reasons: dict[Node, str] = field(default_factory=dict)
    stays: dict[Node, float | None] = field(default_factory=dict)  # costs of layers no form of which wins
    errors: dict[tuple[Node, Form], float] = field(default_factory=dict)

    def run(self, layers: Sequence[Layer]) -> Graph:
        """All steps."""
        able = self._forms(layers)
        feeds = self._samples()
        picked = self._picked(able, self._offers(able, feeds))
        with spreads(self.graph, [layer for layer, _ in picked], feeds, self.session.threads) as spread:
            splits = self._splits(picked, spread)
        made, became = split_graph(self.graph, splits)
        fits: dict[Node, Fit] = {}
        if splits and feeds is not None and self.options.repair:
            made, fits = self._repaired(made, became, {one.layer.node for one in splits}, feeds)
        self._report(layers, able, {one.layer.node: one for one in splits}, {n: fits.get(became[n]) for n in became})
        return made

    def _forms(self, layers: Sequence[Layer]) -> list[Splittable]:
        costs = LayerCosts.of(self.session, self.graph)
        if costs is None:
            self.session.note("no target is given: splits are not held against what kernels cost")
        found = []
        for number, layer in enumerate(layers):
            options = self.options
            one = splittable(layer, options.methods, costs, options.min_gain, self.session.target)
            if isinstance(one, str):
                self.reasons[layer.node] = one
            elif not one.forms:
                self.reasons[layer.node], self.stays[layer.node] = _slower(one), one.cost
            else:
                found.append(one)
            self.tell("shapes", number + 1, len(layers))
        return found

    def _samples(self) -> Samples | None:
        """Samples, evenly spread over the data."""
        if self.data is None:
            self.session.note("no calibration data is given: weights are split as they are, and not repaired")
            return None
        return list(samples(self.data, self.graph, self.options.samples))

    def _offers(self, able: Sequence[Splittable], feeds: Samples | None) -> dict[Node, list[Offer[Form]]]:
        """What the forms of each layer save, and the error of the outputs that each alone makes, on samples that their
        weights do not come from."""
        fit, held = _halves(feeds)
        offers: dict[Node, list[Offer[Form]]] = {}
        probes: dict[Node, list[Probe]] = {}
        with spreads(self.graph, [s.layer for s in able], fit, self.session.threads) as spread:
            for one, (layer, found) in zip(able, spread([s.layer for s in able]), strict=True):
                solvers = {f.method.name: f.method.solver(weights_of(layer), found.covariance) for f in one.forms}
                for form in one.forms:
                    self.errors[layer.node, form] = solvers[form.method.name].error(form.rank)
                errors = [(f, self.errors[layer.node, f]) for f in one.forms]
                offers[layer.node] = [Offer(f, one.macs - f.macs, error) for f, error in errors if error <= POOR]
                tried = self._tried(offers[layer.node]) if held is not None and self.options.energy is None else []
                probes[layer.node] = [probe(layer, split(layer, f, found, solvers[f.method.name])) for f in tried]
                self.tell("errors", len(offers), len(able))
        if held is None or not any(probes.values()):
            return offers
        harm = harms(self.graph, probes, held, self.session.threads, self.tell)
        return {n: [replace(o, error=harm[n](o.error)) for o in some] for n, some in offers.items()}

    def _tried(self, offers: Sequence[Offer[Form]]) -> list[Form]:
        """Forms of the frontier with errors about as wanted."""
        front = frontier(offers)
        nearest = [min(front, key=lambda o: abs(log(max(o.error, 1e-9) / aim))) for aim in TRIED if front]
        return list(dict.fromkeys(o.form for o in nearest))

    def _picked(
        self, able: Sequence[Splittable], offers: Mapping[Node, Sequence[Offer[Form]]]
    ) -> list[tuple[Layer, Form]]:
        """The layers that are split, and their forms; a note where that saves less than was asked for."""
        options = self.options
        asked = saving_of(self.graph, able, options.macs, options.total)
        energy = None if asked else options.energy or ENERGY
        found = Selection(self.graph, able, self.errors, self.session, energy, asked, self.reasons).made(offers)
        whole = {s.layer.node: s.macs for s in able}
        saved = sum(whole[node] - form.macs for node, form in found.items())
        if saved < asked:
            self.session.note(
                f"{asked / 1e6:.3g} million multiplications were to be saved; forms that win save {saved / 1e6:.3g}"
            )
        return [(s.layer, found[s.layer.node]) for s in able if s.layer.node in found]

    def _splits(self, picked: Sequence[tuple[Layer, Form]], spread: Spreads) -> list[Split]:
        forms = {layer.node: form for layer, form in picked}
        splits = []
        for layer, found in spread([layer for layer, _ in picked]):
            if self.session.step(f"split_{forms[layer.node].method.name}", layer.node):
                splits.append(split(layer, forms[layer.node], found if self.options.repair else Spread.unknown(layer)))
            self.tell("split", len(splits), len(picked))
        return splits

    def _repaired(
        self,
        made: Graph,
        became: Mapping[Node, Node],
        split: Collection[Node],
        feeds: Samples,
    ) -> tuple[Graph, dict[Node, Fit]]:
        """Last pieces, if of one position with those before them, and every layer behind a `split` one are solved again
        for what the layer computed before."""
        values = {layer.node: layer.value for layer in layers_of(self.graph)}
        refits = [
            Refit(now, values.get(old, Value(old)), first=_first(now) if old in split else None)
            for old, now in became.items()
            if old.op in LAYERS and now is not old and constant(now.args[1]) is not None
        ]
        return refitted(self.graph, made, refits, feeds, self.tell)

    def _report(
        self,
        layers: Sequence[Layer],
        able: Sequence[Splittable],
        splits: Mapping[Node, Split],
        fits: Mapping[Node, Fit | None],
    ) -> None:
        """Records of all layers, and a note of what was saved."""
        self.session.compression = report = self.session.compression or Report()
        known = {s.layer.node: s for s in able}
        for node in (n for n in self.graph.nodes() if n in self.reasons or n in known):
            report.layers.append(self._record(node, known.get(node), splits.get(node), fits.get(node)))
        if splits:
            before, after = sum(known[n].macs for n in splits), sum(s.form.macs for s in splits.values())
            whole = macs(self.graph)
            left, all_left = after / before, (whole - before + after) / whole
            said = f"{left:.1%} of their multiplications remain, {all_left:.1%} of the model's"
            self.session.note(f"{len(splits)} of {len(layers)} layers are split: {said}")
        elif not any(note.startswith("low-rank: no layer is split") for note in self.session.notes):
            self.session.note("no layer is split")

    def _record(self, node: Node, able: Splittable | None, made: Split | None, fit: Fit | None) -> Record:
        name, shape, count = label(node), node.args[1].shape, node_macs(node)
        cost = able.cost if able is not None else self.stays.get(node)
        if made is None:
            reason = self.reasons.get(node, "others save as much at a smaller error")
            return Record(name, "low-rank", shape, shape, count, count, None, cost, cost, reason)
        first = made.form.pieces[0]
        after = first.shape[::-1] if first.matrix else first.shape
        error = fit.after if fit is not None and isfinite(fit.after) else made.error
        form = made.form
        return Record(name, "low-rank", shape, after, count, form.macs, error, cost, form.cost, str(form))


def _first(last: Node) -> Node | None:
    """The piece before the last one, where they are a layer of their rank: dense, the last of one position."""
    before, shape = last.args[0].node, last.args[1].shape
    grouped = before.op == "Conv" and before.args[1].shape[1] != before.args[0].shape[1]
    return None if grouped or any(n != 1 for n in shape[2:] if last.op == "Conv") else before


def _slower(one: Splittable) -> str:
    if one.slower is None or one.cost is None or one.slower.cost is None:
        return "no form has fewer multiplications"
    return f"modelled {one.slower.cost:.1f} us as {one.slower}, {one.cost:.1f} us as it is"
