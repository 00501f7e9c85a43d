"""The whole way of making weights zero: which layers, how many of each, which of them, repair, and the report.

Only products by a matrix are made sparse, because only for them there are kernels that leave zeros out (targets/
kernels/sparse_*.py); of these only those that the target's cost model says become faster by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite, prod

import numpy as np

from ...calibration.request import calibration_of, progress_of
from ...columns import groups_of, rows_of, weights_of
from ...errors import EdgecError
from ...ir import Graph, Node, Value
from ...layers import Layer, layers_of
from ...macs import node_macs
from ...op import const, rebuild
from ...ops.common import Tensor
from ...quantize.modelled import Costs, modelled
from ...session import Session
from ...units import counted
from ..channels.groups import label
from ..channels.readers import moments_of
from ..repair.repair import Fit, Refit, refitted
from ..repair.walk import Feeds, Step, Walk, samples
from ..report import Record, Report
from .masks import Pattern, best_of_groups, of_units, pattern_of, without_lowest
from .second_order import Curvature, losses, pruned_rows
from .shares import counts

METHOD = "sparsity"
LEAST = 1024  # weights of a layer
GAIN = 1.1  # modelled times a layer must at least be faster by zeros


@dataclass(frozen=True)
class Sparsity:
    """What the pass `prune` is asked for in zeros: a share of the multiplications, by blocks of outputs x inputs, or n
    weights of m."""

    share: float = 0.0
    n: int = 0
    m: int = 0
    block: str = ""
    repair: bool = True
    samples: int = 512

    @property
    def wanted(self) -> bool:
        return bool(self.share or self.n or self.m or self.block)

    def pattern(self) -> Pattern:
        """The pattern; a line that says what is wrong with the options."""
        if not 0 <= self.share < 1:
            raise EdgecError(
                f"prune: sparsity={self.share:g}: expected a share of the multiplications, from 0 to below 1"
            )
        if self.samples < 1:
            raise EdgecError(f"prune: samples={self.samples}: expected a number of samples, 1 or more")
        found = pattern_of(self.n, self.m, self.block)
        if found.m and self.share:
            raise EdgecError(
                f"prune: sparsity={self.share:g} does not go with n={self.n}, m={self.m}; give one of them"
            )
        if not found.m and not self.share:
            raise EdgecError(f"prune: block={self.block}: says no share; expected sparsity=0.8 or the like")
        return found


def sparsified(graph: Graph, options: Sparsity, session: Session) -> Graph:
    """The graph with zeros among its weights; the session gets records and notes."""
    work = _Work(graph, options, options.pattern(), session)
    made = work.made()
    session.compression = session.compression or Report()
    session.compression.layers += work.records()
    session.note(work.said(made is graph))
    return made


class _Work:
    """What all steps share. `layers` are those that are made sparse, `reasons` why others are not."""

    def __init__(self, graph: Graph, options: Sparsity, pattern: Pattern, session: Session) -> None:
        self.graph, self.options, self.pattern, self.session = graph, options, pattern, session
        self.tell = progress_of(session)
        self.found = layers_of(graph)
        self.reasons = {layer.node: why for layer in self.found if (why := _unfit(layer))}
        self.layers = {layer.node: layer for layer in self.found if layer.node not in self.reasons}
        self.rows = {node: _rows(node, layer.weights) for node, layer in self.layers.items()}
        self.weights: dict[Node, Tensor] = {}
        self.masks: dict[Node, Tensor] = {}
        self.fits: dict[Node, Fit] = {}
        self.before: Costs | None = None
        self.after: Costs | None = None

    def made(self) -> Graph:
        """The graph with zeros; itself, where no layer gains."""
        self.before = self.modelled(self.graph)
        none = {node: Curvature.none(rows.shape[1]) for node, rows in self.rows.items()}
        self.withdraw(self.upfront(none))
        data = calibration_of(self.session, self.graph) if self.layers else None
        feeds = None if data is None else samples(data, self.graph, self.options.samples)
        if feeds is not None:
            self.withdraw(self.upfront(self.curvatures(feeds)))
        elif self.layers:
            self.session.note("no calibration data is given: the smallest weights become zero")
        for node in list(self.layers):
            if not self.session.step(METHOD, node):
                self.drop(node, "")
        if not self.layers:
            return self.graph
        made, nodes = self.with_weights(self.settled(feeds is not None))
        if feeds is not None and self.options.repair:
            made = self.repaired(made, nodes, feeds)
        self.after = self.modelled(made)
        return made

    def drop(self, node: Node, reason: str) -> None:
        del self.layers[node]
        self.reasons[node] = reason

    # -- which layers gain -----------------------------------------------------------------------------------------

    def modelled(self, graph: Graph) -> Costs | None:
        target = self.session.target
        return None if target is None else modelled(graph, replace(self.session, target=target.programs[0]))

    def withdraw(self, masks: Mapping[Node, Tensor]) -> None:
        """Keep the layers that become faster by zeros where the masks say, if the whole does."""
        self.masks = dict(masks)
        if self.before is None or not self.layers:
            return
        weights = {n: weights_of(n, (self.rows[n] * mask)[None], self.layers[n].weights) for n, mask in masks.items()}
        after = self.modelled(self.with_weights(weights)[0])
        assert after is not None
        for node in list(self.layers):
            old, new = self.before.layers.get(node.name), after.layers.get(node.name)
            if old is not None and new is not None and old < GAIN * new:
                self.drop(node, f"stays dense: modelled {new:.1f} us with zeros, {old:.1f} us without")
        if self.layers and after.total >= self.before.total:
            why = f"stays dense: the model would be no faster, {after.total:.0f} us modelled"
            for node in list(self.layers):
                self.drop(node, why)

    # -- which weights ---------------------------------------------------------------------------------------------

    def curvatures(self, feeds: Feeds) -> dict[Node, Curvature]:
        """Second moments of what the layers read."""
        ends = self.graph.with_values(self.graph.inputs, tuple(Value(n) for n in self.layers))
        plan = [Step(n, True, tuple((a, True) for a in n.args)) for n in ends.nodes()]
        self.curved: dict[Node, Curvature] = {}

        def visit(step: Step, arrays: list[list[Tensor]]) -> Mapping[int, Tensor]:
            if step.node in self.layers:
                (moments,) = moments_of(step.node, arrays[0])
                self.curved[step.node] = Curvature.of(moments, step.node.op == "Conv")
                self.tell("moments", len(self.curved), len(self.layers))
            return {}

        Walk(plan, feeds).run(visit)  # type: ignore[arg-type]
        return self.curved

    def upfront(self, curvatures: Mapping[Node, Curvature]) -> dict[Node, Tensor]:
        """Masks by what each weight costs, before any is gone."""
        costs = {node: losses(self.rows[node], curvatures[node]) for node in self.layers}
        if self.pattern.m:
            return {node: best_of_groups(cost, self.pattern) for node, cost in costs.items()}
        units = [of_units(cost, self.pattern) for cost in costs.values()]
        macs = [node_macs(node) / max(cost.size, 1) for node, cost in zip(costs, units, strict=True)]
        gone = counts(units, macs, self.options.share) if costs else []
        return {n: without_lowest(c, k, self.pattern) for (n, c), k in zip(costs.items(), gone, strict=True)}

    def settled(self, calibrated: bool) -> dict[Node, Tensor]:
        """The layers' weights with zeros; the others make up for them where it is known how."""
        found = {}
        for number, node in enumerate(self.layers):
            rows, mask = self.rows[node], self.masks[node]
            if calibrated:
                given = None if self.pattern.m else mask
                rows, self.masks[node] = pruned_rows(rows, self.curved[node], self.pattern, given)
            found[node] = weights_of(node, (rows * self.masks[node])[None], self.layers[node].weights)
            self.tell("sparsify", number + 1, len(self.layers))
        return found

    # -- the graph -------------------------------------------------------------------------------------------------

    def with_weights(self, weights: Mapping[Node, Tensor]) -> tuple[Graph, dict[Node, Node]]:
        """The graph with other weights, and its node for each of the old ones."""
        new: dict[Value, Value] = {}
        nodes: dict[Node, Node] = {}
        for node in self.graph.nodes():
            args = [new[a] for a in node.args]
            if node in weights:
                old = node.args[1].node
                args[1] = const(weights[node], old.name, old.origin)
            made = node if tuple(args) == node.args else rebuild(node, args)
            nodes[node] = made
            new.update(zip(node.results, made.results, strict=True))
        inputs, outputs = (tuple(new[v] for v in values) for values in (self.graph.inputs, self.graph.outputs))
        return self.graph.with_values(inputs, outputs), nodes

    def repaired(self, made: Graph, nodes: Mapping[Node, Node], feeds: Feeds) -> Graph:
        """Weights and biases that make the results of the sparse model those of the model before."""
        refits = []
        for node, layer in self.layers.items():
            mask = weights_of(node, self.masks[node][None], np.zeros(layer.weights.shape, bool))
            refits.append(Refit(nodes[node], layer.value, None, mask))
        made, fits = refitted(self.graph, made, refits, feeds, self.tell)
        self.fits = {node: fits[nodes[node]] for node in self.layers if nodes[node] in fits}
        return made

    # -- the report ------------------------------------------------------------------------------------------------

    def records(self) -> list[Record]:
        """Of every layer, sparse or not."""
        return [self.record(layer.node) for layer in self.found]

    def record(self, node: Node) -> Record:
        shape, macs = node.args[1].shape, node_macs(node)
        kept = float(self.masks[node].mean()) if node in self.layers else 1.0
        made = Record(label(node), METHOD, shape, shape, macs, round(kept * macs), reason=self.reasons.get(node, ""))
        if node in self.layers:
            made.reason = f"{100 * (1 - kept):.1f} % zero"
        fit = self.fits.get(node)
        made.error = fit.after if fit is not None and isfinite(fit.after) else None
        made.cost_before = self.before.layers.get(node.name) if self.before else None
        made.cost_after = self.after.layers.get(node.name) if self.after else made.cost_before
        return made

    def said(self, unchanged: bool) -> str:
        if unchanged:
            reasons = list(dict.fromkeys(r for r in self.reasons.values() if r))[:2]
            shown = "; ".join(reasons) if reasons else "the model has no product of floats by constant weights"
            return f"no weights are made zero: {shown}"
        total = sum(node_macs(n) for n in self.layers)
        left = sum(node_macs(n) * float(self.masks[n].mean()) for n in self.layers)
        gone = 100 * (1 - left / total)
        layers = counted(len(self.layers), "layer")
        text = f"{gone:.1f} % of the multiplications of {layers} are by zero ({self.pattern})"
        if self.before is not None and self.after is not None:
            text += f"; modelled {self.after.total:,.0f} us, {self.before.total:,.0f} us before"
        return text


def _unfit(layer: Layer) -> str:
    """Why a layer stays dense, whatever the target; "" where it need not."""
    node, shape = layer.node, layer.weights.shape
    if node.op == "ConvTranspose":
        return "stays dense: it is a transposed convolution"
    if node.op == "Conv" and groups_of(node) > 1:
        return "stays dense: its channels are in groups"
    if node.op == "Conv" and prod(shape[2:]) > 1:
        return f"stays dense: its window is {'x'.join(map(str, shape[2:]))}, and only 1x1 is fast with zeros"
    if rows_of(node, layer.weights) is None:
        return "stays dense: its weights are a stack of matrices"
    if layer.input.node.op == "Input":
        return "stays dense: it reads the model's input"
    if layer.weights.size < LEAST:
        return f"stays dense: it has less than {LEAST} weights"
    return ""


def _rows(node: Node, weights: Tensor) -> Tensor:
    rows = rows_of(node, weights)
    assert rows is not None
    return np.asarray(rows[0], np.float64)
