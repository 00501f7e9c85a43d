"""A fused body as scalar expressions: the value of any map or elementwise node at a logical index.

`Body.at` walks from a value down to what is known at that index: kernel arguments (loaded through their layouts),
constants of one element (literals), or values that the kernel bound itself (the accumulator of its anchor).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgec.compiler.dtypes import dtype
from edgec.compiler.errors import EdgecError
from edgec.compiler.ir import Graph, Value
from edgec.compiler.op import OPS, const_array, full_attrs, is_const

from .access import Place
from .maps import MAPS
from .scalar import SCALAR
from .tir import Expr, Index, lit

At = Callable[[Value, Index], Expr]


class Body:
    """Evaluates a kernel's body. `places` says where its inputs lie; `bind` overrides single values."""

    def __init__(self, graph: Graph, places: Mapping[Value, Place]) -> None:
        self.graph = graph
        self.places = dict(places)
        self.bound: dict[Value, Callable[[Index], Expr]] = {}

    def bind(self, value: Value, fn: Callable[[Index], Expr]) -> None:
        """`value` at an index is `fn(index)` from now on (an accumulator, say)."""
        self.bound[value] = fn

    def at(self, value: Value, index: Index) -> Expr:
        """The element of `value` at a logical index."""
        if value in self.bound:
            return self.bound[value](index)
        if value in self.places:
            return self.places[value].load(index)
        node = value.node
        if is_const(value):
            array = const_array(value)
            if array.size != 1:
                raise EdgecError(f"{node}: a constant of {array.size} elements must be a kernel argument")
            return lit(array.reshape(()).item(), dtype(value.type.dtype).tvm)
        if node.op in SCALAR:
            args = [self.at(a, align(index, a.shape)) for a in node.args]
            return SCALAR[node.op](*args, **full_attrs(node))
        if node.op in MAPS:
            return MAPS[node.op](self.at, value, index)
        raise EdgecError(f"{node}: no scalar form; kind {OPS[node.op].kind}")


def align(index: Index, shape: tuple[int, ...]) -> Index:
    """Index into an operand that is broadcast to the shape which `index` addresses."""
    tail = index[len(index) - len(shape) :]
    return tuple(0 if n == 1 else x for n, x in zip(shape, tail, strict=True))
