"""Results whose size depends on data: NonZero, Compress and Unique with a count, and what is cut to one (Edgec.Sized).

Such a result has the type of its largest size. What is there comes first along one axis, zeros fill the rest, and a
count says at run time how much is there.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import REQUIRED, op
from .common import BOOL, ORDERED, Tensor, axis_in, require, widened

COUNT = Type("i64", ())


def filled(x: Tensor, axis: int, size: int) -> Tensor:
    """The array with zeros after it, so that `axis` has `size` entries."""
    pads = [(0, size - n if k == axis else 0) for k, n in enumerate(x.shape)]
    return np.pad(x, pads)


def counted(n: int) -> Tensor:
    return np.asarray(n, np.int64)


def _sized(x: Type, count: Type, axis: int, **_: Any) -> tuple[Type, ...]:
    if (count.dtype, count.shape) != (COUNT.dtype, COUNT.shape):
        raise IRError(f"the count is {count}; expected {COUNT}")
    axis_in(axis, len(x.shape))
    return (x,)


def _cut(x: Tensor, count: Tensor, axis: int, **_: Any) -> Tensor:
    """Shorter than the type says: nothing but the user reads it."""
    return np.take(x, range(int(count)), axis)


def _below(count: Type, size: int) -> tuple[Type, ...]:
    if (count.dtype, count.shape) != (COUNT.dtype, COUNT.shape) or size < 0:
        raise IRError(f"{size} positions cannot be compared with {count}; expected {COUNT}")
    return (Type("bool", (size,)),)


def _non_zero(x: Type) -> tuple[Type, ...]:
    if not x.shape:
        raise IRError("a scalar has no axis")
    return Type("i64", (len(x.shape), x.size)), COUNT


def non_zero(x: Tensor) -> tuple[Tensor, Tensor]:
    """Positions in row-major order, a row for each axis; NaN is not zero."""
    found = np.asarray(np.nonzero(x), np.int64)
    return filled(found, 1, x.size), counted(found.shape[1])


def _compressed(x: Type, condition: Type, axis: int) -> tuple[Type, ...]:
    require(condition, BOOL, "condition")
    at = axis_in(axis, len(x.shape))
    if len(condition.shape) != 1 or condition.shape[0] > x.shape[at]:
        raise IRError(f"condition {condition} does not fit axis {axis} of {x}")
    return Type(x.dtype, (*x.shape[:at], condition.shape[0], *x.shape[at + 1 :])), COUNT


def compress(x: Tensor, condition: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The slices whose condition is true; there is none for those beyond its end."""
    kept = np.take(x, np.flatnonzero(condition), axis)
    return filled(kept, axis % x.ndim, condition.size), counted(kept.shape[axis])


def _distinct(x: Type, axis: int, sorted: int) -> tuple[Type, ...]:
    require(x, ORDERED)
    n = x.shape[axis_in(axis, len(x.shape))]
    if sorted not in (0, 1):
        raise IRError(f"sorted is {sorted}; expected 0 or 1")
    return (Type(x.dtype, x.shape), *(Type("i64", (n,)),) * 3, COUNT)


def unique(x: Tensor, axis: int, sorted: int) -> tuple[Tensor, ...]:
    """Slices that differ, where each is first, which of them each slice is (never filled), and how often each is there.

    Slices compare element by element; NaN equals NaN and comes last, as in numpy.unique.
    """
    axis, n = axis % x.ndim, x.shape[axis]
    table = np.moveaxis(widened(x), axis, 0).reshape(n, prod(x.shape) // max(n, 1))
    codes = [np.unique(column, return_inverse=True)[1] for column in table.T]
    order = np.lexsort(codes[::-1]) if codes else np.arange(n)
    new = np.ones(n, bool)
    for column in (code[order] for code in codes):
        new[1:] &= column[1:] == column[:-1]
    new[1:] = ~new[1:]
    first = order[new]  # the sort is stable
    which = np.empty(n, np.int64)
    which[order] = np.cumsum(new) - 1
    if not sorted:
        by_place = np.argsort(first)
        first, which = first[by_place], np.argsort(by_place)[which]
    times = np.bincount(which, minlength=len(first))
    values = filled(np.take(x, first, axis), axis, n)
    return values, filled(first, 0, n), which, filled(times.astype(np.int64), 0, n), counted(len(first))


op("Edgec.Sized", 2, _sized, _cut, attrs={"axis": REQUIRED, "arena": ()})
op("Edgec.Below", 1, _below, lambda count, size: np.arange(size) < count, attrs={"size": REQUIRED})
op("Edgec.NonZero", 1, _non_zero, non_zero, kind="other", alone=True)
op("Edgec.Compress", 2, _compressed, compress, kind="other", alone=True, attrs={"axis": REQUIRED})
op("Edgec.Unique", 1, _distinct, unique, kind="other", alone=True, attrs={"axis": REQUIRED, "sorted": 1})
