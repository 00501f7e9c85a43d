"""Functions of f32 as a polynomial in each of sixteen intervals, where a permutation picks the coefficients: AVX-512.

A permutation finds sixteen elements in a table of sixteen in the time of a multiply-add, and not in its pipes: four
multiply-adds do what thirteen did. gelu and its tanh form are off by at most 1.7e-7 |x|.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import erf, exp, pi, sqrt

import numpy as np
from numpy.polynomial import chebyshev
from tvm import tirx

from .floats import at_most, bind, bits, f32, fused
from .lets import PICKED
from .tir import Expr

COUNT = 16  # intervals, and elements of a table
DEGREE = 4
REACH = 5.4  # where the last interval is centred: beyond it the normal distribution function is 1 to f32
_ROUNDS = 12582912.0  # 1.5 * 2**23: a sum with it holds the nearest integer in its lowest bits


def gelu(x: Expr, *, approximate: str) -> Expr:
    """0.5 x + |x| g(|x|), where g is the share that x gets less one half: it has the sign of x."""
    table = _tables(approximate == "tanh")

    def near(t: Expr, n: Expr, magnitude: Expr) -> Expr:
        place = t - (n - f32(_ROUNDS))
        return bind(place, lambda r: magnitude * _polynomial(r, bits(n), table))

    def odd(x: Expr, magnitude: Expr) -> Expr:
        t = at_most(magnitude * f32((COUNT - 1) / REACH), f32(COUNT - 1))
        product = bind(t, lambda t: bind(t + f32(_ROUNDS), lambda n: near(t, n, magnitude)))
        return fused(x, f32(0.5), product)

    return bind(x, lambda x: bind(tirx.abs(x), lambda magnitude: odd(x, magnitude)))


def _polynomial(r: Expr, which: Expr, table: Sequence[Sequence[float]]) -> Expr:
    """The polynomial of `r` whose number stands in the lowest bits of `which`; `table`: highest power first."""
    rows = [tirx.Shuffle([f32(c) for c in row], [tirx.IntImm("int32", k) for k in range(COUNT)]) for row in table]
    picked = [tirx.call_llvm_pure_intrin("float32", PICKED, row, which) for row in rows]
    total: Expr = picked[0]
    for coefficient in picked[1:]:
        total = fused(total, r, coefficient)
    return total


@cache
def _tables(tanh_form: bool) -> tuple[tuple[float, ...], ...]:
    """Coefficients by power, highest first, for each interval; r from -0.5 to 0.5 within it."""
    step = REACH / (COUNT - 1)

    def beyond_half(x: float) -> float:
        if tanh_form:
            return 1 / (1 + exp(-2 * sqrt(2 / pi) * (x + 0.044715 * x**3))) - 0.5
        return 0.5 * erf(x * sqrt(0.5))

    def piece(k: int) -> list[float]:
        if k == COUNT - 1:
            return [0.0] * DEGREE + [0.5]
        powers = _interpolated(lambda r: beyond_half((k + r) * step))
        return powers if k else [*powers[:-1], 0.0]

    return tuple(zip(*(piece(k) for k in range(COUNT)), strict=True))


def _interpolated(fn: Callable[[float], float]) -> list[float]:
    """The polynomial through Chebyshev's points of -0.5 .. 0.5, highest power first: nearly the best one."""
    powers = chebyshev.cheb2poly(chebyshev.chebinterpolate(np.vectorize(lambda x: fn(x / 2)), DEGREE))
    return [float(c * 2.0**k) for k, c in enumerate(powers)][::-1]
