"""Functions of one number in f64, where they are tried, and how far off an answer in f32 is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

SPECIAL = np.asarray(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-38, 3.4e38, -3.4e38, 88.7, -87.3, -103.9, 1.0], np.float32
)


def erf(x: Any) -> Any:
    return np.asarray([math.erf(v) for v in x])


EXACT: dict[str, tuple[Any, float, float, float]] = {  # numpy function, range, greatest error in ulp
    "Exp": (np.exp, -87.3, 88.7, 2),
    "Log": (np.log, 0, 3e38, 2),
    "Tanh": (np.tanh, -12, 12, 4),
    "Sigmoid": (lambda x: 1 / (1 + np.exp(-x)), -87, 87, 4),
    "Erf": (erf, -6, 6, 2),
    "Sin": (np.sin, -1e5, 1e5, 2),
    "Cos": (np.cos, -1e5, 1e5, 2),
    "Atan": (np.arctan, -1e5, 1e5, 3),
    "Asin": (np.arcsin, -1, 1, 3),
    "Acos": (np.arccos, -1, 1, 3),
    "Sinh": (np.sinh, -89.4, 89.4, 2),
    "Cosh": (np.cosh, -89.4, 89.4, 2),
    "Asinh": (np.arcsinh, -3e38, 3e38, 3),
    "Acosh": (np.arccosh, 1, 3e38, 2),
    "Atanh": (np.arctanh, -1, 1, 4),
    "Softplus": (lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), -80, 80, 4),
    "Elu": (lambda x: np.where(x < 0, np.expm1(x), x), -80, 80, 4),
}


def points(low: float, high: float) -> Any:
    rng = np.random.default_rng(0)
    even = rng.uniform(low, high, 20000)
    small = 10 ** rng.uniform(-37, np.log10(max(high, 1)), 20000)
    both = np.concatenate([even, small, -small if low < 0 else small]).astype(np.float32)
    return both[(both > low) & (both < high)][:40000]


def ulps(have: Any, want: Any) -> Any:
    return np.abs(have.astype(np.float64) - want) / np.spacing(np.abs(want.astype(np.float32)).clip(1.2e-38)).astype(
        np.float64
    )
