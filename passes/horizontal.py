"""Joins matrix products of one left operand that an attention reads: one kernel forms Q, K and V.

Horizontal fusion: the weights lie side by side in one matrix, the biases in one vector, and the attention reads its
operands out of the joint result through strides (`compiler/strides.py`), so that nothing takes it apart. On GPUs, where
a small product is bound by its launch and leaves multiprocessors idle; on CPUs products are as fast one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgec.compiler.ir import Array, Graph, Node, Value
from edgec.compiler.op import build, const, const_array, full_attrs, is_const, rebuild
from edgec.compiler.ops.attention import NAMES, operand_shapes
from edgec.compiler.pipeline import close, graph_pass
from edgec.compiler.session import Session

WHOLE = 8  # columns of which each product has a multiple: its rows then begin with a vector of 16 bytes, also of f16


@dataclass(frozen=True)
class _Product:
    """`value` = left @ weights (+ bias), the bias one number per column."""

    value: Value
    left: Value
    weights: Value
    bias: Value | None

    @property
    def columns(self) -> int:
        return self.value.shape[-1]


@dataclass(frozen=True)
class _Place:
    """A product's columns in the joint one: `start` of `total`."""

    joint: Value
    start: int
    total: int


@graph_pass(
    "horizontal",
    promise=close,
    after={"attention": "it finds what reads products through strides", "fold": "weights must be constants"},
)
def horizontal(g: Graph, *, session: Session) -> Graph:
    """Matrix products of one operand that an attention reads become one."""
    session.known_rules.add("horizontal")
    return _Joined(g, session).graph()


class _Joined:
    """One run. `places`: joint products of old values; `packed`: their weights, made once where layers share them."""

    def __init__(self, g: Graph, session: Session) -> None:
        self.old, self.session = g, session
        self.users, self.outputs = g.users(), set(g.outputs)
        self.new: dict[Value, Value] = {}
        self.places: dict[Value, _Place] = {}
        self.packed: dict[tuple[tuple[Value, Value | None], ...], tuple[Value, Value | None]] = {}

    def graph(self) -> Graph:
        for node in self.old.nodes():
            made = self._attention(node) if node.op == "Edgec.Attention" else None
            if made is None:
                made = replace(node, args=tuple(self.new[a] for a in node.args)) if node.args else node
            self.new.update(zip(node.results, made.results, strict=True))
        return self.old.with_values(
            tuple(self.new[v] for v in self.old.inputs), tuple(self.new[v] for v in self.old.outputs)
        )

    def _attention(self, node: Node) -> Node | None:
        for group in self._groups(node):
            if self.session.step("horizontal", node):
                self._join(group)
        args, attrs = [self.new[a] for a in node.args], dict[str, Any]()
        for k, (name, strides) in enumerate(zip(NAMES[:3], _strides(node), strict=True)):
            if (place := self.places.get(node.args[k])) is not None:
                args[k] = place.joint
                attrs[name] = _within(strides, node.args[k].shape[-1], place)
        return rebuild(node, args, **attrs) if attrs else None

    def _groups(self, node: Node) -> list[list[_Product]]:
        """Products that this attention reads, two or more of each left operand."""
        found: dict[Value, dict[Value, _Product]] = {}
        for value in node.args[:3]:
            product = _product(value, self.users)
            if product is None or value in self.places:
                continue
            if (why := self._fixed(product)) is None:
                found.setdefault(product.left, {})[value] = product
            elif self.session.wants_why("horizontal"):
                self.session.explain("horizontal", node, why)
        return [list(group.values()) for group in found.values() if len(group) > 1]

    def _fixed(self, product: _Product) -> str | None:
        """Why a product must stay by itself."""
        value = product.value
        if value in self.outputs:
            return f"{value.node} is an output"
        if value.shape[-1] % WHOLE:
            return f"{value.node} has {value.shape[-1]} columns, no multiple of {WHOLE}"
        for user in self.users[value]:
            if user.op != "Edgec.Attention" or value in user.args[3:]:
                return f"{user} reads {value.node} as well"
            for arg, strides in zip(user.args, _strides(user), strict=False):
                if arg == value and not _keeps_rows(strides, value.shape[-1]):
                    return f"{user} reads across the rows of {value.node}"
        return None

    def _join(self, group: list[_Product]) -> None:
        weights, bias = self._packed(group)
        origin = tuple(dict.fromkeys(o for p in group for n in _nodes(p) for o in n.origin))
        names = [node.name for node in _nodes(group[0])]
        joint = build("MatMul", self.new[group[0].left], weights, origin=origin, label=names[0])
        if bias is not None:
            joint = build("Add", joint, bias, origin=origin, label=names[-1])
        start = 0
        for product in group:
            self.places[product.value] = _Place(joint, start, joint.shape[-1])
            start += product.columns

    def _packed(self, group: list[_Product]) -> tuple[Value, Value | None]:
        key = tuple((p.weights, p.bias) for p in group)
        if key not in self.packed:
            first = group[0].weights.node
            weights = np.concatenate([const_array(p.weights) for p in group], axis=1)
            made = const(weights, first.name, first.origin)
            bias = None
            if any(p.bias is not None for p in group):
                bias = const(np.concatenate([_bias(p) for p in group]), f"{first.name}_bias", first.origin)
            self.packed[key] = made, bias
        return self.packed[key]


def _product(value: Value, users: dict[Value, list[Node]]) -> _Product | None:
    """The value as a product with constant weights, and a constant bias where one is added."""
    node, bias = value.node, None
    if node.op == "Add":
        pairs = ((a, b) for a, b in (node.args, node.args[::-1]) if a.node.op == "MatMul" and is_const(b))
        made, bias = next(pairs, (value, None))
        per_column = bias is not None and bias.type.size in (1, *bias.shape[-1:])
        if not per_column or len(users[made]) != 1 or made.shape != value.shape:
            return None
        node = made.node
    if node.op != "MatMul" or not is_const(node.args[1]) or is_const(node.args[0]) or len(node.args[1].shape) != 2:
        return None
    return _Product(value, node.args[0], node.args[1], bias) if len(node.args[0].shape) > 1 else None


def _nodes(product: _Product) -> list[Node]:
    """The nodes that the joint product stands for."""
    node = product.value.node
    return [node] if node.op == "MatMul" else [next(a.node for a in node.args if a.node.op == "MatMul"), node]


def _bias(product: _Product) -> Array:
    """A number for each column, zeros where nothing is added."""
    if product.bias is None:
        return np.zeros(product.columns, const_array(product.weights).dtype)
    return np.ascontiguousarray(np.broadcast_to(const_array(product.bias).reshape(-1), (product.columns,)))


def _strides(node: Node) -> list[list[tuple[int, int]]]:
    """(elements, stride) of each axis that q, k and v have, before them (1, offset)."""
    attrs: Any = full_attrs(node)
    shapes = operand_shapes(attrs["batch"], attrs["sizes"])[:3]
    return [list(zip((1, *dims), attrs[name], strict=True)) for name, dims in zip(NAMES, shapes, strict=False)]


def _keeps_rows(strides: list[tuple[int, int]], columns: int) -> bool:
    """Whether every stride leads from row to row, or all that do not stay within one row together."""
    (_, offset), *axes = strides
    return offset % columns + sum((n - 1) * stride for n, stride in axes if stride % columns) < columns


def _within(strides: list[tuple[int, int]], columns: int, place: _Place) -> tuple[int, ...]:
    """The offset and strides in the joint product of what was read in rows of `columns`."""
    offset, *others = (stride // columns * place.total + stride % columns for _, stride in strides)
    return (offset + place.start, *others)
