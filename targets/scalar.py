"""Elementwise operators as TensorIR expressions: one row each, the same for a scalar and for a vector of lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from .tir import Expr, lit

SCALAR: dict[str, Callable[..., Expr]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Relu": lambda x: tirx.max(x, lit(0, str(x.ty.dtype))),
}


def clip(x: Expr, *, min: float, max: float, **_: Any) -> Expr:
    kind = str(x.ty.dtype)
    return tirx.min(tirx.max(x, lit(min, kind)), lit(max, kind))


SCALAR["Clip"] = clip
