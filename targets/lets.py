"""Let-expressions become stores to registers: TVM's simplifier visits a nested let's value again at every level above.

`let x = (let y = a in b) in c` inside a store turns into `y = a; x = b; store c`, where x and y are local buffers of
one element per lane. Named scalars would not do: the simplifier puts pure ones back into every use. Values are pure
and every load is in range (body.py), so computing them unconditionally is safe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import tvm.ir
from tvm import sym, tirx
from tvm.ir import PrimType
from tvm.target.codegen import llvm_lookup_intrinsic_id

Expr = Any
Stmt = Any

_BINARY = {tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Mod, tirx.FloorDiv, tirx.FloorMod, tirx.Min, tirx.Max}
_BINARY |= {tirx.EQ, tirx.NE, tirx.LT, tirx.LE, tirx.GT, tirx.GE, tirx.And, tirx.Or}
_BINARY |= {tirx.BitwiseAnd, tirx.BitwiseOr, tirx.BitwiseXor, tirx.LShift, tirx.RShift}
ESTIMATES = {  # by the number of registers
    32: ("llvm.aarch64.neon.frecpe", "llvm.aarch64.neon.frecps"),
    16: ("llvm.arm.neon.vrecpe", "llvm.arm.neon.vrecps"),
}
NEAREST = "llvm.aarch64.neon.fcvtns"
PICKED = "llvm.x86.avx512.permvar.sf.512"  # elements of a vector, the first argument, by the lowest bits of the second
TABLE = 16  # elements of that vector, and of what is picked
FARTHEST = 4  # elements apart that are still picked from vectors, and most vectors: of so many, two instructions each
REGISTER = 4  # lanes that these take, at most
_PARTS: dict[type, tuple[tuple[str, ...], Callable[..., Expr]]] = {
    tirx.Select: (("condition", "true_value", "false_value"), tirx.Select),
    tirx.Not: (("a",), tirx.Not),
    tirx.BitwiseNot: (("a",), tirx.BitwiseNot),
}


@dataclass
class Lanes:
    """A vectorized loop under construction: its variable, its extent, and the registers to declare and fill before it.

    `sources` are buffers of which every lane's element is in range, whatever conditions stand around it; `inside` are
    variables that the loop's body binds.
    """

    var: Expr
    count: int
    registers: list[Stmt] = field(default_factory=list)
    sources: list[Any] = field(default_factory=list)
    inside: list[Expr] = field(default_factory=list)


def hoisted(value: Expr, make: Callable[[Expr], Stmt], lanes: Lanes | None) -> Stmt:
    """`make(value)` with the lets of `value` stored before it; `lanes` is the vectorized loop around it, if any."""
    if not isinstance(value, tvm.ir.Expr):
        return make(value)
    hoist = _Hoist(lanes or Lanes(tirx.IntImm("int32", 0), 1))
    known = len(hoist.lanes.registers)
    flat = hoist(value)
    if not hoist.stores:
        return make(flat if len(hoist.lanes.registers) > known else value)
    return tirx.SeqStmt([*([] if lanes else hoist.lanes.registers), *hoist.stores, make(flat)])


def _vectors(places: list[int], lanes: int) -> list[int]:
    """Where as few vectors begin as hold all places; none where they would be too many, or all places are one."""
    if max(places) == min(places):
        return []
    wide = max(places) - min(places) >= lanes
    last = max(places) + 1 - lanes if wide else min(places)
    starts: list[int] = []
    for place in sorted(set(places)):
        if not starts or place >= starts[-1] + lanes:
            neighbour = starts[-1] + lanes if starts else place  # vectors side by side, where that is as good
            starts.append(min(neighbour if place < neighbour + lanes // 2 else place, last))
    return starts if len(starts) <= FARTHEST else []


def _of_a_register(e: Expr) -> bool:
    """Whether a call is one of the instructions on vectors that LLVM takes only as a register has them."""
    return bool(e.op.name == "tirx.call_llvm_pure_intrin" and int(e.args[0]) in _estimates())


def _picks(e: Expr) -> bool:
    return bool(e.op.name == "tirx.call_llvm_pure_intrin" and int(e.args[0]) == _picked())


@cache
def _picked() -> int:
    return int(llvm_lookup_intrinsic_id(PICKED))


@cache
def _estimates() -> frozenset[int]:
    names = [name for pair in ESTIMATES.values() for name in pair]
    return frozenset(map(llvm_lookup_intrinsic_id, [*names, NEAREST]))


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
        if kind is tvm.ir.TensorLoad:
            index = [self(i) for i in e.indices]
            picked = self._apart(e.source, index)
            return tirx.BufferLoad(e.source, index) if picked is None else picked
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
            if self.lanes.count > 1 and _of_a_register(e):
                return self._in_parts(e)
            if _picks(e):
                return self._from_table(e)
            return tvm.ir.Call(e.op, [self(a) for a in e.args], e.attrs, e.ty_args, e.span, e.ty)
        return e

    def _in_parts(self, e: Expr) -> Expr:
        """The result of an instruction, in a register: LLVM divides all else into vectors that a core has, but not it.

        These statements do not depend on the lane, so that they stay as they are when the loop becomes vectors.
        """
        width = self.lanes.count
        step = REGISTER if width >= REGISTER else 2
        kind = str(e.ty.dtype)
        args = [self._register(str(a.ty.dtype), "of") for a in e.args[1:]]
        for register, a in zip(args, e.args[1:], strict=True):
            self.stores.append(tirx.BufferStore(register, self(a), [self.lanes.var]))
        result = self._register(kind, "estimate")
        starts = [*range(0, width - step, step), width - step]  # the last may do again what has been done
        for at in starts:
            place = tirx.Ramp(tirx.IntImm("int32", at), tirx.IntImm("int32", 1), step)
            given = [e.args[0], *(tirx.BufferLoad(a, [place]) for a in args)]
            value = tvm.ir.Call(e.op, given, e.attrs, e.ty_args, e.span, PrimType(f"{kind}x{step}"))
            self.stores.append(tirx.BufferStore(result, value, [place]))
        return tirx.BufferLoad(result, [self.lanes.var])

    def _from_table(self, e: Expr) -> Expr:
        """Elements that each lane picks from one vector: by half a vector's lanes twice, which costs no more."""
        lanes, one = self.lanes.count, tirx.IntImm("int32", 1)
        every = max(lanes, TABLE)
        whole = tirx.Ramp(tirx.IntImm("int32", 0), one, TABLE)
        table, places = self._register("float32", "table", TABLE), self._register("int32", "place", every)
        result = self._register("float32", "picked", every)
        self.lanes.registers.append(tirx.BufferStore(table, e.args[1], [whole]))
        place = self(e.args[2])
        self.stores += [tirx.BufferStore(places, place, [self.lanes.var + at]) for at in range(0, every, lanes)]
        for at in range(0, every, TABLE):
            there = tirx.Ramp(tirx.IntImm("int32", at), one, TABLE)
            given = [e.args[0], tirx.BufferLoad(table, [whole]), tirx.BufferLoad(places, [there])]
            value = tvm.ir.Call(e.op, given, e.attrs, e.ty_args, e.span, PrimType(f"float32x{TABLE}"))
            self.stores.append(tirx.BufferStore(result, value, [there]))
        return tirx.BufferLoad(result, [self.lanes.var])

    def _apart(self, buffer: Any, index: list[Expr]) -> Expr | None:
        """Elements at places a constant apart, picked from a few vectors: else each lane is a load of its own.

        No vector reaches beyond the first and the last of them. All that happens before the loop, so that only what is
        known there may say where they begin.
        """
        lanes = self.lanes.count
        if lanes < 4 or len(index) != 1 or not any(buffer.same_as(known) for known in self.lanes.sources):
            return None
        if not self._known_before(index[0]) or (places := self._places(index[0])) is None:
            return None
        if not (starts := _vectors(places, lanes)):
            return None
        width = min(lanes, max(places) - min(places) + 1)
        one, first = tirx.IntImm("int32", 1), self._at_lane(index[0], 0)
        vectors = [tirx.BufferLoad(buffer, [tirx.Ramp(first + start, one, width)]) for start in starts]
        wanted = [next((k, at - s) for k, s in enumerate(starts) if s <= at < s + width) for at in places]
        vectors += vectors[:1] * (-(-lanes // width) - len(vectors))  # TVM asks for as many elements as are picked
        picked = tirx.Shuffle(vectors, [tirx.IntImm("int32", k * width + place) for k, place in wanted])
        register = self._register(str(buffer.dtype), "picked")
        place = tirx.Ramp(tirx.IntImm("int32", 0), one, lanes)
        self.lanes.registers.append(tirx.BufferStore(register, picked, [place]))
        return tirx.BufferLoad(register, [self.lanes.var])

    def _places(self, index: Expr) -> list[int] | None:
        """Where the elements of all lanes lie from that of the first on, if they differ and are no neighbours."""
        lanes = range(self.lanes.count)
        linear = sym.detect_linear_equation(index, [self.lanes.var])
        if len(linear) == 2:
            apart = int(linear[0]) if isinstance(linear[0], tirx.IntImm) else 0
            return [apart * lane for lane in lanes] if apart == -1 or 2 <= apart <= FARTHEST else None
        first, analyzer = self._at_lane(index, 0), sym.Analyzer()
        places = []
        for lane in lanes:
            place = analyzer.simplify(self._at_lane(index, lane) - first)
            if not isinstance(place, tirx.IntImm):
                return None
            places.append(int(place))
        return places

    def _at_lane(self, index: Expr, lane: int) -> Expr:
        analyzer = sym.Analyzer()
        analyzer.bind(self.lanes.var, tirx.IntImm("int32", lane))
        return analyzer.simplify(index)

    def _known_before(self, start: Expr) -> bool:
        """Whether an index neither reads memory nor is reckoned from what the loop's body binds."""
        variables = tirx.analysis.undefined_vars(start)  # buffers are such too
        return all(type(v.ty) is PrimType and not any(v.same_as(x) for x in self.lanes.inside) for v in variables)

    def _register(self, kind: str, name: str, lanes: int = 0) -> Any:
        register = tirx.decl_buffer((lanes or self.lanes.count,), kind, name, scope="local")
        self.lanes.registers.append(tirx.AllocBuffer(register))
        return register

    def _let(self, e: Expr) -> Expr:
        if e.var not in self._names:
            value, kind = self(e.value), str(e.var.ty.dtype)
            truth = kind == "bool"  # kept as a byte: TVM mixes up the two in vectors
            register = self._register("int8" if truth else kind, e.var.name)
            kept = tirx.Cast("int8", value) if truth else value
            self.stores.append(tirx.BufferStore(register, kept, [self.lanes.var]))
            load = tirx.BufferLoad(register, [self.lanes.var])
            self._names[e.var] = tirx.NE(load, tirx.IntImm("int8", 0)) if truth else load
        return self(e.body)
