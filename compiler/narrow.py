"""Floats of 8 bits and fewer: their formats, and numbers rounded to them.

ONNX's Cast says what becomes of numbers beyond their range. A conversion rounds once, whatever it comes from; ml_dtypes
goes through f32, which rounds twice. What the text leaves open is as the official cases have it: where there is no NaN,
it becomes -0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .dtypes import dtype, of_numpy
from .errors import IRError

Tensor = npt.NDArray[Any]
POWERS = "f8e8m0"  # powers of two: no sign, no mantissa, no zero
ROUND_MODES = ("up", "down", "nearest")  # to POWERS; `nearest` rounds halves up


@dataclass(frozen=True)
class Format:
    """A sign, `exponent` bits and `mantissa` bits; codes of a positive number are below `sign`.

    `greatest`: the largest finite number; `beyond`: what exceeds it where nothing saturates, None: saturates always;
    `nan`: what NaN becomes. `unsigned`: neither zero nor NaN has a sign; the code of -0 is NaN.
    """

    exponent: int
    mantissa: int
    bias: int
    greatest: int
    beyond: int | None
    nan: int
    unsigned: bool = False

    @property
    def sign(self) -> int:
        """The bit of the sign."""
        return 1 << (self.exponent + self.mantissa)

    @property
    def has_nan(self) -> bool:
        return self.beyond is not None


FORMATS = {
    "f8e4m3fn": Format(4, 3, 7, 0x7E, 0x7F, 0x7F),
    "f8e4m3fnuz": Format(4, 3, 8, 0x7F, 0x80, 0x80, unsigned=True),
    "f8e5m2": Format(5, 2, 15, 0x7B, 0x7C, 0x7E),
    "f8e5m2fnuz": Format(5, 2, 16, 0x7F, 0x80, 0x80, unsigned=True),
    "f6e2m3": Format(2, 3, 1, 0x1F, None, 0x20),
    "f6e3m2": Format(3, 2, 3, 0x1F, None, 0x20),
    "f4e2m1": Format(2, 1, 1, 0x7, None, 0x8),
}


def is_narrow(name: str) -> bool:
    """Whether an element type is a float that only stores."""
    return name in FORMATS or name == POWERS


def check_mode(mode: str) -> None:
    """Refuse an unknown way of rounding."""
    if mode not in ROUND_MODES:
        raise IRError(f"round_mode {mode!r} is unknown; expected one of {', '.join(ROUND_MODES)}")


def rounded(x: Tensor, to: str, saturate: int = 1, mode: str = "up") -> Tensor:
    """Numbers of any type that numpy computes with, as narrow floats. `mode` is for powers of two only."""
    with np.errstate(all="ignore"):
        codes = _powers(wide(x), saturate, mode) if to == POWERS else _codes(wide(x), to, saturate)
    return codes.view(dtype(to).numpy)


def steps(x: Tensor) -> Tensor:
    """How many numbers of its type lie between zero, or the least, and each element; NaN is beyond them all."""
    name = of_numpy(x.dtype)
    if not is_narrow(name):
        return x.astype(np.int64)
    codes = x.view(np.uint8).astype(np.int64)
    if name in FORMATS:
        sign = FORMATS[name].sign
        codes = np.where(codes & sign, -(codes & (sign - 1)), codes)
    return np.where(np.isnan(x.astype(np.float32)), 1 << 20, codes)


def nearest(x: Tensor, mantissa: int, least: int) -> Tensor:
    """f64 rounded to so many bits behind the leading one, halves to even; numbers below 2**least share its steps."""
    exponent = np.maximum(np.frexp(x)[1] - 1, least)
    return np.asarray(np.ldexp(np.rint(np.ldexp(x, mantissa - exponent)), exponent - mantissa))


def wide(x: Tensor) -> Tensor:
    """f64. Integers of 64 bits that do not fit become odd neighbours, which round to fewer bits as they do."""
    if x.dtype.kind in "iu" and x.dtype.itemsize == 8:
        low, high = x & 0xFFF, x >> 53
        x = np.where((low != 0) & (high != 0) & (high != -1), x - low + 0x800, x)
    return np.asarray(x, np.float64)


def _codes(x: Tensor, to: str, saturate: int) -> Tensor:
    f, numpy = FORMATS[to], dtype(to).numpy
    near = nearest(x, f.mantissa, 1 - f.bias)
    most = float(np.uint8(f.greatest).view(numpy))
    codes = np.clip(near, -most, most).astype(numpy).view(np.uint8)
    sign = np.where(np.signbit(x) & (not f.unsigned), f.sign, 0)
    if f.beyond is not None and not saturate:
        codes = np.where(np.abs(near) > most, f.beyond | sign, codes)
    nan = f.nan | sign if f.has_nan else f.nan
    return np.where(np.isnan(x), nan, codes).astype(np.uint8)


def _powers(x: Tensor, saturate: int, mode: str) -> Tensor:
    """Negative numbers have no meaning in ONNX: they become NaN here."""
    least, most = 2.0**-127, 2.0**127
    fraction, exponent = np.frexp(np.clip(x, least, most))
    more = {"up": fraction > 0.5, "down": np.zeros_like(x), "nearest": fraction >= 0.75}[mode]
    outside = (x < least) | (x > most) if not saturate else np.zeros_like(x, bool)
    return np.where(np.isnan(x) | (x < 0) | outside, 255, exponent - 1 + 127 + more).astype(np.uint8)
