"""Quotients and remainders of integers of 64 bits in vectors, by f64: x86 divides them one by one.

f64 finds a quotient in two steps. Each errs towards zero, so that no product is larger than the dividend, and nothing
overflows. Behind the first the quotient lacks 2^-49 of itself and 1, behind the second 1 at most.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from .floats import bind, kind
from .tir import Expr, lit

LESS = 1 - 2.0**-50  # takes away more than four roundings of f64 can add
Parts = Callable[[Expr, Expr], Expr]  # of a quotient, and of the remainder that it leaves


def quotient(a: Expr, b: Expr) -> Expr:
    """a / b towards zero. Anything where b is zero, or where the quotient does not fit."""
    step = lit(1, kind(a))

    def mended(q: Expr, left: Expr) -> Expr:
        more = q + step if _unsigned(a) else tirx.Select(_crossed(a, b), q - step, q + step)
        return tirx.Select(_holds_another(left, b), more, q)

    return _nearly(a, b, mended)


def remainder(a: Expr, b: Expr) -> Expr:
    """What `quotient` leaves of a, with the sign of a."""

    def mended(_: Expr, left: Expr) -> Expr:
        less = left - b if _unsigned(a) else tirx.Select(_crossed(a, b), left + b, left - b)
        return tirx.Select(_holds_another(left, b), less, left)

    return _nearly(a, b, mended)


def _nearly(a: Expr, b: Expr, use: Parts) -> Expr:
    """`use` of a quotient that lacks 1 at most."""

    def step(of: Expr, inverse: Expr) -> Expr:
        return tirx.Cast(kind(a), tirx.Cast("float64", of) * inverse)

    def steps(inverse: Expr) -> Expr:
        return bind(
            step(a, inverse),
            lambda first: bind(
                a - first * b,
                lambda left: bind(
                    step(left, inverse),
                    lambda second: bind(left - second * b, lambda rest: use(first + second, rest)),
                ),
            ),
        )

    if isinstance(b, tirx.IntImm):
        return steps(lit(LESS / int(b), "float64"))
    return bind(lit(LESS, "float64") / tirx.Cast("float64", b), steps)


def _holds_another(left: Expr, b: Expr) -> Expr:
    """Whether b is contained once more in what is left."""
    return b <= left if _unsigned(b) else _below(left) <= _below(b)


def _below(x: Expr) -> Expr:
    """-|x|, which all numbers have."""
    zero = lit(0, kind(x))
    return tirx.Select(x < zero, x, zero - x)


def _crossed(a: Expr, b: Expr) -> Expr:
    """Whether the signs differ."""
    return (a ^ b) < lit(0, kind(a))


def _unsigned(x: Expr) -> bool:
    return kind(x).startswith("uint")
