"""Multipliers and biases of layers that 16 bits hold, for targets whose kernels widen them (passes/short_constants.py).

A multiplier is made of three scales, of which that of the weights is free to be a little larger: the weights are
rounded with it. A bias is off by a small part of a step of the result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..ir import Graph, Node, Value
from ..layers import Layer
from ..op import const_array, is_const
from ..ops.common import Tensor
from ..ops.integer import SUFFIX, USUAL_SHIFT, shift_of
from ..pipeline import parse_pipeline, run_pipeline
from ..rescale.asked import PRODUCTS
from ..session import Session
from ..target import Target
from .placement import Placement
from .qdq import quantized_graph
from .ranges import LEVELS, Scale
from .short_scales import LOW, End, multipliers
from .weights import Weights, weight_scales

ROUNDS, NUDGE = 8, 3 * 2.0**-20
OFF, MOST = 1 / 16, 1 / 4  # of a step of the result, that biases may be off by: in all, and one
SEEN = 1 / 32  # ... in all, for no more than that layers share code
INPUT = 64.0  # what half a step of one input makes of sums, where the result is real


def ends(plan: Placement, scales: Mapping[Value, Scale]) -> dict[Node, Value]:
    """The bytes that the sums of each layer become, where they become bytes."""
    found = {}
    for layer in plan.layers:
        value = layer.value
        while value not in scales and plan.uses[value] == 1 and len(plan.users.get(value, [])) == 1:
            value = plan.users[value][0].results[0]
        if value in scales:
            found[layer.node] = value
    return found


def ends_of(plan: Placement, scales: Mapping[Value, Scale], once: bool) -> dict[Node, End]:
    """Their scales and zero points."""
    return {node: End(scales[v].scale, scales[v].zero, once) for node, v in ends(plan, scales).items()}


def evened(scale: Scale) -> Scale:
    """Of at least the same range, with an even zero point: halves go the same way before and after it is added."""
    if scale.zero % 2 == 0:
        return scale
    up = scale.zero < LEVELS / 2
    wider = (LEVELS - scale.zero) / (LEVELS - scale.zero - 1) if up else scale.zero / (scale.zero - 1)
    return replace(scale, scale=float(np.float32(scale.scale * wider)), zero=scale.zero + (1 if up else -1))


def reachable(plan: Placement, scales: Mapping[Value, Scale], once: bool = False) -> dict[Value, Scale]:
    """Scales of activations with which all multipliers can be short: with some, scales of weights, which are f32 as
    well, are too far apart. Then a change by a few millionths helps. Where bytes are to be made `once`, their zero
    points are even."""
    made, after = dict(scales), ends(plan, scales)
    if once:
        for group in plan.groups:
            if any(v in after.values() for v in group.values):
                made |= {v: evened(made[v]) for v in group.values if v in made}
    for _ in range(ROUNDS):
        missed = [
            after[layer.node]
            for layer in plan.layers
            if layer.node in after
            and not all_short(layer, made[layer.input].scale, ends_of(plan, made, once)[layer.node])
        ]
        for group in plan.groups:
            if any(v in group.values for v in missed):
                moved = [v for v in group.values if v in made]
                made |= {v: replace(made[v], scale=float(np.float32(made[v].scale * (1 + NUDGE)))) for v in moved}
        if not missed:
            break
    return made


def all_short(layer: Layer, before: float, end: End) -> bool:
    numbers = multipliers(weight_scales(layer, before, end), before, end.scale)
    return not (numbers.view(np.uint32) & LOW).any()


def short_biases(
    plan: Placement, scales: Mapping[Value, Scale], weights: Mapping[Node, Weights], target: Target | None
) -> dict[Node, Weights]:
    """The weights of a plan with biases that, zero points taken in, 16 bits hold where that changes next to nothing."""
    made = dict(weights)
    graph = run_pipeline(
        quantized_graph(plan, scales, made), parse_pipeline("integers"), Session(target=target, verify=0)
    )
    layers = {layer.name: layer.node for layer in plan.layers}
    sums = [n for n in graph.nodes() if n.op in PRODUCTS and is_const(n.args[2])]
    named = Counter(n.name for n in sums)
    users = graph.users()
    for node in sums:
        layer = layers.get(node.name.removesuffix(SUFFIX))
        if layer is None or named[node.name] > 1 or (bias := made[layer].bias) is None:
            continue
        whole = const_array(node.args[2]).astype(np.int64)
        least = shift_of(whole)
        for shift, most in ((max(least, USUAL_SHIFT), SEEN), (least, OFF)):
            change = _rounded(whole, shift) - whole
            if len(whole) == len(bias) and _unseen(change, most, graph, node, users):
                made[layer] = replace(made[layer], bias=(bias + change).astype(np.int32))
                break
    return made


def _rounded(whole: Tensor, shift: int) -> Any:
    """The nearest numbers that 16 bits hold, moved by so many bits."""
    unit = 1 << shift
    return np.clip(np.rint(whole / unit), -(2**15), 2**15 - 1).astype(np.int64) * unit


def _unseen(change: Any, most: float, graph: Graph, node: Node, users: Mapping[Value, list[Node]]) -> bool:
    """Whether biases that are off by so much make no difference to results."""
    (reader, *more) = users[Value(node)]
    if reader.op == "Edgec.Rescale" and not more:
        first = len(reader.args) // 2
        multiplier = reader.args[first + reader.args.index(Value(node))]
        if is_const(multiplier):
            steps = np.abs(change * const_array(multiplier).astype(np.float64).reshape(-1))
            return bool(np.sqrt(np.square(steps).mean()) <= most and steps.max() <= MOST)
    return reader.op == "Cast" and not more and bool(np.abs(change).max() <= INPUT)
