"""What becomes of the sums of a block: partial ones are added up by the last block, then all that follows is computed.

A thread takes eight neighbouring columns of a row at a time: inputs of the body that have a number for each of them are
read in vectors, and so is the result written, where rows are whole vectors. All that some vectors read comes before the
first of them is written: what is written could be what is read, for all that the compiler knows, and each vector would
wait for memory anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.targets import tir
from edgec.targets.access import Place
from edgec.targets.conversions import widen
from edgec.targets.cuda.block import barrier, call, pointer, pure, result
from edgec.targets.tir import Buffer, Expr, Index, Stmt

from ...conv.shape import conv_operands
from .shape import VECTOR

if TYPE_CHECKING:
    from .work import Work

I32, U32, F32 = "int32", "uint32", "float32"
Indexed = Callable[[Expr, Expr, Expr], Index]  # number of the product, row, column -> logical index of the result
TOGETHER = 4  # vectors whose reads come first
WORDS = {"f16": 4, "f32": 8, "i32": 8, "u8": 2, "i8": 2}  # 32-bit words of a vector


class Finish:
    """The second half of a kernel."""

    def __init__(self, work: Work, indexed: Indexed) -> None:
        self.work, self.indexed = work, indexed
        self.kind = work.product.kind.sums
        t = work.tile
        self.turns = -(-t.bm * t.bn // VECTOR // t.threads)  # vectors of a thread
        self.together = next(n for n in range(TOGETHER, 0, -1) if self.turns % n == 0)
        self.sums, self._alloc = tir.local((VECTOR * self.together,), self.kind, "done")
        self.whole = work.product.n % VECTOR == 0  # rows of the result are whole vectors
        self.across = work.tile.bn // VECTOR  # vectors in a row of the block

    def statements(self) -> Stmt:
        if self.work.tile.split == 1:
            return tir.seq(self._alloc, self._results(self._own))
        return tir.seq(self._alloc, self._put_aside(), self._when_last(self._results(self._gathered)))

    def _vector(self, turn: Expr) -> tuple[Expr, Expr, Callable[[Stmt], Stmt]]:
        """Row and column within the block of one of a thread's vectors, and what guards it."""
        t = self.work.tile
        count = t.bm * self.across
        number = turn * t.threads + self.work.thread
        row, column = tirx.floordiv(number, self.across), tirx.floormod(number, self.across) * VECTOR
        return row, column, lambda stmt: stmt if count % t.threads == 0 else tir.when(number < count, stmt)

    def _results(self, gather: Callable[[int, Expr, Expr], Stmt]) -> Stmt:
        """All vectors of the block, some at a time; `gather(g, row, column)` brings the sums of the g-th of them."""

        def some(turn: Expr) -> Stmt:
            reads: list[Stmt] = []
            writes: list[Stmt] = []
            for g in range(self.together):
                row, column, guarded = self._vector(turn * self.together + g)
                m, bind_m = tir.let(self.work.row + row, "m")
                n, bind_n = tir.let(self.work.column + column, "n")
                vector = Vector(self, m, n, g * VECTOR)
                alloc, loads, stores = vector.statements()
                reads += [bind_m, bind_n, *alloc, guarded(tir.seq(gather(g, row, column), self._inside(m, n, loads)))]
                writes.append(guarded(self._inside(m, n, stores)))
            return tir.seq(reads, writes)

        return tir.unrolled(self.turns // self.together, some, "vector")

    def _own(self, g: int, row: Expr, column: Expr) -> Stmt:
        """Sums of this block from shared memory."""
        place = row * self.work.tile.pitch + column * 4
        return tir.seq(
            call("ec_load16", pointer(self.sums, VECTOR * g + 4 * h), pointer(self.work.shared, place + 16 * h))
            for h in range(2)
        )

    # ---- several blocks

    def _aside(self, part: Expr, row: Expr, column: Expr) -> Expr:
        """Where sums of a block lie in the scratch."""
        t = self.work.tile
        return ((self.work.number * t.split + part) * (t.bm * t.bn) + row * t.bn + column) * 4

    def _put_aside(self) -> Stmt:
        scratch = self.work.block.scratch

        def one(turn: Expr) -> Stmt:
            row, column, guarded = self._vector(turn)
            where = self._aside(self.work.part, row, column)
            stored = [call("ec_store16", pointer(scratch, where + 16 * h), pointer(self.sums, 4 * h)) for h in range(2)]
            return guarded(tir.seq(self._own(0, row, column), stored))

        return tir.unrolled(self.turns, one, "vector")

    def _when_last(self, stmt: Stmt) -> Stmt:
        """Run by the block that comes last of those that share a tile."""
        flag, alloc = tir.local((1,), I32, "last")
        shared, split = self.work.shared, self.work.tile.split
        counter = pointer(self.work.block.zeros, self.work.number)
        arrive = tir.seq(
            tir.store(flag, result(I32, "ec_arrive_last", counter, tir.lit(split, U32)), 0),
            call("ec_store4", pointer(shared, 0), pointer(flag, 0)),
        )
        return tir.seq(
            alloc,
            barrier(),
            tir.when(tirx.EQ(self.work.thread, 0), arrive),
            barrier(),
            call("ec_load4", pointer(flag, 0), pointer(shared, 0)),
            tir.when(tirx.NE(tir.load(flag, 0), 0), stmt),
        )

    def _gathered(self, g: int, row: Expr, column: Expr) -> Stmt:
        """The sums of all parts, in the order of K."""
        t, zero, first = self.work.tile, tir.lit(0, self.kind), VECTOR * g
        other, alloc = tir.local((VECTOR,), self.kind, "part")

        def add(part: Expr) -> Stmt:
            where = self._aside(part, row, column)
            read = [
                call("ec_load16", pointer(other, 4 * h), pointer(self.work.block.scratch, where + 16 * h))
                for h in range(2)
            ]
            sums = [
                tir.store(self.sums, tir.load(self.sums, first + j) + tir.load(other, j), first + j)
                for j in range(VECTOR)
            ]
            return tir.seq(read, sums)

        clear = [tir.store(self.sums, zero, first + j) for j in range(VECTOR)]
        return tir.seq(alloc, clear, tir.unrolled(t.split, add, "part"))

    # ---- what follows the anchor

    def _inside(self, m: Expr, n: Expr, stmts: list[Stmt]) -> Stmt:
        p, stmt = self.work.product, tir.seq(stmts)
        if p.m % self.work.tile.bm:
            stmt = tir.when(m < p.m, stmt)
        if p.n % self.work.tile.bn:
            stmt = tir.when(n < p.n, stmt)
        return stmt


class Vector:
    """Eight results of a row, whose sums are in registers from `first` on."""

    def __init__(self, finish: Finish, m: Expr, n: Expr, first: int) -> None:
        self.finish, self.m, self.n, self.first = finish, m, n, first
        self.work = finish.work
        self.block = self.work.block
        p = self.work.product
        self.flat = (self.work.batch * p.m + m) * p.n + n  # place of the first result, where all lies row by row
        self.columns = [n + j for j in range(VECTOR)]
        self.index = [finish.indexed(self.work.batch, m, c) for c in self.columns]

    def statements(self) -> tuple[list[Stmt], list[Stmt], list[Stmt]]:
        """Registers, reads, and all that comes after them."""
        body, anchor = self.block.body, Value(self._anchor)
        before = dict(body.places)
        alloc: list[Stmt] = []
        reads: list[Stmt] = []
        if self.finish.whole:
            for value, place in before.items():
                if value not in self._anchor.args[:2]:
                    made, read = self._hold(value, place)
                    alloc, reads = alloc + made, reads + read
        body.bind(anchor, lambda index: body.rounded(anchor, self._sum(index)))
        try:
            return alloc, reads, [self._stores()]
        finally:
            body.places = before

    @property
    def _anchor(self) -> Any:
        return self.work.anchor

    def _which(self, index: Index) -> int:
        """Which of the eight an index of the result stands for."""
        return next(j for j in range(VECTOR) if _of_all(index, self.index[j], self.columns[j]))

    def _sum(self, index: Index) -> Expr:
        """The anchor's result: bias added."""
        j = self._which(index)
        total = tir.load(self.finish.sums, self.first + j)
        _, _, bias = conv_operands(self._anchor)
        if bias is not None:
            at = (self.columns[j],) if bias.shape != (1,) else (0,)
            total = total + tirx.Cast(self.finish.kind, widen(self.block.body.at(bias, at)))
        return total

    def _hold(self, value: Value, place: Place) -> tuple[list[Stmt], list[Stmt]]:
        """Reads eight numbers of an input at once, where they lie side by side: registers, reads."""
        name = value.type.dtype
        if name not in WORDS:
            return [], []
        if value.type.size == self.work.product.n and max(value.shape) == value.type.size:
            where, same = self.n, _of_column
        elif value.shape == self.block.out.shape and value.type.layout == self.block.place.type.layout:
            where, same = self.flat, _of_all
        else:
            return [], []
        words, alloc = tir.local(
            (WORDS[name],), "float32" if name == "f32" else "int32" if name == "i32" else U32, "held"
        )
        flat = tirx.decl_buffer((value.type.size,), place.buffer.dtype, "flat", data=place.buffer.data)

        def load(index: Index) -> Expr:
            for j in range(VECTOR):
                if same(index, self.index[j], self.columns[j]):
                    return _element(words, name, j)
            return place.load(index)

        body = self.block.body
        body.places = {v: p for v, p in body.places.items() if v != value}
        body.bind(value, load)
        size = min(16, WORDS[name] * 4)
        reads = [
            call(f"ec_load{size}", pointer(words, w), pointer(flat, where + w * VECTOR // WORDS[name]))
            for w in range(0, WORDS[name], 4)
        ]
        return [alloc, tirx.DeclBuffer(flat, data=place.buffer.data)], reads

    def _stores(self) -> Stmt:
        place, p = self.block.place, self.work.product
        values = [self.block.value(index) for index in self.index]
        if not self.finish.whole or place.type.dtype not in WORDS:
            stores = [place.store(v, index) for v, index in zip(values, self.index, strict=True)]
            if not self.finish.whole:
                stores = [tir.when(c < p.n, s) for c, s in zip(self.columns, stores, strict=True)]
            return tir.seq(stores)
        name = place.type.dtype
        flat = tirx.decl_buffer((place.type.size,), place.buffer.dtype, "flat", data=place.buffer.data)
        words, alloc, filled = _packed(values, name)
        count = WORDS[name]
        size = min(16, count * 4)
        writes = [
            call(f"ec_store{size}", pointer(flat, self.flat + w * VECTOR // count), pointer(words, w))
            for w in range(0, count, 4)
        ]
        return tir.seq(tirx.DeclBuffer(flat, data=place.buffer.data), alloc, filled, writes)


def _of_column(index: Index, whole: Index, column: Expr) -> bool:
    return any(x is column for x in index)


def _of_all(index: Index, whole: Index, column: Expr) -> bool:
    return len(index) == len(whole) and all(
        a is b or (isinstance(a, int) and a == 0) for a, b in zip(index, whole, strict=True)
    )


def _element(words: Buffer, name: str, j: int) -> Expr:
    if name in ("f32", "i32"):
        return tir.load(words, j)
    if name == "f16":
        return pure(F32, "ec_half2_hi" if j % 2 else "ec_half2_lo", tir.load(words, j // 2))
    byte = tir.load(words, j // 4) >> tir.lit(8 * (j % 4), U32)
    return tirx.Cast("int8" if name == "i8" else "uint8", byte)


def _packed(values: list[Expr], name: str) -> tuple[Buffer, Stmt, list[Stmt]]:
    """Results in 32-bit words."""
    if name in ("f32", "i32"):
        words, alloc = tir.local((VECTOR,), "float32" if name == "f32" else "int32", "packed")
        return words, alloc, [tir.store(words, v, j) for j, v in enumerate(values)]
    words, alloc = tir.local((WORDS[name],), U32, "packed")
    stores = []
    for w in range(WORDS[name]):
        if name == "f16":
            low, high = (_real(v) for v in values[2 * w : 2 * w + 2])
            stores.append(tir.store(words, pure(U32, "ec_half2_pack", low, high), w))
            continue
        total = None
        for j, v in enumerate(values[4 * w : 4 * w + 4]):
            byte = (tirx.Cast(U32, v) & tir.lit(255, U32)) << tir.lit(8 * j, U32)
            total = byte if total is None else total | byte
        stores.append(tir.store(words, total, w))
    return words, alloc, stores


def _real(value: Expr) -> Expr:
    """An f16 as f32 that has yet to be rounded, which packing does."""
    if isinstance(value, tirx.Cast) and str(value.value.ty.dtype) == "float32":
        return value.value
    return widen(value)
