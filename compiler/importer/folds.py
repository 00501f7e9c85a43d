"""Converters of reductions, softmax and the normalizations."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod

import numpy as np

from ..ir import Value
from .context import Context
from .table import Refused, Result, converts


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
        places = c.const(np.arange(x.shape[axis]).reshape(-1, *(1,) * (len(x.shape) - axis - 1)))
        best = c.emit("ArgMax", x, axis=axis, keepdims=1)
        return c.cast(c.emit("Equal", places, best), x.type.dtype)

    return _along(c, write)


@converts("LayerNormalization")
def layer_normalization(c: Context) -> Result:
    """A bias that is missing is zero. f16 keeps its own scale and bias."""
    x, scale = c.arg(0), c.arg(1)
    bias = c.arg(2) if c.has(2) else c.const(np.zeros(scale.shape), like=scale)
    scale, bias = c.cast(scale, c.dtype), c.cast(bias, c.dtype)
    epsilon = float(c.attr("epsilon", 1e-5))
    y = c.emit("LayerNormalization", x, scale, bias, axis=c.axis(-1), epsilon=epsilon)
    if not c.wants(1) and not c.wants(2):
        return y
    x, axes = c.cast(x, "f64" if c.dtype == "f64" else "f32"), tuple(range(c.axis(-1), c.rank))
    mean = c.emit("ReduceMean", x, axes=axes, keepdims=1)
    centred = c.emit("Sub", x, mean)
    variance = c.emit("ReduceMean", c.emit("Mul", centred, centred), axes=axes, keepdims=1)
    deviation = c.emit("Sqrt", c.emit("Add", variance, c.const(epsilon, like=variance)))
    return y, mean, c.emit("Reciprocal", deviation)


@converts("LRN")
def local_response(c: Context) -> Result:
    """x / (bias + alpha * mean of squares over neighbouring channels)^beta, the mean being a pool over channels."""
    x, size = c.arg(), int(c.attr("size", 1))
    n, channels, *rest = c.shape
    squares = c.reshape(c.emit("Mul", x, x), (n, 1, channels, prod(rest)))
    pads = ((size - 1) // 2, 0, size // 2, 0)
    mean = c.emit("AveragePool", squares, kernel_shape=(size, 1), strides=(1, 1), pads=pads, count_include_pad=1)
    scaled = c.emit("Mul", c.reshape(mean, c.shape), c.const(float(c.attr("alpha", 1e-4)), like=x))
    base = c.emit("Add", scaled, c.const(float(c.attr("bias", 1.0)), like=x))
    return c.emit("Div", x, c.emit("Pow", base, c.const(float(c.attr("beta", 0.75)), like=x)))


@converts("GroupNormalization")
def group_normalization(c: Context) -> Result:
    """Instance normalization of groups as channels, then scale and bias per channel."""
    x, groups = c.arg(), int(c.attr("num_groups", 1))
    n, channels, *rest = c.shape
    if groups < 1 or channels % groups:
        raise Refused(f"{channels} channels do not part into {groups} groups")
    inner = channels // groups
    ones, zeros = c.const(np.ones(groups), like=x), c.const(np.zeros(groups), like=x)
    flat = c.reshape(x, (n, groups, inner * prod(rest)))
    epsilon = float(c.attr("epsilon", 1e-5))
    plain = c.reshape(c.emit("InstanceNormalization", flat, ones, zeros, epsilon=epsilon), x.shape)

    def per_channel(value: Value) -> Value:
        if c.opset < 21:  # one number per group
            value = c.reshape(c.emit("Expand", c.reshape(value, (groups, 1)), shape=(groups, inner)), (channels,))
        return c.reshape(c.cast(value, c.dtype), (channels, *(1,) * len(rest)))

    return c.emit("Add", c.emit("Mul", plain, per_channel(c.arg(1))), per_channel(c.arg(2)))


@converts("MeanVarianceNormalization")
def mean_variance(c: Context) -> Result:
    """Zero mean and unit variance over the given axes."""
    x = c.arg()
    axes = tuple(sorted(c.in_rank(int(a), c.rank) for a in c.attr("axes", (0, 2, 3))))
    centred = c.emit("Sub", x, c.emit("ReduceMean", x, axes=axes, keepdims=1))
    variance = c.emit("ReduceMean", c.emit("Mul", centred, centred), axes=axes, keepdims=1)
    return c.emit("Div", centred, c.emit("Add", c.emit("Sqrt", variance), c.const(1e-9, like=x)))
