"""Scales of weights with which sums become bytes by one multiply-add (`rescale/once.py`), changed by about a millionth.

A line has the steps of most channels. Where none has, a multiplier nearby nearly always rounds otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from ..ir import Graph, Node, Value
from ..ops.integer import SUFFIX
from ..pipeline import parse_pipeline, run_pipeline
from ..rescale.asked import asked
from ..rescale.direct import straight
from ..rescale.once import Asked, channels
from ..session import Session
from .placement import Placement
from .qdq import quantized_graph
from .ranges import Scale
from .weights import Weights

CHANGE, TRIES, ROUNDS = 2.0**-20, 48, 3


def straightened(
    plan: Placement, scales: Mapping[Value, Scale], weights: Mapping[Node, Weights]
) -> dict[Node, Weights]:
    """The weights of a plan, some with other scales."""
    made = dict(weights)
    layers = {layer.name: layer.node for layer in plan.layers}
    for _ in range(ROUNDS):
        changes = _changes(quantized_graph(plan, scales, made), layers)
        layers = {name: layers[name] for name in changes if len(changes[name]) == len(made[layers[name]].scale)}
        for name, node in layers.items():
            made[node] = replace(made[node], scale=np.asarray(made[node].scale * changes[name], np.float32))
        if not layers:
            break
    return made


def _changes(graph: Graph, layers: Collection[str]) -> dict[str, np.ndarray]:
    """By the names of `layers`, what to multiply scales by where some have no line."""
    found = {}
    for node in run_pipeline(graph, parse_pipeline("integers"), Session(verify=0)).nodes():
        name = node.args[0].node.name.removesuffix(SUFFIX) if node.op == "Edgec.Rescale" else ""
        if name not in layers or isinstance(wanted := asked(node), str):
            continue
        change = _change(wanted)
        if change is not None:
            found[name] = change
    return found


def _change(wanted: Asked) -> np.ndarray | None:
    if straight(wanted).all():
        return None
    lines = channels(wanted)
    if isinstance(lines, str) or None not in lines:
        return None
    change = np.ones(len(lines))
    for i, one in enumerate(lines):
        if one is None:
            change[i] = next((c for c in _tried() if _has_line(wanted, i, c)), 1.0)
    return change if (change != 1).any() else None


def _tried() -> list[float]:
    return [1 + i * CHANGE for i in range(1, TRIES + 1)]


def _has_line(wanted: Asked, channel: int, change: float) -> bool:
    multiplier = np.array([wanted.multiplier[channel] * change], np.float32)
    only = slice(channel, channel + 1)
    found = channels(replace(wanted, multiplier=multiplier, least=wanted.least[only], most=wanted.most[only]))
    return not isinstance(found, str) and found[0] is not None
