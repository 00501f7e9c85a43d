"""Converters of ONNX Runtime's attentions, domain com.microsoft: Attention, QAttention, MultiHeadAttention.

They are as that project's ContribOperators.md states them. A past is joined in front of keys and values; the results
`present` are what was joined.
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np

from ...ir import Value
from ..context import Context
from ..table import Refused, Result, converts
from .fused import bytes_product


class Heads(NamedTuple):
    """Queries [batch, heads, steps, size], keys and values [batch, heads, keys, size], past ones in front."""

    q: Value
    k: Value
    v: Value


@converts("com.microsoft.Attention")
def attention(c: Context) -> Result:
    """Q, K and V as one product of X [batch, steps, width] and weights [width, 3 * heads * size]; then attention.
    Further arguments: bias, mask, past [2, batch, heads, steps, size], attention_bias."""
    wide = c.emit("MatMul", c.arg(0), c.arg(1))
    wide = c.emit("Add", wide, c.arg(2)) if c.has(2) else wide
    return _of_joint(c, wide, mask=3, past=4, bias=5)


@converts("com.microsoft.QAttention")
def quantized_attention(c: Context) -> Result:
    """The same where X and weights are bytes: input, weight, bias, input_scale, weight_scale, mask, input_zero_point,
    weight_zero_point, past. All that follows the product is real."""
    wide = bytes_product(c, (0, 1), (6, 7), (3, 4))
    return _of_joint(c, c.emit("Add", wide, c.arg(2)), mask=5, past=8, bias=9)


def _of_joint(c: Context, wide: Value, mask: int, past: int, bias: int) -> Result:
    """Attention of Q, K and V side by side; the numbers are those of further arguments."""
    if c.attr("do_rotary", 0) or c.attr("past_present_share_buffer", 0) or (c.has(6) and c.op.endswith(".Attention")):
        raise Refused("it turns positions, or shares memory of its past", "expected do_rotary of 0 and a past apart")
    third = wide.shape[2] // 3
    sizes = [int(n) for n in c.attr("qkv_hidden_sizes") or (third, third, third)]
    ends = [sum(sizes[: k + 1]) for k in range(3)]
    q, k, v = (split(c, c.slice(wide, 2, end - size, end)) for size, end in zip(sizes, ends, strict=True))
    both: list[Value] | None = None
    if c.has(past):
        before = [c.reshape(c.slice(c.arg(past), 0, i, i + 1), c.arg(past).shape[1:]) for i in (0, 1)]
        k, v = (c.emit("Concat", one, new, axis=2) for one, new in zip(before, (k, v), strict=True))
    if c.wants(1):
        both = [c.reshape(x, (1, *x.shape)) for x in (k, v)]
    y = attended(c, Heads(q, k, v), masks(c, mask, bias, Heads(q, k, v)))
    return y if both is None else (y, c.emit("Concat", *both, axis=0))


@converts("com.microsoft.MultiHeadAttention")
def multi_head_attention(c: Context) -> Result:
    """Query [batch, steps, heads * size], key and value the same, or [batch, heads, steps, size]; further arguments:
    bias of all three, key_padding_mask, attention_bias, past_key, past_value."""
    if any(map(c.has, range(8, len(c.args)))) or c.wants(3) or not (c.has(1) and c.has(2)):
        raise Refused("it packs its arguments, or shares memory of its past", "expected query, key and value")
    parts = [c.arg(k) for k in range(3)]
    if len(parts[0].shape) != 3 or any(len(v.shape) not in (3, 4) for v in parts):
        raise Refused(f"its arguments are {', '.join(str(v.type) for v in parts)}", "expected three axes each")
    if c.has(3):
        parts = _biased(c, parts, c.arg(3))
    q, k, v = (split(c, x) if len(x.shape) == 3 else x for x in parts)
    if c.has(6) and c.has(7):
        k, v = c.emit("Concat", c.arg(6), k, axis=2), c.emit("Concat", c.arg(7), v, axis=2)
    heads = Heads(q, k, v)
    y = attended(c, heads, masks(c, 4, 5, heads))
    return (y, k, v) if c.wants(1) or c.wants(2) else y


def _biased(c: Context, parts: list[Value], bias: Value) -> list[Value]:
    """Each part with its own piece of the bias; keys and values that are split already have theirs."""
    sizes = [v.shape[2] if len(v.shape) == 3 else v.shape[1] * v.shape[3] for v in parts]
    ends = [sum(sizes[: k + 1]) for k in range(3)]
    pieces = [c.slice(bias, 0, end - size, end) for size, end in zip(sizes, ends, strict=True)]
    return [
        c.emit("Add", v, piece) if len(v.shape) == 3 else v for v, piece in zip(parts, pieces, strict=True)
    ]  # fmt: skip


def split(c: Context, x: Value, heads: int = 0) -> Value:
    """[batch, steps, heads * size] as [batch, heads, steps, size]."""
    heads = heads or int(c.attr("num_heads"))
    return c.transpose(c.reshape(x, (*x.shape[:2], heads, x.shape[2] // heads)), (0, 2, 1, 3))


def attended(c: Context, heads: Heads, added: list[Value], cap: float = 0.0) -> Value:
    """softmax(scale Q K' + what masks add) V, heads side by side again; `cap`: scores are cap * tanh(score / cap)."""
    q, k, v = heads
    scale = float(c.attr("scale", 0.0)) or 1 / sqrt(q.shape[3])
    scores = c.emit("MatMul", q, c.transpose(k, (0, 1, 3, 2)))
    if cap:
        scores = c.emit("Tanh", c.emit("Mul", scores, c.const(scale / cap, like=scores)))
        scale = cap
    scores = c.emit("Mul", scores, c.const(scale, like=scores))
    for term in added:
        scores = c.emit("Add", scores, term)
    y = c.transpose(c.emit("MatMul", c.emit("Softmax", scores, axis=3), v), (0, 2, 1, 3))
    return c.reshape(y, (*y.shape[:2], y.shape[2] * y.shape[3]))


def masks(c: Context, mask: int, bias: int, heads: Heads) -> list[Value]:
    """What is added to scores of four axes: for keys that the mask leaves out, for later ones, the bias."""
    batch, steps, keys = heads.q.shape[0], heads.q.shape[2], heads.k.shape[2]
    kind = heads.q.type.dtype
    least = float(c.attr("mask_filter_value", -10000.0))
    added: list[Value] = []
    if c.has(mask):
        given = c.arg(mask)
        if given.shape == (batch,):  # how many keys count
            place = c.const(np.arange(keys, dtype=np.int32).reshape(1, keys))
            kept = c.emit("Less", place, c.cast(c.reshape(given, (batch, 1)), "i32"))
        elif given.shape in ((batch, keys), (batch, steps, keys)):
            kept = c.cast(given, "bool")
        else:
            raise Refused(f"its mask is {given.type}", f"expected [{batch}], [{batch}, {keys}] or one per step")
        kept = c.reshape(kept, (batch, 1, *((1, keys) if len(kept.shape) == 2 else (steps, keys))))
        added.append(c.emit("Where", kept, c.const(0.0, like=kind), c.const(least, like=kind)))
    if c.attr("unidirectional", 0):
        later = np.where(np.tri(steps, keys, keys - steps) > 0, 0.0, np.finfo(np.float32).min / 2)
        added.append(c.const(later, like=kind))
    return [*added, c.arg(bias)] if c.has(bias) else added
