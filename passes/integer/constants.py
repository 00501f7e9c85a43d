"""Constants of quantized layers: weights as integers, biases in units of sums, real numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Value
from edgec.compiler.op import const_array, int_attr, ints_attr, is_const
from edgec.compiler.ops.common import Tensor

LARGEST_SUM = 2**31 - 1


def filters(value: Value, axis: int) -> tuple[Tensor, Tensor] | None:
    """Quantized constant weights as (i8, scale per tensor or per slice of `axis`); zero points are taken off."""
    node = value.node
    perm = ints_attr(node, "perm") if node.op == "Transpose" else tuple(range(len(value.shape)))
    node = node.args[0].node if node.op == "Transpose" else node
    if node.op != "DequantizeLinear" or not all(map(is_const, node.args)) or int_attr(node, "block"):
        return None
    w, scale, zero = (np.asarray(const_array(a)) for a in node.args)
    kind = dtype(node.args[0].type.dtype)
    if not kind.is_whole or kind.bits > 8 or w.size == 0:
        return None
    w = w.transpose(perm)
    if scale.size > 1:
        if perm.index(int_attr(node, "axis") % w.ndim) != axis % w.ndim:
            return None
        zero = zero.reshape([-1 if k == axis % w.ndim else 1 for k in range(w.ndim)])
    else:
        scale, zero = scale.reshape(()), zero.reshape(())
    shifted = w.astype(np.int32) - zero.astype(np.int32)
    if shifted.min() < -128 or shifted.max() > 127:
        return None
    return np.ascontiguousarray(shifted.astype(np.int8)), scale


def real_constant(value: Value) -> Tensor | None:
    """A constant, quantized or not, in f64."""
    if is_const(value):
        return np.asarray(const_array(value), np.float64) if value.type.dtype == "f32" else None
    node = value.node
    if node.op != "DequantizeLinear" or not all(map(is_const, node.args)) or int_attr(node, "block"):
        return None
    stored, scale, zero = (np.asarray(const_array(a), np.float64) for a in node.args)
    if scale.size > 1:
        place = [-1 if k == int_attr(node, "axis") % stored.ndim else 1 for k in range(stored.ndim)]
        scale, zero = scale.reshape(place), zero.reshape(place)
    else:
        scale, zero = scale.reshape(()), zero.reshape(())
    return (stored - zero) * scale


def reach(w: Tensor, axis: int) -> Tensor:
    """The sum of the magnitudes of each output's weights."""
    return np.asarray(np.abs(w.astype(np.float64)).sum(tuple(a for a in range(w.ndim) if a != axis)))


def whole_steps(bias: Tensor, unit: Any) -> Tensor | None:
    """A bias in units of its sums; None where it does not fit."""
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.rint(np.where(np.asarray(bias) == 0, 0, bias / unit))
    return steps.astype(np.int32) if np.all(np.abs(steps) <= LARGEST_SUM) else None
