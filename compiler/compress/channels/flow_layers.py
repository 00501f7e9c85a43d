"""How channels pass layers: convolutions and matrix products make new ones, by constants that know of both."""

from __future__ import annotations

import numpy as np

from ...ir import Node
from ...layers import constant
from ...op import int_attr
from ...ops.common import Tensor
from .flow_rules import Outcome, joined, param, rule
from .groups import Channels, Coupling, Layer, label


@rule("Conv", "ConvTranspose")
def _convolution(known: Coupling, node: Node) -> Outcome:
    x = known.of.get(node.args[0])
    weights, bias = constant(node.args[1]), constant(node.args[2])
    if weights is None or bias is None:
        return f"the weights of {label(node)!r} are computed"
    if x is not None and x.axis != 1:
        return f"{label(node)!r} does not read them as channels"
    groups, channels = int_attr(node, "group"), node.args[0].shape[1]
    forward = node.op == "Conv"
    if groups > 1 and groups == channels:
        return _depthwise(known, node, x, len(bias) // channels, forward)
    made = Channels(1, known.make(len(bias)))
    for numbers in (made.numbers, *([x.numbers] if x else [])):
        joined(known, numbers.reshape(groups, -1), 1)
    if x is not None:
        first = x.numbers[: channels // groups] if forward else x.numbers
        param(known, node, 1, 1 if forward else 0, first)
    param(known, node, 1, 0 if forward else 1, made.numbers if forward else made.numbers[: len(bias) // groups])
    param(known, node, 2, 0, made.numbers)
    known.layers[node] = Layer(node, x, made)
    return made


def _depthwise(known: Coupling, node: Node, x: Channels | None, times: int, forward: bool) -> Outcome:
    if x is None:
        known.layers[node] = Layer(node, None, None, True)
        return None
    made = Channels(1, np.repeat(x.numbers, times))
    param(known, node, 1, 0, made.numbers if forward else x.numbers)
    param(known, node, 2, 0, made.numbers)
    known.layers[node] = Layer(node, x, made, True)
    return made


@rule("MatMul")
def _product(known: Coupling, node: Node) -> Outcome:
    a, b = node.args
    if constant(a) is not None:
        return f"{label(node)!r} multiplies them from the left"
    weights = constant(b)
    return _of_values(known, node) if weights is None else _by_constants(known, node, weights)


def _by_constants(known: Coupling, node: Node, weights: Tensor) -> Outcome:
    x, rank, last = known.of.get(node.args[0]), len(node.args[0].shape), len(node.types[0].shape) - 1
    if x is not None and x.axis != rank - 1:
        axis = x.axis + last + 1 - rank
        batch = weights.ndim - (last + 1 - axis)
        if batch >= 0 and axis < last - 1 and weights.shape[batch] != 1:
            return f"{label(node)!r} has weights for each of them"
        known.layers[node] = Layer(node, None, None)
        return Channels(axis, x.numbers)
    made = Channels(last, known.make(weights.shape[-1]))
    if x is not None:
        param(known, node, 1, weights.ndim - 2, x.numbers)
    param(known, node, 1, weights.ndim - 1, made.numbers)
    known.layers[node] = Layer(node, x, made)
    return made


def _of_values(known: Coupling, node: Node) -> Outcome:
    """A product of two computed matrices: what is summed over goes together."""
    a, b = (known.of.get(v) for v in node.args)
    if a is None and b is None:
        return None
    rank = len(node.types[0].shape)
    left = a.axis - len(node.args[0].shape) if a else 0  # axes from the end
    right = b.axis - len(node.args[1].shape) if b else 0
    if left == -1 or right == -2:
        if a is None or b is None or (left, right) != (-1, -2):
            return f"{label(node)!r} sums over them"
        known.join(a.numbers, b.numbers)
        return None
    if a is not None and b is not None:
        return f"{label(node)!r} multiplies them with each other"
    found, end = (a, left) if a is not None else (b, right)
    if found is None or end < -2:
        return f"{label(node)!r} has a product for each of them"
    return Channels(rank + end, found.numbers)
