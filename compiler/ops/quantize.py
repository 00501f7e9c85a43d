"""Between real and integer numbers: real = (integer - zero_point) * scale, per tensor or per slice of one axis."""

from __future__ import annotations

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import op
from .common import FLOATS, Tensor, axis_in, dtype_of, limits, require, widened

STORED = frozenset({"i8", "u8", "i16", "u16"})


def _parameters(x: Type, scale: Type, zero: Type, axis: int) -> None:
    require(scale, FLOATS, "scale")
    if scale.shape != zero.shape or len(scale.shape) > 1:
        raise IRError(f"scale {scale} and zero point {zero} are not equally long vectors or scalars")
    if scale.shape not in ((), (1,)) and scale.shape != (x.shape[axis_in(axis, len(x.shape))],):
        raise IRError(f"scale {scale} does not fit axis {axis} of {x}")


def along(values: Tensor, rank: int, axis: int) -> Tensor:
    """Scales or zero points, shaped to broadcast over a tensor of `rank` axes."""
    if values.size == 1:
        return values.reshape(())
    return values.reshape([-1 if k == axis % rank else 1 for k in range(rank)])


def _quantized(x: Type, scale: Type, zero: Type, axis: int) -> tuple[Type, ...]:
    require(x, FLOATS | {"i32"})
    require(zero, STORED, "zero point")
    _parameters(x, scale, zero, axis)
    return (Type(zero.dtype, x.shape),)


def quantize(x: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    """round(x / scale) + zero_point, halves to even, saturated to the type of the zero point."""
    s, z = along(widened(scale), x.ndim, axis), along(zero, x.ndim, axis)
    low, high = limits(dtype_of(zero))
    steps = np.nan_to_num(np.rint(widened(x).astype(s.dtype) / s), posinf=2.0**30, neginf=-(2.0**30))
    return np.clip(steps.astype(np.float64) + z, low, high).astype(zero.dtype)


def _real(x: Type, scale: Type, zero: Type, axis: int) -> tuple[Type, ...]:
    require(x, STORED | {"i32"})
    if zero.dtype != x.dtype:
        raise IRError(f"zero point is {zero.dtype}; expected {x.dtype}, as the argument")
    _parameters(x, scale, zero, axis)
    return (Type(scale.dtype, x.shape),)


def dequantize(x: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    """(x - zero_point) * scale in the type of the scale."""
    s, z = along(widened(scale), x.ndim, axis), along(zero, x.ndim, axis)
    return ((x.astype(np.int64) - z.astype(np.int64)).astype(s.dtype) * s).astype(scale.dtype)


op("QuantizeLinear", 3, _quantized, quantize, kind="elementwise", attrs={"axis": 1})
op("DequantizeLinear", 3, _real, dequantize, kind="elementwise", attrs={"axis": 1})
