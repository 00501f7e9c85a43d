"""Converters of quantization: QDQ nodes stay; the QLinear operators become real arithmetic between them."""

from __future__ import annotations

import numpy as np

from ..dtypes import DTYPES, of_onnx
from ..ir import Attr, Value
from ..narrow import POWERS, is_narrow
from .context import Context
from .linear import product
from .table import Refused, Result, converts
from .windows import _window


def _zero(c: Context, index: int, scale: Value, element: str) -> Value:
    """The zero point in the shape of the scale, of which it may differ where both are one number."""
    if not c.has(index):
        return c.const(np.zeros(scale.shape), like=element)
    zero = c.arg(index)
    return c.reshape(zero, scale.shape) if {zero.shape, scale.shape} <= {(), (1,)} else zero


def _place(c: Context, scale: Value) -> dict[str, int]:
    """Axis and block of the scale; one scale per tensor has none of them."""
    block = int(c.attr("block_size", 0))
    if scale.shape in ((), (1,)):
        return {"axis": 0}
    if len(scale.shape) > 1 and not block:
        raise Refused(f"its scale {scale.type} is per block, of no size", "attribute block_size gives the size")
    return {"axis": c.axis(1), **({"block": block} if block else {})}


def _element(c: Context, key: str) -> str | None:
    """The element type that an attribute names, if any."""
    number = int(c.attr(key, 0))
    if number and of_onnx(number) is None:
        raise Refused(f"its {key} is {number}", f"expected one of {', '.join(DTYPES)}")
    return of_onnx(number) if number else None


@converts("QuantizeLinear", "com.microsoft.QuantizeLinear")
def quantize(c: Context) -> Result:
    """The division is done in the type of the scale, or as `precision` says; for whole scales in f64, where it is exact
    enough for any rounding, for powers of two in f32."""
    x, scale = c.arg(0), c.arg(1)
    wanted, element = _element(c, "precision"), _element(c, "output_dtype")
    if c.has(2) and element not in (None, c.arg(2).type.dtype):
        raise Refused(f"its output_dtype is {element} and its zero point {c.arg(2).type.dtype}", "they must be equal")
    kind = wanted or {"i32": "f64", POWERS: "f32"}.get(scale.type.dtype, scale.type.dtype)
    if (c.dtype, kind) != ("i32", "f32"):
        x = c.cast(x, kind)
    scale = c.cast(scale, kind)
    attrs: dict[str, int] = _place(c, scale)
    zero = _zero(c, 2, scale, element or "u8")
    if is_narrow(zero.type.dtype) and not c.attr("saturate", 1):
        attrs["saturate"] = 0
    return c.emit("QuantizeLinear", x, scale, zero, **attrs)


@converts("DequantizeLinear", "com.microsoft.DequantizeLinear")
def dequantize(c: Context) -> Result:
    x, scale = c.arg(0), c.arg(1)
    to = _element(c, "output_dtype")
    if scale.type.dtype == POWERS:
        if to is None:
            raise Refused(f"its scale is {POWERS}, which the result cannot be", "attribute output_dtype names its type")
        scale = c.cast(scale, "f32")
    attrs: dict[str, Attr] = {**_place(c, scale), **({"to": to} if to and to != scale.type.dtype else {})}
    return c.emit("DequantizeLinear", x, scale, _zero(c, 2, scale, x.type.dtype), **attrs)


def real(c: Context, index: int, axis: int = 0, factor: float = 1.0) -> Value:
    """Arguments index, index + 1 and index + 2 (bytes, scale, zero point) as one real tensor, times a factor."""
    x, scale = c.arg(index), c.arg(index + 1)
    whole = scale.shape in ((), (1,))
    if len(scale.shape) > 1 or (not whole and scale.shape[0] != x.shape[axis]):
        raise Refused("its scales fit no axis", "expected one scale per tensor or per slice of one axis")
    zero = _zero(c, index + 2, scale, x.type.dtype)
    scale = scale if factor == 1 else c.emit("Mul", scale, c.const(factor, like=scale))
    return c.emit("DequantizeLinear", x, scale, zero, axis=0 if whole else axis % len(x.shape))


def integer(c: Context, y: Value, index: int, element: str) -> Value:
    """A real tensor by the scale and the zero point that arguments index and index + 1 are."""
    scale = c.arg(index)
    return c.emit("QuantizeLinear", y, c.cast(scale, y.type.dtype), _zero(c, index + 1, scale, element), axis=0)


@converts("QLinearMatMul")
def qlinear_matmul(c: Context) -> Result:
    y = product(c, real(c, 0, -2 if len(c.arg(0).shape) > 1 else -1), real(c, 3, -1))
    return integer(c, y, 6, c.dtype)


@converts("QLinearConv")
def qlinear_conv(c: Context) -> Result:
    """The bias is integer with scale x_scale * w_scale and zero point 0."""
    x, w = real(c, 0, 1), real(c, 3, 0)
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
    return integer(c, y, 6, c.dtype)
