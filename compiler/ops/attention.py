"""Edgec.Attention: softmax(scale * Q K' + mask) V over any batch axes, its operands read through strides.

Scaled dot-product attention (Vaswani et al., 2017). Q is [batch, S, D], K [batch, T, D], V [batch, T, E], the mask is
added to [batch, S, T]. With `cap`, scores are cap * tanh(scale * Q K') before that; with `zero_masked`, a query whose
mask is -inf throughout gives zeros, whatever its scores (else NaN). Of f16 the mask is f32, and only the result is
rounded. Each operand is a row-major value and an attribute
(offset, one stride per batch axis, two more) that says where its elements are: transposes, joint projections and
repeated heads cost nothing. `out` are the strides of the result [batch, S, E] in the row-major value of shape `shape`.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import REQUIRED, op
from .common import Ints, Tensor, equal_types, require, widened
from .normalization import softmax

NAMES = ("q", "k", "v", "mask")
MOST_HALVES = 512  # what kernels of f16 hold of a query


def operand_shapes(batch: Ints, sizes: Ints) -> tuple[Ints, ...]:
    """The shapes that q, k, v and mask stand for."""
    s, t, d, e = sizes
    return (*batch, s, d), (*batch, t, d), (*batch, t, e), (*batch, s, t)


def _attention(*types: Type, batch: Ints, sizes: Ints, shape: Ints, out: Ints, **attrs: Any) -> tuple[Type, ...]:
    equal_types(*types[:3])
    require(types[0], frozenset({"f32", "f16"}))
    for t in types[3:]:
        require(t, frozenset({"f32"}))
    if len(sizes) != 4 or min((*sizes, *batch), default=0) < 1:
        raise IRError(f"batch {list(batch)} and sizes {list(sizes)} are not those of Q [S, D], K [T, D] and V [T, E]")
    if types[0].dtype == "f16" and sizes[2] > MOST_HALVES:
        raise IRError(f"heads of {sizes[2]} numbers are too long for f16: up to {MOST_HALVES}")
    for name, t, dims in zip(NAMES, types, operand_shapes(batch, sizes), strict=False):
        where = attrs[name]
        if len(where) != len(dims) + 1 or min(where) < 0:
            raise IRError(f"{name}={list(where)} is no offset and {len(dims)} strides")
        if where[0] + sum((n - 1) * s for n, s in zip(dims, where[1:], strict=True)) >= t.size:
            raise IRError(f"{name}={list(where)} reaches beyond {t}")
    if (len(types) == 4) != bool(attrs["mask"]):
        raise IRError("has a mask without strides, or strides without a mask")
    if attrs["zero_masked"] and len(types) < 4:
        raise IRError("zero_masked is set without a mask")
    dims = (*batch, sizes[0], sizes[3])
    if len(out) != len(dims):
        raise IRError(f"out={list(out)} is not {len(dims)} strides")
    inner = 1
    for stride, n in sorted((s, n) for s, n in zip(out, dims, strict=True) if n > 1):
        if stride != inner:
            raise IRError(f"out={list(out)} does not fill {list(shape)}")
        inner *= n
    if inner != prod(shape):
        raise IRError(f"out={list(out)} does not fill {list(shape)}")
    return (Type(types[0].dtype, tuple(shape)),)


def attention(
    *xs: Tensor,
    batch: Ints,
    sizes: Ints,
    scale: float,
    cap: float,
    zero_masked: int,
    shape: Ints,
    out: Ints,
    **attrs: Any,
) -> Tensor:
    """numpy's meaning, without a care for memory."""
    views = [
        _strided(np.ascontiguousarray(widened(x)).reshape(-1)[attrs[name][0] :], dims, attrs[name][1:])
        for x, name, dims in zip(xs, NAMES, operand_shapes(batch, sizes), strict=False)
    ]
    scores = np.matmul(views[0], np.swapaxes(views[1], -1, -2)) * np.float32(scale)
    if cap:
        scores = np.float32(cap) * np.tanh(scores)
    if len(views) == 4:
        scores = scores + views[3]
    weights = softmax(scores, -1)
    if zero_masked:
        weights = np.where(np.max(views[3], -1, keepdims=True) == -np.inf, np.float32(0), weights)
    result = np.zeros(prod(shape), views[0].dtype)
    _strided(result, (*batch, sizes[0], sizes[3]), out)[...] = np.matmul(weights, views[2])
    return result.reshape(shape).astype(xs[0].dtype)


def _strided(flat: Tensor, dims: Ints, strides: Ints) -> Tensor:
    return np.lib.stride_tricks.as_strided(flat, dims, [s * flat.itemsize for s in strides])


op(
    "Edgec.Attention",
    (3, 4),
    _attention,
    attention,
    kind="other",
    alone=True,  # its result is written through strides: nothing can follow in the same kernel
    attrs={
        "batch": (),
        "sizes": REQUIRED,  # S, T, D, E
        "scale": 1.0,
        "cap": 0.0,  # none
        "zero_masked": 0,
        "q": REQUIRED,
        "k": REQUIRED,
        "v": REQUIRED,
        "mask": (),
        "shape": REQUIRED,
        "out": REQUIRED,
    },
)
