"""How many steps one thread takes one after the other where a kernel does a task per thread: what no device hides."""

from __future__ import annotations

from math import prod
from typing import Any

from .ir import Node
from .macs import node_macs
from .op import OPS, full_attrs, int_attr, ints_attr

PASSES = {"Softmax": 3, "LogSoftmax": 3, "LayerNormalization": 3, "InstanceNormalization": 3, "LpNormalization": 2}
KEPT = 256  # boxes that are thought to be kept of a class, where more may be
START_US = 0.8  # of any thread: to compute an address, load, compute, store
LONE_STEP_US = 0.02  # of a step: a load that the next one waits for, from a cache


def chain(node: Node) -> int:
    """Numbers that are folded for one result; in one thread for a whole row, where results have the rows' length."""
    if node.op == "Edgec.Attention":
        _, t, d, e = ints_attr(node, "sizes")
        return t * (d + e)
    if node.op in ("Edgec.RNN", "Edgec.GRU", "Edgec.LSTM"):
        directions, batch = node.args[2].shape[:2]
        return node_macs(node) // max(1, directions * batch)
    if node.op == "TopK":
        k = node.types[0].shape[-1]
        return node.args[0].shape[-1] + k * k.bit_length()
    if node.op == "Edgec.NonMaxSuppression":
        boxes, kept = node.args[1].shape[2], min(int_attr(node, "size"), KEPT)
        return boxes + kept * (3 * boxes.bit_length() + kept // 2)
    if not node.args or not node.types[0].size or OPS[node.op].kind not in ("reduce", "contract", "window"):
        return 0
    shape, size = node.args[0].shape, node.types[0].size
    if node.op not in PASSES:
        return max(node_macs(node), node.args[0].type.size if OPS[node.op].kind == "reduce" else 0) // size
    attrs: Any = full_attrs(node)
    axis = attrs.get("axis", 2) % len(shape)
    many = node.op in ("LayerNormalization", "InstanceNormalization")
    return PASSES[node.op] * (prod(shape[axis:]) if many else shape[axis])
