"""Converters of operators that write at positions: Scatter, ScatterElements, ScatterND, TensorScatter.

Updates at constant positions that form a box are cut and joined in; only the others are loops over updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import numpy.typing as npt

from ..errors import EdgecError
from ..ir import Value
from ..op import const_array, is_const
from .context import Context
from .positions import from_front
from .table import Result, converts

Ints = tuple[int, ...]
SMALL = 4  # a box of less than this part of the data is written, not joined in
_FUNCTIONS = {"add": "Add", "mul": "Mul", "max": "Max", "min": "Min"}


@converts("Scatter", "ScatterElements")
def scatter_elements(c: Context) -> Result:
    """Indices that are the same along an axis after the scattered one have size one there: whole rows are written."""
    data, indices, updates, axis = c.arg(0), c.arg(1), c.arg(2), c.axis(0)
    if not c.rank:
        raise EdgecError(f"{c.where}: a scalar has no axis to scatter along")
    if not updates.type.size:
        return data
    reduction = str(c.attr("reduction", "none"))
    if is_const(indices):
        array = from_front(c, const_array(indices), c.shape[axis], axis)
        start, fits = _run(array, axis), indices.shape == updates.shape
        if start is not None and fits and _joins(data, updates, reduction):
            starts = tuple(start if k == axis else 0 for k in range(c.rank))
            return _write_box(c, data, starts, updates, reduction)
        indices = c.const(_narrowed(array, axis), "i32")
    elif indices.node.op == "Expand" and len(indices.node.args[0].shape) <= c.rank:
        source = indices.node.args[0]
        indices = c.reshape(source, (*(1,) * (c.rank - len(source.shape)), *source.shape))
        if indices.shape[axis] != updates.shape[axis]:
            indices = c.arg(1)
    data, shape = _fill(c, data)
    return c.emit("ScatterElements", data, indices, updates, axis=axis, reduction=reduction, shape=shape)


@converts("ScatterND")
def scatter_nd(c: Context) -> Result:
    """Constant indices are numbers of rows."""
    data, indices, updates = c.arg(0), c.arg(1), c.arg(2)
    if not updates.type.size and updates.shape[: len(indices.shape) - 1] == indices.shape[:-1]:
        return data
    reduction, depth = str(c.attr("reduction", "none")), indices.shape[-1] if indices.shape else 0
    if not is_const(indices) or not 1 <= depth <= c.rank:
        data, shape = _fill(c, data)
        return c.emit("ScatterND", data, indices, updates, reduction=reduction, shape=shape)
    array = np.stack([from_front(c, const_array(indices)[..., k], c.shape[k], k) for k in range(depth)], -1)
    starts = _grid(array)
    if starts is not None and len(array.shape) - 1 == depth and _joins(data, updates, reduction):
        return _write_box(c, data, (*starts, *(0,) * (c.rank - depth)), updates, reduction)
    rows, rest = c.shape[:depth], c.shape[depth:]
    flat = np.asarray(np.ravel_multi_index(tuple(array.reshape(-1, depth).T), rows))
    data, shape = _fill(c, data)
    y = c.emit(
        "ScatterND",
        data if shape else c.reshape(data, (prod(rows), *rest)),
        c.const(flat.reshape(-1, 1), "i32"),
        c.reshape(updates, (len(flat), *rest)),
        reduction=reduction,
        shape=(prod(rows), *rest) if shape else (),
    )
    return c.reshape(y, c.shape)


@converts("TensorScatter")
def tensor_scatter(c: Context) -> Result:
    """Missing write indices are zero."""
    write = c.arg(2) if c.has(2) else c.const(np.zeros(c.shape[:1], np.int64))
    axis, mode = c.axis(-2), str(c.attr("mode", "linear"))
    return c.emit("TensorScatter", c.arg(0), c.arg(1), write, axis=axis, mode=mode)


def _fill(c: Context, data: Value) -> tuple[Value, Ints]:
    """Data that are one element everywhere: that element, and the shape that it fills."""
    if data.type.size == 1:
        return data, ()
    if data.node.op == "Expand" and data.node.args[0].type.size == 1:
        return c.reshape(data.node.args[0], ()), data.shape
    if not is_const(data):
        return data, ()
    flat = np.ascontiguousarray(const_array(data)).reshape(-1)
    same = flat.view(np.uint8).reshape(len(flat), -1)
    return (c.const(flat[0], like=data), data.shape) if bool((same == same[0]).all()) else (data, ())


def _joins(data: Value, updates: Value, reduction: str) -> bool:
    """Whether cutting and joining can do it, at a cost near that of writing; that may go without copying the data."""
    known = reduction == "none" or (reduction in _FUNCTIONS and data.type.dtype != "bool")
    return known and SMALL * updates.type.size >= data.type.size


def _run(array: npt.NDArray[np.int64], axis: int) -> int | None:
    """The first index, where they are consecutive along the axis and alike along all others."""
    start = int(array.flat[0])
    run = start + np.arange(array.shape[axis]).reshape(-1, *(1,) * (array.ndim - axis - 1))
    return start if np.array_equal(array, np.broadcast_to(run, array.shape)) else None


def _grid(array: npt.NDArray[np.int64]) -> Ints | None:
    """The first position, where positions fill a box in order: axis k of `array` walks component k by ones."""
    *sizes, depth = array.shape
    if len(sizes) != depth:
        return None
    starts = array.reshape(-1, depth)[0]
    wanted = np.moveaxis(np.indices(sizes), 0, -1) + starts
    return tuple(map(int, starts)) if np.array_equal(array, wanted) else None


def _narrowed(array: npt.NDArray[np.int64], axis: int) -> npt.NDArray[np.int64]:
    """One index in place of equal ones along axes after `axis`."""
    for k in range(axis + 1, array.ndim):
        first = np.take(array, [0], k)
        if np.array_equal(np.broadcast_to(first, array.shape), array):
            array = first
    return array


def _write_box(c: Context, data: Value, starts: Ints, updates: Value, reduction: str) -> Value:
    """`data` with a box that begins at `starts` replaced by updates, or folded with them."""
    ends = tuple(s + n for s, n in zip(starts, updates.shape, strict=True))
    if reduction != "none":
        updates = c.emit(_FUNCTIONS[reduction], _cut(c, data, starts, ends, range(c.rank)), updates)
    for axis in reversed(range(c.rank)):
        outer = range(axis)
        before = _cut(c, data, (*starts[:axis], 0), (*ends[:axis], starts[axis]), [*outer, axis])
        after = _cut(c, data, (*starts[:axis], ends[axis]), (*ends[:axis], data.shape[axis]), [*outer, axis])
        parts = [p for p in (before, updates, after) if p.shape[axis]]
        updates = parts[0] if len(parts) == 1 else c.emit("Concat", *parts, axis=axis)
    return updates


def _cut(c: Context, x: Value, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int]) -> Value:
    moving = [(s, e, a) for s, e, a in zip(starts, ends, axes, strict=True) if (s, e) != (0, x.shape[a])]
    if not moving:
        return x
    columns = [tuple(column) for column in zip(*moving, strict=True)]
    return c.emit("Slice", x, starts=columns[0], ends=columns[1], axes=columns[2], steps=(1,) * len(moving))
