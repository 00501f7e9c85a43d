"""Sums to bytes: `Edgec.Rescale` at the end of a body, for four vectors of sums that become one of bytes.

Packing saturates and so sets the limits of the type; a higher lower limit is one more instruction per vector of bytes.
The upper limit holds before rounding where it is lower, or where constants leave room for a float that no integer is
next to: that would become the least integer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Value
from edgec.compiler.op import full_attrs
from edgec.compiler.ops.common import limits
from edgec.compiler.target import Cpu
from edgec.targets import tir
from edgec.targets.floats import at_most
from edgec.targets.integer import total
from edgec.targets.tir import Expr, Stmt

from ..common_emit import F32, Frame, put, vector
from .lookup import looked_up

TOGETHER = 4  # vectors of sums per vector of bytes
_NAMES = {16: "llvm.x86.avx512.pack{}.512", 8: "llvm.x86.avx2.pack{}"}


def packs(frame: Frame, lanes: int) -> bool:
    """Whether the body ends in bytes that can be packed here."""
    return lanes in _NAMES and packable(frame.out)


def packable(value: Value) -> bool:
    """Whether it is bytes made of sums, perhaps through tables."""
    node = value.node
    return node.op == "Edgec.Rescale" or (node.op == "Edgec.Table" and packable(node.args[0]))


def at_once(widths: Sequence[int], lanes: int) -> int:
    """Vectors that are packed together where pixels have vectors of these widths. LLVM does not end with three or four
    of which the lower half counts."""
    return TOGETHER // 2 if list(widths) == [lanes // 2] else TOGETHER


class Pack:
    """Up to four vectors of sums that become one of bytes.

    `widths` are the lanes of each that count. `index(k, lane)` is the output's index in vector k; it binds the body's
    anchor to the sum there. `rounds`: every number that is rescaled has a nearest integer. Statements collect in
    `parts`.
    """

    def __init__(
        self,
        frame: Frame,
        cpu: Cpu,
        lanes: int,
        widths: Sequence[int],
        index: Callable[[int, Expr], tuple[Expr, ...]],
        rounds: bool = False,
    ) -> None:
        self.rounds = rounds
        self.frame, self.cpu, self.lanes, self.widths, self.index = frame, cpu, lanes, widths, index
        self.parts: list[Stmt] = []
        self.here: tuple[int, Expr] = (0, 0)  # the vector and lane at which the body is evaluated

    def bytes_of(self, value: Value) -> Expr:
        """All elements of a packable value, u8 or i8[4 * lanes], one vector of sums after the other."""
        node = value.node
        if node.op == "Edgec.Table":
            x, table = self.bytes_of(node.args[0]), self.frame.places[node.args[1]].buffer
            return self.named(looked_up(self.cpu, x, table, node.args[0].type.dtype == "i8"))
        attrs: Any = full_attrs(node)
        for table in inner_tables(value):
            self.keep(table)
        body = self.frame.body
        body.bind(value, lambda at: total(*body.terms(node, at), zeros=attrs["zeros"]))
        stage, alloc = tir.local((TOGETHER * self.lanes,), F32, "total")
        self.parts += [alloc, *(self.fill(stage, value, k) for k in range(len(self.widths)))]
        totals = [vector(stage, self.lanes, min(k, len(self.widths) - 1) * self.lanes) for k in range(TOGETHER)]
        return self.named(as_bytes(totals, self.lanes, attrs, self.rounds))

    def fill(self, stage: tir.Buffer, value: Value, k: int) -> Stmt:
        def one(lane: Expr) -> Stmt:
            self.here = k, lane
            return tir.store(stage, self.frame.body.at(value, self.index(k, lane)), k * self.lanes + lane)

        return tir.vectorized(self.widths[k], one)

    def keep(self, value: Value) -> None:
        """Compute a packable value that is part of a longer expression, which reads it from memory."""
        whole = self.bytes_of(value)
        kept, alloc = tir.local((TOGETHER * self.lanes,), dtype(value.type.dtype).tvm, "kept")
        self.parts += [alloc, put(kept, whole, TOGETHER * self.lanes, 0)]
        self.frame.body.bind(value, lambda _: tir.load(kept, self.here[0] * self.lanes + self.here[1]))

    def named(self, x: Expr) -> Expr:
        value, bind = tir.let(x, "bytes")
        self.parts.append(bind)
        return value


def inner_tables(value: Value) -> list[Value]:
    """The outermost tables of packable bytes that a value is computed from."""
    found: dict[Value, None] = {}
    stack, seen = list(value.node.args), set[Value]()
    while stack:
        here = stack.pop()
        if here in seen:
            continue
        seen.add(here)
        if here.node.op == "Edgec.Table" and packable(here):
            found[here] = None
        else:
            stack += here.node.args
    return list(found)


def as_bytes(totals: Sequence[Expr], lanes: int, attrs: Any, rounds: bool) -> Expr:
    """Four vectors of f32 rounded, half to even, + a zero point, within the limits of a rescaling of these attributes.

    `rounds`: all have a nearest integer, so that packing sets the upper limit of the type as well.
    """
    to, zero, low, high = (attrs[name] for name in ("to", "zero", "low", "high"))
    least, most = limits(to)
    if not (rounds and high == most):
        totals = [at_most(t, tir.broadcast(tir.lit(float(high - zero), F32), lanes)) for t in totals]
    bounded = [rounded(t, lanes) for t in totals]
    words = [_pack("ssdw", f"int16x{2 * lanes}", lanes, *bounded[k : k + 2]) for k in (0, 2)]
    if zero:
        more = tir.broadcast(tir.lit(zero, "int16"), 2 * lanes)
        words = [tirx.call_llvm_pure_intrin(f"int16x{2 * lanes}", "llvm.sadd.sat", w, more) for w in words]
    kind = "uint8" if to == "u8" else "int8"
    mixed = _pack("uswb" if to == "u8" else "sswb", f"{kind}x{4 * lanes}", lanes, *words)
    # Packing works within 16 bytes: there lie four sums of each vector.
    quads = lanes // 4
    order = [4 * part + k for k in range(TOGETHER) for part in range(quads)]
    whole = tirx.Shuffle([tirx.reinterpret(f"int32x{lanes}", mixed)], [tir.i32(n) for n in order])
    result = tirx.reinterpret(f"{kind}x{4 * lanes}", whole)
    return tirx.max(result, tir.broadcast(tir.lit(low, kind), 4 * lanes)) if low > least else result


def rounded(x: Expr, lanes: int) -> Expr:
    """The nearest integers, halves to even; the least one where there is none."""
    kind = f"int32x{lanes}"
    if lanes == 16:
        none, every, mode = tir.broadcast(tir.i32(0), lanes), tir.lit(-1, "int16"), tir.i32(4)
        return tirx.call_llvm_pure_intrin(kind, "llvm.x86.avx512.mask.cvtps2dq.512", x, none, every, mode)
    return tirx.call_llvm_pure_intrin(kind, "llvm.x86.avx.cvt.ps2dq.256", x)


def _pack(how: str, kind: str, lanes: int, a: Expr, b: Expr) -> Expr:
    return tirx.call_llvm_pure_intrin(kind, _NAMES[lanes].format(how), a, b)


def part(whole: Expr, first: int, count: int) -> Expr:
    """`count` neighbouring lanes of a vector."""
    lanes = whole.ty.dtype.lanes
    return whole if count == lanes else tirx.Shuffle([whole], [tir.i32(first + i) for i in range(count)])


def stretches(places: list[int], size: int) -> Iterator[tuple[int, int]]:
    """(first, count) of the runs of places that follow each other in steps of `size`, in powers of two."""
    first = 0
    while first < len(places):
        count = 1
        while first + 2 * count <= len(places) and all(
            places[first + k] == places[first] + k * size for k in range(2 * count)
        ):
            count *= 2
        yield first, count
        first += count
