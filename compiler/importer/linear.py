"""Converters of matrix products and BatchNormalization."""

from __future__ import annotations

from ..errors import EdgecError
from ..ir import Value
from ..op import is_const
from .context import Context
from .table import Refused, Result, converts


def product(c: Context, a: Value, b: Value) -> Value:
    """numpy's matmul; vectors become matrices for the product."""
    left, right = len(a.shape) == 1, len(b.shape) == 1
    if not a.shape or not b.shape:
        raise EdgecError(f"{c.where}: multiplies a scalar")
    a = c.reshape(a, (1, *a.shape)) if left else a
    b = c.reshape(b, (*b.shape, 1)) if right else b
    y = c.emit("MatMul", a, b)
    shape = list(y.shape)
    if right:
        del shape[-1]
    if left:
        del shape[len(shape) - (1 if right else 2)]
    return c.reshape(y, shape)


@converts("MatMul")
def matmul(c: Context) -> Result:
    return product(c, c.arg(0), c.arg(1))


@converts("Gemm")
def gemm(c: Context) -> Result:
    """alpha * A' * B' + beta * C; factors and transposes of constants are folded into them."""
    a, b = c.arg(0), c.arg(1)
    alpha, beta = float(c.attr("alpha", 1.0)), float(c.attr("beta", 1.0))
    a = c.transpose(a, (1, 0)) if c.attr("transA", 0) else a
    b = c.transpose(b, (1, 0)) if c.attr("transB", 0) else b
    if alpha != 1 and is_const(b):
        b, alpha = c.emit("Mul", b, c.const(alpha, like=b)), 1.0
    y = c.emit("MatMul", a, b)
    if alpha != 1:
        y = c.emit("Mul", y, c.const(alpha, like=y))
    if not c.has(2) or beta == 0:
        return y
    addend = c.arg(2)
    if beta != 1:
        addend = c.emit("Mul", addend, c.const(beta, like=addend))
    return c.emit("Add", y, addend)


@converts("MatMulInteger")
def matmul_integer(c: Context) -> Result:
    """Zero points are taken off first; rows of A and columns of B may have their own."""
    a, b = c.cast(c.arg(0), "i32"), c.cast(c.arg(1), "i32")
    if c.has(2):
        zero = c.cast(c.arg(2), "i32")
        rows = len(zero.shape) == 1 and zero.shape[0] > 1
        a = c.emit("Sub", a, c.reshape(zero, (zero.shape[0], 1)) if rows else zero)
    if c.has(3):
        b = c.emit("Sub", b, c.cast(c.arg(3), "i32"))
    return product(c, a, b)


@converts("BatchNormalization")
def batch_normalization(c: Context) -> Result:
    """x * factor + shift per channel, with factor = scale / sqrt(variance + epsilon)."""
    training = c.attr("training_mode", 0) or (c.opset < 7 and not c.attr("is_test", 0))
    if training or any(c.wants(k) for k in range(1, 5)):
        raise Refused("it is in training mode", "export the model for inference")
    if c.opset < 9 and not c.attr("spatial", 1):
        raise Refused("spatial=0 normalizes every pixel by itself", "expected spatial=1")
    x = c.arg()
    wide = "f64" if all(is_const(c.arg(k)) for k in range(1, 5)) or x.type.dtype == "f64" else "f32"
    scale, bias, mean, variance = (c.cast(c.arg(k), wide) for k in range(1, 5))
    deviation = c.emit("Sqrt", c.emit("Add", variance, c.const(float(c.attr("epsilon", 1e-5)), like=variance)))
    factor = c.emit("Div", scale, deviation)
    shift = c.emit("Sub", bias, c.emit("Mul", mean, factor))
    per_channel = (1,) * (c.rank - 2)
    factor, shift = (c.reshape(c.cast(v, x.type.dtype), (*v.shape, *per_channel)) for v in (factor, shift))
    return c.emit("Add", c.emit("Mul", x, factor), shift)
