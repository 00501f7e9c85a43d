"""Functions of f32 that are fractions, and how these are divided: by the instruction, or on NEON from an estimate.

A core of today divides four numbers in 7 to 34 cycles, in which the pipe that does it does little else. An estimate, a
step that refines it and what then remains of the dividend take a third of that or less, and round like the division
but in rare cases, which are off by an ulp: a / a is 1, and nothing that should be at most 1 comes out above it.
Greatest errors, in ulp of f32 against f64: log1p 3, tanh 4, sigmoid 4 (x > -20; 7 down to -86, and below it is at most
5e-38); gelu's tanh form is off by at most 5e-7 |x|.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import e, log2

from tvm import tirx

from edgec.compiler.ops.near import GENTLE

from . import mathlib
from .addends import Addends, addends
from .built_for import estimates, fuses
from .floats import at_least, at_most, bind, bits, f32, fused, of_bits, quotient, with_sign
from .mathlib import EXPM1, exp_within, expm1, horner
from .tir import Expr

_LN2 = 0.693147180559945309
_WHOLE = 12582912.0  # a sum with it holds the nearest integer in its lowest bits
_ROUNDS = _WHOLE + 127  # ... as an exponent


def over(a: Expr, b: Expr) -> Expr:
    """a / b of finite numbers, b from 2**-126 to 2**127 (0 beyond 2**126, where denormal numbers are flushed)."""
    names = estimates()
    if not names:
        return quotient(a, b)
    first, better = names

    def rounded(a: Expr, b: Expr, y: Expr) -> Expr:
        return bind(a * y, lambda q: q + fused(b * f32(-1), q, a) * y)

    def refined(a: Expr, b: Expr) -> Expr:
        estimate = tirx.call_llvm_pure_intrin("float32", first, b)
        return bind(estimate, lambda y: bind(y * step(b, y), lambda y: rounded(a, b, y)))

    def step(b: Expr, y: Expr) -> Expr:
        return tirx.call_llvm_pure_intrin("float32", better, b, y)

    return bind(a, lambda a: bind(b, lambda b: refined(a, b)))


def _exponential(y: Expr, scale: float, fn: Callable[[Expr, Expr], Expr]) -> Expr:
    """fn(s, r) with e**(-y / scale) = s * e**(-r / scale), s a power of two, |r| / scale at most ln 2 / 2.

    The product with ln 2 is not rounded, so that no second part of it is needed: f32's is off by 2e-9.
    """

    def rest(t: Expr) -> Expr:
        r = fused(f32(_ROUNDS) - t, f32(-_LN2 * scale), y)
        return bind(r, lambda r: bind(of_bits(bits(t) << 23), lambda s: fn(s, r)))

    return bind(y * f32(-log2(e) / scale) + f32(_ROUNDS), rest)


def sigmoid(x: Expr) -> Expr:
    """(a + b) / (a + b + s (a - b)), where e**-r = (a - b) / (a + b); in fewer instructions where numbers that products
    are added to are read from memory."""
    if not estimates():
        return f32(1) / sigmoid_below(x)
    if (read := _Read.here()) is not None:
        return read.inverse(read.limit("minimum", read.limit("maximum", x, -86.0), 87.0), lambda y: y)

    def parts(s: Expr, r: Expr) -> Expr:
        return bind(r * r, lambda z: bind(z + f32(10), lambda a: odd(s, a, (z * f32(0.083333) + f32(5)) * r)))

    def odd(s: Expr, a: Expr, b: Expr) -> Expr:
        return bind(b, lambda b: bind(a + b, lambda above: over(above, above + s * (a - b))))

    return bind(at_most(at_least(x, f32(-86)), f32(87)), lambda y: _exponential(y, 1.0, parts))


# e**-r for |r| up to ln 2 / 2 as a polynomial, by pairs of powers; off by 1e-7 of it at most
_BELOW = (
    (-0.9999997019767761, 1.0),
    (-0.1666763871908188, 0.4999914765357971),
    (-0.008290272206068039, 0.04189816117286682),
)


def swish(x: Expr, *, near: bool = False) -> Expr | None:
    """x sigmoid(x) in fewer instructions, where numbers that products are added to are read from memory; else None.

    `near`: x is within -GENTLE .. GENTLE. Off by 5 ulp at most (7 below -20). Where x is infinite, what x is divided by
    is 1. What is below -GENTLE gives no more than 4e-36.
    """
    read = _Read.here()
    if read is None:
        return None

    def gated(x: Expr) -> Expr:
        limited = x if near else read.limit("minimum", x, GENTLE)
        return read.inverse(limited, lambda y: x * y)

    return bind(x if near else read.limit("maximum", x, -GENTLE), gated)


@dataclass(frozen=True)
class _Read:
    """Code of a vector whose numbers are read from memory, from place `at` on; `estimate` is of one over a number."""

    table: Addends
    at: int
    estimate: str

    @classmethod
    def here(cls) -> _Read | None:
        """That of the vector that is being made; None where numbers stay in the code."""
        names, found = estimates(), addends()
        return cls(*found, names[0]) if names and found else None

    def plus(self, number: float, use: int = 0) -> Expr:
        """One that a product is added to."""
        return self.table.load(number, self.at, use)

    def number(self, number: float) -> Expr:
        """One that is kept for all vectors of a turn, which would else be made of a scalar in each."""
        return self.table.same(number)

    def limit(self, name: str, x: Expr, to: float) -> Expr:
        return tirx.call_llvm_pure_intrin("float32", f"llvm.{name}", x, self.number(to))

    def inverse(self, x: Expr, scaled: Callable[[Expr], Expr]) -> Expr:
        """scaled(1 / (1 + e**-x)), `scaled` a product. From an estimate y, one over b is y (1 + e + e**2) with
        e = 1 - b y: what is left out is less than 2**-24, and e above 0 where b is 1."""

        def over(b: Expr) -> Expr:
            estimate = tirx.call_llvm_pure_intrin("float32", self.estimate, b)
            return bind(estimate, lambda y: bind(fused(b * f32(-1), y, self.plus(1.0, 2)), lambda e: better(y, e)))

        def better(y: Expr, e: Expr) -> Expr:
            return bind(scaled(y), lambda q: fused(q, fused(e, e, e), q))

        scale = self.number(-log2(e))
        below = bind(x, lambda x: bind(fused(x, scale, self.plus(_ROUNDS, 1)), lambda t: self.one_more(t, x)))
        return bind(below, over)

    def one_more(self, t: Expr, x: Expr) -> Expr:
        """1 + e**-x, where t holds the nearest integer to -x / ln 2."""
        r = fused(self.number(_ROUNDS) - t, self.number(-_LN2), x)
        scale = of_bits(bits(t) << 23)
        return bind(r, lambda r: bind(scale, lambda s: fused(s, self.series(r), self.plus(1.0, 1))))

    def series(self, r: Expr) -> Expr:
        first, second, third = (fused(r, self.number(high), self.plus(low)) for high, low in _BELOW)
        return bind(r * r, lambda z: fused(fused(third, z, second), z, first))


def exp_below(x: Expr) -> Expr:
    """e**x of what is at most zero, as `mathlib` has it; in fewer instructions where numbers that products are added to
    are read from memory. Off by 3 ulp at most from -20 on (6 below): the product with ln 2 is not rounded."""
    found = addends()
    if found is None:
        return mathlib.exp_below(x)
    table, at = found

    def power(y: Expr, t: Expr) -> Expr:
        r = fused(table.same(_WHOLE) - t, table.same(_LN2), y)
        return bind(r, lambda r: of_bits(bits(series(r)) + (bits(t) << 23)))

    def series(r: Expr) -> Expr:
        first, second, third = (fused(r, table.same(-high), table.load(low, at)) for high, low in _BELOW)
        return bind(r * r, lambda z: fused(fused(third, z, second), z, first))

    def seen(y: Expr) -> Expr:
        t = fused(y, table.same(log2(e)), table.load(_WHOLE, at, 1))
        return tirx.Select(y < f32(-87), f32(0), bind(t, lambda t: power(y, t)))

    return bind(x, seen)


def sigmoid_below(x: Expr) -> Expr:
    """1 / sigmoid(x), not above 1.7e38."""
    return f32(1) + exp_within(f32(0) - x)


def tanh(x: Expr) -> Expr:
    """(t - 1) / (t + 1), where t = e**2x: either less one, or as a fraction of its own.

    That is b / a = tanh r with r = x - n ln 2 / 2, and s = 2**-n: s - 1 is exact, so that small results are.
    """
    if not estimates():
        part = _tanh_fused if fuses() else tanh_part
        return bind(x, lambda x: bind(part(x), lambda t: with_sign(t / (t + f32(2)), x)))

    def parts(s: Expr, r: Expr) -> Expr:
        return bind(r * r, lambda z: bind(z + f32(2.5), lambda a: odd(s, a, (z * f32(0.166666) + f32(2.5)) * r)))

    def odd(s: Expr, a: Expr, b: Expr) -> Expr:
        return bind(b, lambda b: bind(s - f32(1), lambda d: bind(s + f32(1), lambda t: fraction(a, b, d, t))))

    def fraction(a: Expr, b: Expr, d: Expr, t: Expr) -> Expr:
        return over(t * b - d * a, t * a - d * b)

    def signed(x: Expr) -> Expr:
        value = bind(at_most(at_least(x, f32(-10)), f32(10)), lambda y: _exponential(y, 0.5, parts))
        return tirx.call_llvm_pure_intrin("float32", "llvm.copysign", value, x)  # that of zero is lost

    return bind(x, signed)


def tanh_part(x: Expr) -> Expr:
    """t with tanh |x| = t / (t + 2)."""
    magnitude = at_most(tirx.abs(x), f32(10))
    return expm1(magnitude + magnitude)


def _tanh_fused(x: Expr) -> Expr:
    """`tanh_part` in fewer steps, where products are fused."""

    def scaled(s: Expr, r: Expr) -> Expr:
        return bind(horner(r, EXPM1) * (r * r) + r, lambda e: e * s + (s - f32(1)))

    return bind(at_most(tirx.abs(x), f32(10)), lambda y: bind(y + y, lambda y: _exponential(y, -1.0, scaled)))


def log1p(x: Expr) -> Expr:
    """log(1 + x) for x from 0 to 1, as 2 atanh(x / (2 + x))."""

    def series(s: Expr) -> Expr:
        return bind(s * s, lambda z: horner(z, [2 / k for k in range(15, 0, -2)]) * s)

    return bind(x, lambda x: bind(over(x, x + f32(2)), series))


def gelu_tanh(x: Expr) -> Expr:
    """The form 0.5 x (1 + tanh u) with u = sqrt(2 / pi) (x + 0.044715 x**3), as x / (1 + exp(-2 u))."""

    def ratio(x: Expr) -> Expr:
        twice = x * (x * x * f32(-2 * 0.7978845608028654 * 0.044715) + f32(-2 * 0.7978845608028654))
        below = f32(1) + exp_within(twice)
        return x * over(f32(1), below) if estimates() else x / below

    return bind(x, ratio)
