"""TensorIR in a few plain functions: statements are values, loops take a function of their variable.

Kernels are built from these, not from TVM's script decorators: tiles at the edge of a tensor are made by leaving
statements out while the kernel is generated, which needs Python's own control flow.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from tvm import tirx
from tvm.ir import PointerType, PrimType
from tvm.tirx import ForKind

from .built_for import has_cache, innermost, on_device, vector_loop
from .lets import Lanes, hoisted

Expr: TypeAlias = Any  # tirx expressions, and Python numbers where TVM converts them
Stmt: TypeAlias = Any
Buffer: TypeAlias = Any
Index: TypeAlias = tuple[Any, ...]

WRITTEN_OUT = 16  # turns of a loop that LLVM writes out as a whole
TURN = 36  # instructions that matter in one turn of a loop, about

_numbers = itertools.count()  # make the names of registers and local buffers differ


def restart_names() -> None:
    """Begin a kernel: its names, and with them LLVM's input, do not depend on what this process built before."""
    global _numbers
    _numbers = itertools.count()


def i32(value: int) -> Expr:
    return tirx.IntImm("int32", int(value))


def expr(value: Expr | int) -> Expr:
    """An index as an expression."""
    return i32(value) if isinstance(value, int) else value


def lit(value: float | int | bool, dtype: str) -> Expr:
    """A literal of a TVM element type."""
    return tirx.const(value, dtype)


def seq(*parts: Stmt | Iterable[Stmt] | None) -> Stmt:
    """Statements in order; nested sequences are flattened, None is skipped."""
    flat: list[Stmt] = []
    for part in parts:
        if part is None:
            continue
        if isinstance(part, (list, tuple)) or hasattr(part, "__next__"):
            flat += [p for p in part if p is not None]
        else:
            flat.append(part)
    if not flat:
        return tirx.Evaluate(i32(0))
    return flat[0] if len(flat) == 1 else tirx.SeqStmt(flat)


def _loop(kind: ForKind, extent: Expr | int, body: Callable[[Expr], Stmt], name: str, start: Expr | int = 0) -> Stmt:
    var = tirx.Var(name, "int32")
    low = i32(start) if isinstance(start, int) else start
    size = i32(extent) if isinstance(extent, int) else extent
    return tirx.For(_bound(var), low, size, kind, body(var))


def _bound(var: Expr) -> Expr:
    """The variable, which the body of the vectorized loop around it is known to bind."""
    if lanes := innermost():
        lanes.inside.append(var)
    return var


def loop(extent: Expr | int, body: Callable[[Expr], Stmt], name: str = "i", start: Expr | int = 0) -> Stmt:
    """A serial loop of `extent` turns; a constant extent of one leaves no loop."""
    if isinstance(extent, (int, tirx.IntImm)) and int(extent) == 1:
        return body(expr(start))
    return _loop(ForKind.SERIAL, extent, body, name, start)


def steps(extent: int, body: Callable[[Expr], Stmt], name: str, size: int) -> Stmt:
    """A loop of `extent` turns of `size` instructions that matter each, some of them in one turn of the machine's loop.

    Where another thread shares the core's front end, a short loop that happens to lie across cache lines runs out of
    instructions; a longer one does not.
    """
    if extent <= WRITTEN_OUT:
        return loop(extent, body, name)
    at_once = max(n for n in (1, 2, 4) if n == 1 or n * size <= TURN)
    many, rest = divmod(extent, at_once)
    turns = loop(many, lambda k: seq(body(k * at_once + i) for i in range(at_once)), name)
    return seq(turns, [body(i32(many * at_once + i)) for i in range(rest)])


def unrolled(extent: int, body: Callable[[Expr], Stmt], name: str = "u") -> Stmt:
    """A loop that TVM unrolls completely. For tiles with edges use Python loops and `seq` instead."""
    return body(i32(0)) if extent == 1 else _loop(ForKind.UNROLLED, extent, body, name)


def vectorized(lanes: int, body: Callable[[Expr], Stmt], name: str = "v") -> Stmt:
    """`lanes` turns as one vector operation; everything under it is written for one lane."""
    if lanes == 1:
        return body(i32(0))
    if on_device():  # whose threads are the lanes
        return _loop(ForKind.UNROLLED, lanes, body, name)
    here = Lanes(tirx.Var(name, "int32"), lanes)
    with vector_loop(here):
        inner = body(here.var)
    return seq(here.registers, tirx.For(here.var, i32(0), i32(lanes), ForKind.VECTORIZED, inner))


def interleaved(parts: Sequence[Stmt]) -> Stmt:
    """Vector operations that do not depend on each other, statement by statement in turn.

    A core looks only some sixty operations ahead: chains of dependent ones overlap where they alternate in the code.
    """
    heads: list[Stmt] = []
    streams: list[list[Stmt]] = []
    for part in parts:
        streams.append([])
        for stmt in _flat(part):
            if isinstance(stmt, tirx.AllocBuffer):
                heads.append(stmt)
            elif isinstance(stmt, tirx.For) and stmt.kind == ForKind.VECTORIZED:
                streams[-1] += [
                    tirx.For(stmt.loop_var, stmt.min, stmt.extent, stmt.kind, inner) for inner in _flat(stmt.body)
                ]
            else:
                streams[-1].append(stmt)
    turns = itertools.zip_longest(*streams)
    return seq(heads, [stmt for turn in turns for stmt in turn if stmt is not None])


def _flat(stmt: Stmt) -> list[Stmt]:
    return [inner for part in stmt.seq for inner in _flat(part)] if isinstance(stmt, tirx.SeqStmt) else [stmt]


def when(condition: Expr, then: Stmt, otherwise: Stmt | None = None) -> Stmt:
    return tirx.IfThenElse(condition, then, otherwise)


def repeat(condition: Expr, body: Stmt) -> Stmt:
    """The body, as long as a condition on cells holds before it."""
    return tirx.While(condition, body)


def any_of(flags: Buffer, lanes: int) -> Expr:
    """Whether any of the first `lanes` elements of an int32 buffer is not zero."""
    if lanes == 1:
        return load(flags, 0).equal(i32(1))
    return tirx.call_llvm_pure_intrin("int32", "llvm.vector.reduce.or", load(flags, ramp(0, lanes))) > 0


def flat(buffer: Buffer) -> tuple[Buffer, Stmt]:
    """The elements of a buffer as a vector: (buffer, statement that must stand before its first use)."""
    size = 1
    for n in buffer.shape:
        size *= int(n)
    other = tirx.decl_buffer((max(1, size),), buffer.dtype, f"{buffer.name}_flat", data=buffer.data)
    return other, tirx.DeclBuffer(other, data=buffer.data)


def section(buffer: Buffer, dtype: str, elements: int, offset: int, word: str = "int64") -> tuple[Buffer, Stmt]:
    """Part of a buffer's memory, from a byte on, as another type: (buffer, statement before its first use)."""
    pointer = tirx.Var(f"{buffer.name}_{dtype}", PointerType(PrimType(dtype)))
    other = tirx.decl_buffer((max(1, elements),), dtype, pointer.name, data=pointer)
    where = address(buffer, word) + lit(offset, word)
    return other, seq(tirx.Bind(pointer, pointed_at(pointer.ty, where)), tirx.DeclBuffer(other, data=pointer))


def ranged(start: Expr | int, end: Expr | int, lanes: int, body: Callable[[Expr], Stmt]) -> Stmt:
    """`body(i)` for start <= i < end: in vectors, and one by one what is left."""
    first, last = expr(start), expr(end)
    many = tirx.max(last - first, i32(0)) // lanes
    tail = first + many * lanes
    return seq(
        loop(many, lambda i: vectorized(lanes, lambda v: body(first + i * lanes + v)), "i"),
        loop(tirx.max(last - tail, i32(0)), lambda i: body(tail + i), "i"),
    )


class Cell:
    """A scalar variable of a kernel; `made` must stand before its first use."""

    def __init__(self, dtype: str, name: str = "cell") -> None:
        self._buffer, self.made = local((1,), dtype, name)

    @property
    def now(self) -> Expr:
        """What it holds where this is evaluated."""
        return load(self._buffer, 0)

    def set(self, value: Expr | int) -> Stmt:
        return store(self._buffer, expr(value), 0)

    def add(self, value: Expr | int) -> Stmt:
        return self.set(self.now + value)


def across(fold: str, vector: Expr) -> Expr:
    """The lanes of a vector folded into one by LLVM's reduction of that name: add, or, smax ..."""
    if vector.ty.dtype.lanes == 1:
        return vector
    element = str(vector.ty.dtype).rpartition("x")[0]
    return tirx.call_llvm_pure_intrin(element, f"llvm.vector.reduce.{fold}", vector)


def ramp(base: Expr | int, lanes: int, stride: int = 1) -> Expr:
    """base, base + stride ... as a vector index."""
    return tirx.Ramp(i32(base) if isinstance(base, int) else base, i32(stride), lanes) if lanes > 1 else base


def broadcast(value: Expr, lanes: int) -> Expr:
    return tirx.Broadcast(value, lanes) if lanes > 1 else value


def load(buffer: Buffer, *index: Expr | int) -> Expr:
    return tirx.BufferLoad(buffer, [i32(x) if isinstance(x, int) else x for x in index])


def store(buffer: Buffer, value: Expr, *index: Expr | int) -> Stmt:
    """A store; lets in `value` become bindings before it (lets.py)."""
    place = [i32(x) if isinstance(x, int) else x for x in index]
    return hoisted(value, lambda flat: tirx.BufferStore(buffer, flat, place), innermost())


def prefetch(buffer: Buffer, *index: Expr | int, near: bool = True) -> Stmt:
    """Ask for the cache line of an element, into L1 or (not `near`) L2. It may lie past the buffer's end: nothing is
    read. A core with less than two caches is not asked."""
    if on_device() or not has_cache():
        return seq()
    address = tirx.address_of(load(buffer, *index))
    return tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", address, i32(0), i32(3 if near else 2), i32(1)))


def address(buffer: Buffer, word: str) -> Expr:
    """Where a buffer begins, as an integer of type `word`."""
    whole = tirx.reinterpret("int64", buffer.data)
    return whole if word == "int64" else tirx.Cast(word, whole)


def pointed_at(pointer: Any, address: Expr) -> Expr:
    """An address of either width as a pointer of this type. TVM makes pointers of 64 bits only; LLVM cuts them."""
    wide = str(address.ty.dtype) == "int64"
    return tirx.reinterpret(pointer, address if wide else tirx.Cast("int64", address))


def local(shape: Sequence[int], dtype: str, name: str = "acc") -> tuple[Buffer, Stmt]:
    """A register tile: (buffer, statement that must stand before its first use). Constant indices only."""
    buffer = tirx.decl_buffer(tuple(shape), dtype, f"{name}{next(_numbers)}", scope="local")
    return buffer, tirx.AllocBuffer(buffer)


def let(value: Expr, name: str = "x") -> tuple[Expr, Stmt]:
    """A named scalar or vector: (variable, statement that binds it)."""
    var = _bound(tirx.Var(f"{name}{next(_numbers)}", value.ty))
    return var, hoisted(value, lambda flat: tirx.Bind(var, flat), innermost())


def split(flat: Expr, *extents: int) -> tuple[Expr, ...]:
    """Mixed-radix digits of a task number, first extent slowest. The first extent is not needed for the arithmetic."""
    digits: list[Expr] = []
    rest = flat
    for size in reversed(extents[1:]):
        digits.append(tirx.floormod(rest, size) if size > 1 else i32(0))
        rest = tirx.floordiv(rest, size) if size > 1 else rest
    return (rest, *reversed(digits))


def tasks(begin: Expr, end: Expr, body: Callable[[Expr], Stmt], count: int = 0) -> Stmt:
    """The loop over the tasks that this call was given, of `count` where that is known; on a device it is given one."""
    if on_device():
        var, bind = let(begin, "task")
        return seq(bind, body(var))
    if count == 1:
        return when(begin < end, body(i32(0)))
    return _loop(ForKind.SERIAL, end - begin, body, "task", begin)
