"""Between real and integer numbers, alone and as the chains that quantized models have around their operators."""

from __future__ import annotations

import numpy as np

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Type, Value
from edgec.compiler.ops.common import limits
from edgec.compiler.ops.quantize import STORED

from ..draw import Draw
from . import recipe
from .folds import real
from .windows import conv, matmul


def parameters(d: Draw, x: Value, stored: str, kind: str) -> tuple[Value, Value, int]:
    """Scale, zero point and axis, per tensor or per slice."""
    axis = d.axis(x) if x.shape and d.flag(0.4) else 0
    shape = (x.shape[axis],) if x.shape and d.flag(0.5) else d.choice(((), (), (1,)))
    # powers of two with few exceptions: no quotient lies so near a half that rounding alone decides
    scales = d.arrays.choice([0.125, 0.0625, 0.25, 0.1, 0.03], shape)
    low, high = limits(stored) if dtype(stored).is_whole else (0, 0)
    zeros = d.arrays.integers(max(low, -20), min(high, 20), shape, endpoint=True)
    if d.flag(0.3):
        zeros = np.zeros(shape, np.int64)
    return d.constant(scales, kind), d.constant(zeros, stored), axis


@recipe("QuantizeLinear", family="quantized")
def quantize(d: Draw, op: str) -> None:
    x = real(d, 0)
    scale, zero, axis = parameters(
        d, x, d.choice(("i8", "u8", "u8", "u8", "i16", "u16", d.choice(sorted(STORED)))), x.type.dtype
    )
    y = d.emit(op, x, scale, zero, axis=axis)
    if d.flag(0.6):
        d.emit("DequantizeLinear", y, scale, zero, axis=axis)


@recipe("DequantizeLinear", family="quantized")
def dequantize(d: Draw, op: str) -> None:
    x = d.pick(lambda t: t.dtype in STORED, lambda: Type(d.choice(("u8", "i8", "i16")), d.shape()))
    scale, zero, axis = parameters(d, x, x.type.dtype, d.choice(("f32", "f32", "f32", "f16")))
    d.emit(op, x, scale, zero, axis=axis)


@recipe("a quantized chain", family="quantized")
def chain(d: Draw, op: str) -> None:
    """QDQ around an operator."""
    dequantize(d, "DequantizeLinear")
    (conv if len(d.values[-1].shape) == 4 else matmul)(d, "Conv" if len(d.values[-1].shape) == 4 else "MatMul")
    quantize(d, "QuantizeLinear")


@recipe("Edgec.Table", family="quantized", weight=0.5)
def table(d: Draw, op: str) -> None:
    x = d.pick(lambda t: t.dtype in ("u8", "i8"), lambda: Type(d.choice(("u8", "i8")), d.shape()))
    kind = d.choice(("u8", "i8"))
    low, high = (int(limit) for limit in limits(kind))
    d.emit(op, x, d.constant(d.arrays.integers(low, high, 256, endpoint=True), kind))
