"""Scales of weights with which sums become bytes by one multiply-add (compiler/once.py), changed by a millionth or so.

A line has the steps of most channels. Where none has, a multiplier nearby nearly always rounds otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..ir import Graph, Node, Value
from ..once import Asked, channels
from ..ops.integer import SUFFIX
from ..pipeline import parse_pipeline, run_pipeline
from ..rescaled import asked
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
    layers = {layer.name: layer for layer in plan.layers}
    for _ in range(ROUNDS):
        found = [
            (layers[name].node, change)
            for name, change in _changes(quantized_graph(plan, scales, made)).items()
            if name in layers and len(change) == len(made[layers[name].node].scale)
        ]
        for node, change in found:
            made[node] = replace(made[node], scale=np.asarray(made[node].scale * change, np.float32))
        if not found:
            break
    return made


def _changes(graph: Graph) -> dict[str, np.ndarray]:
    """By the names of layers, what to multiply scales by where some have no line."""
    found = {}
    for node in run_pipeline(graph, parse_pipeline("integers"), Session(verify=0)).nodes():
        if node.op != "Edgec.Rescale" or isinstance(wanted := asked(node), str):
            continue
        change = _change(wanted)
        if change is not None:
            found[node.args[0].node.name.removesuffix(SUFFIX)] = change
    return found


def _change(wanted: Asked) -> np.ndarray | None:
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
