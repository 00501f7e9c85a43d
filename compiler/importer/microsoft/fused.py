"""Converters of what ONNX Runtime's optimizers fuse, domain com.microsoft: each becomes the operators that it was.

They are as that project's ContribOperators.md states them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ir import Value
from ..context import Context
from ..linear import product
from ..normalizations import root_mean_square
from ..table import Refused, Result, converts
from .quantized import OPSET


@converts("com.microsoft.FusedMatMul")
def matmul(c: Context) -> Result:
    """alpha A' B', the last two axes of either turned where it says so."""
    if c.attr("transBatchA", 0) or c.attr("transBatchB", 0):
        raise Refused("it turns axes of the batch", "expected transBatchA and transBatchB of 0")
    a, b = (_turned(c, c.arg(k)) if c.attr(key, 0) else c.arg(k) for k, key in ((0, "transA"), (1, "transB")))
    y, alpha = product(c, a, b), float(c.attr("alpha", 1.0))
    return y if alpha == 1 else c.emit("Mul", y, c.const(alpha, like=y))


def _turned(c: Context, x: Value) -> Value:
    rank = len(x.shape)
    return c.transpose(x, (*range(rank - 2), rank - 1, rank - 2)) if rank > 1 else x


@converts("com.microsoft.Gelu", "com.microsoft.BiasGelu", "com.microsoft.FastGelu")
def gelu(c: Context) -> Result:
    """Of X and a bias, which may be missing; FastGelu takes the form with tanh."""
    x = c.emit("Add", c.arg(0), c.arg(1)) if c.has(1) else c.arg(0)
    return c.emit("Gelu", x, approximate="tanh" if c.op.endswith("FastGelu") else "none")


@converts("com.microsoft.QuickGelu")
def quick_gelu(c: Context) -> Result:
    x = c.arg()
    scaled = c.emit("Mul", x, c.const(float(c.attr("alpha", 1.702)), like=x))
    return c.emit("Mul", x, c.emit("Sigmoid", scaled))


@converts("com.microsoft.SkipLayerNormalization")
def skip_layer_normalization(c: Context) -> Result:
    """LayerNormalization of X + skip + bias: input, skip, gamma, beta and bias, the last two of which may be missing.
    The fourth result is the sum."""
    total = _sum_of(c, c.emit("Add", c.arg(0), c.arg(1)), 4)
    beta = c.arg(3) if c.has(3) else c.const(np.zeros(c.arg(2).shape), like=c.arg(2))
    y = c.emit("LayerNormalization", total, c.arg(2), beta, axis=c.rank - 1, epsilon=_epsilon(c))
    return _with_sum(c, y, total)


@converts("com.microsoft.SkipSimplifiedLayerNormalization")
def skip_rms_normalization(c: Context) -> Result:
    """The same without mean and beta: input, skip, gamma and bias, which may be missing."""
    total = _sum_of(c, c.emit("Add", c.arg(0), c.arg(1)), 3)
    return _with_sum(c, root_mean_square(c, total, c.arg(2), (c.rank - 1,), _epsilon(c)), total)


def _epsilon(c: Context) -> float:
    return float(c.attr("epsilon", 1e-12))


def _sum_of(c: Context, total: Value, bias: int) -> Value:
    return c.emit("Add", total, c.arg(bias)) if c.has(bias) else total


def _with_sum(c: Context, y: Value, total: Value) -> Result:
    if c.wants(1) or c.wants(2):
        raise Refused("its mean or deviation is read", "expected a reader of the result or the sum")
    return y, None, None, total


@converts("com.microsoft.EmbedLayerNormalization")
def embed(c: Context) -> Result:
    """Rows of word, position and segment embeddings added, then LayerNormalization: input_ids, segment_ids,
    word_embedding, position_embedding, segment_embedding, gamma, beta, mask, position_ids."""
    ids = c.arg(0)
    total = c.emit("Gather", c.arg(2), ids, axis=0)
    if c.has(8):
        total = c.emit("Add", total, c.emit("Gather", c.arg(3), c.arg(8), axis=0))
    else:
        total = c.emit("Add", total, c.slice(c.arg(3), 0, 0, ids.shape[1]))
    if c.has(1) and c.has(4):
        total = c.emit("Add", total, c.emit("Gather", c.arg(4), c.arg(1), axis=0))
    y = c.emit("LayerNormalization", total, c.arg(5), c.arg(6), axis=2, epsilon=_epsilon(c))
    if c.has(7):
        lengths = c.emit("ReduceSum", c.cast(c.arg(7), "i32"), axes=(1,), keepdims=0)
    else:
        lengths = c.const(np.zeros(ids.shape[:1], np.int32))
    return y, lengths, total


@converts("com.microsoft.FusedConv")
def convolution(c: Context) -> Result:
    """Conv, plus a fourth argument, then an activation."""
    own = ("activation", "activation_params")
    (y,) = c.all_of("Conv", OPSET, list(c.args[:3]), **{k: v for k, v in c.attrs.items() if k not in own})
    y = c.emit("Add", y, c.arg(3)) if c.has(3) else y
    kind, given = str(c.attr("activation", "")), [float(p) for p in c.attr("activation_params") or ()]
    if kind in ("Relu", "Tanh", "Sigmoid"):
        return c.emit(kind, y)
    if kind == "Clip":
        return c.emit("Clip", y, min=given[0], max=given[1])
    names = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "HardSwish": ()}.get(kind)
    if names is None:
        raise Refused(f"its activation is {kind!r}", "expected Relu, Tanh, Sigmoid, LeakyRelu, Clip or HardSigmoid")
    return c.all_of(kind, OPSET, [y], **dict[str, Any](zip(names, given, strict=False)))


@converts("com.microsoft.MatMulIntegerToFloat")
def matmul_integer(c: Context) -> Result:
    """A and B in bytes, a_scale, b_scale, a_zero_point, b_zero_point, bias: the product in real numbers."""
    y = bytes_product(c, (0, 1), (4, 5), (2, 3))
    return c.emit("Add", y, c.arg(6)) if c.has(6) else y


def bytes_product(c: Context, bytes_at: tuple[int, int], zeros: tuple[int, int], scales: tuple[int, int]) -> Value:
    """The product of two arguments in bytes in real numbers; the numbers are those of arguments."""
    given = [c.arg(k) for k in bytes_at] + [c.arg(k) if c.has(k) else None for k in zeros]
    (total,) = c.all_of("MatMulInteger", OPSET, given)
    return c.emit("Mul", c.cast(total, "f32"), c.emit("Mul", *(c.arg(k) for k in scales)))


@converts("com.microsoft.DynamicQuantizeMatMul")
def dynamic_matmul(c: Context) -> Result:
    """A, which becomes bytes of its own range; B in bytes, b_scale, b_zero_point, bias."""
    a, scale, zero = _bytes(c, c.arg(0))
    (total,) = c.all_of("MatMulInteger", OPSET, [a, c.arg(1), zero, c.arg(3) if c.has(3) else None])
    return _scaled(c, total, c.emit("Mul", scale, c.arg(2)), 4)


def _bytes(c: Context, x: Value) -> tuple[Value, Value, Value]:
    """Bytes of a tensor, their scale and zero point, from its least and greatest element, as DynamicQuantizeLinear."""
    none, most, axes = c.const(np.float32(0)), c.const(np.float32(255)), tuple(range(len(x.shape)))
    low = c.emit("Min", c.emit("ReduceMin", x, axes=axes, keepdims=0), none)
    high = c.emit("Max", c.emit("ReduceMax", x, axes=axes, keepdims=0), none)
    scale = c.emit("Div", c.emit("Sub", high, low), most)
    zero = c.emit("Clip", c.emit("Sub", none, c.emit("Div", low, scale)), min=0.0, max=255.0)
    zero = c.cast(c.emit("Round", zero), "u8")
    return c.emit("QuantizeLinear", x, scale, zero, axis=0), scale, zero


def _scaled(c: Context, total: Value, scale: Value, bias: int) -> Value:
    y = c.emit("Mul", c.cast(total, "f32"), scale)
    return c.emit("Add", y, c.arg(bias)) if c.has(bias) else y


@converts("com.microsoft.DynamicQuantizeLSTM")
def lstm(c: Context) -> Result:
    """An LSTM whose W [directions, inputs, 4 * size] and R are bytes with scales; the sums are computed in f32.
    Arguments: X, W, R, B, sequence_lens, initial_h, initial_c, P, then scale and zero point of W, and of R."""

    def weights(index: int, at: int) -> Value:
        w = c.arg(index)
        each = (w.shape[0], 1, -1 if len(c.arg(at).shape) > 1 else 1)
        scale, zero = (c.reshape(c.arg(k), (*each[:2], c.arg(k).type.size // each[0])) for k in (at, at + 1))
        steps = c.emit("Sub", c.cast(w, "f32"), c.cast(zero, "f32"))
        return c.transpose(c.emit("Mul", steps, scale), (0, 2, 1))

    others = [c.args[k] if c.has(k) else None for k in range(3, 8)]
    return c.all_of("LSTM", OPSET, [c.arg(0), weights(1, 8), weights(2, 10), *others], 3, **c.attrs)
