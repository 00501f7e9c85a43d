"""What inputs and constants hold: numbers whose sums, products and indices mean something."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.compiler.dtypes import dtype, integer_limits, of_numpy
from edgec.compiler.ir import Array, Type

NEAT = (0.0, 1.0, -1.0, 2.0, 0.5, 3.0, -0.5, 0.1, 6.0, 0.044715, 0.7978845608, 0.70710678)


def array_of(rng: np.random.Generator, t: Type, style: str = "") -> Array:
    """Numbers of a type. Styles: "" ordinary, weights (their sums stay small), positive, neat, wide, zeros."""
    kind = dtype(t.dtype).numpy
    if t.dtype == "bool":
        return np.asarray(rng.random(t.shape) < 0.5)
    if dtype(t.dtype).is_storage:
        return _stored(rng, t)
    if style == "zeros":
        return np.zeros(t.shape, kind)
    numbers = _reals(rng, t, style) if dtype(t.dtype).is_float else _integers(rng, t, style)
    return np.asarray(numbers).astype(kind)


def real(array: Array) -> bool:
    """Whether an array computes with real numbers."""
    return dtype(of_numpy(array.dtype)).is_float


def _stored(rng: np.random.Generator, t: Type) -> Array:
    """Numbers of a type that only stores them."""
    row = dtype(t.dtype)
    if row.is_whole:
        low, high = integer_limits(row)
        return np.asarray(rng.integers(low, high, t.shape, endpoint=True)).astype(row.numpy)
    numbers = np.asarray(rng.standard_normal(t.shape) * 2).astype(np.float32)
    return (np.abs(numbers) if t.dtype == "f8e8m0" else numbers).astype(row.numpy)


def sprinkled(rng: np.random.Generator, array: Array) -> Array:
    """Floats among which some are infinite, no number, zero with a sign, or next to nothing."""
    if not real(array):
        return array
    special = rng.choice([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-41, -1e-39, 1.0, 3e38, -3e38], array.shape)
    with np.errstate(all="ignore"):
        return np.where(rng.random(array.shape) < 0.1, special, array.astype(np.float64)).astype(array.dtype)


def _reals(rng: np.random.Generator, t: Type, style: str) -> Any:
    if style == "neat":
        return rng.choice(NEAT, t.shape)
    if style == "positive":
        return rng.uniform(0.05, 2, t.shape)
    if style == "wide":
        return rng.standard_normal(t.shape) * 10.0 ** rng.integers(-4, 3, t.shape)
    if style == "weights":
        return rng.standard_normal(t.shape) / max(1.0, np.sqrt(t.size / max(t.shape[0], 1) if t.shape else 1))
    return rng.standard_normal(t.shape) * rng.choice([0.5, 1, 1, 3])


def _integers(rng: np.random.Generator, t: Type, style: str) -> Any:
    info: Any = np.iinfo(dtype(t.dtype).numpy.type)  # type: ignore[type-var]
    signed = info.min < 0
    if style == "wide" or (style == "" and rng.random() < 0.1):
        return rng.integers(info.min, info.max, t.shape, dtype=dtype(t.dtype).numpy.type, endpoint=True)
    if style in ("positive", "neat"):
        return rng.integers(1 if style == "positive" else 0, 4, t.shape)
    return rng.integers(-9 if signed else 0, 9, t.shape, endpoint=True)
