"""The whole way from a float graph and calibration data to a QDQ graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..ir import Graph
from ..session import Session
from .calibrate import observed, scales
from .data import calibration
from .placement import place
from .qdq import quantized_graph
from .ranges import Method
from .weights import nearest_weights


@dataclass(frozen=True)
class Options:
    method: Method = "auto"


def quantized(graph: Graph, source: object, options: Options, session: Session) -> Graph:
    """The graph in 8 bits."""
    data = calibration(source, graph)
    plan = place(graph)
    observers = observed(plan, data, _silent)
    found = scales(plan, observers, options.method)
    weights = {layer.node: nearest_weights(layer, found[layer.input].scale) for layer in plan.layers}
    return quantized_graph(plan, found, weights)


def _silent(stage: str, done: int, total: int) -> None:
    pass
