"""Converters that leave a constant (Constant, Shape, Size, Range, ConstantOfShape, EyeLike), and OneHot."""

from __future__ import annotations

from math import ceil, prod

import numpy as np

from ..dtypes import of_numpy, of_onnx
from ..errors import EdgecError
from ..ir import Type
from .context import Context, check_size
from .table import Refused, Result, converts


@converts("Constant")
def constant(c: Context) -> Result:
    """Whichever attribute holds the value."""
    forms = {"value": None, "value_float": "f32", "value_floats": "f32", "value_int": "i64", "value_ints": "i64"}
    for key, element in forms.items():
        if key in c.attrs:
            value = np.asarray(c.attrs[key])
            of_numpy(value.dtype)
            return c.const(value, element)
    raise Refused(f"it holds {', '.join(c.attrs) or 'nothing'}", "expected a dense tensor or numbers")


@converts("Shape")
def shape(c: Context) -> Result:
    """Shapes are known: a constant."""
    start, end = int(c.attr("start", 0)), c.attr("end")
    return c.const(np.asarray(c.shape[slice(start, None if end is None else int(end))], np.int64))


@converts("Size")
def size(c: Context) -> Result:
    return c.const(np.asarray(prod(c.shape), np.int64))


@converts("ConstantOfShape")
def constant_of_shape(c: Context) -> Result:
    dims = tuple(int(n) for n in c.array(0, "shape").reshape(-1))
    fill = np.asarray(c.attr("value", np.zeros(1, np.float32))).reshape(-1)[:1].reshape(())
    if any(n < 0 for n in dims):
        raise EdgecError(f"{c.where}: shape {list(dims)} has negative sizes")
    check_size(Type(of_numpy(fill.dtype), dims), c.where)
    return c.emit("Expand", c.const(fill), shape=dims)


@converts("Range")
def arange(c: Context) -> Result:
    start, limit, delta = (c.array(i, what).reshape(-1)[0] for i, what in enumerate(("start", "limit", "delta")))
    if delta == 0:
        raise EdgecError(f"{c.where}: delta is 0")
    steps = (float(limit) - float(start)) / float(delta)
    count = max(ceil(steps), 0) if np.isfinite(steps) else -1
    check_size(Type(c.dtype, (count if count >= 0 else 1 << 62,)), c.where)
    return c.const((start + np.arange(count) * delta), like=c.arg())


@converts("EyeLike")
def eye_like(c: Context) -> Result:
    if c.rank != 2:
        raise EdgecError(f"{c.where}: takes a matrix, got {c.arg().type}")
    to = c.dtype if c.attr("dtype") is None else of_onnx(int(c.attr("dtype")))
    if to is None:
        raise Refused("its element type is not supported")
    check_size(Type(to, c.shape), c.where)
    rows, columns = c.shape
    return c.const(np.eye(rows, columns, k=int(c.attr("k", 0))), like=to)


@converts("OneHot")
def one_hot(c: Context) -> Result:
    """Where the index equals the position, the on value, else the off value. Indices outside match nothing.

    From opset 11 on, negative ones count from the back.
    """
    depth = int(c.array(1, "depth").reshape(-1)[0])
    at = c.in_rank(int(c.attr("axis", -1)), c.rank + 1)
    indices = c.reshape(c.cast(c.arg(), "i64"), (*c.shape[:at], 1, *c.shape[at:]))
    if depth < 1:
        raise EdgecError(f"{c.where}: depth is {depth}")
    check_size(Type("i64", (depth,)), c.where)
    if c.opset >= 11:
        below = c.emit("Less", indices, c.const(np.int64(0)))
        indices = c.emit("Where", below, c.emit("Add", indices, c.const(np.int64(depth))), indices)
    places = c.const(np.arange(depth).reshape(-1, *(1,) * (c.rank - at)))
    off, on = (
        c.reshape(c.emit("Slice", c.arg(2), starts=(k,), ends=(k + 1,), axes=(0,), steps=(1,)), ()) for k in (0, 1)
    )
    return c.emit("Where", c.emit("Equal", indices, places), on, off)
