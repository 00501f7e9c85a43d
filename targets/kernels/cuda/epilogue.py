"""Results of neighbouring elements: operands in one access each, what follows the anchor, and one store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Type, Value
from edgec.compiler.layout import layout

from ... import tir
from ...access import Place
from ...body import align
from ...conversions import fetched, put, stored, widen
from ...cuda.block import Block, call, pointer
from ...tir import Expr, Index, Stmt

ACCESS = frozenset({4, 8, 16})  # bytes that one instruction moves
SIZES = ACCESS | {32}


@dataclass(frozen=True)
class Run:
    """`lanes` results side by side from the logical `index` on, along the axis that lies innermost.

    `offset`: where the first lies, in elements, in a value of the output's shape and layout.
    """

    index: Index
    lanes: int
    offset: Expr | None = None


def innermost(t: Type) -> int:
    """The logical axis whose neighbours lie side by side; -1 where it is cut into blocks."""
    lay = layout(t.layout, len(t.shape))
    return lay.order[-1] if lay.order and not lay.blocks else -1


@dataclass(frozen=True)
class Finish:
    """What stores the results of a run: registers, what is read with its neighbours, and all that comes after.

    Of several runs the reads should come first: a compiler that sees a store does not read before it what comes after.
    """

    declared: Stmt
    reads: list[Stmt]
    writes: Stmt


def finish(frame: Block, run: Run, bound: Sequence[tuple[Value, Callable[[int], Expr]]]) -> Stmt:
    """Store the results of a run; `bound` says what the kernel computed itself, element by element of the run."""
    made = finishing(frame, run, bound)
    return tir.seq(made.declared, made.reads, made.writes)


def finishing(frame: Block, run: Run, bound: Sequence[tuple[Value, Callable[[int], Expr]]]) -> Finish:
    """As `finish`, in parts."""
    out, body = frame.out, frame.body
    axis = innermost(out.type)
    places = dict(body.places)
    indices = [(*run.index[:axis], run.index[axis] + k, *run.index[axis + 1 :]) for k in range(run.lanes)]
    near = _Near(frame, run, places)
    results, declared = tir.local((run.lanes,), stored(out.type.dtype), "results")
    computed: list[Stmt] = []
    for k, index in enumerate(indices):
        for value, place in places.items():
            if n := bytes_of(value.type, out.type, axis, run):
                body.places.pop(value)
                body.bind(value, near.reader(value, place, n, index, k))
        for value, fn in bound:
            body.places.pop(value, None)
            body.bind(value, _given(fn, k))
        computed.append(tir.store(results, put(body.at(out, index), out.type.dtype), k))
        body.places.update(places)
    size = run.lanes * dtype(out.type.dtype).bytes
    if size in SIZES:
        end = tir.seq(accesses("store", size, results, frame.place, out.type, run))
    else:
        end = tir.seq(frame.place.store_raw(tir.load(results, k), index) for k, index in enumerate(indices))
    return Finish(tir.seq(near.declared, declared), near.loads, tir.seq(computed, end))


def _given(fn: Callable[[int], Expr], k: int) -> Callable[[Index], Expr]:
    return lambda _: fn(k)


class _Near:
    """Operands that are read with their neighbours, each once: those that the computation asks for."""

    def __init__(self, frame: Block, run: Run, places: Mapping[Value, Place]) -> None:
        self.frame, self.run, self.places = frame, run, places
        self.declared: list[Stmt] = []
        self.loads: list[Stmt] = []
        self._registers: dict[Value, Any] = {}

    def reader(self, value: Value, place: Place, size: int, index: Index, k: int) -> Callable[[Index], Expr]:
        """How element `k` of the run, at `index` of the output, reads an operand."""
        expected = align(index, value.shape)

        def read(at: Index) -> Expr:
            if not all(a is b or (isinstance(a, int) and a == b) for a, b in zip(at, expected, strict=True)):
                return place.load(at)
            return fetched(tir.load(self._register(value, place, size), k), value.type.dtype)

        return read

    def _register(self, value: Value, place: Place, size: int) -> Any:
        if value not in self._registers:
            register, declared = tir.local((self.run.lanes,), stored(value.type.dtype), "near")
            self.declared.append(declared)
            self.loads += accesses("load", size, register, place, self.frame.out.type, self.run)
            self._registers[value] = register
        return self._registers[value]


def bytes_of(t: Type, out: Type, axis: int, run: Run) -> int:
    """Bytes of the access that reads a run of an operand which is broadcast to the output; 0 where none does."""
    own = axis - (len(out.shape) - len(t.shape))
    lanes, size = run.lanes, run.lanes * dtype(t.dtype).bytes
    if size not in SIZES or t.dtype not in ("f32", "f16", "i32") or lanes == 1:
        return 0
    if t.shape == out.shape and t.layout == out.layout and run.offset is not None:
        return size
    fits = own >= 0 and innermost(t) == own
    return size if fits and t.shape[own] == out.shape[axis] and t.shape[own] % lanes == 0 else 0


def accesses(kind: str, size: int, register: Any, place: Place, out: Type, run: Run) -> list[Stmt]:
    """Loads into a register, or stores of it: one access, or two of 16 bytes."""
    each = min(size, 16)
    step = each // dtype(place.type.dtype).bytes
    found = []
    for first in range(0, run.lanes, step):
        memory, own = where(place, out, run, first), pointer(register, first)
        found.append(call(f"ec_{kind}{each}", *((own, memory) if kind == "load" else (memory, own))))
    return found


def where(place: Place, out: Type, run: Run, first: int = 0) -> Expr:
    """Address of an element of a run."""
    t = place.type
    if run.offset is not None and t.shape == out.shape and t.layout == out.layout:
        lead = [0] * (len(place.buffer.shape) - 1)
        return pointer(place.buffer, *lead, run.offset + first)
    axis = innermost(out)
    moved = (*run.index[:axis], run.index[axis] + first, *run.index[axis + 1 :])
    index = tuple(0 if n == 1 else x for n, x in zip(t.shape, align(moved, t.shape), strict=True))
    return pointer(place.buffer, *place.physical(tuple(tir.expr(x) for x in index)))


def vector(t: Type, most: int = 16) -> int:
    """Elements of one access to a value's neighbours: as many as divide its innermost axis."""
    axis = innermost(t)
    lanes = most // dtype(t.dtype).bytes
    while lanes > 1 and (axis < 0 or t.shape[axis] % lanes):
        lanes //= 2
    return lanes


def channel_vector(frame: Block, value: Value | None, column: Expr, lanes: int) -> tuple[Callable[[int], Expr], Stmt]:
    """f32 of the elements `column` .. of a vector (a bias), read once; zeros without one."""
    if value is None:
        return lambda lane: tir.lit(0, "float32"), tir.seq()
    place = frame.body.places.get(value)
    one = value.shape in ((), (1,))
    register, declared = tir.local((lanes,), "float32", "vector")
    size = lanes * dtype(value.type.dtype).bytes
    if place is None or one or lanes == 1 or size not in ACCESS or value.shape[0] % lanes:
        at = [widen(frame.body.at(value, (0 if one else column + k,) * len(value.shape))) for k in range(lanes)]
        return lambda lane: tir.load(register, lane), tir.seq(
            declared, [tir.store(register, tirx.Cast("float32", x), k) for k, x in enumerate(at)]
        )
    raw, raw_declared = tir.local((lanes,), stored(value.type.dtype), "raw")
    load = call(f"ec_load{size}", pointer(raw, 0), pointer(place.buffer, column))
    widened = [
        tir.store(register, tirx.Cast("float32", widen(fetched(tir.load(raw, k), value.type.dtype))), k)
        for k in range(lanes)
    ]
    return lambda lane: tir.load(register, lane), tir.seq(declared, raw_declared, load, widened)
