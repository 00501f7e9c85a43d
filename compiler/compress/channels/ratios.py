"""How many channels of each family go: those first whose loss is least for the time that they cost, until the share of
the multiplications that is asked for is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...ir import Node
from ...macs import node_macs
from ...ops.common import Tensor
from ...target import Cpu, Target
from .groups import Channels, Coupling
from .readers import Numbering
from .saliency import Curve

# What a multiplication that is gone counts beside the modelled time, which falls by whole units only. The next one is
# taken where time falls too little: below zero, cuts count by how much more time than multiplications they save. Where
# none helps, the first: no error is paid for nothing.
PARTS = (0.1, 0.0, -0.2, -0.4, -0.5, -0.6)
HONEST = 0.82  # share of the multiplications gone that modelled time is to fall by
USUAL = 8  # channels, where no target says how many its kernels work on at a time


def multiple(target: Target | None) -> int:
    """Widths are multiples of it: the numbers in a vector register, which kernels' tiles of channels are made of."""
    return USUAL if target is None else max(USUAL, target.cpu.lanes())


def widths(width: int, unit: int, exact: bool) -> list[int]:
    """What a family may be cut to, widest first. Narrow ones also to parts of a unit, for the sake of the layers that
    read them, unless the unit is the user's (`exact`)."""
    step = unit
    if not exact and width <= 2 * unit:
        step = max(unit // (8 if width <= unit else 4), 1)
    return list(range((width - 1) // step * step, 0, -step))


@dataclass(frozen=True, eq=False)
class Work:
    """One layer: what it costs, and how many of its inputs and outputs belong to each family (the last: to none);
    None: they do not matter to it. `busy`: share of the cost that multiplications take; the rest is for reading
    inputs, and for what becomes of the results."""

    node: Node
    macs: int
    cost: float
    inputs: Tensor | None
    outputs: Tensor | None
    busy: float = 1.0


def works(known: Coupling, numbering: Numbering, costs: Mapping[Node, float], cpu: Cpu | None = None) -> list[Work]:
    """Every layer that removing channels makes smaller; `costs` in microseconds of the `cpu`."""
    family_of = np.searchsorted(np.asarray(numbering.starts), np.arange(numbering.count), side="right") - 1

    def parts(channels: Channels | None) -> Tensor | None:
        if channels is None:
            return None
        classes = numbering.of[channels.numbers]
        found = np.zeros(len(numbering.starts) + 1)
        np.add.at(found, np.where(classes >= 0, family_of[classes], len(numbering.starts)), 1.0)
        return None if found[-1] == len(classes) else found

    made = []
    for node, layer in known.layers.items():
        inputs, outputs = parts(None if layer.depthwise else layer.inputs), parts(layer.outputs)
        if inputs is not None or outputs is not None:
            macs = node_macs(node)
            cost = costs.get(node, float(macs))
            busy = 1.0 if cpu is None or not cost else min(1.0, 2 * macs / (cpu.peak_gflops * 1e3) / cost)
            made.append(Work(node, macs, cost, inputs, outputs, busy))
    return made


@dataclass(frozen=True)
class Plan:
    """How many classes of each family go; what that is expected to cost in error; the share of multiplications gone."""

    gone: tuple[int, ...]
    error: float
    share: float


def planned(
    share: float, curves: Sequence[Curve], layers: Sequence[Work], unit: int, exact: bool, rest: float = 0.0
) -> Plan:
    """Cut families, the best loss per time first, until `share` of the multiplications is gone; then give back what
    is not needed for it. `rest`: what the remainder of the model costs."""
    first: Plan | None = None
    for parts in PARTS:
        search = _Search(curves, layers, unit, exact, parts)
        while search.gone_share() < share and search.cut():
            pass
        if search.gone_share() >= share:
            search.give_back(share)
        gone = tuple(c.family.width - k for c, k in zip(curves, search.kept, strict=True))
        plan = Plan(gone, float(search.errors().sum()), search.gone_share())
        if search.saved_share(rest) >= HONEST * search.gone_share():
            return plan
        first = first or plan
    assert first is not None
    return first


class _Search:
    def __init__(
        self, curves: Sequence[Curve], layers: Sequence[Work], unit: int, exact: bool, parts: float = PARTS[0]
    ) -> None:
        self.curves, self.unit, self.parts = curves, unit, parts
        self.kept = [c.family.width for c in curves]
        self.steps = [
            [w for w in widths(c.family.width, unit, exact) if c.family.width - w < len(c.errors)] for c in curves
        ]
        none = np.eye(len(curves) + 1)[-1]  # channels that all stay
        self.inputs = np.stack([none if w.inputs is None else w.inputs for w in layers])
        self.outputs = np.stack([none if w.outputs is None else w.outputs for w in layers])
        self.reads = np.asarray([w.inputs is not None for w in layers])
        self.busy = np.asarray([w.busy for w in layers], np.float64)
        self.macs = np.asarray([w.macs for w in layers], np.float64)
        self.cost = np.asarray([w.cost for w in layers], np.float64)

    def channels(self, kept: Sequence[int]) -> tuple[Tensor, Tensor]:
        """How many inputs and outputs each layer has left."""
        shares = np.asarray([k / c.family.width for c, k in zip(self.curves, kept, strict=True)] + [1.0])
        return self.inputs @ shares, self.outputs @ shares

    def gone_share(self, kept: Sequence[int] | None = None) -> float:
        """Of the multiplications."""
        read, made = self.channels(self.kept if kept is None else kept)
        left = float(self.macs @ (read / self.inputs.sum(1) * made / self.outputs.sum(1)))
        return 1 - left / max(float(self.macs.sum()), 1.0)

    def time(self, kept: Sequence[int]) -> float:
        """Modelled: kernels make whole units of channels, and multiply by each that they read."""
        read, made = self.channels(kept)
        reads = read / self.inputs.sum(1)
        makes = self._units(made) / self._units(self.outputs.sum(1))
        rest = np.where(self.reads, (reads + makes) / 2, makes)
        return float(self.cost @ (self.busy * reads * makes + (1 - self.busy) * rest))

    def saved_share(self, rest: float) -> float:
        """Of the modelled time, with the `rest` of the model."""
        whole = self.time([c.family.width for c in self.curves])
        return (whole - self.time(self.kept)) / max(whole + rest, 1e-12)

    def _units(self, channels: Tensor) -> Tensor:
        return np.asarray(np.ceil(channels / self.unit - 1e-9))

    def error(self, family: int, kept: int) -> float:
        curve = self.curves[family]
        return float(curve.errors[curve.family.width - kept])

    def errors(self) -> Tensor:
        return np.asarray([self.error(k, kept) for k, kept in enumerate(self.kept)])

    def cut(self) -> bool:
        """Cut the family whose loss is least for what it saves; False where none is left."""
        moves = [(k, w) for k, steps in enumerate(self.steps) for w in steps if w < self.kept[k]]
        if not moves:
            return False
        time, share, total = self.time(self.kept), self.gone_share(), float(self.cost.sum())
        prices: list[float] = []
        for family, width in moves:
            kept = [*self.kept[:family], width, *self.kept[family + 1 :]]
            lost = max(self.error(family, width) - self.error(family, self.kept[family]), 0.0) + 1e-12
            saved = (time - self.time(kept)) / total + self.parts * (self.gone_share(kept) - share)
            prices.append(lost / max(saved, 1e-12))
        family, width = moves[int(np.argmin(prices))]
        self.kept[family] = width
        return True

    def give_back(self, share: float) -> None:
        """Widen families again, the greatest loss first, while enough stays gone."""
        changed = True
        while changed:
            changed = False
            for family in map(int, np.argsort(-self.errors(), kind="stable")):
                whole = self.curves[family].family.width
                for width in [whole, *self.steps[family]]:
                    if width <= self.kept[family]:
                        break
                    kept = [*self.kept[:family], width, *self.kept[family + 1 :]]
                    if self.gone_share(kept) >= share:
                        self.kept, changed = kept, True
                        break
