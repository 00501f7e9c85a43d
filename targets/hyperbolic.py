"""Hyperbolic functions of f32 and their inverses as vector code, where a call of the library takes many times as long.

Greatest errors, in ulp of f32 against f64, over all normal results: sinh 2, cosh 2, asinh 3, acosh 2, atanh 4.
"""

from __future__ import annotations

from math import e, log, nan

from tvm import tirx

from . import fractions, mathlib
from .floats import at_most, bind, f32, with_sign
from .tir import Expr

FAR = 2.0**30  # from where on the square of a number swallows 1


def _halved_exponentials(y: Expr) -> tuple[Expr, Expr]:
    """exp(y) / 2 and exp(-y) / 2, neither of which overflows before the functions do: y - 1 is exact from 1 on."""
    below = mathlib.exp(y - f32(1))
    return below * f32(e / 2), f32(1 / (2 * e)) / below


def cosh(x: Expr) -> Expr:
    def of(y: Expr) -> Expr:
        up, down = _halved_exponentials(y)
        return up + down

    return bind(tirx.abs(x), of)


def sinh(x: Expr) -> Expr:
    def of(y: Expr) -> Expr:
        up, down = _halved_exponentials(y)
        near = bind(mathlib.expm1(at_most(y, f32(1))), lambda t: (t + t / (t + f32(1))) * f32(0.5))
        return tirx.Select(y < f32(1), near, up - down)

    return bind(x, lambda x: with_sign(bind(tirx.abs(x), of), x))


def _log1p(z: Expr) -> Expr:
    """log(1 + z) for z from 0 on."""
    return bind(z, lambda z: tirx.Select(z < f32(1), fractions.log1p(at_most(z, f32(1))), mathlib.log(z + f32(1))))


def _with_doubled(y: Expr, z: Expr) -> Expr:
    """log(1 + z); of a far y log(2 y)."""
    far = tirx.Select(y > f32(FAR), f32(log(2)), f32(0))
    return _log1p(tirx.Select(y > f32(FAR), y, z)) + far


def asinh(x: Expr) -> Expr:
    def of(y: Expr) -> Expr:
        square = bind(at_most(y, f32(FAR)), lambda y: y * y)
        return _with_doubled(y, bind(square, lambda s: y + s / (tirx.sqrt(s + f32(1)) + f32(1))))

    return bind(x, lambda x: with_sign(bind(tirx.abs(x), of), x))


def acosh(x: Expr) -> Expr:
    def of(x: Expr) -> Expr:
        z = bind(at_most(x, f32(FAR)) - f32(1), lambda t: t + tirx.sqrt(t * (t + f32(2))))
        return tirx.Select(x < f32(1), f32(nan), _with_doubled(x, z))

    return bind(x, of)


def atanh(x: Expr) -> Expr:
    def of(y: Expr) -> Expr:
        return tirx.Select(f32(1) < y, f32(nan), _log1p((y + y) / (f32(1) - y)) * f32(0.5))

    return bind(x, lambda x: with_sign(bind(tirx.abs(x), of), x))
