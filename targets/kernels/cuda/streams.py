"""Operands of a body that a thread holds in registers for the numbers it works on, and results that it stores together.

An operand of the anchor's shape, or one that is the same for all rows, is read where the thread stands in the row; so
its numbers come in vectors, and the body finds them in registers (`Held`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Graph, Node, Value
from edgec.compiler.op import OPS

from ... import tir
from ...access import Place
from ...conversions import widen
from ...cuda.block import call, pointer, pure
from ...tir import Buffer, Expr, Index, Stmt
from .vectors import KINDS, moves


@dataclass(frozen=True)
class Held(Place):
    """A value whose element at the current position is in a register."""

    now: Callable[[], Expr] = field(kw_only=True)

    def load(self, index: Index) -> Expr:
        return self.now()


def streamed(graph: Graph, anchor: Node, inner: int, *, after: bool, layout: str = "") -> dict[Value, bool]:
    """Inputs that are read only where the thread stands: True where each row has numbers of its own.

    `inner`: folded axes of the anchor's argument, its last ones. `after`: what follows the anchor has its shape.
    """
    shape = anchor.args[0].shape
    users: dict[Value, list[Node]] = {}
    for node in graph.nodes():
        for a in dict.fromkeys(node.args):
            users.setdefault(a, []).append(node)

    def per_row(value: Value) -> bool | None:
        """True: a number for each position of each row; False: for each position; None: anything else."""
        if value.shape == shape:
            return True
        tail = value.shape[-inner:]
        same = tail == shape[len(shape) - inner :] and all(n == 1 for n in value.shape[:-inner])
        return False if same and len(value.shape) <= len(shape) else None

    def here(value: Value) -> bool:
        """Whether all that reads a value stands at its position in the row."""
        for node in users.get(value, ()):
            if node is anchor:
                if not after:
                    continue
                if not here(Value(node)):
                    return False
                continue
            if OPS[node.op].kind != "elementwise" or per_row(Value(node)) is None or not here(Value(node)):
                return False
        return True

    def wanted(value: Value) -> bool:
        return value.type.dtype in KINDS and value.type.layout == layout and here(value)

    found: dict[Value, bool] = {}
    for value in graph.inputs:
        each = per_row(value)
        if each is None or not wanted(value):
            continue
        if not after and _reaches_past(value, anchor, users):
            continue
        found[value] = each
    return found


def _reaches_past(value: Value, anchor: Node, users: dict[Value, list[Node]]) -> bool:
    """Whether something reads a value that is no part of the anchor's argument."""
    stack, before = [anchor.args[0].node], set[Node]()
    while stack:
        node = stack.pop()
        if node not in before:
            before.add(node)
            stack += [a.node for a in node.args]
    return any(n is not anchor and n not in before for n in users.get(value, ()))


def needed(values: Sequence[Value], stop: Collection[Value]) -> set[Value]:
    """All that values are computed from, without looking behind `stop`."""
    seen: set[Value] = set()
    stack = list(values)
    while stack:
        here = stack.pop()
        if here not in seen:
            seen.add(here)
            if here not in stop:
                stack += here.node.args
    return seen


def fetch(source: Buffer, at: Expr, name: str, registers: Buffer, vector: int) -> Stmt:
    """`vector` numbers of memory from element `at` on, a multiple of them, into registers."""
    if vector == 1:
        return tir.store(registers, widen(tir.load(source, at)), 0)
    each = dtype(name).bytes
    if name == "f32":
        return tir.seq(_accesses("load", each, vector, source, at, registers))
    raw, made = tir.local((each * vector // 4,), "uint32", "raw")
    numbers = [tir.store(registers, _part(name, raw, j), j) for j in range(vector)]
    return tir.seq(made, _accesses("load", each, vector, source, at, raw), numbers)


def _accesses(kind: str, each: int, vector: int, memory: Buffer, at: Expr, words: Buffer) -> list[Stmt]:
    """Loads into words of 32 bits, or stores of them: `vector` elements of `each` bytes from element `at` on."""
    found = []
    for k, n in enumerate(moves(each * vector)):
        there, own = pointer(memory, at + k * n // each), pointer(words, k * n // 4)
        found.append(call(f"ec_{kind}{n}", *((own, there) if kind == "load" else (there, own))))
    return found


def _part(name: str, raw: Buffer, j: int) -> Expr:
    """Number j of words of halves or bytes."""
    if name == "f16":
        return pure("float32", ("ec_half2_lo", "ec_half2_hi")[j % 2], tir.load(raw, j // 2))
    return tirx.Cast(KINDS[name], tirx.shift_right(tir.load(raw, j // 4), tir.lit(8 * (j % 4), "uint32")))


def put_out(target: Buffer, at: Expr, name: str, vector: int, value: Callable[[int], Expr]) -> Stmt:
    """`value(0)` .. `value(vector - 1)` into memory from element `at` on."""
    if vector == 1:
        return tir.store(target, value(0), at)
    each = dtype(name).bytes
    out, made = tir.local((vector,), KINDS[name], "out")
    stores = [tir.store(out, unrounded(value(j)) if name == "f16" else value(j), j) for j in range(vector)]
    if name != "f32":
        count = each * vector // 4
        words, packed = tir.local((count,), "uint32", "packed")
        stores += [packed, *(tir.store(words, _word(name, out, j), j) for j in range(count))]
        return tir.seq(made, stores, _accesses("store", each, vector, target, at, words))
    return tir.seq(made, stores, _accesses("store", each, vector, target, at, out))


def _word(name: str, out: Buffer, j: int) -> Expr:
    """Word j of halves or bytes."""
    if name == "f16":
        return pure("uint32", "ec_half2_pack", tir.load(out, 2 * j), tir.load(out, 2 * j + 1))
    whole: Expr = tir.lit(0, "uint32")
    for k in range(4):
        byte = tirx.Cast("uint32", tirx.Cast("uint8", tir.load(out, 4 * j + k)))
        whole = tirx.bitwise_or(whole, tirx.shift_left(byte, tir.lit(8 * k, "uint32")))
    return whole


def unrounded(x: Expr) -> Expr:
    """f32 that rounds to the f16 `x`: where `x` was just rounded, what it was before."""
    if isinstance(x, tirx.Let):
        return tirx.Let(x.var, x.value, unrounded(x.body))
    if isinstance(x, tirx.Cast) and str(x.ty.dtype) == "float16" and str(x.value.ty.dtype) == "float32":
        return x.value
    return widen(x)
