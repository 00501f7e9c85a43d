"""Elementwise operators of one argument. f16 and bf16 are computed in f32 and rounded once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir import Attr
from ..op import op
from .common import BOOL, FLOATS, INTS, NUMBERS, SIGNED, Tensor, dtype_of, limits, predicate, same, widened
from .error_function import error_function


def erf(x: Tensor) -> Tensor:
    """The error function, to the precision of f64."""
    return error_function(x.astype(np.float64)).astype(x.dtype)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), without overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def gelu(x: Tensor, approximate: str) -> Tensor:
    """x * P(X <= x), exactly or through tanh (Hendrycks and Gimpel, 2016)."""
    if approximate == "tanh":
        inner = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
    else:
        inner = erf(x * np.asarray(math.sqrt(0.5), x.dtype))
    return np.asarray(0.5 * x * (1 + inner))


def clip(x: Tensor, min: float, max: float) -> Tensor:
    """Limits outside an integer type's range are its own."""
    low, high = limits(dtype_of(x))
    least, most = (high if v > high else low if v < low else v for v in (min, max))  # i64's are no f64
    if x.dtype.kind in "iu":
        least, most = int(least), int(most)
    return np.asarray(np.minimum(np.maximum(x, np.asarray(least, x.dtype)), np.asarray(most, x.dtype)))


def _is_inf(x: Tensor, detect_negative: int, detect_positive: int) -> Tensor:
    signs = np.where(np.isinf(x), np.sign(x), 0)
    return ((signs > 0) & bool(detect_positive)) | ((signs < 0) & bool(detect_negative))


def _unary(name: str, fn: Callable[..., Any], allowed: frozenset[str] = FLOATS, **attrs: Attr) -> None:
    def meaning(x: Tensor, **a: Any) -> Tensor:
        return np.asarray(fn(widened(x), **a)).astype(x.dtype)

    op(name, 1, same(allowed), meaning, kind="elementwise", attrs=attrs)


_unary("Abs", np.abs, NUMBERS)
_unary("Neg", np.negative, SIGNED)
_unary("Ceil", np.ceil)
_unary("Floor", np.floor)
_unary("Round", np.rint)
_unary("Sign", np.sign, NUMBERS)
_unary("Sqrt", np.sqrt)
_unary("Exp", np.exp)
_unary("Log", np.log)
_unary("Reciprocal", lambda x: 1 / x)
for _name, _fn in {
    "Sin": np.sin, "Cos": np.cos, "Tan": np.tan, "Asin": np.arcsin, "Acos": np.arccos, "Atan": np.arctan,
    "Sinh": np.sinh, "Cosh": np.cosh, "Tanh": np.tanh, "Asinh": np.arcsinh, "Acosh": np.arccosh, "Atanh": np.arctanh,
}.items():  # fmt: skip
    _unary(_name, _fn)
_unary("Erf", erf)
_unary("Sigmoid", sigmoid)
_unary("Relu", lambda x: np.maximum(x, 0), SIGNED)
_unary("HardSwish", lambda x: x * np.clip(x / 6 + 0.5, 0, 1))
_unary("Softplus", softplus)
_unary("Softsign", lambda x: x / (1 + np.abs(x)))
_unary("Mish", lambda x: x * np.tanh(softplus(x)))
_unary("LeakyRelu", lambda x, alpha: np.where(x < 0, alpha * x, x), alpha=0.01)
_unary("Elu", lambda x, alpha: np.where(x < 0, alpha * np.expm1(x), x), alpha=1.0)
_unary(
    "Selu",
    lambda x, alpha, gamma: gamma * np.where(x < 0, alpha * np.expm1(x), x),
    alpha=1.6732632423543772,
    gamma=1.0507009873554805,
)
_unary("Celu", lambda x, alpha: np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha)), alpha=1.0)
_unary("HardSigmoid", lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1), alpha=0.2, beta=0.5)
_unary("ThresholdedRelu", lambda x, alpha: np.where(x > alpha, x, 0), alpha=1.0)
_unary("Gelu", gelu, approximate="none")
_unary("BitwiseNot", np.invert, INTS)
op("Clip", 1, same(NUMBERS), clip, kind="elementwise", attrs={"min": -math.inf, "max": math.inf})
op("Not", 1, same(BOOL), np.logical_not, kind="elementwise")
op("IsNaN", 1, predicate(FLOATS), np.isnan, kind="elementwise")
op("IsInf", 1, predicate(FLOATS), _is_inf, kind="elementwise", attrs={"detect_negative": 1, "detect_positive": 1})
