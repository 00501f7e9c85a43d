"""Elementwise operators that change the element type: Cast by value, BitCast by bits."""

from __future__ import annotations

import numpy as np

from .. import narrow
from ..dtypes import dtype
from ..errors import IRError
from ..ir import Type
from ..op import REQUIRED, op
from .common import Tensor, widened


def _cast_type(x: Type, to: str, saturate: int, round_mode: str) -> tuple[Type, ...]:
    narrow.check_mode(round_mode)
    return (Type(dtype(to).name, x.shape),)


def cast(x: Tensor, to: str, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """ONNX Cast: floats to integers round towards zero, anything to bool is a test against zero; others round once."""
    row = dtype(to)
    x = widened(x)
    if to == "bool":
        return np.asarray(x != 0)
    if narrow.is_narrow(to):
        return narrow.rounded(x, to, saturate, round_mode)
    if row.is_whole and row.bits < 8:  # what does not fit loses its upper bits
        return (x.astype(np.int64) & ((1 << row.bits) - 1)).astype(row.numpy)
    if to == "bf16":  # ml_dtypes would round to f32 before
        return narrow.nearest(narrow.wide(x), 7, -126).astype(np.float32).astype(row.numpy)
    return x.astype(row.numpy)


def _same_bits(x: Type, to: str) -> tuple[Type, ...]:
    if dtype(to).bits != dtype(x.dtype).bits:
        raise IRError(f"{x.dtype} has {dtype(x.dtype).bits} bits and {to} {dtype(to).bits}; expected as many")
    return (Type(dtype(to).name, x.shape),)


def bit_cast(x: Tensor, to: str) -> Tensor:
    """The same bits as another type. A byte that is not zero is true: bool has two values only."""
    if to == "bool":
        return np.asarray(x.view(np.uint8) != 0)
    codes = x.view(np.uint8) & ((1 << dtype(to).bits) - 1) if dtype(to).bytes == 1 else x
    return np.asarray(codes.view(dtype(to).numpy))


op("Cast", 1, _cast_type, cast, kind="elementwise", attrs={"to": "f32", "saturate": 1, "round_mode": "up"})
op("BitCast", 1, _same_bits, bit_cast, kind="elementwise", attrs={"to": REQUIRED})
