"""Converters of elementwise operators, and of all others whose canonical form is ONNX's own."""

from __future__ import annotations

import numpy as np
import onnx

from ..dtypes import DTYPES, dtype, of_onnx
from ..ir import Attr, Value
from ..narrow import POWERS, is_narrow
from ..op import OPS, const_array, is_const
from .context import Context
from .table import Refused, Result, converts

# Same arguments, same attributes under the same names (defaults: those of the operator set).
_DIRECT = (
    "Abs", "Neg", "Ceil", "Floor", "Round", "Sign", "Sqrt", "Exp", "Log", "Reciprocal", "Sin", "Cos", "Tan", "Asin",
    "Acos", "Atan", "Sinh", "Cosh", "Tanh", "Asinh", "Acosh", "Atanh", "Erf", "Sigmoid", "Relu", "HardSwish",
    "Softplus", "Softsign", "Mish", "Not", "LeakyRelu", "Elu", "Selu", "Celu", "HardSigmoid",
    "ThresholdedRelu", "Gelu", "BitwiseNot", "Add", "Sub", "Mul", "Div", "Mod", "And", "Or", "Xor", "Equal", "Less",
    "LessOrEqual", "Greater", "GreaterOrEqual", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "PRelu", "Where",
    "DepthToSpace", "ArgMax", "ArgMin", "LpNormalization", "InstanceNormalization",
    "Det",
)  # fmt: skip


@converts(*_DIRECT)
def direct(c: Context) -> Result:
    """The operator under its own name."""
    attrs = {key: c.attr(key, default) for key, default in OPS[c.op].attrs.items()}
    args = [c.arg(i) for i in range(len(c.args))]
    if len(args) == 2 and c.opset < 7:
        args[1] = aligned(c, args[1])
    return c.emit(c.op, *args, **attrs)


def aligned(c: Context, b: Value) -> Value:
    """Before opset 7 argument two lies along the axes of the first from `axis` on; PRelu's along the channels."""
    axis = 1 if c.op == "PRelu" and b.shape != (1,) else c.attr("axis")
    if axis is None or not b.shape:
        return b
    missing = c.rank - c.in_rank(int(axis), c.rank) - len(b.shape)
    return c.reshape(b, (*b.shape, *(1,) * max(missing, 0)))


@converts("IsNaN", "IsInf")
def not_a_number(c: Context) -> Result:
    """f32 holds every float of 8 bits."""
    attrs = {key: c.attr(key, default) for key, default in OPS[c.op].attrs.items()}
    return c.emit(c.op, c.cast(c.arg(), "f32") if is_narrow(c.dtype) else c.arg(), **attrs)


@converts("Identity")
def identity(c: Context) -> Result:
    return c.any()


@converts("Sum", "Min", "Max")
def chain(c: Context) -> Result:
    """Any number of arguments, two at a time."""
    op = {"Sum": "Add"}.get(c.op, c.op)
    total = c.arg()
    for i in range(1, len(c.args)):
        total = c.emit(op, total, c.arg(i))
    return total


@converts("Mean")
def mean(c: Context) -> Result:
    total = c.arg()
    for i in range(1, len(c.args)):
        total = c.emit("Add", total, c.arg(i))
    return total if len(c.args) == 1 else c.emit("Div", total, c.const(len(c.args), like=total))


@converts("Pow")
def power(c: Context) -> Result:
    """Both sides in one element type; the result has the base's."""
    base, exponent = c.arg(0), c.arg(1) if c.opset >= 7 else aligned(c, c.arg(1))
    if base.type.dtype == exponent.type.dtype:
        return c.emit("Pow", base, exponent)
    if is_const(exponent) and dtype(base.type.dtype).is_float:
        return c.emit("Pow", base, c.const(const_array(exponent), like=base))
    narrow = {base.type.dtype, exponent.type.dtype} <= {"f32", "f16", "bf16", "i8", "u8", "i16", "u16"}
    whole = dtype(base.type.dtype).is_int and dtype(exponent.type.dtype).is_int
    wide = "i64" if whole else "f32" if narrow else "f64"
    return c.cast(c.emit("Pow", c.cast(base, wide), c.cast(exponent, wide)), base.type.dtype)


@converts("Clip")
def clip(c: Context) -> Result:
    """Constant limits become attributes; computed ones Min and Max."""
    y = c.arg()
    if c.opset < 11:
        return c.emit("Clip", y, min=float(c.attr("min", -np.inf)), max=float(c.attr("max", np.inf)))
    limits: dict[str, float | int] = {}
    for index, key, op in ((1, "min", "Max"), (2, "max", "Min")):
        if not c.has(index):
            continue
        if is_const(c.arg(index)):
            limits[key] = const_array(c.arg(index)).reshape(-1)[0].item()
        else:
            if limits:
                y, limits = c.emit("Clip", y, **limits), {}
            y = c.emit(op, y, c.reshape(c.arg(index), ()))
    return c.emit("Clip", y, **limits) if limits else y


@converts("Cast", "CastLike")
def cast(c: Context) -> Result:
    """A type that is the argument's own costs nothing; how to round says something to floats of 8 bits alone."""
    to = c.arg(1).type.dtype if c.op == "CastLike" else _element(c, "casts to")
    attrs: dict[str, Attr] = {}
    if is_narrow(to) and not c.attr("saturate", 1):
        attrs["saturate"] = 0
    if to == POWERS and c.attr("round_mode", "up") != "up":
        attrs["round_mode"] = c.attr("round_mode")
    return c.arg() if to == c.dtype else c.emit("Cast", c.arg(), to=to, **attrs)


@converts("BitCast")
def bit_cast(c: Context) -> Result:
    """The type must have as many bits as the argument's."""
    to = _element(c, "shows bits as")
    if dtype(to).bits != dtype(c.dtype).bits:
        sizes = f"{dtype(c.dtype).bits} and {dtype(to).bits} bits"
        raise Refused(f"it shows {c.dtype} as {to}, of {sizes}", "ONNX allows types of equal width only")
    return c.arg() if to == c.dtype else c.emit("BitCast", c.arg(), to=to)


def _element(c: Context, does: str) -> str:
    """The element type that attribute `to` names."""
    number = int(c.attr("to"))
    name = of_onnx(number)
    if name is None:
        kinds = onnx.TensorProto.DataType
        shown = kinds.Name(number) if number in kinds.values() else number
        raise Refused(f"it {does} {shown}", f"expected one of {', '.join(DTYPES)}")
    return name


@converts("Swish")
def swish(c: Context) -> Result:
    """x * sigmoid(alpha * x)."""
    x, alpha = c.arg(), float(c.attr("alpha", 1.0))
    scaled = x if alpha == 1 else c.emit("Mul", x, c.const(alpha, like=x))
    return c.emit("Mul", x, c.emit("Sigmoid", scaled))


@converts("Shrink")
def shrink(c: Context) -> Result:
    """x + bias below -lambd, x - bias above lambd, zero between."""
    x = c.arg()
    bias, edge = float(c.attr("bias", 0.0)), float(c.attr("lambd", 0.5))

    def k(value: float) -> Value:
        return c.const(value, like=x)

    above = c.emit("Where", c.emit("Greater", x, k(edge)), c.emit("Sub", x, k(bias)), k(0))
    return c.emit("Where", c.emit("Less", x, k(-edge)), c.emit("Add", x, k(bias)), above)
