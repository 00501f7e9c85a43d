"""Reading and writing values through their layouts: logical indices in, buffer accesses out."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from edgec.compiler.ir import Type
from edgec.compiler.layout import layout, physical_shape

from .conversions import fetched, put, stored
from .tir import Buffer, Expr, Index, Stmt, load, store


@dataclass(frozen=True)
class Place:
    """A value in memory: its type (layout included) and the buffer that holds its physical elements."""

    type: Type
    buffer: Buffer

    def physical(self, index: Index) -> Index:
        """Physical index of a logical one. Blocked axes become (axis // block, axis % block)."""
        lay = layout(self.type.layout, len(self.type.shape))
        rest = list(index)
        inner: list[Expr] = []
        for axis, size in reversed(lay.blocks):
            inner.append(tirx.floormod(rest[axis], size))
            rest[axis] = tirx.floordiv(rest[axis], size)
        return tuple(rest[a] for a in lay.order) + tuple(reversed(inner)) or (0,)

    def load(self, index: Index) -> Expr:
        """The element at a logical index. Axes of size one may be indexed by anything: they are read at zero."""
        fixed = tuple(0 if n == 1 else x for n, x in zip(self.type.shape, index, strict=True))
        return fetched(load(self.buffer, *self.physical(_exprs(fixed))), self.type.dtype)

    def store(self, value: Expr, index: Index) -> Stmt:
        return self.store_raw(put(value, self.type.dtype), index)

    def store_raw(self, element: Expr, index: Index) -> Stmt:
        """Store what `put` made of a value."""
        return store(self.buffer, element, *self.physical(_exprs(index)))


def _exprs(index: Index) -> Index:
    return tuple(tirx.IntImm("int32", x) if isinstance(x, int) else x for x in index)


def parameter(name: str, t: Type) -> tuple[str, str, tuple[int, ...]]:
    """A kernel parameter for a value, as `abi.kernel` takes it. Booleans are stored as bytes."""
    return name, stored(t.dtype), physical_shape(t)
