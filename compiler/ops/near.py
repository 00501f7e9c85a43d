"""Functions of real numbers that become bytes: as accurate as bytes show, in stated steps, the same bits everywhere.

The steps are written once, for numbers of any kind. Each is one operation of f32, rounded once; a product is joined
with an addition where it says `fma`, and nowhere else. The interpreter runs them on arrays; kernels are made of them.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import numpy as np

from ..op import op
from .common import Tensor, same

N = TypeVar("N")
GENTLE = 86.0  # e to the power of it and one over that are no denormal numbers
LOG2E = 1.4426950408889634
# 2**f for |f| up to a half, off by 7.5e-5 of it at most, highest power first
POWER = (5.51716703e-2, 2.42611125e-1, 6.93260985e-1, 9.99928073e-1)
NEAREST = 12582912.0 + 127  # a sum with it holds the nearest integer in its lowest bits, as an exponent
# One over b: y with the bits INVERSE - b's is near it, and y ((c - b y)**2 + k) off by 3.3e-5 of it at most
INVERSE, CENTER, REST = 0x7EF34000, 1.500971015239998, 0.7490292988253917


class Steps(Protocol[N]):
    """Operations on f32, each rounded once."""

    def number(self, x: float) -> N: ...

    def fma(self, a: N, b: N, c: N | float) -> N: ...

    def product(self, a: N, b: N) -> N: ...

    def difference(self, a: float, b: N) -> N: ...

    def limited(self, x: N, limit: float) -> N:
        """Within -limit .. limit."""

    def exponent(self, x: N) -> N:
        """The number whose bits are those of x, moved up to where an exponent stands."""

    def inverse(self, x: N, bits: int) -> N:
        """The number whose bits are `bits` less those of x."""

    def negative(self, x: N) -> N: ...


def sigmoid_steps(s: Steps[N], x: N) -> N:
    """1 / (1 + 2**t) with t = -x log2 e. Off by 1.1e-4 of it at most, by 3.7e-5 in all; at most 0.99997."""
    y = s.limited(x, GENTLE)
    nearest = s.fma(y, s.number(-LOG2E), NEAREST)
    rest = s.fma(y, s.number(-LOG2E), s.difference(NEAREST, nearest))
    power = s.fma(rest, s.number(POWER[0]), POWER[1])
    for c in POWER[2:]:
        power = s.fma(power, rest, c)
    below = s.fma(s.exponent(nearest), power, 1.0)
    near = s.inverse(below, INVERSE)
    off = s.fma(s.negative(below), near, CENTER)
    return s.product(near, s.fma(off, off, REST))


def fma(a: Any, b: Any, c: Any) -> Tensor:
    """a * b + c of f32, rounded once, where that is a normal number.

    In f64 the product is exact. Its sum with c is rounded there, and again to f32: that is wrong only where the first
    rounding lands halfway between two f32, and is undone.
    """
    product = np.multiply(a, b, dtype=np.float64)
    total: Tensor = np.asarray(product + c)
    halfway = (total.view(np.int64) & ((1 << 29) - 1)) == 1 << 28
    if halfway.any():
        near, p = total[halfway], product[halfway]
        addend = np.broadcast_to(np.asarray(c, np.float64), total.shape)[halfway]
        back = near - p
        lost = (p - (near - back)) + (addend - back)  # Knuth's exact error of a sum
        total[halfway] = np.where(lost == 0, near, np.nextafter(near, np.copysign(np.inf, lost)))
    return total.astype(np.float32)


class _Arrays:
    """Steps on arrays of f32."""

    def number(self, x: float) -> Tensor:
        return np.asarray(x, np.float32)

    def fma(self, a: Tensor, b: Tensor, c: Tensor | float) -> Tensor:
        return fma(a, b, np.float32(c) if isinstance(c, float) else c)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        return np.asarray(a * b)

    def difference(self, a: float, b: Tensor) -> Tensor:
        return np.asarray(np.float32(a) - b)

    def limited(self, x: Tensor, limit: float) -> Tensor:
        return np.clip(x, np.float32(-limit), np.float32(limit))

    def exponent(self, x: Tensor) -> Tensor:
        return (x.view(np.int32) << 23).view(np.float32)

    def inverse(self, x: Tensor, bits: int) -> Tensor:
        return (np.int32(bits) - x.view(np.int32)).view(np.float32)

    def negative(self, x: Tensor) -> Tensor:
        return np.negative(x)


def near_sigmoid(x: Tensor) -> Tensor:
    return sigmoid_steps(_Arrays(), np.asarray(x))


op("Edgec.NearSigmoid", 1, same(frozenset({"f32"})), near_sigmoid, kind="elementwise")
