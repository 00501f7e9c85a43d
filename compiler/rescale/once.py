"""A multiply-add that rescales and rounds at once: numbers with which it gives what `Edgec.Rescale` rounds twice to.

`Edgec.Rescale` rounds the product of a sum and its multiplier to f32, then to an integer. As sums are integers within
limits that constants say, its results are steps: there are at most 255 sums at which the next byte begins. A straight
line that is rounded once gives the same bytes if it passes each step between the same two sums, and near the line of
the multiplier there nearly always is one.

The line is fma(f, m, c), where f is the float whose lowest bits hold a sum, 2**23 + start + sum, so that no conversion
is needed, and c makes the result one whose lowest bits hold the byte. c must be a whole number: what it lacks, `start`
makes up for, which moves the line by fractions of m.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Whole: TypeAlias = npt.NDArray[np.int64]
Real: TypeAlias = npt.NDArray[np.float32]

POWER = 1 << 23  # floats from here to twice this are the whole numbers
POWER_BITS = 0x4B000000  # of a float of this size
CENTER = 3 << 22  # what a result has in addition: that of 0 lies in the middle of those numbers
LEAST, MOST = 2.0**-30, 1.0  # multipliers
SUMS = 1 << 22
NEIGHBOURS = 8  # numbers on either side of a multiplier that are tried


@dataclass(frozen=True)
class Line:
    """Of each channel: what sums start from (bits of a float), factor and addend."""

    start: npt.NDArray[np.int32]
    factor: Real
    addend: Real


@dataclass(frozen=True)
class Asked:
    """Of each channel: its multiplier, its least and greatest sum; of all, the result's zero point and limits."""

    multiplier: Real
    least: Whole
    most: Whole
    zero: int
    low: int
    high: int


def farthest(asked: Asked, made: Line) -> float:
    """The greatest magnitude of a result before it is limited."""
    ends = np.stack([asked.least, asked.most]) + made.start
    floats = ends.astype(np.int32).view(np.float32).astype(np.float64)
    return float(abs(floats * made.factor + made.addend - CENTER).max(initial=0.0))


def line(asked: Asked) -> Line | str:
    """For all channels; or why there is none."""
    found = channels(asked)
    if isinstance(found, str):
        return found
    every = [one for one in found if one is not None]
    if len(every) < len(found):
        return f"no line has the steps of channel {found.index(None)}"
    start, factor, addend = zip(*every, strict=True)
    made = np.array(start, np.int32), np.array(factor, np.float32), np.array(addend, np.float32)
    return Line(made[0] + np.int32(POWER_BITS), made[1], made[2] + np.float32(asked.zero))


def channels(asked: Asked) -> list[tuple[int, np.float32, int] | None] | str:
    """Start, factor and addend (less the zero point) of each channel; None where no line has its steps."""
    if not ((asked.multiplier >= LEAST) & (asked.multiplier <= MOST)).all():
        return "a multiplier is negative, or far from 1"
    if (asked.least <= -SUMS).any() or (asked.most >= SUMS).any():
        return f"sums exceed {SUMS}"
    if asked.low == asked.high:
        return "there is one result only"
    steps = np.arange(asked.low - asked.zero, asked.high - asked.zero)
    first = first_above(asked.multiplier, steps)
    if first is None:
        return "results are no steps"
    limits = zip(asked.multiplier, first, asked.least, asked.most, strict=True)
    return [_channel(m, each, steps, int(least), int(most)) for m, each, least, most in limits]


def first_above(multiplier: Real, steps: Whole) -> Whole | None:
    """The least sum of each channel that is rescaled to more than each of `steps`."""
    near = np.ceil((steps + 0.5) / multiplier.astype(np.float64)[:, None]).astype(np.int64)
    around = near[..., None] + np.arange(-3, 3)
    with np.errstate(over="ignore"):
        products = around.astype(np.int32).astype(np.float32) * multiplier[:, None, None]
    above = np.rint(products) > steps[:, None]
    far = np.abs(near) > 2 * SUMS  # no sum is there
    if not (far | (~above[..., 0] & above[..., -1])).all():
        return None
    return np.asarray(near - 3 + (~above).sum(-1))


def _channel(
    multiplier: np.float32, first: Whole, steps: Whole, least: int, most: int
) -> tuple[int, np.float32, int] | None:
    """Start, factor and addend. Where all sums give one result, as those of dead channels do, the line is level: that
    of the multiplier might lead far from the limits."""
    if (one := int((first <= least).sum())) == (first <= most).sum():
        return 0, np.float32(LEAST), int(steps[0]) + one + CENTER
    mantissa, exponent = np.frexp(np.float64(multiplier))
    whole, bits = round(float(mantissa) * 2**24), 24 - int(exponent)  # multiplier = whole * 2**-bits
    # -lowest is a sum that occurs, and those below it give what it gives, `low`: so do floats below 2**23
    lowest = max(0, -most, min(-least, 1 - int(first[0])))
    room = POWER - max(most, 0) - lowest
    for factor in _near(whole):
        limits = _between(factor, bits, first, steps, least, most)
        if limits is None:
            continue
        shift = first_within(factor << max(-bits, 0), 1 << bits, limits, (POWER + lowest) * factor)
        if shift is None or shift >= room:
            continue
        start = lowest + shift
        rest = (limits[0] - (POWER + start) * factor) >> bits  # the multiple of 1 that brings the line into the limits
        rest += (rest << bits) + (POWER + start) * factor < limits[0]
        if abs(rest + CENTER) < 2 * POWER:
            return start, np.float32(factor * 2.0**-bits), rest + CENTER
    return None


def _near(whole: int) -> Iterator[int]:
    yield whole
    for i in range(1, NEIGHBOURS + 1):
        yield from (n for n in (whole + i, whole - i) if 1 << 23 <= n <= 1 << 24)


def _between(factor: int, bits: int, first: Whole, steps: Whole, least: int, most: int) -> tuple[int, int] | None:
    """The least and greatest number, in units of 2**-bits, that may be added to sum * factor: none of the sums may be
    on the wrong side of a step."""
    half = (2 * steps + 1) << (bits - 1)
    above, below = first <= most, first > least
    low = half[above] - np.maximum(first[above], least) * factor
    high = half[below] - np.minimum(first[below] - 1, most) * factor
    least_of = int(low.max()) + 1 if len(low) else int(high.min()) - (1 << bits)
    most_of = int(high.min()) - 1 if len(high) else least_of + (1 << bits)
    return (least_of, most_of) if least_of <= most_of else None


def first_within(step: int, modulus: int, limits: tuple[int, int], begin: int) -> int | None:
    """The least n >= 0 for which begin + n * step lies within limits, both included, modulo a number."""
    low, high = limits
    if high - low + 1 >= modulus:
        return 0
    low, high = (low - begin) % modulus, (high - begin) % modulus
    if low > high:
        return 0
    return _first(step % modulus, modulus, low, high)


def _first(step: int, modulus: int, low: int, high: int) -> int | None:
    """By Euclid's algorithm: where no multiple of `step` is within limits, one of `modulus` less them is asked for."""
    if low == 0:
        return 0
    if step == 0:
        return None
    n = -(-low // step)
    if n * step <= high:
        return n
    other = _first(modulus % step, step, -high % step, -low % step)
    return None if other is None else -(-(low + modulus * other) // step)
