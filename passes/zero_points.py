"""Takes the zero point of an input out of products where that is known beforehand: its share becomes part of the bias.

Sums of (x - zero) * w + b are sums of x * w + (b - zero * sum(w)), in 32 bits that wrap, where every output has all of
the window's taps: in matrix products, and in convolutions without padding. Kernels then need no sums of weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.compiler.ir import Array, Graph, Value
from edgec.compiler.op import build, const, const_array, full_attrs, is_const
from edgec.compiler.pipeline import exact, graph_pass
from edgec.compiler.rewrite import Sweep, python_rule, rewrite
from edgec.compiler.session import Session


@graph_pass("zero-points", promise=exact, after={"integers": "it makes sums of integers"})
def zero_points(graph: Graph, *, session: Session) -> Graph:
    """Zero points of inputs become part of constant biases, for kernels that do not subtract them on the way."""
    return rewrite(graph, [product_without_zero, convolution_without_zero], session)


@python_rule("Edgec.MatMulInteger")
def product_without_zero(value: Value, sweep: Sweep) -> Value | str | None:
    """With a constant matrix and bias."""
    _, b, bias = value.node.args
    attrs: Any = full_attrs(value.node)
    if not attrs["a_zero"]:
        return None
    if not is_const(b) or not is_const(bias) or len(b.shape) != 2:
        return "matrix or bias are not constant"
    total = (const_array(b).astype(np.int64) - int(attrs["b_zero"])).sum(0)
    return _again(value, _less(bias, attrs["a_zero"], total), {**value.node.attrs, "a_zero": 0})


@python_rule("Edgec.ConvInteger")
def convolution_without_zero(value: Value, sweep: Sweep) -> Value | str | None:
    """With constant weights and bias, and no padding."""
    _, w, bias = value.node.args
    attrs: Any = full_attrs(value.node)
    if not attrs["zero"]:
        return None
    if not is_const(w) or not is_const(bias):
        return "weights or bias are not constant"
    if any(attrs["pads"] or ()):
        return "padding stands for the zero point"
    total = const_array(w).astype(np.int64).reshape(w.shape[0], -1).sum(1)
    return _again(value, _less(bias, attrs["zero"], total), {**value.node.attrs, "zero": 0})


def _less(bias: Value, zero: int, total: Array) -> Value:
    moved = np.subtract(const_array(bias), zero * total, dtype=np.int64)
    return const(moved.astype(np.uint64).astype(np.uint32).view(np.int32), bias.node.name, bias.node.origin)


def _again(value: Value, bias: Value, attrs: Any) -> Value:
    node = value.node
    return build(node.op, *node.args[:2], bias, origin=node.origin, label=node.name, **attrs)
