"""Converters of operators whose results have a size that depends on data."""

from __future__ import annotations

import numpy as np

from ..errors import EdgecError
from ..ir import Value
from ..op import const_array, is_const
from .context import Context
from .table import Count, Result, converts


def source(c: Context) -> str:
    """How messages name the operator that a size comes from."""
    return f"{c.op} {c.name!r}"


@converts("NonZero")
def non_zero(c: Context) -> Result:
    """A column for each element that is not zero. A scalar has no coordinates: its result is [0, 0] or [0, 1]."""
    if c.rank:
        found, count = c.emit_all("Edgec.NonZero", c.arg())
    else:
        found = c.const(np.empty((0, 1), np.int64))
        count = c.emit("Cast", c.emit("Cast", c.arg(), to="bool"), to="i64")
    return c.sized(found, Count(1, count, source(c), zeros=True))


@converts("Compress")
def compress(c: Context) -> Result:
    """Without an axis all elements are one row. Slices beyond the end of the condition are left out."""
    x, condition, axis = c.arg(), c.arg(1), c.attr("axis")
    if not c.rank or len(condition.shape) != 1:
        raise EdgecError(f"{c.where}: takes a tensor with axes and a vector, got {x.type} and {condition.type}")
    x, at = (c.reshape(x, (x.type.size,)), 0) if axis is None else (x, c.in_rank(int(axis), c.rank))
    if condition.shape[0] > x.shape[at]:
        condition = c.emit("Slice", condition, starts=(0,), ends=(x.shape[at],), axes=(0,), steps=(1,))
    if is_const(condition):
        return c.emit("Gather", x, c.const(np.flatnonzero(const_array(condition)), "i64"), axis=at)
    y, count = c.emit_all("Edgec.Compress", x, condition, axis=at)
    return c.sized(y, Count(at, count, source(c), zeros=True))


@converts("Unique")
def unique(c: Context) -> Result:
    """Without an axis all elements are one row. The third result has one entry for each slice of the argument."""
    axis, size = c.attr("axis"), c.arg().type.size
    x, at = (c.reshape(c.arg(), (size,)), 0) if axis is None else (c.arg(), c.axis())
    y, first, which, times, count = c.emit_all("Edgec.Unique", x, axis=at, sorted=int(c.attr("sorted", 1)))
    along, rows = (Count(axis, count, source(c), zeros=True) for axis in (at, 0))
    return c.sized(y, along), c.sized(first, rows), which, c.sized(times, rows)


@converts("NonMaxSuppression")
def non_max_suppression(c: Context) -> Result:
    """A row (batch, class, box) for each box that is kept; none without a greatest number of boxes per class."""
    boxes, scores, size = c.arg(0), c.arg(1), c.arg(0).shape[1] if len(c.arg(0).shape) == 3 else 1
    most = c.reshape(c.arg(2), ()) if c.has(2) else c.const(0, "i64")
    if is_const(most):
        size = min(size, max(int(const_array(most)), 0))
    if not size or not scores.type.size:
        return c.const(np.empty((0, 3), np.int64))
    limits: list[Value] = [c.reshape(c.arg(3), ()) if c.has(3) else c.const(0, like=boxes)]
    limits += [c.reshape(c.arg(4), ())] if c.has(4) else []
    center = int(c.attr("center_point_box", 0))
    kept, counts = c.emit_all("Edgec.NonMaxSuppression", boxes, scores, most, *limits, size=size, center=center)
    rows, count = c.emit_all("Edgec.Listed", kept, counts)
    return c.sized(rows, Count(0, count, source(c), zeros=True))
