"""Elementwise operators as TensorIR expressions: one row each, the same for a scalar and for a vector of lanes.

Arguments have the operator's element type; f16 and bf16 come widened to f32 and leave narrowed (conversions.py).
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, sqrt

from tvm import tirx

from . import floats, piecewise, whole
from . import fractions as f
from . import hyperbolic as h
from . import mathlib as m
from .built_for import has_doubles, picks
from .conversions import c, is_float, is_unsigned
from .division import divide, modulo
from .floats import at_least, at_most, bind, kind
from .tir import Expr, lit


def _float(name: str, vector: Callable[[Expr], Expr] | None = None) -> Callable[..., Expr]:
    """f32 by vector code where there is any, everything else by libm."""
    return lambda x, **_: vector(x) if vector and kind(x) == "float32" else m.libm(name, x)


def absolute(x: Expr) -> Expr:
    return tirx.abs(x) if is_float(x) else x if is_unsigned(x) else whole.absolute(x)


def sign(x: Expr) -> Expr:
    return bind(
        x, lambda x: tirx.Select(c(x, 0) < x, c(x, 1), x if is_unsigned(x) else tirx.Select(x < c(x, 0), c(x, -1), x))
    )


def relu(x: Expr) -> Expr:
    return x if is_unsigned(x) else at_least(x, c(x, 0))


def clip(x: Expr, *, min: float, max: float) -> Expr:
    """Limits outside an integer type's range are its own."""
    low, high = (
        (-float("inf"), float("inf")) if is_float(x) else (int(tirx.min_value(kind(x))), int(tirx.max_value(kind(x))))
    )
    if min > low:
        x = at_least(x, c(x, min if is_float(x) else high if min > high else int(min)))
    return at_most(x, c(x, max if is_float(x) else low if max < low else int(max))) if max < high else x


def clamp01(x: Expr) -> Expr:
    return at_most(at_least(x, c(x, 0)), c(x, 1))


def expm1(x: Expr) -> Expr:
    return m.expm1(x) if kind(x) == "float32" else m.libm("expm1", x)


exp, log, tanh = _float("exp", m.exp), _float("log", m.log), _float("tanh", f.tanh)
log1p, erf = _float("log1p", f.log1p), _float("erf", m.erf)


def elu(x: Expr, alpha: float, gamma: float = 1.0) -> Expr:
    below = expm1(at_most(x, c(x, 0))) * c(x, alpha * gamma)
    return bind(x, lambda x: tirx.Select(x < c(x, 0), below, x * c(x, gamma)))


def celu(x: Expr, *, alpha: float) -> Expr:
    below = expm1(at_most(floats.quotient(x, c(x, alpha)), c(x, 0))) * c(x, alpha)
    return at_least(x, c(x, 0)) + at_most(below, c(x, 0))


def sigmoid(x: Expr) -> Expr:
    return f.sigmoid(x) if kind(x) == "float32" else c(x, 1) / (c(x, 1) + exp(c(x, 0) - x))


def softplus(x: Expr) -> Expr:
    return at_least(x, c(x, 0)) + log1p(exp(c(x, 0) - tirx.abs(x)))


def mish(x: Expr) -> Expr:
    """tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2): one exponential."""

    def ratio(e: Expr) -> Expr:
        return bind(e * (e + c(x, 2)), lambda n: fraction(n, n + c(x, 2)))

    fraction = f.over if kind(x) == "float32" else floats.quotient
    return x * bind(exp(at_most(x, c(x, 20))), ratio)


def gelu(x: Expr, *, approximate: str) -> Expr:
    if kind(x) == "float32":
        if picks():
            return piecewise.gelu(x, approximate=approximate)
        return f.gelu_tanh(x) if approximate == "tanh" else m.gelu(x)
    if approximate == "tanh":
        inner = tanh(c(x, sqrt(0.6366197723675814)) * (x + c(x, 0.044715) * x * x * x))
    else:
        inner = erf(x * c(x, sqrt(0.5)))
    return c(x, 0.5) * x * (c(x, 1) + inner)


def is_infinite(x: Expr, *, detect_negative: int, detect_positive: int) -> Expr:
    above = c(x, 3.4028234663852886e38 if kind(x) == "float32" else 1.7976931348623157e308)
    up, down = above < x, x < c(x, 0) - above
    never = tirx.And(up, down)
    both = tirx.Or(up, down)
    return (
        both if detect_negative and detect_positive else down if detect_negative else up if detect_positive else never
    )


def add(a: Expr, b: Expr) -> Expr:
    return a + b if is_float(a) else whole.add(a, b)


def multiply(a: Expr, b: Expr) -> Expr:
    """The product of values that no constant is known of."""
    return a * b if is_float(a) else whole.multiply(a, b)


def power(a: Expr, b: Expr) -> Expr:
    if not is_float(a):
        return whole.power(a, b)
    exponent = float(b.value) if isinstance(b, tirx.FloatImm) else None
    if exponent in (1.0, 2.0, 3.0):
        return bind(a, lambda a: a if exponent == 1 else a * a if exponent == 2 else a * a * a)
    if exponent == -1.0:
        return floats.quotient(c(a, 1), a)
    return m.libm("pow", a, b)


def _extreme(a: Expr, b: Expr, nearer: Callable[[Expr, Expr], Expr]) -> Expr:
    """`a` where it is nearer or NaN, else `b`: two selections, the first of which is an instruction on many CPUs.

    Only NaN is not at most infinity. TVM would turn a negation of that around, as if there were no NaN.
    """

    def of(a: Expr, b: Expr) -> Expr:
        return bind(tirx.Select(nearer(a, b), a, b), lambda t: tirx.Select(a <= c(a, inf), t, a))

    return bind(b, lambda b: bind(a, lambda a: of(a, b))) if is_float(a) else tirx.Select(nearer(a, b), a, b)


def minimum(a: Expr, b: Expr) -> Expr:
    return _extreme(a, b, lambda a, b: a < b)


def maximum(a: Expr, b: Expr) -> Expr:
    return _extreme(a, b, lambda a, b: b < a)


def shift(a: Expr, b: Expr, *, direction: str) -> Expr:
    """A shift by the width or more, or by a negative number, leaves nothing but the sign."""
    width = int(kind(a).lstrip("uint"))
    inside = b < c(b, width)
    if not is_unsigned(b):
        inside = tirx.And(inside, b >= c(b, 0))
    by = tirx.Select(inside, b, c(b, width - 1))
    shifted = a << by if direction == "LEFT" else a >> by
    return shifted if direction == "RIGHT" and not is_unsigned(a) else tirx.Select(inside, shifted, c(a, 0))


def logical(fn: Callable[..., Expr]) -> Callable[..., Expr]:
    """A function of truth values on their bytes."""

    def of(*args: Expr) -> Expr:
        return tirx.NE(fn(*(tirx.Cast("int8", a) for a in args)), lit(0, "int8"))

    return of


def equal(a: Expr, b: Expr) -> Expr:
    if kind(a) == "bool":
        a, b = tirx.Cast("int8", a), tirx.Cast("int8", b)
    return floats.apart(a, b, tirx.EQ) if is_float(a) else tirx.EQ(a, b)


def difference(a: Expr, b: Expr) -> Expr:
    return floats.apart(a, b, lambda a, b: a - b) if is_float(a) else whole.subtract(a, b)


def product(a: Expr, b: Expr) -> Expr:
    return floats.product(a, b) if is_float(a) else whole.multiply(a, b)


def _hyperbolic(name: str, vector: Callable[[Expr], Expr]) -> Callable[..., Expr]:
    """Vector code on cores with an operating system; firmware calls the library, which is smaller."""
    return lambda x: vector(x) if kind(x) == "float32" and has_doubles() else m.libm(name, x)


HYPERBOLIC = {"sinh": h.sinh, "cosh": h.cosh, "asinh": h.asinh, "acosh": h.acosh, "atanh": h.atanh}
SCALAR: dict[str, Callable[..., Expr]] = {
    "Abs": absolute,
    "Neg": lambda x: c(x, -0.0) - x if is_float(x) else whole.negative(x),
    "Ceil": tirx.ceil,
    "Floor": tirx.floor,
    "Round": floats.rint,
    "Sign": sign,
    "Sqrt": tirx.sqrt,
    "Exp": exp,
    "Log": log,
    "Reciprocal": lambda x: floats.quotient(c(x, 1), x),
    "Sin": _float("sin", m.sin),
    "Cos": _float("cos", m.cos),
    "Atan": _float("atan", m.atan),
    "Tanh": tanh,
    "Erf": erf,
    "Asin": _float("asin", m.asin),
    "Acos": _float("acos", m.acos),
    "Tan": _float("tan"),
    **{name.capitalize(): _hyperbolic(name, fn) for name, fn in HYPERBOLIC.items()},
    "Sigmoid": sigmoid,
    "Relu": relu,
    "HardSwish": lambda x: x * clamp01(x * c(x, 1 / 6) + c(x, 0.5)),
    "Softplus": softplus,
    "Softsign": lambda x: x / (c(x, 1) + tirx.abs(x)),
    "Mish": mish,
    "Not": lambda x: tirx.EQ(tirx.Cast("int8", x), lit(0, "int8")),
    "IsNaN": floats.is_nan,
    "IsInf": is_infinite,
    "LeakyRelu": lambda x, *, alpha: tirx.Select(x < c(x, 0), floats.product(x, c(x, alpha)), x),
    "Elu": elu,
    "Selu": elu,
    "Celu": celu,
    "HardSigmoid": lambda x, *, alpha, beta: clamp01(floats.product(x, c(x, alpha)) + c(x, beta)),
    "ThresholdedRelu": lambda x, *, alpha: tirx.Select(c(x, alpha) < x, x, c(x, 0)),
    "Gelu": gelu,
    "Clip": clip,
    "BitwiseNot": lambda x: tirx.bitwise_not(x),
    "Add": add,
    "Sub": difference,
    "Mul": product,
    "Div": divide,
    "Pow": power,
    "Mod": modulo,
    "Min": minimum,
    "Max": maximum,
    "And": logical(lambda a, b: a & b),
    "Or": logical(lambda a, b: a | b),
    "Xor": logical(lambda a, b: a ^ b),
    "Equal": equal,
    "Less": lambda a, b: a < b,
    "LessOrEqual": lambda a, b: a <= b,
    "Greater": lambda a, b: b < a,
    "GreaterOrEqual": lambda a, b: b <= a,
    "BitShift": shift,
    "BitwiseAnd": lambda a, b: a & b,
    "BitwiseOr": lambda a, b: a | b,
    "BitwiseXor": lambda a, b: a ^ b,
    "PRelu": lambda x, slope: tirx.Select(x < c(x, 0), product(x, slope), x),
    "Where": lambda condition, a, b: tirx.Select(condition, a, b),
}
