"""Which form each layer gets: the least harm for the asked saving, of forms that win in the model as a whole as well.

A layer's pieces are modelled alone first (`forms.py`). In the model they also meet what stands around them: layouts of
others, and sums that were part of the layer's kernel. Forms that save less there than half of what they should are
taken out, and the choice is made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...ir import Graph, Node
from ...macs import macs
from ...quantize.modelled import modelled
from ...session import Session
from .forms import Form, Splittable
from .frontier import Offer, chosen
from .split import outline, split_graph

TRIALS = 4  # choices that are made at most
REAL = 0.5  # share of the modelled saving that must be there in the model

Offers = Mapping[Node, Sequence[Offer[Form]]]
Picked = dict[Node, Form]


@dataclass
class Selection:
    """The choice; `errors` are those of the layers' results, and `reasons` say why layers stay as they are."""

    graph: Graph
    able: Sequence[Splittable]
    errors: Mapping[tuple[Node, Form], float]
    session: Session
    energy: float | None
    saving: float  # multiplications that are to be saved, without `energy`
    reasons: dict[Node, str] = field(default_factory=dict)

    def made(self, offers: Offers) -> Picked:
        """A form for each layer that is split."""
        left = {node: list(some) for node, some in offers.items()}
        costs: dict[tuple[tuple[Node, Form], ...], float] = {}
        for _ in range(TRIALS):
            picked = self._picked(left)
            failing = self._failing(picked, costs)
            if not failing:
                break
            for node, why in failing.items():
                left[node] = [o for o in left[node] if o.form != picked[node]]
                self.reasons[node] = why
        picked = {node: form for node, form in picked.items() if node not in failing}
        before = self._cost({}, costs)
        if picked and before and (after := self._cost(picked, costs)) >= before:
            why = f"the model would take {after:.0f} us modelled, {before:.0f} us as it is"
            self.session.note(f"no layer is split: {why}")
            self.reasons |= dict.fromkeys(picked, why)
            return {}
        return picked

    def _picked(self, offers: Offers) -> Picked:
        if self.energy is None:
            return {node: offer.form for node, offer in chosen(offers, self.saving).items()}
        found: Picked = {}
        for node, some in offers.items():
            good = [o.form for o in some if self.errors[node, o.form] <= 1 - self.energy]
            if good:
                found[node] = min(good, key=lambda f: (f.cost or 0.0, f.macs))
            else:
                self.reasons[node] = f"no form that wins keeps {self.energy:g} of its results' energy"
        return found

    def _failing(self, picked: Picked, costs: dict[tuple[tuple[Node, Form], ...], float]) -> dict[Node, str]:
        """Layers whose forms save too little in the model, and what they do there; none where all save enough."""
        wanted = {s.layer.node: (s.cost or 0.0) for s in self.able}
        gains = {node: wanted[node] - (form.cost or 0.0) for node, form in picked.items()}
        before = self._cost({}, costs)
        if not before or not picked or before - self._cost(picked, costs) >= REAL * sum(gains.values()):
            return {}
        found = {}
        for node, form in picked.items():
            saved = before - self._cost({node: form}, costs)
            if saved < REAL * gains[node] or saved <= 0:
                found[node] = f"as {form} it would save {saved:.1f} us in the model, not {gains[node]:.1f}"
        return found

    def _cost(self, picked: Picked, costs: dict[tuple[tuple[Node, Form], ...], float]) -> float:
        """Modelled microseconds of the model with some layers in pieces; 0 without a target."""
        target = self.session.target
        if target is None:
            return 0.0
        key = tuple(picked.items())
        if key not in costs:
            layers = {s.layer.node: s.layer for s in self.able}
            made, _ = split_graph(self.graph, [outline(layers[node], form) for node, form in picked.items()])
            inner = Session(target.programs[0], self.session.settings, tunings=self.session.tunings)
            costs[key] = modelled(made, inner).total
        return costs[key]


def saving_of(graph: Graph, able: Sequence[Splittable], left: float | None, total: float | None) -> float:
    """Multiplications to save, where a share of those of some layers, or of the graph, is to be left."""
    if left is not None:
        return (1 - left) * sum(s.macs for s in able)
    return (1 - total) * macs(graph) if total is not None else 0.0
