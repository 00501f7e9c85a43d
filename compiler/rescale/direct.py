"""Multipliers of few bits with which one multiply-add gives the bytes of `Edgec.Rescale` as they are: no other line
(rescale/once.py) has to be found, and nothing is stored for a channel but the multiplier.

`Edgec.Rescale` rounds the product to f32, then to an integer. A product whose bits an f32 holds is not rounded before;
others must not lie so near the middle of two integers that they come to lie in it. The kernel computes fma(f, m, c) of
the float f = 3 * 2**22 + sum, where c = 3 * 2**22 + zero - 3 * 2**22 * m is a whole number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .once import LEAST, MOST, SUMS, Asked, Real, Whole, first_above

UNIT = 2.0**-22  # of which multipliers are multiples: CENTER times one is a whole number
EXACT = 2.0**-16  # ... and of which they are where an f32 holds each product that counts
Answers = npt.NDArray[np.bool_]


def whole_offset(multiplier: Real) -> Answers:
    """Whether the kernel's addend is a whole number."""
    exact = multiplier.astype(np.float64) / UNIT
    return np.asarray((multiplier >= LEAST) & (multiplier <= MOST) & (exact == np.floor(exact)))


def straight(asked: Asked) -> Answers:
    """Of each channel, whether rounding its products once gives the same bytes for all of its sums. Halves become the
    even integer, which is the even byte only where the zero point is even."""
    good = whole_offset(asked.multiplier) & (asked.least > -SUMS) & (asked.most < SUMS)
    even = asked.zero % 2 == 0
    scaled = asked.multiplier.astype(np.float64) / EXACT
    tried = np.flatnonzero(good & ~(even & (scaled == np.floor(scaled))))
    if len(tried):
        good[tried] = _same(asked, tried)
    return good


def _same(asked: Asked, channels: Whole) -> Any:
    multiplier, least, most = asked.multiplier[channels], asked.least[channels], asked.most[channels]
    steps = np.arange(asked.low - asked.zero, asked.high - asked.zero)
    twice = first_above(multiplier, steps)
    if twice is None:
        return np.zeros(len(channels), bool)
    number = np.rint(multiplier.astype(np.float64) / UNIT).astype(np.int64)[:, None]
    middle = (2 * steps + 1) << 21  # in units of UNIT
    below, rest = np.divmod(middle, number)
    once = below + np.where((rest == 0) & ((steps + asked.zero) % 2 == 1), 0, 1)
    low, high = least[:, None], most[:, None] + 1
    return (np.clip(twice, low, high) == np.clip(once, low, high)).all(1)


def farthest(asked: Asked) -> float:
    """The greatest magnitude of a result before it is limited."""
    ends = np.maximum(np.abs(asked.least), np.abs(asked.most)) * asked.multiplier.astype(np.float64)
    return float(ends.max(initial=0.0)) + abs(asked.zero)
