"""The whole way from a float graph and calibration data to a QDQ graph."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..ir import Graph
from ..session import Session
from .calibrate import observed, scales
from .channels import Channelled
from .data import calibration
from .equalize import axes_of, equalize
from .placement import place
from .qdq import quantized_graph
from .ranges import Method
from .statistics import channel_statistics
from .weights import nearest_weights


@dataclass(frozen=True)
class Options:
    method: Method = "auto"
    equalize: bool = True


def quantized(graph: Graph, source: object, options: Options, session: Session) -> Graph:
    """The graph in 8 bits."""
    data = calibration(source, graph)
    plan = place(graph)
    real = frozenset()
    if options.equalize:
        channels = Channelled(plan)
        measured = channel_statistics(graph, axes_of(plan, channels), data, _silent, session.threads)
        made = equalize(plan, channels, measured)
        graph, real = made.graph, made.real
        session.note(f"real {sorted(real)}")
        plan = place(graph, real=real)
    observers = observed(plan, data, _silent, session.threads)
    found = scales(plan, observers, options.method)
    weights = {layer.node: nearest_weights(layer, found[layer.input].scale) for layer in plan.layers}
    return quantized_graph(plan, found, weights)


def _silent(stage: str, done: int, total: int) -> None:
    pass
