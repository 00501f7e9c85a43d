"""Turns what lies between DequantizeLinear and QuantizeLinear into arithmetic on integers (docs/quantization.md).

Convolutions and matrix products become sums of integer products; so do products of bytes that a model spells in 32
bits. A chain of scales, additions and limits after them becomes one `Edgec.Rescale`; a function of one tensor becomes a
table; maps move bytes. What is no such form stays real. Tensors are held as u8 or i8, whichever the target's dot
product takes: i8 moved by 128 is the same tensor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgec.compiler.ir import Attr, Graph, Node, Value
from edgec.compiler.op import OPS, build, const, const_array, full_attrs, int_attr, is_const
from edgec.compiler.ops.common import limits
from edgec.compiler.ops.integer import BYTES
from edgec.compiler.ops.resize import blends
from edgec.compiler.pipeline import graph_pass, lossy
from edgec.compiler.rewrite import rewrite
from edgec.compiler.session import Session

from .integer.composed import composed_tables
from .integer.constants import LARGEST_SUM
from .integer.convolutions import convolutions_of_bytes
from .integer.ends import lying, multiplier_of, numpy_type, pair_of, real_constants, scales_of_ports, sums
from .integer.forms import Forms, Linear
from .integer.functions import has_steps, is_near, near_functions
from .integer.products import products_of_bytes
from .integer.splits import splits_of_bytes
from .integer.sums import Stored, Term
from .integer.tables import function_of_one, tabulated
from .integer.transposed import limits_before_weaving, transposed_of_bytes

# maps that move elements and know nothing of their values
MOVES = frozenset(
    "Reshape Transpose Slice Concat Expand Tile Gather DepthToSpace SpaceToDepth Split Edgec.Select".split()
)


@dataclass(frozen=True)
class Held:
    """A tensor of bytes in the new graph: the old one's numbers + `offset`."""

    value: Value
    offset: int


@graph_pass("integers", promise=lossy, after={"canonicalize": "it brings nodes to one form", "fold": "it folds shapes"})
def integers(g: Graph, *, session: Session, hold: str = "") -> Graph:
    """Quantized arithmetic on integers. `hold`: u8 or i8, how tensors are held (default: as the target prefers)."""
    session.known_rules |= {"integers"}
    held = hold or (session.target.bytes_held if session.target is not None else "")
    g = rewrite(g, [products_of_bytes(held), convolutions_of_bytes(held)], session)
    if not any(n.op in ("QuantizeLinear", "DequantizeLinear") for n in g.nodes()):
        return g
    session.scales.update(scales_of_ports(g))
    g = rewrite(splits_of_bytes(g), [transposed_of_bytes, limits_before_weaving], session)
    g = near_functions(real_constants(sums(_Integers(g, session, held).graph(), session), session), session)
    return rewrite(g, [composed_tables], session)


class _Integers:
    """One run. `new` maps old values to new ones of the same type; `bytes` maps those that are held otherwise."""

    def __init__(self, g: Graph, session: Session, hold: str) -> None:
        self.g, self.session, self.hold = g, session, hold
        self.new: dict[Value, Value] = {}
        self.bytes: dict[Value, Held] = {}
        self.place = {node: k for k, node in enumerate(g.nodes())}
        self.forms = Forms(g.uses(), self.stored, self._function)

    def graph(self) -> Graph:
        for node in self.g.nodes():
            if self._integer(node):
                continue
            if node.op == "DequantizeLinear" and (found := self.stored(node)) is not None:
                scale = const(np.float32(found.scale))
                zero = const(np.asarray(found.zero, numpy_type(found.value.type.dtype)))
                real = build("DequantizeLinear", found.value, scale, zero, origin=node.origin, label=node.name)
                self.new[Value(node)] = real
            else:
                args = tuple(map(self._as_is, node.args))
                same = node if args == node.args else replace(node, args=args)
                self.new.update(zip(node.results, same.results, strict=True))
        return self.g.with_values(tuple(self.new[v] for v in self.g.inputs), tuple(map(self._as_is, self.g.outputs)))

    def _as_is(self, value: Value) -> Value:
        """The value in its old type: bytes that are held otherwise are moved back."""
        if value not in self.new:
            held = self.bytes[value]
            if not held.offset:
                return held.value
            to, low, high = value.type.dtype, *map(int, limits(value.type.dtype))
            one = const(np.float32(1))
            self.new[value] = build(
                "Edgec.Rescale", held.value, one, zeros=(held.offset,), to=to, zero=0, low=low, high=high,
                origin=value.node.origin, label=value.name,
            )  # fmt: skip
        return self.new[value]

    # -- bytes ---------------------------------------------------------------------------------------------------------

    def held(self, value: Value) -> Held | None:
        """An old tensor of bytes as it is held; moved by 128 where that is the other type."""
        if value.type.dtype not in BYTES:
            return None
        if value not in self.bytes:
            offset = {("i8", "u8"): 128, ("u8", "i8"): -128}.get((value.type.dtype, self.hold), 0)
            source = self.new[value]
            if offset and (quantized := _quantized_as(source.node, self.hold, offset)) is not None:
                source = quantized
            elif offset:
                low, high = map(int, limits(self.hold))
                source = build(
                    "Edgec.Rescale", source, const(np.float32(1)), zeros=(-offset,), to=self.hold,
                    zero=0, low=low, high=high, origin=value.node.origin,
                )  # fmt: skip
            self.bytes[value] = Held(source, offset)
        return self.bytes[value]

    def stored(self, node: Node) -> Stored | None:
        """The tensor behind a DequantizeLinear, as it is held."""
        found = lying(node)
        held = self.held(node.args[0]) if found is not None else None
        return Stored(held.value, found.scale, found.zero + held.offset) if found and held else None

    def _function(self, value: Value) -> Value | None:
        """The new graph's value of a function that stays real."""
        return self.new.get(value) if is_near(value) and has_steps(self.session) else None

    def _integer(self, node: Node) -> bool:
        """Whether the node's result is found as bytes, and held."""
        if node.op == "QuantizeLinear" and (held := self._quantized(node)) is not None:
            self.bytes[Value(node)] = held
            return True
        if node.op in MOVES or node.op == "MaxPool":
            return self._moved_bytes(node)
        return False

    def _moved_bytes(self, node: Node) -> bool:
        """A map on bytes that are held otherwise runs on them as they are."""
        if not node.args or any(t.dtype not in BYTES for t in node.types):
            return False
        tensors = [a for a in node.args if a.type.dtype in BYTES]
        if not any(a in self.bytes for a in tensors):
            return False
        held = [self.held(a) for a in tensors]
        offset = held[0].offset if held[0] else 0
        if any(h is None or h.offset != offset for h in held):
            return False
        args = [self.bytes[a].value if a.type.dtype in BYTES else self.new[a] for a in node.args]
        made = build(node.op, *args, origin=node.origin, label=node.name, **node.attrs)
        self.bytes.update({v: Held(m, offset) for v, m in zip(node.results, made.node.results, strict=True)})
        return True

    # -- QuantizeLinear ------------------------------------------------------------------------------------------------

    def _quantized(self, node: Node) -> Held | None:
        pair, made = pair_of(node), node.types[0].dtype
        if pair is None or made not in BYTES or node.args[1].type.dtype != "f32" or not pair.scale[0] > 0:
            return None
        to = self.hold or made
        offset = int(limits(to)[0]) - int(limits(made)[0])
        target = _Target(pair.scale[0], pair.zero[0] + offset, to, node)
        found = self._bytes_of(node.args[0], target)
        if found is None or not self.session.step("integers", node):
            return None
        return Held(found, offset)

    def _bytes_of(self, value: Value, target: _Target) -> Value | None:
        """A real value in the target's steps, as integer arithmetic; None where it is none."""
        form = self.forms.of(value)
        if (form is None or form.of_bytes) and (table := self._table(value, target)) is not None:
            return table
        if form is not None:
            return _rescaled(form, target)
        if value.node.op == "Softmax":
            return self._softmax(value.node, target)
        return self._moved(value, target) or self._rounded(value, target)

    def _softmax(self, node: Node, target: _Target) -> Value | None:
        x, axis = self.stored(node.args[0].node), int_attr(node, "axis")
        if x is None or not 0 < node.types[0].shape[axis] < 1 << 22:
            return None
        unit = min(1 << 23, LARGEST_SUM // node.types[0].shape[axis])
        table = const(np.rint(np.exp(-np.arange(256) * x.scale) * unit).astype(np.int32))
        origin = (*node.args[0].node.origin, *node.origin, *target.node.origin)
        return build(
            "Edgec.SoftmaxInteger", x.value, table, axis=axis, multiplier=float(np.float32(1 / target.scale)),
            to=target.to, zero=target.zero, origin=tuple(dict.fromkeys(origin)), label=target.node.name,
        )  # fmt: skip

    def _rounded(self, value: Value, target: _Target) -> Value | None:
        """Real numbers that kernels compute: by a product, where QuantizeLinear divides."""
        moved = OPS[value.node.op].kind in ("source", "map") and not blends(value.node)
        if moved or value.type.dtype != "f32" or not has_steps(self.session):
            return None
        return _rescaled(Linear((Term(self.new[value], 0, np.float64(1)),)), target) if value in self.new else None

    def _moved(self, value: Value, target: _Target) -> Value | None:
        """Quantizing and moving elements may change places; so may quantizing and the greatest of a window."""
        node = value.node
        attrs: Any = full_attrs(node) if node.op != "Const" else {}
        nearest = node.op == "Resize" and attrs["mode"] == "nearest"
        padded = node.op == "Pad"
        if len(node.types) != 1 or not (node.op in MOVES or node.op == "MaxPool" or nearest or padded):
            return None
        real = [a for a in node.args if a.type.dtype == "f32"]
        if any(self.forms.uses[a] != 1 and a.node.op != "DequantizeLinear" for a in real):
            return None
        parts = [self._bytes_of(a, target) if a in real else self.new[a] for a in node.args]
        if any(p is None for p in parts):
            return None
        changed: dict[str, Attr] = dict(node.attrs)
        if padded:
            filled = target.steps(attrs["value"]) if attrs["mode"] == "constant" else 0
            changed["value"] = float(filled)
        return build(node.op, *(p for p in parts if p is not None), origin=node.origin, label=node.name, **changed)

    def _table(self, value: Value, target: _Target) -> Value | None:
        found = function_of_one(value, self.place)
        held = self.held(found[0]) if found is not None else None
        if found is None or held is None:
            return None
        source, nodes = found
        low, high = map(int, limits(source.type.dtype))
        every = np.arange(low, high + 1).astype(numpy_type(source.type.dtype))
        last = replace(target.node, args=(value, *target.node.args[1:]))  # maps may lie between
        table = tabulated(source, [*nodes, last], every).astype(np.int32)
        shift = target.zero - int(const_array(target.node.args[2]).item())
        origin = tuple(dict.fromkeys(o for n in (*nodes, target.node) for o in n.origin))
        moved = const((table + shift).astype(numpy_type(target.to)))
        return build("Edgec.Table", held.value, moved, origin=origin, label=target.node.name)


def _quantized_as(node: Node, to: str, offset: int) -> Value | None:
    """What a QuantizeLinear makes, in the other type of bytes at once: where its argument is real, its zero point one
    number."""
    if node.op != "QuantizeLinear" or node.args[0].type.dtype != "f32" or not is_const(node.args[2]):
        return None
    if (zero := const_array(node.args[2])).size != 1:
        return None
    moved = const((zero.astype(np.int32) + offset).astype(numpy_type(to)))
    return build("QuantizeLinear", *node.args[:2], moved, origin=node.origin, label=node.name, **node.attrs)


@dataclass(frozen=True)
class _Target:
    """What a QuantizeLinear `node` makes, as it is held: real = (stored - zero) * scale."""

    scale: float
    zero: int
    to: str
    node: Node

    def steps(self, real: float) -> int:
        """A number as it is stored."""
        low, high = limits(self.to)
        return int(np.clip(np.rint(np.float32(real) / np.float32(self.scale)) + self.zero, low, high))


def _same(term: Term, target: _Target) -> bool:
    """Whether a term is a tensor that is stored as the target wants it."""
    alike = (term.value.type.dtype, term.zero) == (target.to, target.zero)
    return alike and bool(np.all(np.float32(term.multiplier) == np.float32(target.scale)))


def _rescaled(form: Linear, target: _Target) -> Value | None:
    terms = form.terms
    low, high = target.steps(form.low), target.steps(form.high)
    if len(terms) == 1 and (low, high) == tuple(map(int, limits(target.to))) and _same(terms[0], target):
        return terms[0].value
    multipliers = [multiplier_of(t.multiplier / target.scale) for t in terms]
    if not all(np.isfinite(const_array(m)).all() for m in multipliers):
        return None
    origin = tuple(dict.fromkeys((*form.origin, *target.node.origin)))
    return build(
        "Edgec.Rescale", *(t.value for t in terms), *multipliers, zeros=tuple(t.zero for t in terms), to=target.to,
        zero=target.zero, low=low, high=high, origin=origin, label=target.node.name,
    )  # fmt: skip
