"""Real values as sums of integers: what a graph computes between DequantizeLinear and QuantizeLinear, term by term.

A term is (integer value - zero point) * multiplier. Multipliers are f64 arrays that broadcast over the value; a sum
may be clipped. Where a value is no such sum, nothing is found, and it stays real.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf, prod
from typing import Any

import numpy as np

from edgec.compiler.ir import Node, Value
from edgec.compiler.op import build, const, full_attrs, int_attr, ints_attr
from edgec.compiler.ops.common import Tensor
from edgec.compiler.ops.pooling import covered

from .constants import LARGEST_SUM, filters, real_constant
from .sums import Stored, Term, products, with_bias

MOST_TERMS = 2  # of one kernel: an accumulator and a residual


@dataclass(frozen=True)
class Linear:
    """The sum of terms, at least `low` and at most `high`; the nodes that it stands for."""

    terms: tuple[Term, ...]
    low: float = -inf
    high: float = inf
    nodes: tuple[Node, ...] = field(default=())

    @property
    def bounded(self) -> bool:
        return self.low > -inf or self.high < inf

    @property
    def of_bytes(self) -> bool:
        """Whether a table may be less work: where it takes two tensors, which may come from one, or a function."""
        first = self.terms[0].value
        return len(self.terms) > 1 or first.node.op == "Edgec.MulInteger" or first.type.dtype == "f32"

    @property
    def origin(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(o for n in self.nodes for o in n.origin))


class Forms:
    """Finds the forms of a graph's values. `stored` gives the new graph's tensor behind a DequantizeLinear (behind any
    other node None), `function` what a function makes of real numbers there."""

    def __init__(
        self,
        uses: dict[Value, int],
        stored: Callable[[Node], Stored | None],
        function: Callable[[Value], Value | None] = lambda _: None,
    ) -> None:
        self.uses = uses
        self.stored = stored
        self.function = function

    def of(self, value: Value) -> Linear | None:
        """The form of a real value that has no other reader, or is a quantized tensor or a function's."""
        node = value.node
        if node.op == "DequantizeLinear":
            found = self.stored(node)
            return Linear((Term(found.value, found.zero, np.float64(found.scale)),), nodes=(node,)) if found else None
        if (made := self.function(value)) is not None:
            return Linear((Term(made, 0, np.float64(1)),))
        if self.uses[value] != 1 or node.op not in _FORMS:
            return None
        form = _FORMS[node.op](self, node)
        return replace(form, nodes=(*form.nodes, node)) if form is not None else None

    def product(self, node: Node) -> Linear | None:
        """The form of a convolution or matrix product, however often it is read."""
        return self.conv(node) if node.op == "Conv" else self.matmul(node) if node.op == "MatMul" else None

    def relu(self, node: Node) -> Linear | None:
        return self._clipped(node, 0.0, inf)

    def clip(self, node: Node) -> Linear | None:
        attrs: Any = full_attrs(node)
        return self._clipped(node, attrs["min"], attrs["max"])

    def _clipped(self, node: Node, low: float, high: float) -> Linear | None:
        form = self.of(node.args[0])
        if form is None or low > high:
            return None
        return replace(form, low=min(max(form.low, low), high), high=max(min(form.high, high), low))

    def add(self, node: Node) -> Linear | None:
        return self._sum(node, 1.0)

    def sub(self, node: Node) -> Linear | None:
        return self._sum(node, -1.0)

    def _sum(self, node: Node, sign: float) -> Linear | None:
        left, right = node.args
        known = real_constant(right)
        if known is not None:
            return self._with_constant(node, left, sign * known)
        if (known := real_constant(left)) is not None and sign > 0:
            return self._with_constant(node, right, known)
        a, b = (self.of(arg) for arg in node.args)
        if a is None or b is None or a.bounded or b.bounded or len(a.terms) + len(b.terms) > MOST_TERMS:
            return None
        more = tuple(replace(t, multiplier=sign * t.multiplier) for t in b.terms)
        return Linear((*a.terms, *more), nodes=(*a.nodes, *b.nodes))

    def _with_constant(self, node: Node, real: Value, added: Tensor) -> Linear | None:
        """A constant joins the bias of the first sum of products that takes it."""
        form = self.of(real)
        if form is None or form.bounded or real.shape != node.types[0].shape:
            return None
        for place, term in enumerate(form.terms):
            if term.sums and (moved := with_bias(term, added)) is not None:
                return replace(form, terms=(*form.terms[:place], moved, *form.terms[place + 1 :]))
        return None

    def mul(self, node: Node) -> Linear | None:
        left, right = node.args
        for real, factor in ((left, real_constant(right)), (right, real_constant(left))):
            if factor is not None:
                return self._scaled(node, real, factor)
        a, b = (self.stored(arg.node) for arg in node.args)
        if a is None or b is None:
            return None
        made = build("Edgec.MulInteger", a.value, b.value, a_zero=a.zero, b_zero=b.zero)
        return Linear((Term(made, 0, np.float64(a.scale * b.scale)),), nodes=(left.node, right.node))

    def _scaled(self, node: Node, real: Value, factor: Tensor) -> Linear | None:
        form = self.of(real)
        if form is None or form.bounded or real.shape != node.types[0].shape:
            return None
        return replace(form, terms=tuple(replace(t, multiplier=t.multiplier * factor) for t in form.terms))

    def conv(self, node: Node) -> Linear | None:
        x = self.stored(node.args[0].node)
        weights = filters(node.args[1], 0)
        bias = real_constant(node.args[2])
        if x is None or weights is None or bias is None:
            return None
        return _of_sums(node, products(node, x, weights, bias))

    def matmul(self, node: Node) -> Linear | None:
        a = self.stored(node.args[0].node)
        weights = filters(node.args[1], -1)
        if a is None or weights is None or len(node.args[0].shape) < 2 or weights[0].ndim != 2:
            return self._of_two(node, a)
        return _of_sums(node, products(node, a, weights, np.zeros(weights[0].shape[1])))

    def _of_two(self, node: Node, a: Stored | None) -> Linear | None:
        """A product of two tensors that are both computed."""
        b = self.stored(node.args[1].node)
        if a is None or b is None or min(len(v.shape) for v in node.args) < 2:
            return None
        if node.args[0].shape[-1] * a.farthest * b.farthest > LARGEST_SUM:
            return None
        none = const(np.zeros(1, np.int32))
        made = build("Edgec.MatMulInteger", a.value, b.value, none, a_zero=a.zero, b_zero=b.zero)
        return Linear((Term(made, 0, np.float64(a.scale * b.scale)),), nodes=tuple(v.node for v in node.args))

    def average_pool(self, node: Node) -> Linear | None:
        attrs: Any = full_attrs(node)
        x = self.stored(node.args[0].node)
        if x is None or prod(attrs["kernel_shape"]) * x.farthest > LARGEST_SUM:
            return None
        window = {k: attrs[k] for k in ("kernel_shape", "strides", "pads", "dilations", "ceil_mode")}
        made = build("Edgec.SumPool", x.value, zero=x.zero, **window)
        count = covered(node.args[0].shape[2:], **window, count_include_pad=attrs["count_include_pad"])
        each = count.reshape(-1)[0] if np.all(count == count.reshape(-1)[0]) else count[0]
        return Linear((Term(made, 0, x.scale / np.asarray(each, np.float64)),), nodes=(node.args[0].node,))

    def mean(self, node: Node) -> Linear | None:
        x = self.stored(node.args[0].node)
        axes = ints_attr(node, "axes")
        added = prod(node.args[0].shape[a] for a in axes)
        if x is None or added == 0 or added * x.farthest > LARGEST_SUM:
            return None
        made = build("Edgec.Sum", x.value, axes=axes, keepdims=int_attr(node, "keepdims"), zero=x.zero)
        count = added if node.op == "ReduceMean" else 1
        return Linear((Term(made, 0, np.float64(x.scale / count)),), nodes=(node.args[0].node,))


_FORMS: dict[str, Callable[[Forms, Node], Linear | None]] = {
    "Relu": Forms.relu,
    "Clip": Forms.clip,
    "Add": Forms.add,
    "Sub": Forms.sub,
    "Mul": Forms.mul,
    "Conv": Forms.conv,
    "MatMul": Forms.matmul,
    "AveragePool": Forms.average_pool,
    "ReduceMean": Forms.mean,
    "ReduceSum": Forms.mean,
}


def _of_sums(node: Node, term: Term | None) -> Linear | None:
    return Linear((term,), nodes=tuple(a.node for a in node.args)) if term is not None else None
