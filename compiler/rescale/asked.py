"""What a Rescale of sums of bytes by constants asks of each channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir import Node
from ..op import const_array, full_attrs, is_const
from .bounds import sum_limits
from .once import Asked

PRODUCTS = ("Edgec.ConvInteger", "Edgec.MatMulInteger")


def asked(node: Node) -> Asked | str:
    """Of a Rescale with one term; or what constants do not say."""
    sums, multiplier = node.args[0].node, node.args[1]
    if len(node.args) != 2 or sums.op not in PRODUCTS:
        return "it rescales something else than the sums of one product"
    _, weights, bias = sums.args
    if not all(map(is_const, (weights, bias, multiplier))):
        return "weights, bias or multipliers are not constant"
    if sums.op == "Edgec.MatMulInteger" and len(weights.shape) != 2:
        return "the right operand is a stack of matrices"
    limits = sum_limits(sums, {v: const_array(v) for v in (weights, bias)})
    attrs: Any = full_attrs(node)
    if limits is None or attrs["zeros"] != (0,):
        return "weights or sums have a zero point"
    least, most = (limit.reshape(-1) for limit in limits)
    numbers = np.asarray(const_array(multiplier), np.float32).reshape(-1)
    if numbers.size not in (1, len(least)):
        return "a multiplier belongs to no channel"
    each = np.broadcast_to(numbers, least.shape)
    return Asked(each, least, most, attrs["zero"], attrs["low"], attrs["high"])
