"""Quotients and remainders as TensorIR expressions: integers do not trap, and are divided as floats in vectors."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from tvm import tirx

from . import floats, long_division, whole
from . import mathlib as m
from .built_for import divides_long_vectors, divides_vectors, has_doubles
from .conversions import c, is_float, is_unsigned
from .floats import bind, kind
from .tir import Expr, lit

SHORT = 2.0**28  # of quotients: with a divisor of 24 bits within the 53 of f64


def _divided(a: Expr, b: Expr, fn: Callable[[Expr, Expr], Expr], minus_one: int) -> Expr:
    """Integer division that cannot trap: by zero gives zero, by minus one `minus_one` times a.

    The division stands outside every selection: inside one, its guard would be simplified away with the condition.
    """
    zero, one = c(a, 0), c(a, 1)
    by_zero = tirx.EQ(b, zero)
    if _is_long(a):  # which does not trap
        if is_unsigned(b):
            return tirx.Select(by_zero, zero, fn(a, b))
        by_minus_one = tirx.EQ(b, c(b, -1))
        ends = tirx.Select(by_minus_one, whole.negative(a) if minus_one else zero, fn(a, b))
        return tirx.Select(by_zero, zero, ends)
    if is_unsigned(b):
        return fn(a, tirx.Select(by_zero, one, b)) * tirx.Select(by_zero, zero, one)
    by_minus_one = tirx.EQ(b, c(b, -1))
    factor = tirx.Select(by_zero, zero, tirx.Select(by_minus_one, c(a, minus_one), one))
    return whole.multiply(fn(a, tirx.Select(tirx.Or(by_zero, by_minus_one), one, b)), factor)


def _by_floats(a: Expr, b: Expr) -> bool:
    """Whether integers are divided as floats. The nearest quotient is never rounded up to an integer: from the next one
    a true quotient is off by 1 / |b| at least, and a float of up to |a| / |b| by less, if it has more bits than a."""
    known = isinstance(b, tirx.IntImm)
    return divides_vectors() and not known and (whole.width(kind(a)) < 32 or kind(a) == "int32")


def _is_long(a: Expr) -> bool:
    """Whether integers of 64 bits are divided as floats."""
    return whole.width(kind(a)) == 64 and divides_long_vectors()


def _is_least(b: Expr) -> bool:
    """Whether a divisor is the known number of 64 bits that TVM's simplifier fails to negate. It divides itself."""
    return isinstance(b, tirx.IntImm) and int(b) == -(2**63)


def _truncated(a: Expr, b: Expr) -> Expr:
    if _is_least(b):
        return tirx.Select(tirx.EQ(a, b), c(a, 1), c(a, 0))
    if _is_long(a):
        return long_division.quotient(a, b)
    if not _by_floats(a, b):
        return tirx.truncdiv(a, b)
    real = "float64" if whole.width(kind(a)) == 32 else "float32"
    return tirx.Cast(kind(a), tirx.Cast("int32", tirx.Cast(real, a) / tirx.Cast(real, b)))


def _left(a: Expr, b: Expr) -> Expr:
    if _is_least(b):
        return tirx.Select(tirx.EQ(a, b), c(a, 0), a)
    if _is_long(a):
        return long_division.remainder(a, b)
    if not _by_floats(a, b):
        return tirx.truncmod(a, b)
    return bind(b, lambda b: whole.subtract(a, whole.multiply(_truncated(a, b), b)))


def divide(a: Expr, b: Expr) -> Expr:
    if is_float(a):
        return floats.quotient(a, b)
    return bind(a, lambda a: bind(b, lambda b: _divided(a, b, _truncated, -1)))


def remainder(a: Expr, b: Expr) -> Expr:
    """C's fmod. Where a quotient of f32 is short, product and difference are exact in f64, whose quotient cannot have
    been rounded up to an integer; the library takes a bit at a time."""
    if kind(a) != "float32" or not has_doubles():
        return m.libm("fmod", a, b)

    def of(x: Expr, y: Expr) -> Expr:
        short = tirx.And(tirx.abs(x) < tirx.abs(y) * lit(SHORT, "float64"), tirx.abs(y) < lit(inf, "float64"))
        exact = tirx.Cast("float32", tirx.abs(x - tirx.trunc(x / y) * y))
        return tirx.if_then_else(short, floats.with_sign(exact, a), m.libm("fmod", a, b))

    return bind(tirx.Cast("float64", a), lambda x: bind(tirx.Cast("float64", b), lambda y: of(x, y)))


def modulo(a: Expr, b: Expr, *, fmod: int) -> Expr:
    """fmod=0: the sign of the divisor; fmod=1: the sign of the dividend."""

    def of(a: Expr, b: Expr) -> Expr:
        r = remainder(a, b) if is_float(a) else _divided(a, b, _left, 0)
        return r if fmod or is_unsigned(a) else bind(r, lambda r: signed(r, b))

    def signed(r: Expr, b: Expr) -> Expr:
        zero = c(r, 0)
        differ = tirx.Or(tirx.And(r < zero, zero < b), tirx.And(zero < r, b < zero))
        return tirx.Select(differ, r + b, r)

    return bind(a, lambda a: bind(b, lambda b: of(a, b)))
