"""Converters of quantization: QDQ nodes stay; the QLinear operators become real arithmetic between them."""

from __future__ import annotations

import numpy as np

from ..dtypes import dtype, of_onnx
from ..ir import Value
from .context import Context
from .linear import product
from .table import Refused, Result, converts
from .windows import _window


def _zero(c: Context, index: int, scale: Value, element: str) -> Value:
    if c.has(index):
        return c.arg(index)
    return c.const(np.zeros(scale.shape, dtype(element).numpy))


def _axis(c: Context, scale: Value) -> int:
    """0 for one scale per tensor, whose axis means nothing."""
    if len(scale.shape) > 1 or c.attr("block_size", 0):
        raise Refused("its scales are per block", "expected one scale per tensor or per slice of one axis")
    return 0 if scale.shape in ((), (1,)) else c.axis(1)


@converts("QuantizeLinear")
def quantize(c: Context) -> Result:
    x, scale = c.arg(0), c.arg(1)
    element = of_onnx(int(c.attr("output_dtype", 0))) or "u8"
    zero = _zero(c, 2, scale, element)
    if x.type.dtype != scale.type.dtype and x.type.dtype != "i32":
        scale = c.cast(scale, x.type.dtype)
    return c.emit("QuantizeLinear", x, scale, zero, axis=_axis(c, scale))


@converts("DequantizeLinear")
def dequantize(c: Context) -> Result:
    x, scale = c.arg(0), c.arg(1)
    return c.emit("DequantizeLinear", x, scale, _zero(c, 2, scale, x.type.dtype), axis=_axis(c, scale))


def _real(c: Context, index: int, axis: int) -> Value:
    """Arguments index, index + 1 and index + 2 as one real tensor."""
    x, scale, zero = c.arg(index), c.arg(index + 1), c.arg(index + 2)
    whole = scale.shape in ((), (1,))
    if len(scale.shape) > 1 or (not whole and scale.shape[0] != x.shape[axis]):
        raise Refused("its scales fit no axis", "expected one scale per tensor or per slice of one axis")
    return c.emit("DequantizeLinear", x, scale, zero, axis=0 if whole else axis % len(x.shape))


@converts("QLinearMatMul")
def qlinear_matmul(c: Context) -> Result:
    y = product(c, _real(c, 0, -2 if len(c.arg(0).shape) > 1 else -1), _real(c, 3, -1))
    return c.emit("QuantizeLinear", y, c.cast(c.arg(6), y.type.dtype), c.arg(7), axis=0)


@converts("QLinearConv")
def qlinear_conv(c: Context) -> Result:
    """The bias is integer with scale x_scale * w_scale and zero point 0."""
    x, w = _real(c, 0, 1), _real(c, 3, 0)
    strides, dilations, pads = _window(c, w.shape[2:])
    if c.has(8):
        scale = c.emit("Mul", c.arg(1), c.arg(4))
        zero = c.const(np.zeros(scale.shape, np.int32))
        axis = 0
        bias = c.emit("DequantizeLinear", c.arg(8), scale, zero, axis=axis)
    else:
        bias = c.const(np.zeros(w.shape[0]), like=x)
    group = int(c.attr("group", 1))
    y = c.emit("Conv", x, w, bias, strides=strides, pads=pads, dilations=dilations, group=group)
    return c.emit("QuantizeLinear", y, c.arg(6), c.arg(7), axis=0)
