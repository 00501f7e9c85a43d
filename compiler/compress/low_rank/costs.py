"""What a layer costs on the target, and what it would cost in other shapes: the modelled time of small graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ...ir import Graph, Node, Type, Value
from ...op import build
from ...problems import COLD
from ...quantize.modelled import modelled
from ...session import Session
from .pieces import Piece, chain


@dataclass
class LayerCosts:
    """Modelled microseconds on one core of the session's target, its most demanding level; each shape is modelled once.

    The layer stands between two others: what reads and writes it may do so in any layout.
    """

    session: Session
    known: dict[object, float] = field(default_factory=dict)

    @staticmethod
    def of(session: Session, graph: Graph) -> LayerCosts | None:
        """For layers of a graph; None where the session has no target."""
        if session.target is None:
            return None
        target = session.target.programs[0]
        constants = sum(v.size * 4 for n in graph.nodes() if n.op == "Const" for v in n.types)
        cold = constants > max(target.cpu.l2, target.cpu.l3)
        return LayerCosts(Session(target, {**session.settings, COLD: cold}, tunings=session.tunings))

    def chain(self, x: Type, pieces: Sequence[Piece]) -> float:
        """Of pieces one behind the other."""
        return self.cost((x, tuple(pieces)), x, lambda value: Value(chain(value, pieces)[-1]))

    def cost(self, key: object, x: Type, layer: Callable[[Value], Value]) -> float:
        """Of what `layer` makes of a value of type `x`; `key` says what that is."""
        if key not in self.known:
            read = build("Relu", Value(Node("Input", (), (x,), {}, "x")))
            (source,) = (a for a in read.node.args)
            whole = self._modelled(Graph("layer", (source,), (build("Relu", layer(read)),)))
            self.known[key] = whole - self._alone(x, source, read)
        return self.known[key]

    def _alone(self, x: Type, source: Value, read: Value) -> float:
        """Of what stands before the layer."""
        if x not in self.known:
            self.known[x] = self._modelled(Graph("before", (source,), (read,)))
        return self.known[x]

    def _modelled(self, graph: Graph) -> float:
        return modelled(graph, self.session).total
