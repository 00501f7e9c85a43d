"""How channels pass an operator: which of its results have them, which of them it joins, which it pins, and which
elements of its constants belong to them. What is not known here pins.

Layers have their rules in flow_layers.py, operators that move elements in flow_moves.py, all others here.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir import Node, Value
from ...layers import constant
from ...op import OPS, int_attr, ints_attr
from . import flow_layers as flow_layers
from .flow_moves import cuts as cuts
from .flow_rules import RULES, Outcome, param, rule, unknown
from .groups import Channels, Coupling, label


def visit(known: Coupling, node: Node) -> None:
    """Follow channels through one node."""
    if node.op in ("Input", "Const"):
        return
    usual = _elementwise if OPS[node.op].kind == "elementwise" else unknown
    made = RULES.get(node.op, usual)(known, node)
    if isinstance(made, str):
        for arg in node.args:
            known.pin(arg, made)
    elif made is not None:
        known.of[Value(node)] = made


@rule("QuantizeLinear", "DequantizeLinear")
def _quantized(known: Coupling, node: Node) -> Outcome:
    return f"{label(node)!r} is quantized"


def _elementwise(known: Coupling, node: Node) -> Outcome:
    """Arguments are aligned at their last axes; what has the same size along the channels' axis is cut with them."""
    rank = len(node.types[0].shape)
    of = {k: known.of[a] for k, a in enumerate(node.args) if a in known.of}
    axes = {c.axis + rank - len(node.args[k].shape) for k, c in of.items()}
    if not of:
        return None
    if len(axes) > 1:
        return f"{label(node)!r} combines them along several axes"
    (axis,) = axes
    size = node.types[0].shape[axis]
    wide = [c for c in of.values() if len(c.numbers) == size]
    if not wide:
        return f"{label(node)!r} repeats them"
    for k, arg in enumerate(node.args):
        place = axis - rank + len(arg.shape)
        if place < 0 or arg.shape[place] != size or size == 1:
            continue
        if k in of:
            known.join(wide[0].numbers, of[k].numbers)
        elif constant(arg) is not None:
            param(known, node, k, place, wide[0].numbers)
        else:
            return f"{label(node)!r} combines them with values whose channels stay"
    return Channels(axis, wide[0].numbers)


def _only(known: Coupling, node: Node) -> Channels | None:
    """The channels of the first argument, where the others have none."""
    if any(a in known.of for a in node.args[1:]):
        return None
    return known.of.get(node.args[0])


@rule("InstanceNormalization", "LayerNormalization")
def _normalized(known: Coupling, node: Node) -> Outcome:
    x, rank = _only(known, node), len(node.types[0].shape)
    if x is None:
        return unknown(known, node)
    instance = node.op == "InstanceNormalization"
    if any(constant(a) is None for a in node.args[1:]) or (instance and x.axis != 1):
        return unknown(known, node)
    for place, arg in enumerate(node.args[1:], 1):
        axis = 0 if instance else x.axis - rank + len(arg.shape)
        if axis >= 0 and arg.shape[axis] == len(x.numbers) > 1:
            param(known, node, place, axis, x.numbers)
    return x


@rule("Softmax", "LogSoftmax", "LpNormalization", "CumSum", "CumProd", "ArgMax", "ArgMin")
def _along_axis(known: Coupling, node: Node) -> Outcome:
    x = known.of.get(node.args[0])
    axis = int_attr(node, "axis") % max(len(node.args[0].shape), 1)
    return _reduced_along(node, x, [axis])


@rule(*(f"Reduce{kind}" for kind in "Sum Mean Max Min Prod SumSquare L1 L2 LogSum LogSumExp".split()))
def _reduced(known: Coupling, node: Node) -> Outcome:
    x, rank = known.of.get(node.args[0]), len(node.args[0].shape)
    return _reduced_along(node, x, [a % rank for a in ints_attr(node, "axes")])


def _reduced_along(node: Node, x: Channels | None, axes: Sequence[int]) -> Outcome:
    if x is None:
        return None
    if x.axis in axes:
        return f"{node.op} {label(node)!r} works along them"
    gone = len(node.types[0].shape) < len(node.args[0].shape)
    return Channels(x.axis - sum(a < x.axis for a in axes) if gone else x.axis, x.numbers)
