"""Folds over axes: the Reduce family, ArgMax, ArgMin, CumSum, CumProd. No axes: nothing is folded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import REQUIRED, op
from .binary import divide
from .common import NUMBERS, ORDERED, Infer, Ints, Tensor, axis_in, check_axes, dtype_of, limits, require, widened


def _without(shape: Ints, axes: Ints, keepdims: int) -> Ints:
    return tuple(1 if k in axes else n for k, n in enumerate(shape) if keepdims or k not in axes)


def _reduced(allowed: frozenset[str]) -> Infer:
    def infer(x: Type, axes: Ints, keepdims: int) -> tuple[Type, ...]:
        require(x, allowed)
        check_axes(axes, len(x.shape))
        return (Type(x.dtype, _without(x.shape, axes, keepdims)),)

    return infer


def mean(x: Tensor, axis: Ints, keepdims: bool) -> Tensor:
    """Integers divide towards zero."""
    if x.dtype.kind in "iu":
        total = np.asarray(np.sum(_summed(x), axis=axis, keepdims=keepdims))
        count = total.dtype.type(np.prod([x.shape[a] for a in axis], dtype=np.int64) or 1)
        return divide(total, count)
    return np.asarray(np.mean(x, axis=axis, keepdims=keepdims))


def _summed(x: Tensor) -> Tensor:
    """Integers in 64 bits."""
    return x.astype(np.uint64 if x.dtype.kind == "u" else np.int64) if x.dtype.kind in "iu" else x


def _real(x: Tensor) -> Tensor:
    return x.astype(np.float64) if x.dtype.kind in "iu" else x


def log_sum_exp(x: Tensor, axis: Ints, keepdims: bool) -> Tensor:
    """Stable: the greatest element is taken out of the sum."""
    wide = _real(x)
    top = np.max(wide, axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0).astype(wide.dtype)
    total = np.log(np.sum(np.exp(wide - top), axis=axis, keepdims=True)) + top
    return np.asarray(total if keepdims else np.squeeze(total, axis))


def _extreme(fn: np.ufunc, end: int) -> Callable[..., Tensor]:
    def fold(x: Tensor, axis: Ints, keepdims: bool) -> Tensor:
        start = {} if x.size else {"initial": np.asarray(limits(dtype_of(x))[end]).astype(x.dtype)}
        return np.asarray(fn.reduce(x, axis=axis, keepdims=keepdims, **start))

    return fold


def _sum_of(fn: Callable[[Tensor], Any], after: Callable[[Any], Any] = lambda y: y) -> Callable[..., Any]:
    return lambda x, axis, keepdims: after(np.sum(fn(x), axis=axis, keepdims=keepdims))


def _reduce(name: str, fn: Callable[..., Any], allowed: frozenset[str] = NUMBERS) -> None:
    def meaning(x: Tensor, axes: Ints, keepdims: int) -> Tensor:
        return np.asarray(fn(widened(x), axis=axes, keepdims=bool(keepdims))).astype(x.dtype)

    op(name, 1, _reduced(allowed), meaning, kind="reduce", attrs={"axes": REQUIRED, "keepdims": 1})


def _arg(x: Type, axis: int, keepdims: int, select_last_index: int) -> tuple[Type, ...]:
    require(x, NUMBERS)
    at = axis_in(axis, len(x.shape))
    result = Type("i64", _without(x.shape, (at,), keepdims))
    if result.size and not x.size:
        raise IRError(f"axis {at} of {x} has no elements, so none is the extreme")
    return (result,)


def _arg_meaning(fn: Callable[..., Any]) -> Callable[..., Tensor]:
    def meaning(x: Tensor, axis: int, keepdims: int, select_last_index: int) -> Tensor:
        if not x.size:
            index = np.zeros(_without(x.shape, (axis % x.ndim,), 0), np.int64)
        elif select_last_index:
            index = x.shape[axis] - 1 - fn(np.flip(x, axis), axis=axis)
        else:
            index = fn(x, axis=axis)
        return np.asarray(np.expand_dims(index, axis) if keepdims else index, np.int64)

    return meaning


def _cumulated(x: Type, axis: int, exclusive: int, reverse: int) -> tuple[Type, ...]:
    require(x, NUMBERS)
    if not x.shape:
        raise IRError("a scalar has no axis")
    axis_in(axis, len(x.shape))
    return (Type(x.dtype, x.shape),)


def _cumulate(name: str, fn: np.ufunc, identity: int) -> None:
    """A running fold along an axis; exclusive: without the element itself; reverse: from the back."""

    def meaning(x: Tensor, axis: int, exclusive: int, reverse: int) -> Tensor:
        wide = widened(np.flip(x, axis) if reverse else x)
        total = fn.accumulate(wide, axis, dtype=wide.dtype)
        if exclusive and total.size:
            total = np.roll(total, 1, axis)
            total[tuple(0 if k == axis % x.ndim else slice(None) for k in range(x.ndim))] = identity
        return (np.flip(total, axis) if reverse else total).astype(x.dtype)

    op(name, 1, _cumulated, meaning, kind="other", attrs={"axis": 0, "exclusive": 0, "reverse": 0})


_reduce("ReduceSum", np.sum)
_reduce("ReduceMean", mean)
_reduce("ReduceMax", _extreme(np.maximum, 0), ORDERED)
_reduce("ReduceMin", _extreme(np.minimum, 1), ORDERED)
_reduce("ReduceProd", np.prod)
_reduce("ReduceSumSquare", _sum_of(lambda x: np.square(_summed(x))))
_reduce("ReduceL1", _sum_of(lambda x: np.abs(_summed(x))))
_reduce("ReduceL2", _sum_of(lambda x: np.square(_real(x)), np.sqrt))
_reduce("ReduceLogSum", _sum_of(lambda x: x, np.log))
_reduce("ReduceLogSumExp", log_sum_exp)
_ARG = {"axis": 0, "keepdims": 1, "select_last_index": 0}
op("ArgMax", 1, _arg, _arg_meaning(np.argmax), kind="reduce", attrs=_ARG)
op("ArgMin", 1, _arg, _arg_meaning(np.argmin), kind="reduce", attrs=_ARG)
_cumulate("CumSum", np.add, 0)
_cumulate("CumProd", np.multiply, 1)
