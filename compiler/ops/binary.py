"""Elementwise operators of two and three arguments. Shapes broadcast as in numpy; element types are equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import IRError
from ..ir import Attr, Type
from ..op import op
from .common import BOOL, INTS, NUMBERS, ORDERED, Tensor, broadcast, equal_types, require, widened


def _pair(allowed: frozenset[str], result: str = "") -> Callable[..., tuple[Type, ...]]:
    def infer(a: Type, b: Type, **_: Any) -> tuple[Type, ...]:
        equal_types(a, b)
        require(a, allowed)
        return (Type(result or a.dtype, broadcast(a.shape, b.shape)),)

    return infer


def divide(a: Tensor, b: Tensor) -> Tensor:
    """Integers divide towards zero, as in C; division by zero gives 0 here and is undefined in ONNX."""
    if a.dtype.kind not in "iu":
        return np.asarray(a / b)
    quotient = a // b
    inexact = (quotient * b != a) & ((a < 0) != (b < 0)) & (b != 0)
    return np.asarray(quotient + inexact.astype(a.dtype))


def power(a: Tensor, b: Tensor) -> Tensor:
    """Integers wrap around; above 64 an exponent counts as 64 or 65, below zero 1 / a is cut to 1, -1 or 0."""
    if a.dtype.kind not in "iu":
        return np.asarray(np.power(a, b))
    odd = (b & 1).astype(a.dtype)
    value = np.power(a, np.clip(b, 0, 64 + odd))
    sign = np.where(odd == 1, a, 1)
    return np.where(b < 0, np.where(np.abs(a) == 1, sign, 0), value)


def modulo(a: Tensor, b: Tensor, fmod: int) -> Tensor:
    """fmod=0: the sign of the divisor (Python); fmod=1: the sign of the dividend (C)."""
    return np.asarray(np.fmod(a, b) if fmod else np.mod(a, b))


def shift(a: Tensor, b: Tensor, direction: str) -> Tensor:
    """Bits shifted LEFT or RIGHT; a shift by the width or more leaves nothing but the sign."""
    width = 8 * a.dtype.itemsize
    if direction == "LEFT":
        return np.where(b < width, np.left_shift(a, b), 0)
    almost = np.right_shift(a, np.minimum(b, width - 1))
    return np.asarray(np.right_shift(almost, (b >= width).astype(a.dtype)))


def _where_type(condition: Type, a: Type, b: Type) -> tuple[Type, ...]:
    require(condition, BOOL, "condition")
    equal_types(a, b)
    return (Type(a.dtype, broadcast(condition.shape, a.shape, b.shape)),)


def _prelu_type(x: Type, slope: Type) -> tuple[Type, ...]:
    equal_types(x, slope)
    require(x, NUMBERS)
    if broadcast(x.shape, slope.shape) != x.shape:
        raise IRError(f"slope {slope} does not broadcast to {x}")
    return (Type(x.dtype, x.shape),)


def _binary(
    name: str, fn: Callable[..., Any], allowed: frozenset[str] = NUMBERS, *, commutes: bool = False, **attrs: Attr
) -> None:
    def meaning(a: Tensor, b: Tensor, **k: Any) -> Tensor:
        return np.asarray(fn(widened(a), widened(b), **k)).astype(a.dtype)

    op(name, 2, _pair(allowed), meaning, kind="elementwise", attrs=attrs, commutes=commutes)


def _compare(name: str, fn: Callable[..., Any], allowed: frozenset[str], *, commutes: bool = False) -> None:
    op(name, 2, _pair(allowed, "bool"), fn, kind="elementwise", commutes=commutes)


_binary("Add", np.add, commutes=True)
_binary("Sub", np.subtract)
_binary("Mul", np.multiply, commutes=True)
_binary("Div", divide)
_binary("Pow", power)
_binary("Mod", modulo, fmod=0)
_binary("Min", np.minimum, commutes=True)
_binary("Max", np.maximum, commutes=True)
_binary("BitShift", shift, INTS, direction="LEFT")
_binary("BitwiseAnd", np.bitwise_and, INTS, commutes=True)
_binary("BitwiseOr", np.bitwise_or, INTS, commutes=True)
_binary("BitwiseXor", np.bitwise_xor, INTS, commutes=True)
_compare("And", np.logical_and, BOOL, commutes=True)
_compare("Or", np.logical_or, BOOL, commutes=True)
_compare("Xor", np.logical_xor, BOOL, commutes=True)
_compare("Equal", np.equal, ORDERED, commutes=True)
_compare("Less", np.less, NUMBERS)
_compare("LessOrEqual", np.less_equal, NUMBERS)
_compare("Greater", np.greater, NUMBERS)
_compare("GreaterOrEqual", np.greater_equal, NUMBERS)
op("PRelu", 2, _prelu_type, lambda x, slope: np.where(x < 0, x * slope, x), kind="elementwise")
op("Where", 3, _where_type, lambda condition, a, b: np.where(condition, a, b), kind="elementwise")
