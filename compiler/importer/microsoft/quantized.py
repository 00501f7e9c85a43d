"""Converters of domain com.microsoft, ONNX Runtime's own: quantized operators become real arithmetic between QDQ nodes.

They are as that project's ContribOperators.md states them; a zero point that is missing is zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...dtypes import dtype
from ..context import Context
from ..linear import product
from ..quantization import integer, real
from ..table import Refused, Result, converts

OPSET = 17  # in whose terms ONNX's operators are asked for: pooling and reductions take attributes there


@converts("com.microsoft.QLinearAdd", "com.microsoft.QLinearMul")
def binary(c: Context) -> Result:
    """A, B, each with scale and zero point; then those of the result."""
    return integer(c, c.emit(c.op.rpartition("QLinear")[2], real(c, 0), real(c, 3)), 6, c.dtype)


@converts(
    "com.microsoft.QLinearSigmoid", "com.microsoft.QLinearLeakyRelu", "com.microsoft.QLinearAveragePool",
    "com.microsoft.QLinearGlobalAveragePool", "com.microsoft.QLinearReduceMean", "com.microsoft.QLinearSoftmax",
)  # fmt: skip
def unary(c: Context) -> Result:
    """X with scale and zero point, then those of the result; attributes are those of ONNX's operator.

    channels_last: the channels of a pool come last. Softmax says by `opset` which of ONNX's it is.
    """
    attrs = {key: value for key, value in c.attrs.items() if key not in ("channels_last", "opset")}
    last = bool(c.attr("channels_last", 0))
    x = real(c, 0)
    if last:
        x = c.transpose(x, (0, c.rank - 1, *range(1, c.rank - 1)))
    y = c.of(c.op.rpartition("QLinear")[2], int(c.attr("opset", OPSET)), x, **attrs)
    if last:
        y = c.transpose(y, (0, *range(2, c.rank), 1))
    return integer(c, y, 3, c.dtype)


@converts("com.microsoft.QLinearConcat")
def concat(c: Context) -> Result:
    """Scale and zero point of the result, then three arguments per tensor."""
    parts = [real(c, k) for k in range(2, len(c.args), 3)]
    axis = c.in_rank(int(c.attr("axis")), len(parts[0].shape))
    y = parts[0] if len(parts) == 1 else c.emit("Concat", *parts, axis=axis)
    return integer(c, y, 0, c.arg(2).type.dtype)


@converts("com.microsoft.QLinearWhere")
def where(c: Context) -> Result:
    """The condition, X and Y with scale and zero point; then those of the result."""
    return integer(c, c.emit("Where", c.arg(0), real(c, 1), real(c, 4)), 7, c.arg(1).type.dtype)


@converts("com.microsoft.QGemm")
def gemm(c: Context) -> Result:
    """alpha * A' * B' + C: C is int32 of scale alpha * a_scale * b_scale. Without a scale the result stays real."""
    columns = 0 if c.attr("transB", 0) else 1
    a, b = real(c, 0), real(c, 3, columns, float(c.attr("alpha", 1.0)))
    a = c.transpose(a, (1, 0)) if c.attr("transA", 0) else a
    y = c.emit("MatMul", a, c.transpose(b, (1, 0)) if not columns else b)
    if c.has(6):
        addend = c.arg(6)
        scale = c.emit("Mul", c.reshape(c.arg(1), ()), b.node.args[1])
        axis = 0 if scale.shape in ((), (1,)) else len(addend.shape) - 1
        zero = c.const(np.zeros(scale.shape, np.int32))
        y = c.emit("Add", y, c.emit("DequantizeLinear", addend, scale, zero, axis=axis))
    return integer(c, y, 7, c.dtype) if c.has(7) else y


@converts("com.microsoft.MatMulNBits")
def matmul_nbits(c: Context) -> Result:
    """A times weights of few bits in blocks along K, each with a scale: B [N, blocks, bytes], lowest bits first."""
    rows, columns = int(c.attr("K")), int(c.attr("N"))
    bits, block = int(c.attr("bits", 4)), int(c.attr("block_size"))
    if c.has(4):
        raise Refused("its weights are grouped by an index (g_idx)", "expected groups that follow each other")
    if bits not in (2, 4, 8):
        raise Refused(f"its weights have {bits} bits", "expected 2, 4 or 8")
    blocks = -(-rows // block)
    kind = dtype(f"u{bits}").numpy
    codes = _apart(c.array(1, "weights"), bits, (columns, blocks * block))[:, :rows]
    scales = np.ascontiguousarray(c.array(2, "scales").reshape(columns, blocks).T)
    zeros = _block_zeros(c, bits, (columns, blocks)).T
    same = bool(np.all(zeros == zeros.flat[0]))
    stored, zero = (c.const(a.astype(kind, order="C")) for a in (codes.T, zeros[0, 0] if same else zeros))
    w = c.emit("DequantizeLinear", stored, c.const(scales), zero, axis=0, block=block, to="f32")
    y = c.cast(product(c, c.cast(c.arg(0), "f32"), w), c.dtype)
    return c.emit("Add", y, c.arg(5)) if c.has(5) else y


def _block_zeros(c: Context, bits: int, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Zero points per block, in the middle where none are given; rows of packed ones begin at a byte."""
    if not c.has(3):
        return np.full(shape, 1 << (bits - 1), np.uint8)
    if c.arg(3).type.dtype != "u8":
        raise Refused(f"its zero points are {c.arg(3).type.dtype}", "expected u8")
    return _apart(c.array(3, "zero points"), bits, shape)


def _apart(packed: npt.NDArray[Any], bits: int, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Numbers of a few bits, lowest first, one to a byte. Each row begins at a byte."""
    rows = packed.reshape(shape[0], -1, 1)
    numbers = rows >> np.arange(0, 8, bits, dtype=np.uint8) & np.uint8((1 << bits) - 1)
    return np.asarray(numbers.reshape(shape[0], -1)[:, : shape[1]], np.uint8)
