"""Between real and stored numbers: real = (stored - zero_point) * scale, per tensor, per slice of one axis, or per
block of `block` elements along it. One zero point, without axes, may serve many scales."""

from __future__ import annotations

import numpy as np

from .. import narrow
from ..errors import IRError
from ..ir import Type
from ..op import op
from .casts import cast
from .common import FLOATS, NARROW, WHOLE, Tensor, axis_in, dtype_of, limits, require, widened

STORED = frozenset(n for n in WHOLE if n[1:] in ("16", "8", "4", "2")) | (NARROW - {narrow.POWERS})


def _parameters(x: Type, scale: Type, zero: Type, axis: int, block: int) -> None:
    require(scale, FLOATS, "scale")
    if zero.shape not in (scale.shape, ()):
        raise IRError(f"scale {scale} and zero point {zero} differ in shape")
    if scale.shape in ((), (1,)):
        return
    at = axis_in(axis, len(x.shape))
    if block < 0:
        raise IRError(f"blocks of {block}; expected 1 or more, or 0 for none")
    per_block = tuple(-(-n // block) if k == at else n for k, n in enumerate(x.shape)) if block else ()
    if scale.shape != (per_block if block else (x.shape[at],)):
        blocks = f", in blocks of {block}" if block else ""
        raise IRError(f"scale {scale} does not fit axis {axis} of {x}{blocks}")


def along(values: Tensor, shape: tuple[int, ...], axis: int, block: int) -> Tensor:
    """Scales or zero points, shaped to broadcast over a tensor of a shape."""
    if values.shape in ((), (1,)):
        return values.reshape(())
    if block:
        return np.take(values, np.arange(shape[axis]) // block, axis)
    return values.reshape([-1 if k == axis % len(shape) else 1 for k in range(len(shape))])


def _quantized(x: Type, scale: Type, zero: Type, axis: int, block: int, saturate: int) -> tuple[Type, ...]:
    require(x, FLOATS | {"i32"})
    require(zero, STORED, "zero point")
    _parameters(x, scale, zero, axis, block)
    return (Type(zero.dtype, x.shape),)


def quantize(x: Tensor, scale: Tensor, zero: Tensor, axis: int, block: int, saturate: int) -> Tensor:
    """x / scale, in the type of the scale, rounded half to even, + zero_point; what is too large is the limit.

    To narrow floats the sum is rounded, as Cast does. A zero point that is zero leaves -0 as it is.
    """
    s, z = (along(widened(v), x.shape, axis, block) for v in (scale, zero))
    quotient = widened((widened(x).astype(s.dtype) / s).astype(scale.dtype))
    to = dtype_of(zero)
    if narrow.is_narrow(to):
        return narrow.rounded(np.where(z == 0, quotient, quotient + z), to, saturate)
    low, high = limits(to)
    steps = np.nan_to_num(np.rint(quotient), posinf=2.0**30, neginf=-(2.0**30))
    return np.clip(steps.astype(np.float64) + z, low, high).astype(np.int32).astype(zero.dtype)


def _real(x: Type, scale: Type, zero: Type, axis: int, block: int, to: str) -> tuple[Type, ...]:
    require(x, STORED | {"i32"})
    if zero.dtype != x.dtype:
        raise IRError(f"zero point is {zero.dtype}; expected {x.dtype}, as the argument")
    _parameters(x, scale, zero, axis, block)
    result = Type(to or scale.dtype, x.shape)
    require(result, FLOATS, "result")
    return (result,)


def dequantize(x: Tensor, scale: Tensor, zero: Tensor, axis: int, block: int, to: str) -> Tensor:
    """(x - zero_point) * scale, rounded to the type `to`; "" is that of the scale."""
    s, z = (along(widened(v), x.shape, axis, block) for v in (scale, zero))
    exact = s.dtype if narrow.is_narrow(dtype_of(x)) else np.int64
    real = (widened(x).astype(exact) - z.astype(exact)).astype(s.dtype) * s
    return cast(real, to) if to else real.astype(scale.dtype)


op(
    "QuantizeLinear",
    3,
    _quantized,
    quantize,
    kind="elementwise",
    attrs={"axis": 1, "block": 0, "saturate": 1},
)
op("DequantizeLinear", 3, _real, dequantize, kind="elementwise", attrs={"axis": 1, "block": 0, "to": ""})
