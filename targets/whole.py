"""Arithmetic of integers that wraps around, as numpy's does.

TVM takes it that integers of 32 and 64 bits never overflow, tells LLVM so, and simplifies sums and comparisons by it;
with unsigned ones its simplifier can fail altogether. So nothing here overflows in the type that it is computed in,
and of results nothing is known but their type. LLVM makes one instruction of it up to 32 bits; 64 bits take a few.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from .built_for import on_device
from .floats import bind, kind
from .tir import Expr, lit

_SIGN, _REST, _LOW = 1 << 63, (1 << 63) - 1, (1 << 32) - 1


def width(of: str) -> int:
    """Bits of an integer type of TVM."""
    return int(of.lstrip("uint"))


def wrapped(x: Expr, to: str) -> Expr:
    """The lowest bits of an integer, as a type of no more bits."""
    bits = width(to)
    if width(kind(x)) > bits:
        x = tirx.Cast(f"uint{bits}", x & lit((1 << bits) - 1, kind(x)))
    return x if kind(x) == to else signed(x, to)


def signed(x: Expr, to: str) -> Expr:
    """The bits of an integer as one of the same width, with or without a sign. LLVM drops the maximum with zero."""
    if on_device():
        return tirx.call_pure_extern(to, f"ec_as_{to}", x)
    return tirx.call_llvm_pure_intrin(to, "llvm.umax", x, lit(0, kind(x)))


def as_float(x: Expr, to: str) -> Expr:
    """The bits of an integer as a float. TVM takes the zero that an argument may come to for a null pointer."""
    return tirx.reinterpret(to, signed(x, kind(x)))


def add(a: Expr, b: Expr) -> Expr:
    if width(kind(a)) < 64:
        return _wider(a, b, lambda a, b: a + b)
    return _of_bits(a, b, lambda a, b: ((a & _u(_REST)) + (b & _u(_REST))) ^ ((a ^ b) & _u(_SIGN)))


def subtract(a: Expr, b: Expr) -> Expr:
    if width(kind(a)) < 64:
        return _wider(a, b, lambda a, b: a - b)
    return _of_bits(a, b, lambda a, b: ((a | _u(_SIGN)) - (b & _u(_REST))) ^ ((a ^ b ^ _u(_SIGN)) & _u(_SIGN)))


def multiply(a: Expr, b: Expr) -> Expr:
    if width(kind(a)) < 64:
        wide = "uint64" if kind(a)[0] == "u" else "int64"
        return wrapped(tirx.Cast(wide, a) * tirx.Cast(wide, b), kind(a))

    def product(a: Expr, b: Expr) -> Expr:
        """The upper halves count with the lower ones only, and of that the lower half."""
        low, high = _u(_LOW), _u(32)
        crossed = (((a >> high) * (b & low)) & low) + (((b >> high) * (a & low)) & low)
        return add((a & low) * (b & low), crossed << high)

    return _of_bits(a, b, product)


def negative(x: Expr) -> Expr:
    return subtract(lit(0, kind(x)), x)


def absolute(x: Expr) -> Expr:
    """The least number is its own."""
    return bind(x, lambda x: tirx.Select(x < lit(0, kind(x)), negative(x), x))


def power(base: Expr, exponent: Expr) -> Expr:
    """By squaring. Exponents above 64 are 64 or 65: all bases but odd ones have come to 0 there, or to 1 and -1."""
    if isinstance(exponent, tirx.IntImm):
        return bind(base, lambda x: _known_power(x, int(exponent)))
    last = lit(64, kind(exponent)) + (exponent & lit(1, kind(exponent)))
    return bind(base, lambda x: bind(tirx.Select(last < exponent, last, exponent), lambda n: _power(x, n)))


def _known_power(x: Expr, n: int) -> Expr:
    if n < 0:
        return _inverse(x, lit(n % 2, "int32"))
    n = n if n <= 64 else 64 + n % 2
    result = lit(1, kind(x))
    for digit in f"{n:b}" if n else "":
        result = multiply(result, result) if not isinstance(result, tirx.IntImm) else result
        if digit == "1":
            result = x if isinstance(result, tirx.IntImm) else multiply(result, x)
    return result


def _power(x: Expr, n: Expr) -> Expr:
    zero, one = lit(0, kind(n)), lit(1, kind(n))

    def step(square: Expr, result: Expr, bit: int) -> Expr:
        taken = tirx.NE((n >> lit(bit, kind(n))) & one, zero)
        more = tirx.Select(taken, multiply(result, square), result)
        if bit == 6:
            return more
        return bind(more, lambda r: bind(multiply(square, square), lambda s: step(s, r, bit + 1)))

    value = step(x, lit(1, kind(x)), 0)
    return value if kind(n)[0] == "u" else tirx.Select(n < zero, _inverse(x, tirx.Cast("int32", n & one)), value)


def _inverse(x: Expr, odd: Expr) -> Expr:
    """1 / x to a power, towards zero: nothing is left but of 1 and -1."""
    zero, one = lit(0, kind(x)), lit(1, kind(x))
    if kind(x)[0] == "u":
        return tirx.Select(tirx.EQ(x, one), one, zero)
    minus = lit(-1, kind(x))
    sign = tirx.Select(tirx.EQ(odd, lit(0, "int32")), one, minus)
    return tirx.Select(tirx.EQ(x, one), one, tirx.Select(tirx.EQ(x, minus), sign, zero))


def _u(value: int) -> Expr:
    return lit(value, "uint64")


def _wider(a: Expr, b: Expr, fn: Callable[[Expr, Expr], Expr]) -> Expr:
    wide = "int32" if width(kind(a)) < 32 else "int64"
    return wrapped(fn(tirx.Cast(wide, a), tirx.Cast(wide, b)), kind(a))


def _of_bits(a: Expr, b: Expr, fn: Callable[[Expr, Expr], Expr]) -> Expr:
    """A function of two 64-bit patterns, in the type of `a`."""
    of = kind(a)
    a, b = (wrapped(x, "uint64") for x in (a, b))
    return wrapped(bind(a, lambda a: bind(b, lambda b: fn(a, b))), of)
