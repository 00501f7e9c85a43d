"""Rules of values whose size depends on data: arithmetic, reductions, products, and networks that run over a batch."""

from __future__ import annotations

from math import prod

import numpy as np

from ...dtypes import dtype
from ...ir import Value
from ...ops.common import limits
from ..context import Context
from ..table import CONVERTERS, Count, Result
from .rules import keep, keeps, number, only, padded, refuse, same, times


@keeps(
    "Abs", "Neg", "Ceil", "Floor", "Round", "Sign", "Sqrt", "Exp", "Log", "Reciprocal", "Sin", "Cos", "Tan", "Asin",
    "Acos", "Atan", "Sinh", "Cosh", "Tanh", "Asinh", "Acosh", "Atanh", "Erf", "Sigmoid", "Relu", "HardSwish",
    "Softplus", "Softsign", "Mish", "Not", "IsNaN", "IsInf", "LeakyRelu", "Elu", "Selu", "Celu", "HardSigmoid",
    "ThresholdedRelu", "Gelu", "BitwiseNot", "Add", "Sub", "Mul", "Div", "Mod", "And", "Or", "Xor", "Equal", "Less",
    "LessOrEqual", "Greater", "GreaterOrEqual", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "PRelu", "Where",
    "Sum", "Max", "Mean", "Pow", "Clip", "Swish", "Shrink",
)  # fmt: skip
def elementwise(c: Context) -> Result:
    """Every argument has the same count there, or one entry, or no such axis."""
    first, count = next(iter(c.counts.items()))
    shape = c.arg(first).shape
    back = len(shape) - count.axis
    if c.opset < 7 and len(c.args) == 2 and c.arg(0).shape != c.arg(1).shape and c.arg(1).type.size != 1:
        refuse(c, "and its axes do not broadcast from the back before operator set 7")
    given = {index: c.arg(index) for index in range(len(c.args)) if c.has(index)}
    for index, arg in given.items():
        at, other = len(arg.shape) - back, c.counts.get(index)
        if other is not None and (other.axis != at or not same(other.value, count.value)):
            refuse(c, f"and so does that of {arg.name!r}, which may differ", first)
        if other is None and at >= 0 and arg.shape[at] != 1:
            refuse(c, f"and {arg.name!r} has {arg.shape[at]} entries there", first)
    rank = max(len(arg.shape) for arg in given.values())
    return keep(c, count, rank - back)


@keeps("Identity", "Cast", "Dropout")
def unchanged(c: Context) -> Result:
    return keep(c, only(c), zeros=not c.wants(1))  # Dropout's mask holds ones


@keeps("CastLike")
def cast_like(c: Context) -> Result:
    """Of the second argument nothing but its type is read."""
    c.counts.pop(1, None)
    return keep(c, only(c), zeros=True) if c.counts else CONVERTERS[c.op](c)


@keeps("QuantizeLinear", "DequantizeLinear")
def quantization(c: Context) -> Result:
    count = only(c)
    if c.arg(1).type.size != 1 and c.axis(1) == count.axis:
        refuse(c, "and there is a scale for each entry")
    return keep(c, count)


_NEUTRAL = {"ReduceProd": 1, "ReduceSum": 0, "ReduceSumSquare": 0, "ReduceL1": 0, "ReduceL2": 0, "ReduceLogSum": 0}
_NEUTRAL_LIMIT = {"ReduceMax": 0, "ReduceLogSumExp": 0, "ReduceMin": 1}  # the least or the greatest number


@keeps("ReduceMean", "ReduceMax", "ReduceLogSumExp", *_NEUTRAL)
def reduction(c: Context) -> Result:
    """Over the counted axis, with a number in the padding that changes nothing."""
    count, given = only(c), c.ints(1, "axes")
    every = not given and not c.attr("noop_with_empty_axes", 0)
    axes = set(range(c.rank)) if every else {c.in_rank(a, c.rank) for a in given or ()}
    if count.axis not in axes:
        gone = 0 if c.attr("keepdims", 1) else sum(a < count.axis for a in axes)
        return keep(c, count, count.axis - gone)
    if c.op == "ReduceMean":
        return _mean(c, count, tuple(sorted(axes)))
    if c.op == "ReduceLogSumExp" and not dtype(c.dtype).is_float:
        refuse(c, "and it is reduced along that axis")
    padded(c, 0, _NEUTRAL[c.op] if c.op in _NEUTRAL else limits(c.dtype)[_NEUTRAL_LIMIT[c.op]])
    return CONVERTERS[c.op](c)


def _mean(c: Context, count: Count, axes: tuple[int, ...]) -> Result:
    """The sum, divided by the number of what is there; of nothing it is 0, as in ONNX Runtime."""
    if not dtype(c.dtype).is_float:
        refuse(c, "and it is reduced along that axis")
    wide = "f64" if c.dtype == "f64" else "f32"
    total = c.emit("ReduceSum", c.cast(padded(c, 0, 0), wide), axes=axes, keepdims=int(c.attr("keepdims", 1)))
    each = number(c, "Max", times(c, count, prod(c.shape[a] for a in axes if a != count.axis)), 1)
    return c.cast(c.emit("Div", total, c.cast(each, wide)), c.dtype)


@keeps("ArgMax", "ArgMin")
def arg_reduction(c: Context) -> Result:
    """Over the counted axis, with padding as small, or great, as can be: the first of equals comes before it."""
    count, axis = only(c), c.axis(0)
    if axis == count.axis:
        if c.attr("select_last_index", 0):
            refuse(c, "and the last of equals is looked for along that axis")
        padded(c, 0, limits(c.dtype)[c.op == "ArgMin"])
        return CONVERTERS[c.op](c)
    return keep(c, count, count.axis - (not c.attr("keepdims", 1) and axis < count.axis))


@keeps("Softmax", "LogSoftmax", "Hardmax")
def softmax(c: Context) -> Result:
    """Before opset 13 over all axes from `axis` on. The exponential of what is infinitely small adds nothing."""
    count = only(c)
    if (c.axis(-1) == count.axis) if c.opset >= 13 else (c.axis(1) <= count.axis):
        if c.op == "Hardmax":
            refuse(c, "and its greatest element is looked for along that axis")
        padded(c, 0, -np.inf)
    return keep(c, count)


@keeps("LpNormalization")
def norm(c: Context) -> Result:
    count = only(c)
    if c.axis(-1) == count.axis:
        padded(c, 0, 0)
    return keep(c, count)


@keeps("LayerNormalization")
def layer_normalization(c: Context) -> Result:
    count = only(c)
    if c.axis(-1) <= count.axis:
        refuse(c, "and it is summed along that axis")
    return keep(c, count)


@keeps("CumSum")
def cumulative_sum(c: Context) -> Result:
    """What is there comes before the padding, which is zero where the sum begins at the end."""
    count = only(c)
    if c.attr("reverse", 0):
        padded(c, 0, 0)
    return keep(c, count)


@keeps("MatMul")
def matmul(c: Context) -> Result:
    """Rows of the first matrix, columns of the second one, or matrices of one of them."""
    index, count = next(iter(c.counts.items()))
    only(c, index)
    shapes = [c.arg(0).shape, c.arg(1).shape]
    inner = (len(shapes[0]) - 1, max(len(shapes[1]) - 2, 0))[index]
    if count.axis == inner:
        refuse(c, "and it is summed along that axis")
    back, other = len(shapes[index]) - count.axis, shapes[1 - index]
    if back > 2 and len(other) >= back and other[-back] != 1:
        refuse(c, f"and {c.arg(1 - index).name!r} has {other[-back]} entries there", index)
    rank = max(2, *map(len, shapes))
    return keep(c, count, rank - back - (back == 1 and len(shapes[0]) == 1))


@keeps("Gemm")
def gemm(c: Context) -> Result:
    """Rows of the first matrix, or columns of the second one."""
    index, count = next(iter(c.counts.items()))
    only(c, index)
    if index > 1 or count.axis != (int(c.attr("transA", 0)) if index == 0 else 1 - int(c.attr("transB", 0))):
        refuse(c)
    back = 2 - index
    if c.has(2) and len(c.arg(2).shape) >= back and c.arg(2).shape[-back] != 1:
        refuse(c, f"and {c.arg(2).name!r} has {c.arg(2).shape[-back]} entries there")
    return keep(c, count, index)


@keeps(
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool",
    "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN", "DepthToSpace", "SpaceToDepth",
)  # fmt: skip
def batch(c: Context) -> Result:
    """One entry of the batch does not depend on another."""
    count = only(c)
    if count.axis:
        refuse(c, "and it is not the batch")
    return keep(c, count)


@keeps("Resize")
def resized(c: Context) -> Result:
    """Images of a batch, each by itself."""
    count, found = only(c), CONVERTERS[c.op](c)
    assert isinstance(found, Value)
    if count.axis or found.shape[0] != c.shape[0] or c.attr("coordinate_transformation_mode") == "tf_crop_and_resize":
        refuse(c, "and it is not the batch, or not left as it is")
    return c.sized(found, count)
