"""How the operands of a block come into shared memory, one stage of K at a time.

Rows of a stage are `bk` bytes of K (or, where the right operand lies across, one k of all columns), in chunks of 16
bytes that are swizzled: eight rows at the same place lie in different banks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from tvm import tirx

from edgec.targets import tir
from edgec.targets.cuda.block import call, pointer
from edgec.targets.tir import Buffer, Expr, Stmt

from .shape import CHUNK, LEAST, Product, Tile

if TYPE_CHECKING:
    pass

I32, U32 = "int32", "uint32"


def swizzled(row: Expr, chunk: Expr, row_bytes: int) -> Expr:
    """Byte offset of a chunk in a stage."""
    return row * row_bytes + ((chunk ^ turn(row, row_bytes)) * CHUNK)


def turn(row: Expr, row_bytes: int) -> Expr:
    """What the places of a row's chunks are combined with."""
    chunks = min(8, row_bytes // CHUNK)
    return ((row // (8 // chunks)) if chunks < 8 else row) & tir.i32(chunks - 1)


@dataclass(frozen=True)
class Share:
    """`rows` rows of `chunks` chunks, dealt to `threads` threads: each takes one chunk of every `step`-th row."""

    rows: int
    chunks: int
    threads: int
    thread: Expr

    @property
    def step(self) -> int:
        return self.threads // self.chunks

    @property
    def turns(self) -> int:
        return -(-self.rows // self.step)

    @property
    def chunk(self) -> Expr:
        return tirx.floormod(self.thread, self.chunks)

    def row(self, turn: Expr) -> Expr:
        return tirx.floordiv(self.thread, self.chunks) + turn * self.step

    def each(self, body: Callable[[Expr, Expr], Stmt]) -> Stmt:
        """`body(turn, row)` for all rows of this thread."""

        def one(turn: Expr) -> Stmt:
            row = self.row(turn)
            whole = self.rows % self.step == 0
            return body(turn, row) if whole else tir.when(row < self.rows, body(turn, row))

        return tir.unrolled(self.turns, one, "turn")


@dataclass
class Side(ABC):
    """One operand: its elements in memory, where its stages begin in shared memory, and who copies what."""

    product: Product
    tile: Tile
    data: Buffer  # flat
    shared: Buffer
    begin: int  # byte of a stage
    share: Share
    first: Expr  # row of the result (left) or its column (right) where the block begins
    start: Expr  # the element where this product's operand begins
    limit: int  # rows of the result, or columns
    piece: int  # bytes that lie side by side and aligned
    fill: int = 0  # what stands for elements that are not there

    def __post_init__(self) -> None:
        self.base, self._alloc = tir.local((self.share.turns,), I32, "base")
        self.mask, self._alloc_mask = tir.local((self.share.turns,), U32, "mask")

    @abstractmethod
    def prepare(self) -> Stmt:
        """Statements before the first stage."""

    @abstractmethod
    def load(self, step: Expr, slot: Expr) -> Stmt:
        """Begin to copy a stage of K to where `slot` begins in shared memory."""

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return self.product.kind.bytes

    @property
    def each_chunk(self) -> int:
        """Elements of a chunk."""
        return CHUNK // self.size

    @property
    def each_stage(self) -> int:
        """K of a stage."""
        return self.tile.bk // self.size

    @property
    def ragged(self) -> bool:
        """Whether the last stage of K reaches past its end."""
        return self.product.k % self.each_stage != 0

    @property
    def meant(self) -> int:
        """Bytes of a piece that mean something, where the rest is to be zero."""
        return 0

    @property
    def starts(self) -> range:
        """Where in a chunk elements begin that are copied together, or one by one."""
        return range(0, self.each_chunk, max(1, self.piece // self.size) if self.piece >= LEAST else 1)

    def copy(self, slot: Expr, row: Expr, element: Callable[[int], tuple[Expr, Expr | None]]) -> Stmt:
        """A chunk of a row: `element(j)` says where its j-th lies, and whether it is there."""
        chunk = slot + self.begin + swizzled(row, self.share.chunk, self.share.chunks * CHUNK)
        if self.piece < LEAST:
            return self._gather(pointer(self.shared, chunk), element)
        return tir.seq(self._piece(pointer(self.shared, chunk + j * self.size), *element(j)) for j in self.starts)

    def _piece(self, target: Expr, place: Expr, valid: Expr | None) -> Stmt:
        source = pointer(self.data, place)
        if self.meant:
            there = tir.i32(self.meant) if valid is None else tirx.Select(valid, tir.i32(self.meant), tir.i32(0))
            return call(f"ec_cp{self.piece}_first", target, source, there)
        if valid is None and self.piece == CHUNK:
            return call("ec_cp16", target, source)
        if valid is None or not self.fill:
            there = tir.i32(1) if valid is None else tirx.Cast(I32, valid)
            return call(f"ec_cp{self.piece}_if", target, source, there)
        words, alloc = tir.local((4,), U32, "fill")
        filled = [tir.store(words, tir.lit(self.fill * 0x01010101, U32), w) for w in range(self.piece // 4)]
        absent = tir.seq(alloc, filled, call(f"ec_store{self.piece}", target, pointer(words, 0)))
        return tirx.IfThenElse(valid, call(f"ec_cp{self.piece}_if", target, source, tir.i32(1)), absent)

    def _gather(self, target: Expr, element: Callable[[int], tuple[Expr, Expr | None]]) -> Stmt:
        """Element by element."""
        kind = f"uint{8 * self.size}"
        view = tirx.decl_buffer(self.data.shape, kind, "bits", data=self.data.data)
        words, alloc = tir.local((4,), U32, "words")

        def one(j: int) -> Expr:
            where, valid = element(j)
            bits = tir.load(view, where)
            bits = bits if valid is None else tirx.if_then_else(valid, bits, tir.lit(self.fill, kind))
            return tirx.Cast(U32, bits) << tir.lit(8 * self.size * (j % (4 // self.size)), U32)

        def word(w: int) -> Expr:
            return reduce(or_, [one(w * 4 // self.size + j) for j in range(4 // self.size)])

        fill = [tir.store(words, word(w), w) for w in range(4)]
        declared = tirx.DeclBuffer(view, data=self.data.data)
        return tir.seq(declared, alloc, fill, call("ec_store16", target, pointer(words, 0)))


class Rows(Side):
    """Rows with K side by side: the left operand of a product, or the right one that lies as [n][k]."""

    def prepare(self) -> Stmt:
        def one(turn: Expr, row: Expr) -> Stmt:
            at = self.first + row
            if (
                self.limit % self.share.rows
            ):  # what is not there reads other rows: many that read one wait for each other
                at = tirx.floormod(at, tir.i32(self.limit))
            return tir.store(self.base, self.start + at * self.product.k, turn)

        return tir.seq(self._alloc, self.share.each(one))

    def load(self, step: Expr, slot: Expr) -> Stmt:
        k = step * self.each_stage + self.share.chunk * self.each_chunk

        def one(turn: Expr, row: Expr) -> Stmt:
            base = tir.load(self.base, turn) + k
            return self.copy(slot, row, lambda j: (base + j, k + j < self.product.k if self.ragged else None))

        return self.share.each(one)


class Across(Side):
    """The right operand that lies as [k][n]: a row of a stage is one k."""

    def prepare(self) -> Stmt:
        return tir.seq()

    def load(self, step: Expr, slot: Expr) -> Stmt:
        p, column = self.product, self.first + self.share.chunk * self.each_chunk

        def one(turn: Expr, row: Expr) -> Stmt:
            k = step * self.each_stage + row

            def element(j: int) -> tuple[Expr, Expr | None]:
                there = []
                if p.n % self.tile.bn:
                    there.append(column + j < p.n)
                if self.ragged:
                    there.append(k < p.k)
                return self.start + k * p.n + column + j, reduce(tirx.And, there) if there else None

            return self.copy(slot, row, element)

        return self.share.each(one)
