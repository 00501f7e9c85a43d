"""Converters of reductions and softmax."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod

import numpy as np

from ..ir import Value
from .context import Context
from .table import Result, converts


@converts(
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSumSquare",
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
)  # fmt: skip
def reduction(c: Context) -> Result:
    """Axes as an attribute; none given means all, or none with noop_with_empty_axes."""
    given = c.ints(1, "axes")
    if not given:
        given = () if c.attr("noop_with_empty_axes", 0) else tuple(range(c.rank))
    axes = tuple(sorted({c.in_rank(a, c.rank) for a in given})) if c.rank else ()
    if not axes and c.op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"):
        return c.arg()
    return c.emit(c.op, c.arg(), axes=axes, keepdims=int(c.attr("keepdims", 1)))


@converts("GlobalAveragePool", "GlobalMaxPool")
def global_pool(c: Context) -> Result:
    op = "ReduceMean" if c.op == "GlobalAveragePool" else "ReduceMax"
    return c.emit(op, c.arg(), axes=tuple(range(2, c.rank)), keepdims=1)


@converts("GlobalLpPool")
def global_lp_pool(c: Context) -> Result:
    x, p, axes = c.arg(), int(c.attr("p", 2)), tuple(range(2, c.rank))
    if p in (1, 2):
        return c.emit(f"ReduceL{p}", x, axes=axes, keepdims=1)
    total = c.emit("ReduceSum", c.emit("Pow", c.emit("Abs", x), c.const(p, like=x)), axes=axes, keepdims=1)
    return c.emit("Pow", total, c.const(1 / p, like=x))


def _along(c: Context, write: Callable[[Value, int], Value]) -> Value:
    """`write(x, axis)`. Before opset 13 all axes from `axis` on are one."""
    if c.opset >= 13:
        return write(c.arg(), c.axis(-1))
    axis = c.axis(1)
    if prod(c.shape[axis + 1 :]) == 1:
        return write(c.arg(), axis)
    flat = c.reshape(c.arg(), (prod(c.shape[:axis]), prod(c.shape[axis:])))
    return c.reshape(write(flat, 1), c.shape)


FEW = 8  # summands that bf16 adds one after the other


@converts("Softmax", "LogSoftmax")
def softmax(c: Context) -> Result:
    """ONNX says not how a sum adds, and its evaluator rounds a bf16 one after every summand.

    A few are added so here as well; of many the later ones would be lost, and the row adds them in f32.
    """

    def write(x: Value, axis: int) -> Value:
        if c.op == "LogSoftmax" or c.dtype != "bf16" or not 1 < x.shape[axis] <= FEW:
            return c.emit(c.op, x, axis=axis)
        weights = c.emit("Exp", c.emit("Sub", x, c.emit("ReduceMax", x, axes=(axis,), keepdims=1)))
        parts = c.emit_all("Split", weights, axis=axis, split=(1,) * x.shape[axis])
        return c.emit("Div", weights, reduce(lambda a, b: c.emit("Add", a, b), parts))

    return _along(c, write)


@converts("Hardmax")
def hardmax(c: Context) -> Result:
    """One at the first greatest element, zero elsewhere."""

    def write(x: Value, axis: int) -> Value:
        if not x.type.size:
            return x
        places = c.const(np.arange(x.shape[axis]).reshape(-1, *(1,) * (len(x.shape) - axis - 1)))
        best = c.emit("ArgMax", x, axis=axis, keepdims=1)
        return c.cast(c.emit("Equal", places, best), x.type.dtype)

    return _along(c, write)
