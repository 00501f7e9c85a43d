"""A fused body as scalar expressions: the value of any map or elementwise node at a logical index.

`Body.at` walks from a value down to what is known at that index: kernel arguments (loaded through their layouts),
constants of one element (literals), or values that the kernel bound itself (the accumulator of its anchor).
Every read that it forms is in range whatever the index maps compute, so conditions select between values and
never guard loads; that keeps the expressions vectorizable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tvm import sym, tirx
from tvm.ir import Range

from edgec.compiler.dtypes import dtype
from edgec.compiler.errors import EdgecError
from edgec.compiler.ir import Graph, Node, Value
from edgec.compiler.op import const_array, full_attrs, int_attr, is_const
from edgec.compiler.ops.common import limits
from edgec.compiler.ops.integer import BYTES
from edgec.compiler.rescale.asked import PRODUCTS

from .access import Place
from .built_for import has_dsp, has_fpu, on_device
from .casts import TYPED
from .conversions import literal, narrow, widen
from .floats import bind, fenced
from .fractions import swish
from .integer import INTEGER, INTEGER_HALVES, UNPACKED, bias
from .maps import MAPS, div, replaced
from .near import NEAR
from .scalar import SCALAR
from .tir import Expr, Index

# operators whose result jumps where an argument crosses a number: what they read is rounded before
JUMPS = frozenset("Floor Ceil Round Sign Mod".split())
SUMS, ROUNDED = ("Add", "Sub"), ("Mul", "DequantizeLinear")


class Body:
    """Evaluates a kernel's body. `places` says where its inputs lie; `bind` overrides single values.

    `limit` states the range of a loop variable; conditions and clamps that it decides disappear.
    `pinned` collects the indices that are used for more than addressing (`pin`).
    `halves` says that 16 bits hold what rescalings round to, before limits and zero point included.
    `near` are values of no magnitude above GENTLE.
    """

    def __init__(self, graph: Graph, places: Mapping[Value, Place]) -> None:
        self.graph = graph
        self.places = dict(places)
        self.bound: dict[Value, Callable[[Index], Expr]] = {}
        self.analyzer: Any = sym.Analyzer()
        self.pinned: list[Expr] = []
        self.halves = False
        self.near: frozenset[Value] = frozenset()
        self._users = graph.users()
        self._between_bytes = all(v.type.dtype in BYTES for v in graph.outputs)
        self._biases = {n.args[2]: int_attr(n, "shift") for n in graph.nodes() if n.op in PRODUCTS}
        self._shared = {v for v, n in graph.uses().items() if n > 1}
        self._lets: list[tuple[Expr, Expr]] | None = None
        self._known: dict[tuple[Value, tuple[int, ...]], tuple[Expr, Index]] = {}

    def bind(self, value: Value, fn: Callable[[Index], Expr]) -> None:
        """`value` at an index is `fn(index)` from now on (an accumulator, say)."""
        self.bound[value] = fn

    def rounded(self, value: Value, x: Expr) -> Expr:
        """`x` as an element of `value`. On a device an f16 that no one sees is left in f32: that costs less than to
        round it, and the errors of a chain of operators do not add up."""
        return x if on_device() and self._unseen(value) else narrow(x, dtype(value.type.dtype).tvm)

    def _unseen(self, value: Value) -> bool:
        """Whether an f16 is read by operators only that compute in f32, and that do so smoothly."""
        if value.type.dtype != "f16" or value in self.graph.outputs:
            return False
        return all(_is_smooth(node) for node in self._users.get(value, []))

    def limit(self, var: Expr, extent: int) -> None:
        """Values of `var` are 0 .. extent - 1; a loop of one turn has no variable."""
        if isinstance(var, tirx.Var):
            self.analyzer.bind(var, Range(0, extent))

    def pin(self, x: Expr | int) -> None:
        """An index is used for more than addressing: in a condition, a clamp, a coordinate. A known one varies with
        no loop."""
        if not isinstance(x, int):
            self.pinned.append(x)

    def at(self, value: Value, index: Index) -> Expr:
        """The element of `value` at a logical index. Values that are used twice are computed once."""
        if self._lets is not None:
            return self._at(value, index)
        self._lets, self._known = [], {}
        try:
            result = self._at(value, index)
            for var, definition in reversed(self._lets):
                result = tirx.Let(var, definition, result)
            return result
        finally:
            self._lets = None

    def _at(self, value: Value, index: Index) -> Expr:
        if value in self.places:
            element = self.places[value].load(index)
            return bias(element, self._biases[value]) if value in self._biases else element
        if is_const(value):
            return _literal(value)
        if value not in self._shared:
            return self._computed(value, index)
        key = (value, tuple(x if isinstance(x, int) else id(x) for x in index))
        if key not in self._known:
            result = self._computed(value, index)
            var = tirx.Var("shared", result.ty)
            assert self._lets is not None
            self._lets.append((var, result))
            self._known[key] = (var, index)  # the index is kept alive: its identity is the key
        return self._known[key][0]

    def _computed(self, value: Value, index: Index) -> Expr:
        if value in self.bound:
            return self.bound[value](index)
        node = value.node
        if node.op in INTEGER:
            code = INTEGER_HALVES if self.halves else INTEGER
            return code[node.op](*self.terms(node, index), **full_attrs(node))
        if node.op == "Edgec.Table":
            return self._looked_up(node, index)
        if node.op in NEAR:
            (x,) = node.args
            return NEAR[node.op](self._at(x, index), within=x in self.near, **full_attrs(node))
        if node.op in SCALAR:
            if (gate := self._gate(node)) is not None:
                gated = swish(self._at(gate, index), near=gate in self.near)
                if gated is not None:
                    return gated
            args = [widen(self._argument(node, a, align(index, a.shape))) for a in node.args]
            return self.rounded(value, SCALAR[node.op](*args, **full_attrs(node)))
        if node.op in TYPED:
            x, *parameters = node.args
            args = [self._at(x, align(index, x.shape))]
            attrs = full_attrs(node)
            args += [self._at(a, channel(index, attrs, a.shape)) for a in parameters]
            types = [a.type.dtype for a in node.args]
            return TYPED[node.op](*args, types=types, result=value.type.dtype, **attrs)
        if node.op in MAPS:
            return MAPS[node.op](self, value, index)
        raise EdgecError(f"{node}: no code computes it; expected an entry of SCALAR or MAPS, or a row of kernels")

    def _argument(self, node: Node, value: Value, index: Index) -> Expr:
        """A product between bytes is rounded before something is added to it, on every target."""
        x = self._at(value, index)
        apart = value in self.places or value in self.bound or is_const(value)
        product = not apart and node.op in SUMS and value.node.op in ROUNDED
        return fenced(x) if product and self._between_bytes else x

    def _gate(self, node: Node) -> Value | None:
        """x where a product is x sigmoid(x) in f32, and no one else reads the sigmoid."""
        if node.op != "Mul" or node.types[0].dtype != "f32":
            return None
        for x, other in (node.args, node.args[::-1]):
            apart = other in self.places or other in self.bound or other in self._shared
            if other.node.op == "Sigmoid" and other.node.args == (x,) and x.shape == node.types[0].shape and not apart:
                return x
        return None

    def terms(self, node: Node, index: Index) -> list[Expr]:
        """The arguments of an operator on quantized tensors; a rescaling inside another one as f32."""
        return [self._term(node, a, align(index, a.shape)) for a in node.args]

    def _term(self, node: Node, value: Value, index: Index) -> Expr:
        inner = value.node
        apart = value in self.places or value in self.bound or value in self._shared
        if apart or not has_fpu() or has_dsp() or inner.op not in UNPACKED or node.op != "Edgec.Rescale":
            return self._at(value, index)
        attrs: Any = full_attrs(inner)
        return UNPACKED[inner.op](*self.terms(inner, index), **attrs)

    def _looked_up(self, node: Node, index: Index) -> Expr:
        x, table = node.args
        least = int(limits(x.type.dtype)[0])
        return self._at(table, (tirx.Cast("int32", self._at(x, index)) - least,))

    def choose(self, condition: Expr, then: Expr, otherwise: Expr) -> Expr:
        """A selection by indices; both sides must be computable. What the loop ranges decide leaves no trace."""
        condition = self.analyzer.simplify(condition) if not isinstance(condition, bool) else condition
        decided = condition if isinstance(condition, bool) else _decided(condition)
        if decided is not None:
            return then if decided else otherwise
        self.pin(condition)
        # Both sides are computed. They get names, so that they become statements before the selection: inside it TVM
        # would take its condition as given and simplify away the very clamps that keep the reads in range.
        return bind(then, lambda a: bind(otherwise, lambda b: tirx.Select(condition, a, b)))

    def within(self, x: Expr | int, low: int, high: int) -> Expr | int:
        """`x` clamped to low .. high, inclusive; nothing is added where the loop ranges show that it lies there."""
        if isinstance(x, int):
            return min(max(x, low), high)
        x = self.analyzer.simplify(x)
        bound = self.analyzer.const_int_bound(x)
        if bound.min_value < low or bound.max_value > high:
            self.pin(x)
        if bound.min_value < low:
            x = tirx.max(x, low)
        return tirx.min(x, high) if bound.max_value > high else x


def _is_smooth(node: Node) -> bool:
    real = dtype(node.types[0].dtype).is_float
    return real and (node.op == "Cast" or (node.op in SCALAR and node.op not in JUMPS))


def _decided(condition: Expr) -> bool | None:
    return bool(int(condition)) if isinstance(condition, tirx.IntImm) else None


def _literal(value: Value) -> Expr:
    array = const_array(value)
    if array.size != 1:
        raise RuntimeError(f"{value.node}: a constant of {array.size} elements must be a kernel argument")
    return literal(array.reshape(()).item(), value.type.dtype)


def align(index: Index, shape: tuple[int, ...]) -> Index:
    """Index into an operand that is broadcast to the shape which `index` addresses."""
    tail = index[len(index) - len(shape) :]
    return tuple(0 if n == 1 else x for n, x in zip(shape, tail, strict=True))


def channel(index: Index, attrs: Mapping[str, Any], shape: tuple[int, ...]) -> Index:
    """Index into a scale or zero point: per tensor, per slice of the node's axis, or per block along it."""
    if shape in ((), (1,)):
        return (0,) * len(shape)
    axis = attrs["axis"] % len(index)
    return replaced(index, axis, div(index[axis], attrs["block"])) if attrs["block"] else (index[axis],)
