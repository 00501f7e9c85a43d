"""Folds whose result has the shape of the argument: softmax and the normalizations."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import op
from .common import FLOATS, Tensor, axis_in, broadcast, dtype_of, equal_types, require, widened


def _along(x: Type, axis: int, **_: Any) -> tuple[Type, ...]:
    require(x, FLOATS)
    axis_in(axis, len(x.shape))
    return (Type(x.dtype, x.shape),)


def softmax(x: Tensor, axis: int) -> Tensor:
    """exp(x) normalized to a sum of one along an axis.

    Rounded as ONNX defines it, by operators: after the difference to the greatest, the exponential and the sum (once).
    """
    wide = widened(x)
    e = _rounded(np.exp(_rounded(wide - np.max(wide, axis, keepdims=True, initial=-np.inf), x)), x)
    total = np.sum(e, axis, keepdims=True)
    return np.asarray(e / (_rounded(total, x) if sum_fits(dtype_of(x), x.shape[axis]) else total)).astype(x.dtype)


def sum_fits(dtype: str, count: int) -> bool:
    """Whether the element type holds a sum of so many numbers up to one."""
    return dtype != "f16" or count <= float(np.finfo(np.float16).max)


def _rounded(wide: Tensor, like: Tensor) -> Tensor:
    return widened(wide.astype(like.dtype))


def log_softmax(x: Tensor, axis: int) -> Tensor:
    """The logarithm of softmax, without the rounding of going through it."""
    wide = widened(x)
    shifted = wide - np.max(wide, axis, keepdims=True, initial=-np.inf)
    return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis, keepdims=True))).astype(x.dtype)


def _layer(x: Type, scale: Type, bias: Type, axis: int, epsilon: float) -> tuple[Type, ...]:
    require(x, FLOATS)
    equal_types(x, scale, bias)
    inner = x.shape[axis_in(axis, len(x.shape)) :]
    for t in (scale, bias):
        if broadcast(t.shape, inner) != inner:
            raise IRError(f"{t} does not broadcast to the normalized axes {list(inner)}")
    return (Type(x.dtype, x.shape),)


def layer_normalization(x: Tensor, scale: Tensor, bias: Tensor, axis: int, epsilon: float) -> Tensor:
    """Zero mean and unit variance over all axes from `axis` on (Ba, Kiros and Hinton, 2016)."""
    wide = widened(x)
    axes = tuple(range(axis % x.ndim, x.ndim))
    centred = wide - np.mean(wide, axes, keepdims=True)
    deviation = np.sqrt(np.mean(centred * centred, axes, keepdims=True) + epsilon)
    return np.asarray(centred / deviation * widened(scale) + widened(bias)).astype(x.dtype)


def _instance(x: Type, scale: Type, bias: Type, epsilon: float) -> tuple[Type, ...]:
    require(x, FLOATS)
    equal_types(x, scale, bias)
    if len(x.shape) < 3 or scale.shape != (x.shape[1],) or bias.shape != (x.shape[1],):
        raise IRError(f"scale {scale} and bias {bias} do not fit the channels of {x}")
    return (Type(x.dtype, x.shape),)


def instance_normalization(x: Tensor, scale: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Zero mean and unit variance over the spatial axes of each channel (Ulyanov, Vedaldi and Lempitsky, 2016)."""
    wide = widened(x)
    axes = tuple(range(2, x.ndim))
    centred = wide - np.mean(wide, axes, keepdims=True)
    deviation = np.sqrt(np.mean(centred * centred, axes, keepdims=True) + epsilon)
    per_channel = (-1, *(1,) * len(axes))
    scaled = centred / deviation * widened(scale).reshape(per_channel) + widened(bias).reshape(per_channel)
    return np.asarray(scaled).astype(x.dtype)


def _lp(x: Type, axis: int, p: int) -> tuple[Type, ...]:
    if p not in (1, 2):
        raise IRError(f"p is {p}; expected 1 or 2")
    return _along(x, axis)


def lp_normalization(x: Tensor, axis: int, p: int) -> Tensor:
    """x over its L1 or L2 norm along an axis; zero where the norm is zero."""
    wide = widened(x)
    norm = np.sqrt(np.sum(wide * wide, axis, keepdims=True)) if p == 2 else np.sum(np.abs(wide), axis, keepdims=True)
    return np.where(norm == 0, 0, wide / norm).astype(x.dtype)


op("Softmax", 1, _along, softmax, kind="reduce", attrs={"axis": -1})
op("LogSoftmax", 1, _along, log_softmax, kind="reduce", attrs={"axis": -1})
op("LayerNormalization", 3, _layer, layer_normalization, kind="reduce", attrs={"axis": -1, "epsilon": 1e-5})
op("InstanceNormalization", 3, _instance, instance_normalization, kind="reduce", attrs={"epsilon": 1e-5})
op("LpNormalization", 1, _lp, lp_normalization, kind="reduce", attrs={"axis": -1, "p": 2})
