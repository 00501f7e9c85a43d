"""Converters of matrix products."""

from __future__ import annotations

from ..errors import EdgecError
from ..ir import Value
from ..op import is_const
from .context import Context
from .table import Result, converts


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
