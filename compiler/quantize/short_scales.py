"""Scales of weights with which multipliers have 16 bits, and with which one multiply-add makes bytes of sums where a
core has one (compiler/rescale/direct.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ops.common import Tensor
from ..rescale.direct import UNIT, straight
from ..rescale.once import SUMS, Asked
from .ranges import LEVELS

LOW = 0xFFFF  # bits of an f32 that a bf16 lacks
TRIES, MORE = 16, 100  # numbers that are tried; more where few of them will do


@dataclass(frozen=True)
class End:
    """What sums become: bytes of this scale and zero point, by one multiply-add where it is to be `once`."""

    scale: float
    zero: int = 0
    once: bool = False


def multipliers(scale: Tensor, before: float, after: float) -> Any:
    """What sums are multiplied by, from scales of weights, of the input and of the result (passes/integers.py)."""
    x, y = float(np.float32(before)), float(np.float32(after))
    return (x * scale.astype(np.float64) / y).astype(np.float32)


def short_scales(scale: Tensor, before: float, end: End, reach: Tensor) -> Tensor:
    """Scales of weights, no smaller than these, with which multipliers are bf16; `before` is the scale of the input,
    `reach` says which sums there may be at most."""
    made = np.array(scale, np.float32)
    per = float(np.float32(end.scale)) / float(np.float32(before))
    aim = _bf16_above(multipliers(made, before, end.scale))
    if end.once:
        aim = np.maximum(aim, np.ceil(aim / UNIT) * UNIT).astype(np.float32)
    left = np.isfinite(aim) & (aim >= np.finfo(np.float32).tiny)
    for _ in range(MORE if end.once else TRIES):
        good = left & allowed(aim, end, reach, left)
        near = (aim.astype(np.float64) * per).astype(np.float32)
        for tried in (near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(0))):
            fits = good & left & (multipliers(tried, before, end.scale) == aim) & (tried >= scale)
            made[fits] = tried[fits]
            left &= ~fits
        if not left.any():
            break
        further = _bf16_above(np.nextafter(aim, np.float32(np.inf)))
        aim = np.where(left, np.maximum(further, aim + np.float32(UNIT if end.once else 0)), aim)
    return made


def allowed(multiplier: Any, end: End, reach: Tensor, asked: Any) -> Any:
    """Of the channels that are `asked` for, which numbers serve."""
    found = np.array(asked, bool)
    if end.once:
        most = np.minimum(reach[found], SUMS - 1).astype(np.int64)
        found[found] = straight(Asked(multiplier[found], -most, most, end.zero, 0, LEVELS))
    return found


def _bf16_above(numbers: Any) -> Any:
    """The least bf16 that are not less than positive numbers."""
    return ((np.asarray(numbers, np.float32).view(np.uint32) + LOW) & ~np.uint32(LOW)).view(np.float32)
