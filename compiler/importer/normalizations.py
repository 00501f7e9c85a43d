"""Converters of the normalizations."""

from __future__ import annotations

from math import prod

import numpy as np

from ..ir import Value
from ..op import const, const_array, evaluate, is_const
from .context import Context
from .table import Refused, Result, converts


@converts("BatchNormalization")
def batch_normalization(c: Context) -> Result:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, per channel; spatial=0: per element of a batch."""
    if c.opset < 7 and not c.attr("is_test", 0):
        raise Refused("it is in training mode", "export the model for inference")
    x, whole = c.arg(), c.opset >= 9 or bool(c.attr("spatial", 1))
    axes = tuple(k for k in range(c.rank) if k != 1) if whole and c.rank > 1 else (0,)
    # opsets 7 to 13 tell training by the number of results
    if c.attr("training_mode", 0) or (7 <= c.opset < 14 and c.named > 1):
        return _trained(c, axes)
    if c.wants(1) or c.wants(2):
        raise Refused("its running statistics are read, which it has in training mode only")
    given = [_known(c.arg(k)) for k in range(1, 5)]
    wide = "f64" if all(map(is_const, given)) or x.type.dtype == "f64" else "f32"
    scale, bias, mean, variance = (c.cast(v, wide) for v in given)
    factor = c.emit("Div", scale, _deviation(c, variance))
    shift = c.emit("Sub", bias, c.emit("Mul", mean, factor))
    factor, shift = (_along(c, c.cast(v, x.type.dtype), axes) for v in (factor, shift))
    return c.emit("Add", c.emit("Mul", x, factor), shift)


def _known(value: Value) -> Value:
    """A quantized constant as the real numbers that it stands for."""
    node = value.node
    if node.op != "DequantizeLinear" or not all(map(is_const, node.args)):
        return value
    return const(evaluate(node, [const_array(a) for a in node.args])[0], node.name, node.origin)


def _trained(c: Context, axes: tuple[int, ...]) -> Result:
    """By the mean and the variance of the batch; then what both become, and in opsets 7 to 13 the two themselves."""
    wide = "f64" if c.dtype == "f64" else "f32"
    x, scale, bias = (c.cast(c.arg(k), wide) for k in range(3))
    mean = c.emit("ReduceMean", x, axes=axes, keepdims=0)
    centred = c.emit("Sub", x, _along(c, mean, axes))
    variance = c.emit("ReduceMean", c.emit("Mul", centred, centred), axes=axes, keepdims=0)
    factor = c.emit("Div", scale, _deviation(c, variance))
    y = c.emit("Add", c.emit("Mul", centred, _along(c, factor, axes)), _along(c, bias, axes))
    momentum = float(c.attr("momentum", 0.9))

    def running(k: int, batch: Value) -> Value:
        old = c.cast(c.arg(k), wide)
        kept = c.emit("Mul", old, c.const(momentum, like=old))
        new = c.emit("Add", kept, c.emit("Mul", batch, c.const(1 - momentum, like=old)))
        return c.cast(new, c.arg(k).type.dtype)

    batch = [c.reshape(v, c.arg(3).shape) for v in (mean, variance)]
    after = [running(k, v) if c.wants(k - 2) else None for k, v in zip((3, 4), batch, strict=True)]
    saved = [c.cast(v, c.arg(3).type.dtype) for v in batch] if c.opset < 14 else []
    return (c.cast(y, c.dtype), *after, *saved)


def _deviation(c: Context, variance: Value) -> Value:
    return c.emit("Sqrt", c.emit("Add", variance, c.const(float(c.attr("epsilon", 1e-5)), like=variance)))


def _along(c: Context, value: Value, axes: tuple[int, ...]) -> Value:
    """Numbers of the axes that are not folded, as they broadcast with the first argument."""
    sizes = [1 if k in axes else n for k, n in enumerate(c.shape)]
    return c.reshape(value, sizes[1:] or sizes)


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


def root_mean_square(c: Context, x: Value, scale: Value, axes: tuple[int, ...], epsilon: float) -> Value:
    """x over the root of the mean of its squares, times a scale; of f16 in f32."""
    wide = c.cast(x, "f64" if x.type.dtype == "f64" else "f32")
    square = c.emit("ReduceMean", c.emit("Mul", wide, wide), axes=axes, keepdims=1)
    size = c.emit("Sqrt", c.emit("Add", square, c.const(epsilon, like=wide)))
    return c.emit("Mul", c.cast(c.emit("Div", wide, size), scale.type.dtype), scale)


@converts("SimplifiedLayerNormalization")
def simplified_layer_normalization(c: Context) -> Result:
    """LayerNormalization without mean and bias, as ONNX Runtime writes it in ONNX's own domain."""
    if c.wants(1):
        raise Refused("its deviation is read", "expected a reader of the result")
    axes = tuple(range(c.axis(-1), c.rank))
    return root_mean_square(c, c.arg(0), c.arg(1), axes, float(c.attr("epsilon", 1e-5)))


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
