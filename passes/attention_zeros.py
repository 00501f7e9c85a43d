"""Weights of an attention that are made zero: for queries from which the mask hides every key, softmax gives NaN."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from edgec.compiler.ir import Node, Value
from edgec.compiler.op import const_array, int_attr, ints_attr, is_const


@dataclass(frozen=True)
class Guard:
    """What makes weights zero: where a mask is -inf along its last axis, or (no mask) where they are NaN."""

    weights: Value
    mask: Value | None
    nodes: tuple[Node, ...]
    reads: int  # of the weights


def zeroed(node: Node) -> Guard | None:
    """The guard that ends in this node. Scores are taken to be finite: then only a mask makes weights NaN."""
    if node.op != "Where" or not _all(node.args[1], 0) or node.args[2].shape != node.types[0].shape:
        return None
    test, weights = node.args[0].node, node.args[2]
    if test.op == "IsNaN" and test.args[0] == weights:
        return Guard(weights, None, (test, node), 2)
    if test.op != "Equal":
        return None
    for top, lowest in (test.args, test.args[::-1]):
        if top.node.op == "ReduceMax" and _all(lowest, -inf):
            mask = top.node.args[0]
            if ints_attr(top.node, "axes") == (len(mask.shape) - 1,) and int_attr(top.node, "keepdims"):
                return Guard(weights, mask, (node,), 1)
    return None


def hides_rows(mask: Value) -> bool:
    """Whether the mask may be -inf along its last axis."""
    return not is_const(mask) or bool(np.any(np.all(np.equal(const_array(mask), -inf), axis=-1)))


def _all(value: Value, number: float) -> bool:
    return is_const(value) and bool(np.all(np.equal(const_array(value), number)))
