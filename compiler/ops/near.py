"""Functions of real numbers that become bytes: as accurate as bytes show, in stated steps, the same bits everywhere.

The steps are written once, for numbers of any kind. Each is one operation of f32, rounded once; a product is joined
with an addition where it says `fma`, and nowhere else. The interpreter runs them on arrays; kernels are made of them.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Protocol, TypeVar

import numpy as np

from ..ir import Attr
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
# P(X <= x) - 0.5 as x p(t), t = 2 (x / 4.1)**2 - 1: a minimax polynomial, off by 2.8e-5 at most, highest power first
REACH = 2 / 4.1**2
NORMAL = (
    -4.0682e-3, 1.028518e-2, -1.378376e-2, 2.203065e-2, -3.763553e-2, 5.625327e-2, -8.295309e-2, 1.7181087e-1
)  # fmt: skip


class Steps(Protocol[N]):
    """Operations on f32, each rounded once."""

    def number(self, x: float) -> N: ...

    def fma(self, a: N, b: N, c: N | float) -> N: ...

    def product(self, a: N, b: N) -> N: ...

    def difference(self, a: float, b: N) -> N: ...

    def limited(self, x: N, low: float, high: float) -> N:
        """Within low .. high, of which low may be infinite."""

    def exponent(self, x: N) -> N:
        """The number whose bits are those of x, moved up to where an exponent stands."""

    def inverse(self, x: N, bits: int) -> N:
        """The number whose bits are `bits` less those of x."""

    def negative(self, x: N) -> N: ...


def sigmoid_steps(s: Steps[N], x: N) -> N:
    """1 / (1 + 2**t) with t = -x log2 e. Off by 1.1e-4 of it at most, by 3.7e-5 in all; at most 0.99997."""
    y = s.limited(x, -GENTLE, GENTLE)
    nearest = s.fma(y, s.number(-LOG2E), NEAREST)
    rest = s.fma(y, s.number(-LOG2E), s.difference(NEAREST, nearest))
    power = s.fma(rest, s.number(POWER[0]), POWER[1])
    for c in POWER[2:]:
        power = s.fma(power, rest, c)
    below = s.fma(s.exponent(nearest), power, 1.0)
    near = s.inverse(below, INVERSE)
    off = s.fma(s.negative(below), near, CENTER)
    return s.product(near, s.fma(off, off, REST))


def gelu_steps(s: Steps[N], x: N) -> N:
    """x P(X <= x). Off by 3e-5 |x| at most."""
    t = s.limited(s.fma(s.product(x, x), s.number(REACH), -1.0), -inf, 1.0)
    total = s.fma(t, s.number(NORMAL[0]), NORMAL[1])
    for c in NORMAL[2:]:
        total = s.fma(total, t, c)
    return s.product(x, s.limited(s.fma(x, total, 0.5), 0.0, 1.0))


def hard_sigmoid_steps(s: Steps[N], x: N, alpha: float = 1 / 6, beta: float = 0.5) -> N:
    """alpha x + beta within 0 .. 1."""
    return s.limited(s.fma(x, s.number(alpha), beta), 0.0, 1.0)


def hard_swish_steps(s: Steps[N], x: N) -> N:
    return s.product(x, hard_sigmoid_steps(s, x))


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

    def limited(self, x: Tensor, low: float, high: float) -> Tensor:
        return np.clip(x, np.float32(low), np.float32(high))

    def exponent(self, x: Tensor) -> Tensor:
        return (x.view(np.int32) << 23).view(np.float32)

    def inverse(self, x: Tensor, bits: int) -> Tensor:
        return (np.int32(bits) - x.view(np.int32)).view(np.float32)

    def negative(self, x: Tensor) -> Tensor:
        return np.negative(x)


STEPS: dict[str, Callable[..., Any]] = {  # by the ONNX operators that they stand for
    "Sigmoid": sigmoid_steps,
    "Gelu": gelu_steps,
    "HardSigmoid": hard_sigmoid_steps,
    "HardSwish": hard_swish_steps,
}
NEAR = {name: f"Edgec.Near{name}" for name in STEPS}


def _row(name: str, **attrs: Attr) -> None:
    def meaning(x: Tensor, **a: Any) -> Tensor:
        return np.asarray(STEPS[name](_Arrays(), np.asarray(x), **a))

    op(NEAR[name], 1, same(frozenset({"f32"})), meaning, kind="elementwise", attrs=attrs)


_row("Sigmoid")
_row("Gelu")
_row("HardSigmoid", alpha=0.2, beta=0.5)
_row("HardSwish")
