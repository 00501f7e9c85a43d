"""Converters of matrix products and BatchNormalization."""

from __future__ import annotations

import numpy as np

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


@converts("Einsum")
def einsum(c: Context) -> Result:
    """One or two arguments, no repeated letter within one: transposes, sums and one batched matrix product."""
    equation = str(c.attr("equation", "")).replace(" ", "")
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    if "." in equation or len(terms) != len(c.args) or len(terms) > 2 or any(len(set(t)) != len(t) for t in terms):
        raise Refused(f"its equation is {equation!r}", "expected one or two terms without '...' or repeated letters")
    if not arrow:
        result = "".join(sorted(ch for ch in set(left) if ch != "," and left.count(ch) == 1))
    values = [c.arg(k) for k in range(len(terms))]
    for k, (term, value) in enumerate(zip(terms, values, strict=True)):
        if len(term) != len(value.shape):
            raise EdgecError(f"{c.where}: term {term!r} does not fit {value.type}")
        others = result + "".join(t for j, t in enumerate(terms) if j != k)
        alone = tuple(j for j, ch in enumerate(term) if ch not in others)
        if alone:
            values[k] = c.emit("ReduceSum", value, axes=alone, keepdims=0)
            terms[k] = "".join(ch for ch in term if ch in others)
    if len(terms) == 1:
        return c.transpose(values[0], [terms[0].index(ch) for ch in result])
    return _einsum_pair(c, terms, values, result)


def _einsum_pair(c: Context, terms: list[str], values: list[Value], result: str) -> Value:
    a, b = terms
    size = {ch: n for t, v in zip(terms, values, strict=True) for ch, n in zip(t, v.shape, strict=True)}
    batch = [ch for ch in a if ch in b and ch in result]
    inner = [ch for ch in a if ch in b and ch not in result]
    rows, columns = [ch for ch in a if ch not in b], [ch for ch in b if ch not in a]

    def arranged(value: Value, term: str, *groups: list[str]) -> Value:
        order = [*batch, *groups[0], *groups[1]]
        moved = c.transpose(value, [term.index(ch) for ch in order])
        flat = [int(np.prod([size[ch] for ch in g], dtype=np.int64)) for g in groups]
        return c.reshape(moved, [*(size[ch] for ch in batch), *flat])

    y = c.emit("MatMul", arranged(values[0], a, rows, inner), arranged(values[1], b, inner, columns))
    order = [*batch, *rows, *columns]
    return c.transpose(c.reshape(y, [size[ch] for ch in order]), [order.index(ch) for ch in result])
