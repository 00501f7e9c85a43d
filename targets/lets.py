"""Let-expressions become stores to registers: TVM's simplifier visits a nested let's value again at every level above.

`let x = (let y = a in b) in c` inside a store turns into `y = a; x = b; store c`, where x and y are local buffers of
one element per lane. Named scalars would not do: the simplifier puts pure ones back into every use. Values are pure
and every load is in range (body.py), so computing them unconditionally is safe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tvm.ir
from tvm import tirx

Expr = Any
Stmt = Any

_BINARY = {tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Mod, tirx.FloorDiv, tirx.FloorMod, tirx.Min, tirx.Max}
_BINARY |= {tirx.EQ, tirx.NE, tirx.LT, tirx.LE, tirx.GT, tirx.GE, tirx.And, tirx.Or}
_BINARY |= {tirx.BitwiseAnd, tirx.BitwiseOr, tirx.BitwiseXor, tirx.LShift, tirx.RShift}
_PARTS: dict[type, tuple[tuple[str, ...], Callable[..., Expr]]] = {
    tirx.Select: (("condition", "true_value", "false_value"), tirx.Select),
    tirx.Not: (("a",), tirx.Not),
    tirx.BitwiseNot: (("a",), tirx.BitwiseNot),
}


@dataclass
class Lanes:
    """A vectorized loop under construction: its variable, its extent, and the registers to declare before it."""

    var: Expr
    count: int
    registers: list[Stmt] = field(default_factory=list)


def hoisted(value: Expr, make: Callable[[Expr], Stmt], lanes: Lanes | None) -> Stmt:
    """`make(value)` with the lets of `value` stored before it; `lanes` is the vectorized loop around it, if any."""
    if not isinstance(value, tvm.ir.Expr):
        return make(value)
    hoist = _Hoist(lanes or Lanes(tirx.IntImm("int32", 0), 1))
    flat = hoist(value)
    if not hoist.stores:
        return make(value)
    return tirx.SeqStmt([*([] if lanes else hoist.lanes.registers), *hoist.stores, make(flat)])


class _Hoist:
    """Collects the lets of one statement, in order of need. Equal (shared) sub-expressions are visited once."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self.stores: list[Stmt] = []
        self._names: dict[Expr, Expr] = {}
        self._seen: dict[int, tuple[Expr, Expr]] = {}

    def __call__(self, e: Expr) -> Expr:
        """The expression without lets; each bound name is replaced by a load of its register."""
        key = id(e)
        if key not in self._seen:
            self._seen[key] = (e, self._visit(e))  # `e` is kept alive: its identity is the key
        return self._seen[key][1]

    def _visit(self, e: Expr) -> Expr:
        kind = type(e)
        if kind is tirx.Var:
            return self._names.get(e, e)
        if kind in _BINARY:
            return kind(self(e.a), self(e.b))
        if kind is tirx.Let:
            return self._let(e)
        if kind is tirx.BufferLoad:
            return tirx.BufferLoad(e.buffer, [self(i) for i in e.indices])
        if kind in _PARTS:
            names, make = _PARTS[kind]
            return make(*(self(getattr(e, name)) for name in names))
        if kind is tirx.Cast:
            return tirx.Cast(e.ty, self(e.value))
        if kind is tirx.Broadcast:
            return tirx.Broadcast(self(e.value), e.lanes)
        if kind is tirx.Ramp:
            return tirx.Ramp(self(e.base), self(e.stride), e.lanes)
        if kind is tvm.ir.Call:
            return tvm.ir.Call(e.op, [self(a) for a in e.args], e.attrs, e.ty_args, e.span, e.ty)
        return e

    def _let(self, e: Expr) -> Expr:
        if e.var not in self._names:
            value, kind = self(e.value), str(e.var.ty.dtype)
            truth = kind == "bool"  # kept as a byte: TVM mixes up the two in vectors
            register = tirx.decl_buffer((self.lanes.count,), "int8" if truth else kind, e.var.name, scope="local")
            self.lanes.registers.append(tirx.AllocBuffer(register))
            kept = tirx.Cast("int8", value) if truth else value
            self.stores.append(tirx.BufferStore(register, kept, [self.lanes.var]))
            load = tirx.BufferLoad(register, [self.lanes.var])
            self._names[e.var] = tirx.NE(load, tirx.IntImm("int8", 0)) if truth else load
        return self(e.body)
