"""Elementary functions of f32 as straight-line vector code, and calls of libm for the rest.

Polynomials are those of Cephes (Moshier, 1992), erf's of Juffa (2019). Greatest errors, in ulp of f32 against
f64, over all normal results: exp 2, exp_within 2, log 2, expm1 3, erf 2, atan 3, asin 3, acos 2, sin and cos 2 (|x| <
2**17; beyond, the argument's reduction loses accuracy and the result stays within -1 .. 1); gelu is off by at most
2.5e-7 |x| (on AVX-512 piecewise.py has another).
Functions that end in a division: fractions.py.
NaN gives NaN; infinities and denormal results are exact limits or correctly scaled, unless the CPU flushes denormals.
Nothing here relies on fused multiply-adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from math import inf

from tvm import tirx

from .built_for import rounds, scales
from .floats import at_least, at_most, bind, bits, f32, kind, of_bits, quotient, rint, with_sign
from .tir import Expr, lit

_LOG2E, _LN2_HIGH, _LN2_LOW = 1.44269504088896341, 0.693359375, -2.12194440e-4


def horner(x: Expr, coefficients: Sequence[float]) -> Expr:
    """The polynomial of `x`, highest power first."""
    total: Expr = lit(coefficients[0], kind(x))
    for c in coefficients[1:]:
        total = total * x + lit(c, kind(x))
    return total


def libm(name: str, *args: Expr) -> Expr:
    """A call of the C library, one lane after the other."""
    double = kind(args[0]) == "float64"
    return tirx.call_pure_extern(kind(args[0]), name if double else f"{name}f", *args)


def _power_of_two(n: Expr) -> Expr:
    return of_bits((n + 127) << 23)


def _reduced(x: Expr, fn: Callable[[Expr, Expr], Expr]) -> Expr:
    """fn(n, r) with x = n * ln 2 + r, n an integer of type int32, |r| <= ln 2 / 2."""

    def rest(n: Expr) -> Expr:
        r = x - n * f32(_LN2_HIGH) - n * f32(_LN2_LOW)
        return bind(r, lambda r: bind(tirx.Cast("int32", n), lambda i: fn(i, r)))

    if kind(x) == "float32" and not rounds():  # |x| is small enough for a sum
        return bind(x * f32(_LOG2E) + f32(_ROUNDS), lambda t: bind(t - f32(_ROUNDS), rest))
    return bind(rint(x * f32(_LOG2E)), rest)


_EXP = (1.38144335e-3, 8.36879667e-3, 4.16683964e-2, 1.66665196e-1, 4.9999994e-1, 1.0, 1.0)
EXPM1 = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_ROUNDS = 12582912.0  # 1.5 * 2**23: a sum with it holds the nearest integer in its lowest bits


def exp(x: Expr) -> Expr:
    def scaled(n: Expr, r: Expr) -> Expr:
        if scales():
            return tirx.call_llvm_pure_intrin("float32", "llvm.ldexp", horner(r, _EXP), n)
        return bind(n >> 1, lambda h: horner(r, _EXP) * _power_of_two(h) * _power_of_two(n - h))

    return bind(at_most(at_least(x, f32(-104)), f32(89)), lambda y: _reduced(y, scaled))


def exp_within(x: Expr, low: float = -87.0, high: float = 88.0) -> Expr:
    """exp(x) with x clamped to low .. high, where every result is a normal number: half the work of `exp`.

    A limit that x is known to keep may be infinite.
    """

    def power(y: Expr, t: Expr) -> Expr:
        n = t - f32(_ROUNDS)
        r = bind(n, lambda n: y - n * f32(_LN2_HIGH) - n * f32(_LN2_LOW))
        return bind(r, lambda r: of_bits(bits(horner(r, _EXP)) + (bits(t) << 23)))

    x = at_least(x, f32(low)) if low > -math.inf else x
    x = at_most(x, f32(high)) if high < math.inf else x
    return bind(x, lambda y: bind(y * f32(_LOG2E) + f32(_ROUNDS), lambda t: power(y, t)))


def exp_below(x: Expr) -> Expr:
    """exp of what is at most zero: zero below -87, where it would stop to be a normal number."""
    return bind(x, lambda y: tirx.Select(y < f32(-87), f32(0), exp_within(y, -math.inf, math.inf)))


def expm1(x: Expr) -> Expr:
    """exp(x) - 1 for x up to 80."""

    def scaled(n: Expr, r: Expr) -> Expr:
        value = horner(r, EXPM1) * (r * r) + r
        return bind(_power_of_two(n), lambda s: value * s + (s - f32(1)))

    return bind(at_most(at_least(x, f32(-40)), f32(80)), lambda y: _reduced(y, scaled))


_LOG = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip


def _log_finite(x: Expr) -> Expr:
    """log of a positive number."""

    def halves(i: Expr) -> Expr:
        exponent = (i >> 23) - 126 - tirx.Select(x < f32(1.17549435e-38), lit(23, "int32"), lit(0, "int32"))
        mantissa = of_bits((i & 0x007FFFFF) | 0x3F000000)
        return bind(mantissa, lambda m: polynomial(m, m < f32(0.70710678118654752), exponent))

    def polynomial(m: Expr, low: Expr, exponent: Expr) -> Expr:
        e = tirx.Cast("float32", exponent - tirx.Select(low, lit(1, "int32"), lit(0, "int32")))
        return bind(e, lambda e: bind(tirx.Select(low, m + m, m) - f32(1), lambda r: finish(r, e)))

    def finish(r: Expr, e: Expr) -> Expr:
        tail = horner(r, _LOG) * r * (r * r) + e * f32(_LN2_LOW) - f32(0.5) * (r * r)
        return (r + tail) + e * f32(_LN2_HIGH)

    normal = tirx.Select(x < f32(1.17549435e-38), x * f32(8388608.0), x)
    return bind(bits(normal), halves)


def log(x: Expr) -> Expr:
    def special(x: Expr) -> Expr:
        infinite = of_bits(lit(0x7F800000, "int32"))
        finite = tirx.Select(x < infinite, _log_finite(x), x)
        positive = tirx.Select(x < f32(0), of_bits(lit(0x7FC00000, "int32")), finite)
        return tirx.Select(tirx.abs(x) <= f32(0), of_bits(lit(-0x800000, "int32")), positive)

    return bind(x, special)


_ERF_TAIL = (-1.06777877e-1, -6.34846687e-1, -1.28717512e-1)
_ERF_HEAD = (-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1)


def erf(x: Expr) -> Expr:
    def both(x: Expr, t: Expr) -> Expr:
        s = t * t
        far = (t * f32(-1.72853470e-5) + f32(3.83197126e-4)) * s + (t * f32(-3.88396438e-3) + f32(2.42546219e-2))
        for c in _ERF_TAIL:
            far = far * t + f32(c)
        tail = with_sign(f32(1) - exp_within(far * t - t, -inf, inf), x)  # from -17 on
        head = horner(x * x, _ERF_HEAD) * x + x
        return tirx.Select(f32(0.927734375) <= t, tail, head)

    return bind(x, lambda x: bind(at_most(tirx.abs(x), f32(4)), lambda t: both(x, t)))


_GELU_REACH = 2 / 5.2**2  # beyond 5.2 standard deviations the polynomial stays at its end, and the clamp takes over
_GELU = (
    -4.81276802e-4, 1.26851164e-3, -1.22149475e-3, 1.80012104e-3, -4.78903763e-3, 8.55996925e-3, -1.25051215e-2,
    1.79547854e-2, -2.47236285e-2, 3.19899581e-2, -3.99298184e-2, 5.00245206e-2, -6.77436665e-2, 1.35949999e-1,
)  # fmt: skip


def gelu(x: Expr) -> Expr:
    """x times the normal distribution function: 0.5 + x p(x * x), where 0.5 erf(x / sqrt 2) = x p(x * x).

    p is a minimax polynomial in t = 2 (x / 5.2)**2 - 1, in two interleaved chains: no exponential, no division.
    """

    def chains(t: Expr) -> Expr:
        return bind(t * t, lambda s: horner(s, _GELU[1::2]) + t * horner(s, _GELU[0::2]))

    def share(x: Expr) -> Expr:
        t = at_most(x * (x * f32(_GELU_REACH)) - f32(1), f32(1))
        return at_most(at_least(x * bind(t, chains) + f32(0.5), f32(0)), f32(1))

    def product(x: Expr) -> Expr:
        return x * share(x)

    return bind(x, product)


def _quadrants(x: Expr, shift: int) -> Expr:
    """sin(x + shift * pi / 2): the argument is reduced in f64, the polynomials are f32."""
    wide = tirx.Cast("float64", x)

    def reduced(n: Expr) -> Expr:
        r = (wide - n * lit(1.57079632673412561417, "float64")) - n * lit(6.07710050650619224932e-11, "float64")
        turns = n - tirx.floor(n * lit(0.25, "float64")) * lit(4, "float64")
        quadrant = tirx.Cast("int32", turns) + shift
        near = at_most(at_least(tirx.Cast("float32", r), f32(-1)), f32(1))  # but for arguments beyond all accuracy
        return bind(near, lambda r: bind(quadrant, lambda q: select(r, q)))

    def select(r: Expr, q: Expr) -> Expr:
        def value(z: Expr) -> Expr:
            sine = horner(z, (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)) * z * r + r
            cosine = (
                horner(z, (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)) * (z * z)
                - f32(0.5) * z
                + f32(1)
            )
            return tirx.Select((q & 1) < 1, sine, cosine)

        signed = bind(bind(r * r, value), lambda v: tirx.Select((q & 2) < 1, v, f32(0) - v))
        return at_most(at_least(signed, f32(-1)), f32(1))

    return bind(rint(wide * lit(0.63661977236758134308, "float64")), reduced)


_ASIN = (4.2163199048e-2, 2.4181311049e-2, 4.5470025998e-2, 7.4953002686e-2, 1.6666752422e-1)


def _arc(x: Expr, fn: Callable[[Expr, Expr], Expr]) -> Expr:
    """fn(far, a) with a = asin |x|, or where |x| is beyond 0.5, `far`, a = asin sqrt((1 - |x|) / 2)."""

    def of(far: Expr, z: Expr, root: Expr) -> Expr:
        return bind(horner(z, _ASIN) * (z * root) + root, lambda a: fn(far, a))

    def reduced(t: Expr) -> Expr:
        far = f32(0.5) < t
        z = tirx.Select(far, f32(0.5) - f32(0.5) * t, t * t)
        return bind(z, lambda z: bind(tirx.Select(far, tirx.sqrt(z), t), lambda root: of(far, z, root)))

    return bind(tirx.abs(x), reduced)


def asin(x: Expr) -> Expr:
    """pi / 2 - 2 asin sqrt((1 - |x|) / 2) beyond 0.5."""
    return bind(x, lambda x: with_sign(_arc(x, lambda far, a: tirx.Select(far, f32(math.pi / 2) - (a + a), a)), x))


def acos(x: Expr) -> Expr:
    def of(x: Expr) -> Expr:
        def angle(far: Expr, a: Expr) -> Expr:
            beyond = tirx.Select(x < f32(0), f32(math.pi) - (a + a), a + a)
            return tirx.Select(far, beyond, f32(math.pi / 2) - with_sign(a, x))

        return _arc(x, angle)

    return bind(x, of)


_ATAN = (8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1)


def atan(x: Expr) -> Expr:
    """Beyond tan(3 pi / 8) by -1 / x, beyond tan(pi / 8) by (x - 1) / (x + 1): one division."""

    def parts(x: Expr, t: Expr) -> Expr:
        far, near = f32(2.414213562373095) < t, t <= f32(0.4142135623730950)
        above = tirx.Select(far, f32(-1), tirx.Select(near, t, t - f32(1)))
        below = tirx.Select(far, t, tirx.Select(near, f32(1), t + f32(1)))
        base = tirx.Select(far, f32(1.5707963267948966), tirx.Select(near, f32(0), f32(0.7853981633974483)))
        return bind(quotient(above, below), lambda q: with_sign(base + (horner(q * q, _ATAN) * (q * q) * q + q), x))

    return bind(x, lambda x: bind(tirx.abs(x), lambda t: parts(x, t)))


def sin(x: Expr) -> Expr:
    return bind(x, lambda x: _quadrants(x, 0))


def cos(x: Expr) -> Expr:
    return bind(x, lambda x: _quadrants(x, 1))
