"""Which channels of a graph must go together.

Every channel that a layer makes has a number. Numbers follow the channels through the graph (`flow.py` says how each
operator passes them on); what must be removed together is joined, what must stay is pinned, with the reason. Classes of
joined channels that appear in the same values are a family: its classes are interchangeable, and any of them may go as
long as one stays (Fang et al., "DepGraph: towards any structural pruning", 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ...ir import Graph, Node, Value
from ...ops.common import Tensor


class Channels(NamedTuple):
    """The axis of a value that its channels lie along, and the number of each."""

    axis: int
    numbers: Tensor


Slices = list[tuple[int, Tensor]]  # of a constant: axes, and the channels that their elements belong to


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution or matrix product by constants: channels that it reads, and makes; None: none that could go."""

    node: Node
    inputs: Channels | None
    outputs: Channels | None
    depthwise: bool = False


@dataclass(frozen=True, eq=False)
class Family:
    """Classes of channels, each an array of numbers; `makers` are the layers that make them."""

    classes: tuple[Tensor, ...]
    makers: tuple[Node, ...]

    @property
    def width(self) -> int:
        return len(self.classes)


@dataclass
class Coupling:
    """What is known of a graph's channels.

    of       the channels of each value
    params   constant arguments of nodes that are cut with channels, by place
    layers   in order, by node
    reasons  why a number is pinned
    """

    graph: Graph
    of: dict[Value, Channels] = field(default_factory=dict)
    params: dict[Node, dict[int, Slices]] = field(default_factory=dict)
    layers: dict[Node, Layer] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    _above: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return len(self._above)

    def make(self, count: int) -> Tensor:
        """New numbers."""
        start = len(self._above)
        self._above.extend(range(start, start + count))
        return np.arange(start, start + count)

    def root(self, number: int) -> int:
        """What stands for the class of a number."""
        above = self._above
        while above[number] != number:
            above[number] = number = above[above[number]]
        return number

    def roots(self, numbers: Tensor) -> Tensor:
        return np.asarray([self.root(int(n)) for n in numbers], np.int64)

    def join(self, a: Tensor, b: Tensor) -> None:
        """Channels that go together, one by one."""
        for x, y in zip(a, b, strict=True):
            first, second = self.root(int(x)), self.root(int(y))
            self._above[max(first, second)] = min(first, second)

    def pin(self, value: Value, reason: str) -> None:
        """The channels of a value stay."""
        if value in self.of:
            for number in self.of[value].numbers:
                self.reasons.setdefault(int(number), reason)

    def pinned(self) -> dict[int, str]:
        """Reasons by root."""
        found: dict[int, str] = {}
        for number, reason in self.reasons.items():
            found.setdefault(self.root(number), reason)
        return found

    def families(self) -> list[Family]:
        """What may be removed, in the order of its makers."""
        seen: dict[int, list[int]] = {}
        for place, channels in enumerate(self.of.values()):
            for root in self.roots(channels.numbers):
                seen.setdefault(int(root), []).append(place)
        members: dict[int, list[int]] = {}
        for number in range(self.count):
            members.setdefault(self.root(number), []).append(number)
        pinned, grouped = self.pinned(), dict[tuple[int, ...], list[int]]()
        for root, places in seen.items():
            if root not in pinned:
                grouped.setdefault(tuple(places), []).append(root)
        values = list(self.of)
        makers = {layer.node for layer in self.layers.values() if not layer.depthwise}
        found = []
        for where, roots in grouped.items():
            made = dict.fromkeys(values[place].node for place in where if values[place].node in makers)
            classes = tuple(np.asarray(members[root], np.int64) for root in roots)
            found.append(Family(classes, tuple(made)))
        return found

    def why(self, channels: Channels | None) -> str:
        """Why channels stay, if they do."""
        if channels is None:
            return "its channels are those of values that stay"
        pinned = self.pinned()
        return next((pinned[int(r)] for r in self.roots(channels.numbers) if int(r) in pinned), "")


def coupled(graph: Graph) -> Coupling:
    """Follow all channels."""
    from .flow import visit

    made = Coupling(graph)
    for node in graph.nodes():
        visit(made, node)
    for name, value in graph.results:
        made.pin(value, f"it is the output {name!r}")
    return made


def kept_places(channels: Channels, gone: Tensor) -> Tensor:
    """Places along the axis of the channels that stay; `gone` says of each number whether it goes."""
    return np.flatnonzero(~gone[channels.numbers])


def label(node: Node) -> str:
    """How reports name a node."""
    return node.name or (node.origin[-1] if node.origin else node.op)


def shown(nodes: Sequence[Node], most: int = 2) -> str:
    """Some nodes for a sentence."""
    named = [label(n) for n in nodes]
    return ", ".join(named[:most]) + (f" and {len(named) - most} more" if len(named) > most else "")
