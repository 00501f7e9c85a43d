"""How the operands of a block come into shared memory, one stage of K at a time.

Rows of a stage are `bk` bytes of K (or, where the right operand lies across, one k of all columns), in chunks of 16
bytes that are swizzled: eight rows at the same place lie in different banks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tvm import tirx

from edgec.targets import tir
from edgec.targets.cuda.block import call, pointer
from edgec.targets.tir import Buffer, Expr, Stmt

from .mma_shape import CHUNK, MASK_BITS, Product, Tile

if TYPE_CHECKING:
    from ..conv_shape import Axis

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
class Side:
    """One operand: its elements in memory, where its stages begin in shared memory, and who copies what."""

    product: Product
    tile: Tile
    data: Buffer  # flat
    shared: Buffer
    begin: int
    share: Share
    first: Expr  # row of the result (left) or its column (right) where the block begins
    start: Expr  # the element where this product's operand begins

    def __post_init__(self) -> None:
        self.base, self._alloc = tir.local((self.share.turns,), I32, "base")
        self.mask, self._alloc_mask = tir.local((self.share.turns,), U32, "mask")

    @property
    def each_chunk(self) -> int:
        """Elements of a chunk."""
        return CHUNK // self.product.kind.bytes

    @property
    def each_stage(self) -> int:
        """K of a stage."""
        return self.tile.bk // self.product.kind.bytes

    @property
    def ragged(self) -> bool:
        """Whether the last stage of K reaches past its end."""
        return self.product.k % self.each_stage != 0

    def target(self, slot: Expr, row: Expr) -> Expr:
        """Where this thread's chunk of a row goes."""
        place = swizzled(row, self.share.chunk, self.share.chunks * CHUNK)
        return pointer(self.shared, slot + self.begin + place)

    def copy(self, slot: Expr, row: Expr, element: Expr, valid: Expr | None) -> Stmt:
        source = pointer(self.data, element)
        if valid is None:
            return call("ec_cp16", self.target(slot, row), source)
        return call("ec_cp16_if", self.target(slot, row), source, tirx.Cast(I32, valid))

    def gather(self, slot: Expr, row: Expr, element: Callable[[int], tuple[Expr, Expr | None]]) -> Stmt:
        """A chunk element by element: `element(j)` says where each lies, and whether it is there."""
        size = self.product.kind.bytes
        kind = f"uint{8 * size}"
        view = tirx.decl_buffer(self.data.shape, kind, "bits", data=self.data.data)
        words, alloc = tir.local((4,), U32, "words")

        def one(j: int) -> Expr:
            where, valid = element(j)
            bits = tir.load(view, where)
            bits = bits if valid is None else tirx.if_then_else(valid, bits, tir.lit(0, kind))
            return tirx.Cast(U32, bits) << tir.lit(8 * size * (j % (4 // size)), U32)

        def word(w: int) -> Expr:
            parts = [one(w * 4 // size + j) for j in range(4 // size)]
            total = parts[0]
            for part in parts[1:]:
                total = total | part
            return total

        fill = [tir.store(words, word(w), w) for w in range(4)]
        declared = tirx.DeclBuffer(view, data=self.data.data)
        return tir.seq(declared, alloc, fill, call("ec_store16", self.target(slot, row), pointer(words, 0)))


class Rows(Side):
    """Rows with K side by side: the left operand of a product, or the right one that lies as [n][k]."""

    limit: int  # rows of the whole operand

    def prepare(self) -> Stmt:
        def one(turn: Expr, row: Expr) -> Stmt:
            at = self.first + row
            if self.limit % self.share.rows:
                at = tirx.min(at, tir.i32(self.limit - 1))
            return tir.store(self.base, self.start + at * self.product.k, turn)

        return tir.seq(self._alloc, self.share.each(one))

    def load(self, step: Expr, slot: Expr) -> Stmt:
        k = step * self.each_stage + self.share.chunk * self.each_chunk
        elements = (self.product.left if isinstance(self, LeftRows) else self.product.right) == "elements"

        def whole(turn: Expr, row: Expr) -> Stmt:
            valid = k < self.product.k if self.ragged else None
            return self.copy(slot, row, tir.load(self.base, turn) + k, valid)

        def single(turn: Expr, row: Expr) -> Stmt:
            def element(j: int) -> tuple[Expr, Expr | None]:
                return tir.load(self.base, turn) + k + j, k + j < self.product.k if self.ragged else None

            return self.gather(slot, row, element)

        return self.share.each(single if elements else whole)


class LeftRows(Rows):
    @property
    def limit(self) -> int:  # type: ignore[override]
        return self.product.m


class RightRows(Rows):
    @property
    def limit(self) -> int:  # type: ignore[override]
        return self.product.n


class Across(Side):
    """The right operand that lies as [k][n]: a row of a stage is one k."""

    def prepare(self) -> Stmt:
        return tir.seq()

    def load(self, step: Expr, slot: Expr) -> Stmt:
        p, column = self.product, self.first + self.share.chunk * self.each_chunk
        narrow = p.n % self.tile.bn != 0

        def whole(turn: Expr, row: Expr) -> Stmt:
            k = step * self.each_stage + row
            n = tirx.min(column, tir.i32(p.n - self.each_chunk)) if narrow else column
            return self.copy(slot, row, self.start + k * p.n + n, k < p.k if self.ragged else None)

        def single(turn: Expr, row: Expr) -> Stmt:
            k = step * self.each_stage + row

            def element(j: int) -> tuple[Expr, Expr | None]:
                inside = column + j < p.n if narrow else None
                if self.ragged:
                    inside = k < p.k if inside is None else tirx.And(inside, k < p.k)
                return self.start + k * p.n + column + j, inside

            return self.gather(slot, row, element)

        return self.share.each(single if p.right == "elements" else whole)


class Windows(Side):
    """The left operand of a convolution: rows are output pixels, K is tap by tap all channels of an input pixel.

    A mask per row has a bit for each row of taps and one for each column of taps, set where it lies inside the image.
    """

    @property
    def padded(self) -> bool:
        w = self._window
        return not all(inside(axis) for axis in (w.height, w.width))

    @property
    def _window(self) -> Any:
        assert self.product.window is not None
        return self.product.window

    def prepare(self) -> Stmt:
        w, p = self._window, self.product

        def one(turn: Expr, row: Expr) -> Stmt:
            at = self.first + row
            if p.m % self.tile.bm:
                at = tirx.min(at, tir.i32(p.m - 1))
            image, y, x = tir.split(at, w.batch, w.height.out, w.width.out)
            top, left = y * w.height.stride - w.height.pad, x * w.width.stride - w.width.pad
            base = ((image * w.height.size + top) * w.width.size + left) * w.channels_in
            done = [tir.store(self.base, base, turn)]
            if self.padded:
                bits = [*_bits(w.height, top, 0), *_bits(w.width, left, w.height.kernel)]
                mask = bits[0]
                for bit in bits[1:]:
                    mask = mask | bit
                done.append(tir.store(self.mask, mask, turn))
            return tir.seq(done)

        return tir.seq(self._alloc, self._alloc_mask if self.padded else None, self.share.each(one))

    def _place(self, step: Expr, offset: Expr) -> tuple[Expr, Expr]:
        """Of an element of K: elements from its row's base, and the bits of the mask that it needs."""
        w, c = self._window, self._window.channels_in
        if c % self.each_stage == 0:  # the tap is the same for all threads
            k, rest = step * self.each_stage, offset
        else:
            k, rest = step * self.each_stage + offset, tir.i32(0)
        tap, channel = tirx.floordiv(k, c), tirx.floormod(k, c) + rest
        y, x = tirx.floordiv(tap, w.width.kernel), tirx.floormod(tap, w.width.kernel)
        delta = (y * (w.height.dilation * w.width.size) + x * w.width.dilation) * c + channel
        one = tir.lit(1, U32)
        need = tir.lit(0, U32)
        if self.padded:
            need = (one << tirx.Cast(U32, y)) | (one << tirx.Cast(U32, x + w.height.kernel))
        if self.ragged:
            past = tirx.Select(k < self.product.k, tir.lit(0, U32), tir.lit(1 << MASK_BITS, U32))
            need = need | past if self.padded else past
        return delta, need

    def load(self, step: Expr, slot: Expr) -> Stmt:
        checked = self.padded or self.ragged
        single = self.product.left == "elements"
        count = self.each_chunk if single else 1
        deltas, alloc = tir.local((count,), I32, "delta")
        needs, alloc_needs = tir.local((count,), U32, "need")
        head: list[Stmt] = [alloc, alloc_needs if checked else None]
        for j in range(count):
            delta, need = self._place(step, self.share.chunk * self.each_chunk + j)
            head.append(tir.store(deltas, delta, j))
            if checked:
                head.append(tir.store(needs, need, j))

        def valid(turn: Expr, j: int) -> Expr | None:
            if not checked:
                return None
            need = tir.load(needs, j)
            return tirx.EQ(tir.load(self.mask, turn) & need, need) if self.padded else tirx.EQ(need, tir.lit(0, U32))

        def place(turn: Expr, j: int) -> Expr:
            return tir.load(self.base, turn) + tir.load(deltas, j)

        def one(turn: Expr, row: Expr) -> Stmt:
            if single:
                return self.gather(slot, row, lambda j: (place(turn, j), valid(turn, j)))
            return self.copy(slot, row, place(turn, 0), valid(turn, 0))

        return tir.seq(head, self.share.each(one))


def inside(axis: Axis) -> bool:
    """Whether no window reaches beyond the axis."""
    return axis.inside(0, 0) and axis.inside(axis.out - 1, axis.kernel - 1)


def _bits(axis: Axis, begin: Expr, first: int) -> list[Expr]:
    found = []
    for tap in range(axis.kernel):
        at = begin + tap * axis.dilation
        there = tirx.And(at >= 0, at < axis.size)
        found.append(tirx.Cast(U32, there) << tir.lit(first + tap, U32))
    return found
