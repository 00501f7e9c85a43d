"""Elementwise operators: arguments by inference, in the domain where results are numbers; shapes that broadcast."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np

import edgec.compiler.ops  # noqa: F401  (fills the operator table)
from edgec.compiler.dtypes import DTYPES, dtype
from edgec.compiler.errors import IRError
from edgec.compiler.ir import Type, Value
from edgec.compiler.op import OPS, infer
from edgec.compiler.ops.common import BOOL, FLOATS, INTS, NUMBERS, SIGNED, limits

from ..arrays import NEAT
from ..draw import Draw, is_float
from . import RECIPES, recipe

# Where results are numbers that mean something; outside, arguments are clipped first.
DOMAINS: dict[str, tuple[float, float]] = {
    "Sqrt": (0, inf), "Log": (1e-3, inf), "Asin": (-1, 1), "Acos": (-1, 1), "Acosh": (1, inf), "Atanh": (-0.95, 0.95),
    "Exp": (-20, 8), "Tan": (-1.3, 1.3), "Sinh": (-6, 6), "Cosh": (-6, 6), "Reciprocal": (0.05, inf),
    "Gelu": (-1e4, inf), "Sigmoid": (-80, inf), "Sin": (-1e5, 1e5), "Cos": (-1e5, 1e5),
}  # fmt: skip
ATTRS: dict[str, dict[str, tuple[Any, ...]]] = {
    "LeakyRelu": {"alpha": (0.3, 0.0, 1.5, -0.5)},
    "Elu": {"alpha": (2.0, 0.3)},
    "Selu": {"alpha": (1.5,), "gamma": (2.0, 0.5)},
    "Celu": {"alpha": (0.5, 3.0)},
    "HardSigmoid": {"alpha": (0.3, 1 / 6), "beta": (0.4, 0.0)},
    "ThresholdedRelu": {"alpha": (0.3, 0.0, -0.5)},
    "Gelu": {"approximate": ("tanh",)},
    "IsInf": {"detect_negative": (0,), "detect_positive": (0,)},
}


def attributes(d: Draw, op: str) -> dict[str, Any]:
    """Some attributes other than the defaults."""
    return {key: d.choice(values) for key, values in ATTRS.get(op, {}).items() if d.flag()}


def accepted(op: str, *types: Type, **attrs: Any) -> bool:
    try:
        infer(op, types, attrs)
        return True
    except IRError:
        return False


def within(d: Draw, x: Value, low: float, high: float) -> Value:
    """`x`, or what brings it between two limits."""
    held = d.known[x].astype(np.float64)
    if held.size and held.min() >= low and held.max() <= high:
        return x
    if is_float(x.type) and low >= 0 and high == inf and d.flag():
        y = d.emit("Abs", x) if d.flag() else d.emit("Mul", x, x)
        return d.emit("Add", y, d.constant(low, x.type.dtype)) if low else y
    return d.emit("Clip", x, min=float(low), max=float(high))


def argument(d: Draw, fits: Callable[[Type], bool]) -> Value:
    """A value of a type that the operator takes."""

    def otherwise() -> Type:
        allowed = {name for name in DTYPES if fits(Type(name, (2, 3)))}
        return Type(d.dtype(allowed), d.shape())

    return d.pick(fits, otherwise)


def unary(d: Draw, op: str) -> None:
    attrs = attributes(d, op)
    x = argument(d, lambda t: accepted(op, t, **attrs))
    low, high = DOMAINS.get(op, (-inf, inf))
    d.emit(op, x if low == -inf else within(d, x, low, high), **attrs)


def broadcast_shape(d: Draw, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts with another: axes of size 1, or left out in front."""
    kept = [n if d.flag(0.6) else 1 for n in shape]
    if d.flag(0.3):
        kept = kept[d.integer(0, len(kept)) :]
    return tuple(kept)


def partner(d: Draw, x: Value, style: str = "") -> Value:
    """A second argument for `x`: another value that broadcasts, a neat scalar, one number per channel ..."""
    others = [v for v in d.values if v.type.dtype == x.type.dtype and v != x and v.type.size]
    alike = [v for v in others if v.shape == x.shape]
    kind = d.weighted({"alike": 6 if alike else 0, "broadcast": 3 if others else 0, "scalar": 4, "fresh": 3, "self": 1})
    if kind == "alike":
        return d.choice(alike[-4:])
    if kind == "broadcast":
        fitting = [v for v in others if accepted("Equal", x.type, v.type)]
        return d.choice(fitting)
    if kind == "self":
        return x
    if kind == "scalar":
        shape = (1,) * d.choice((0, 0, 1, len(x.shape)))
        number = d.choice(NEAT) if is_float(x.type) else d.integer(0, 3)
        return d.constant(np.full(shape, number), x.type.dtype)
    return d.fresh(Type(x.type.dtype, broadcast_shape(d, x.shape)), style, constant=0.7)


def binary(d: Draw, op: str) -> None:
    attrs = attributes(d, op)
    a = argument(d, lambda t: accepted(op, t, t, **attrs))
    b = partner(d, a)
    d.emit(op, *((a, b) if d.flag(0.7) else (b, a)), **attrs)


def nonzero(d: Draw, x: Value) -> Value:
    """`x` without zeros."""
    if (d.known[x] != 0).all() and not (is_float(x.type) and np.abs(d.known[x].astype(np.float64)).min() < 0.05):
        return x
    if not is_float(x.type):
        return d.emit("Max", x, d.constant(1, x.type.dtype)) if d.flag() else d.fresh(x.type, "positive", 0.7)
    return d.emit("Add", d.emit("Abs", x), d.constant(0.5, x.type.dtype))


@recipe("Div", family="elementwise", weight=2)
def quotient(d: Draw, op: str) -> None:
    a = argument(d, lambda t: t.dtype in NUMBERS)
    b = partner(d, a, "positive")
    d.emit(op, a, b if d.flag(0.03) else nonzero(d, b))


@recipe("Mod", family="elementwise")
def remainder(d: Draw, op: str) -> None:
    a = argument(d, lambda t: t.dtype in NUMBERS)
    fmod = 1 if is_float(a.type) else d.integer(0, 1)
    d.emit(op, a, nonzero(d, partner(d, a)), fmod=fmod)


@recipe("Pow", family="elementwise")
def power(d: Draw, op: str) -> None:
    a = argument(d, lambda t: t.dtype in NUMBERS)
    if is_float(a.type) and d.flag():
        exponent = d.constant(d.choice((2.0, 3.0, 1.0, 0.0, -1.0, 4.0)), a.type.dtype)
        d.emit(op, nonzero(d, a) if d.known[exponent] < 0 else a, exponent)
    elif is_float(a.type):
        b = partner(d, a)
        d.emit(op, within(d, a, 0.05, inf), within(d, b, -3, 3))
    else:
        d.emit(op, within(d, a, -5, 5), d.constant(d.integer(0, 3), a.type.dtype))


@recipe("BitShift", family="elementwise")
def shifted(d: Draw, op: str) -> None:
    a = argument(d, lambda t: t.dtype in INTS)
    width = 8 * dtype(a.type.dtype).bytes
    most = width - 1 if d.flag(0.9) else width + 3
    by = d.arrays.integers(0, most, broadcast_shape(d, a.shape), endpoint=True)
    d.emit(op, a, d.hold(by.astype(dtype(a.type.dtype).numpy), 0.7), direction=d.choice(("LEFT", "RIGHT")))


@recipe("Cast", family="elementwise", weight=3)
def cast(d: Draw, op: str) -> None:
    x = argument(d, lambda t: True)
    to = d.dtype()
    if to in INTS and is_float(x.type):
        low, high = limits(to)
        x = within(d, x, max(low, -100), min(high, 100))
    d.emit(op, x, to=to)


@recipe("Clip", family="elementwise", weight=2)
def clip(d: Draw, op: str) -> None:
    x = argument(d, lambda t: t.dtype in NUMBERS)
    low, high = sorted((d.choice((-inf, 0.0, -1.0, 0.5, -2.0)), d.choice((inf, 1.0, 6.0, 0.5, 3.0))))
    d.emit(op, x, **({"min": low} if low != -inf else {}), **({"max": high} if high != inf else {}))


@recipe("PRelu", family="elementwise")
def prelu(d: Draw, op: str) -> None:
    x = argument(d, lambda t: t.dtype in SIGNED)
    d.emit(op, x, d.fresh(Type(x.type.dtype, broadcast_shape(d, x.shape)), constant=0.8))


@recipe("Where", family="elementwise", weight=2)
def where(d: Draw, op: str) -> None:
    a = argument(d, lambda t: True)
    b = partner(d, a)
    masks = [v for v in d.values if v.type.dtype == "bool" and accepted(op, v.type, a.type, b.type)]
    if masks and d.flag():
        condition = d.choice(masks)
    elif a.type.dtype in NUMBERS and d.flag():
        condition = d.emit(d.choice(("Less", "GreaterOrEqual", "Equal")), a, partner(d, a))
    else:
        condition = d.fresh(Type("bool", broadcast_shape(d, a.shape)))
    d.emit(op, condition, a, b)


@recipe("Equal", family="elementwise")
def equal(d: Draw, op: str) -> None:
    a = argument(d, lambda t: t.dtype not in FLOATS or d.flag(0.3))
    d.emit(op, a, partner(d, a))


@recipe("Not", family="elementwise")
def negation(d: Draw, op: str) -> None:
    d.emit(op, d.pick(lambda t: t.dtype == "bool", lambda: Type("bool", d.shape())))


@recipe("And", "Or", "Xor", family="elementwise", weight=0.7)
def logic(d: Draw, op: str) -> None:
    a = d.pick(lambda t: t.dtype in BOOL, lambda: Type("bool", d.shape()))
    d.emit(op, a, partner(d, a))


def generic() -> None:
    """The elementwise operators that need nothing but what inference says."""
    often = {"Add": 5, "Mul": 5, "Sub": 3, "Relu": 4, "Sigmoid": 2, "Tanh": 2, "Max": 2, "Min": 2, "Exp": 2}
    for name, row in OPS.items():
        if row.kind == "elementwise" and name not in RECIPES and row.arity in ((1, 1), (2, 2)):
            make = unary if row.arity == (1, 1) else binary
            recipe(name, family="elementwise", weight=often.get(name, 0.6))(make)
