"""Sums of products of quantized tensors by constants, as nodes; their bias takes in what is known, where it fits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgec.compiler.ir import Node, Value
from edgec.compiler.op import build, const, const_array
from edgec.compiler.ops.common import Tensor, limits
from edgec.compiler.ops.integer import SUFFIX
from edgec.compiler.rescale.bounds import sum_limits

from .constants import LARGEST_SUM, reach, whole_steps


@dataclass(frozen=True)
class Stored:
    """A quantized tensor as it lies in the new graph: (value - zero) * scale; scale and zero per tensor."""

    value: Value
    scale: float
    zero: int

    @property
    def farthest(self) -> int:
        """The greatest magnitude of a number less the zero point."""
        least, most = map(int, limits(self.value.type.dtype))
        return max(self.zero - least, most - self.zero)


@dataclass(frozen=True)
class Term:
    """(value - zero) * multiplier; `sums` where the value is a contraction's, which a bias may join."""

    value: Value
    zero: int
    multiplier: Any
    sums: bool = False


def products(node: Node, x: Stored, weights: tuple[Tensor, Tensor], bias: Tensor) -> Term | None:
    """A Conv or MatMul of `x` by (i8 weights, their scale) as sums in 32 bits; None where these might not hold them.
    `bias` is real, one number per output; the multiplier has a shape that broadcasts over the result."""
    w, scale = weights
    conv = node.op == "Conv"
    axis, shape = (0, (-1, *(1,) * (w.ndim - 2))) if conv else (1, (-1,))  # of the outputs: in weights, over the result
    unit = x.scale * np.asarray(scale, np.float64)
    whole = whole_steps(bias, unit)
    if whole is None or np.any(reach(w, axis) * x.farthest + np.abs(whole) > LARGEST_SUM):
        return None
    attrs: dict[str, Any] = dict(node.attrs) if conv else {}
    whole, zero = _without_zero_point(whole, w, axis, x) if not any(attrs.get("pads") or ()) else (whole, x.zero)
    attrs |= {"zero" if conv else "a_zero": zero}
    made = build(
        "Edgec.ConvInteger" if conv else "Edgec.MatMulInteger",
        x.value,
        const(w, node.args[1].node.name, node.args[1].node.origin),
        const(whole),
        label=f"{node.name}{SUFFIX}" if node.name else "",
        **attrs,
    )
    return Term(made, 0, unit.reshape(shape) if unit.ndim else unit, sums=True)


def _without_zero_point(bias: Tensor, w: Tensor, axis: int, x: Stored) -> tuple[Tensor, int]:
    """A bias that has taken in the zero point of the input, and 0; or both as they are, where sums might not fit."""
    moved = bias - x.zero * w.astype(np.int64).sum(tuple(a for a in range(w.ndim) if a != axis))
    if np.any(reach(w, axis) * replace(x, zero=0).farthest + np.abs(moved) > LARGEST_SUM):
        return bias, x.zero
    return moved.astype(np.int32), 0


def with_bias(term: Term, added: Tensor) -> Term | None:
    """Sums of products with more bias, where it is one number per channel (column of a matrix product) and 32 bits hold
    every sum that inputs may lead to."""
    node, rank = term.value.node, len(term.value.shape)
    place = 1 if node.op == "Edgec.ConvInteger" else rank - 1
    full = np.broadcast_to(added, (1,) * (rank - added.ndim) + added.shape) if added.ndim <= rank else added
    if full.ndim != rank or any(n != 1 for k, n in enumerate(full.shape) if k != place):
        return None
    each = np.broadcast_to(full.reshape(-1), (term.value.shape[place],))
    old: Tensor = const_array(node.args[2])
    more = whole_steps(each, np.asarray(term.multiplier).reshape(-1))
    if more is None:
        return None
    total = np.broadcast_to(old.astype(np.int64) + more, each.shape)
    if np.abs(total).max(initial=0) > LARGEST_SUM:
        return None
    summed = replace(node, args=(*node.args[:2], const(total.astype(np.int32))))
    extremes = sum_limits(summed, {v: const_array(v) for v in summed.args[1:]})
    if extremes is None or np.abs(extremes).max(initial=0) > LARGEST_SUM:
        return None
    return replace(term, value=Value(summed))
