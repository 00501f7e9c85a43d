"""TensorIR of kernels that move numbers: tiles through shared memory, or stretches from register to register.

Numbers travel as unsigned integers of their size; what computes with them unpacks them first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.layout import layout
from edgec.compiler.registry import Emitted, Problem

from .... import tir
from ....conversions import held, stored
from ....cuda.block import Block, barrier, call, emit_grid, pointer, pure, shared
from ....tir import Buffer, Expr, Index, Stmt
from ..streams import Held, put_out
from ..vectors import moves
from .turn import BLOCK, Piece, Way, blocks_of


def turned(problem: Problem, symbol: str, way: Way, side: int, read: int, written: int) -> Emitted:
    def make(frame: Block) -> Stmt:
        return _Kernel(problem, frame, way, side, read, written).run()

    return emit_grid(problem, symbol, (blocks_of(way, side, read), 1, 1), BLOCK, make)


class _Kernel:
    def __init__(self, problem: Problem, frame: Block, way: Way, side: int, read: int, written: int) -> None:
        self.problem, self.frame, self.way = problem, frame, way
        self.side, self.read, self.written = side, read, written
        self.kind, self.out = way.value.type.dtype, problem.body.outputs[0].type
        self.bits = f"uint{8 * dtype(self.kind).bytes}"
        self.head: list[Stmt] = []
        self.source, made = tir.flat(frame.places[way.value].buffer)
        self.target, made_too = tir.flat(frame.place.buffer)
        self.head += [made, made_too]

    def run(self) -> Stmt:
        return tir.seq(self.head, self._tile() if self.side else self._stretch())

    def named(self, value: Expr, name: str) -> Expr:
        var, bind = tir.let(tir.expr(value), name)
        self.head.append(bind)
        return var

    def _bases(self, number: Expr, pieces: list[Piece]) -> tuple[Expr, Expr]:
        """Where the digits of a number lead: elements of the source and of the result."""
        digits = tir.split(number, *(p.n for p in pieces)) if pieces else ()
        source, to = tir.i32(self.way.offset), tir.i32(0)
        for digit, p in zip(digits, pieces, strict=True):
            source, to = source + digit * p.source, to + digit * p.to
        return source, to

    # -- tiles ---------------------------------------------------------------------------------------------------------

    def _tile(self) -> Stmt:
        way, side = self.way, self.side
        a, b = way.inner, way.outer
        assert b is not None
        rest = [p for p in way.pieces if p is not a and p is not b]
        across, down = -(-a.n // side), -(-b.n // side)
        block = self.frame.at[0]
        outer = self.named(tirx.floordiv(block, across * down), "rest")
        first_b = self.named(tirx.floormod(tirx.floordiv(block, across), down) * side, "first")
        first_a = self.named(tirx.floormod(block, across) * side, "first")
        source, to = (self.named(x, "base") for x in self._bases(outer, rest))
        pad = max(1, 4 // dtype(self.kind).bytes)
        tile, made = shared((side, side + pad), self.bits, "tile")  # [place in b][place in a]

        def load(number: Expr) -> Stmt:
            """Neighbours of the source: `read` places in b."""
            i, j = tirx.floordiv(number, side // self.read), tirx.floormod(number, side // self.read) * self.read
            at = source + (first_a + i) * a.source + first_b + j
            words, alloc = tir.local((self.read,), self.bits, "number")
            stores = [tir.store(tile, tir.load(words, k), j + k, i) for k in range(self.read)]
            body = tir.seq(alloc, self._fetch(at, words), stores)
            return _when([(first_a + i, a.n, side), (first_b + j, b.n, side)], body)

        def store(number: Expr) -> Stmt:
            """Neighbours of the result: `written` places in a."""
            j, i = (
                tirx.floordiv(number, side // self.written),
                tirx.floormod(number, side // self.written) * self.written,
            )
            at = to + (first_b + j) * b.to + first_a + i
            words, alloc = tir.local((self.written,), self.bits, "number")
            loads = [tir.store(words, tir.load(tile, j, i + k), k) for k in range(self.written)]
            body = tir.seq(alloc, loads, self._put(at, words, self.written))
            return _when([(first_b + j, b.n, side), (first_a + i, a.n, side)], body)

        reads = self._turns(side * side // self.read, load)
        writes = self._turns(side * side // self.written, store)
        return tir.seq(made, reads, barrier(), writes)

    def _turns(self, total: int, unit: Callable[[Expr], Stmt]) -> Stmt:
        return tir.unrolled(total // BLOCK, lambda k: unit(k * BLOCK + self.frame.thread), "turn")

    # -- stretches -----------------------------------------------------------------------------------------------------

    def _stretch(self) -> Stmt:
        pieces = [*self.way.pieces[:-1]]
        inner = self.way.inner
        number = self.named(self.frame.at[0] * BLOCK + self.frame.thread, "number")
        each = inner.n // self.read
        total = each
        for p in pieces:
            total *= p.n
        outer = self.named(tirx.floordiv(number, each), "outer")
        left = self.named(tirx.floormod(number, each) * self.read, "left")
        source, to = self._bases(outer, pieces)
        words, alloc = tir.local((self.read,), self.bits, "number")
        body = tir.seq(alloc, self._fetch(source + left, words), self._put(to + left, words, self.read))
        return body if total % BLOCK == 0 else tir.when(number < total, body)

    # -- accesses ------------------------------------------------------------------------------------------------------

    def _fetch(self, at: Expr, words: Buffer) -> Stmt:
        """`read` numbers from an element of the source on."""
        if self.read == 1:
            return tir.store(words, _as(self.bits, tir.load(self.source, at)), 0)
        size = dtype(self.kind).bytes
        if size == 4:
            parts = enumerate(moves(size * self.read))
            return tir.seq(
                call(f"ec_load{n}", pointer(words, k * n // 4), pointer(self.source, at + k * n // 4)) for k, n in parts
            )
        raw, made = tir.local((size * self.read // 4,), "uint32", "raw")
        each = 4 // size
        split = [
            tir.store(
                words,
                tirx.Cast(
                    self.bits, tirx.shift_right(tir.load(raw, j // each), tir.lit(8 * size * (j % each), "uint32"))
                ),
                j,
            )
            for j in range(self.read)
        ]
        return tir.seq(made, call(f"ec_load{size * self.read}", pointer(raw, 0), pointer(self.source, at)), split)

    def _put(self, at: Expr, words: Buffer, count: int) -> Stmt:
        """`count` results to memory, from an element on."""
        if not self.way.plain:
            return self._computed(at, words, count)
        size = dtype(self.kind).bytes
        if count == 1:
            return tir.store(self.target, _as(stored(self.out.dtype), tir.load(words, 0)), at)
        if size == 4:
            parts = enumerate(moves(size * count))
            return tir.seq(
                call(f"ec_store{n}", pointer(self.target, at + k * n // 4), pointer(words, k * n // 4))
                for k, n in parts
            )
        packed, made = tir.local((size * count // 4,), "uint32", "packed")
        each = 4 // size
        joins = []
        for k in range(size * count // 4):
            whole: Expr = tirx.Cast("uint32", tir.load(words, k * each))
            for j in range(1, each):
                part = tirx.Cast("uint32", tir.load(words, k * each + j))
                whole = tirx.bitwise_or(whole, tirx.shift_left(part, tir.lit(8 * size * j, "uint32")))
            joins.append(tir.store(packed, whole, k))
        return tir.seq(made, joins, call(f"ec_store{size * count}", pointer(self.target, at), pointer(packed, 0)))

    def _computed(self, at: Expr, words: Buffer, count: int) -> Stmt:
        """Through the body's operators, of whose operands this one is in registers."""
        body, place = self.frame.body, [0]
        kind = held(self.kind)
        numbers, made = tir.local((count,), "float32" if kind == "float16" else kind, "x")
        body.places[self.way.value] = Held(self.way.value.type, numbers, now=lambda: tir.load(numbers, place[0]))
        unpack = [tir.store(numbers, _number(self.kind, tir.load(words, j)), j) for j in range(count)]

        def value(j: int) -> Expr:
            place[0] = j
            return body.at(self.frame.out, self._index(at + j))

        return tir.seq(made, unpack, put_out(self.target, at, self.out.dtype, count, value))

    def _index(self, at: Expr) -> Index:
        """The logical index of an element of the result."""
        order = layout(self.out.layout, len(self.out.shape)).order
        digits = tir.split(at, *(self.out.shape[a] for a in order)) if order else ()
        index: list[Any] = [0] * len(order)
        for axis, digit in zip(order, digits, strict=True):
            index[axis] = digit
        return tuple(index)


def _when(limits: list[tuple[Expr, int, int]], body: Stmt) -> Stmt:
    """The body where all (place, size, side of a tile) are inside."""
    for place, size, side in limits:
        if size % side:
            body = tir.when(place < size, body)
    return body


def _as(kind: str, x: Expr) -> Expr:
    """The same bits as another type of their size."""
    return x if str(x.ty.dtype) == kind else tirx.reinterpret(kind, x)


def _number(kind: str, bits: Expr) -> Expr:
    if kind == "f16":
        return pure("float32", "ec_half2_lo", tirx.Cast("uint32", bits))
    return _as(held(kind), bits)
