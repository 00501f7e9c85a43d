"""What the sums of an integer convolution start from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tvm import tirx

from edgec.targets import tir
from edgec.targets.integer import bias
from edgec.targets.tir import Expr, Stmt

from ..common import ceil_div
from ..common_emit import Frame, put, vector
from ..conv.places import Tile, tap_bounds

if TYPE_CHECKING:
    from .conv_emit import Conv

I32 = "int32"


class Starts:
    """What the sums of a unit start from: the bias, less what the zero point adds through all taps.

    `rows` keeps what it adds through each row of taps, for tiles that leave some out.
    """

    def __init__(self, conv: Conv, tile: Expr, widths: Sequence[int]) -> None:
        """`widths`: of each vector, the channels whose biases are in memory at least."""
        self.conv, self.tile, self.widths, self.vectors = conv, tile, widths, len(widths)
        self.short = conv.bias.type.dtype != "i32"  # widened once, before the tiles
        size = self.vectors * conv.lanes
        self.full, self.alloc = tir.local((size,), I32, "start")
        self.rows, self.alloc_rows = tir.local((conv.w.height.kernel * size,), I32, "row")

    def prepare(self, frame: Frame) -> Stmt:
        """Statements before the tiles of a unit."""
        conv, lanes = self.conv, self.conv.lanes
        start = [put(self.full, self.bias(v), lanes, v * lanes) for v in range(self.vectors)]
        if not conv.zero:
            return tir.seq(self.alloc, start) if self.short else tir.seq()
        acc, alloc = tir.local((self.vectors * lanes,), I32)
        slots = [v * lanes for v in range(self.vectors)]

        def row(kh: Expr) -> Stmt:
            def step(line: Expr) -> Stmt:
                return conv.one_step(acc, self.vectors, line, [conv.step.same(1)])

            done = []
            for slot in slots:
                added = vector(acc, lanes, slot) * tir.broadcast(tir.i32(conv.zero), lanes)
                done.append(put(self.rows, added, lanes, kh * (self.vectors * lanes) + slot))
                done.append(put(self.full, vector(self.full, lanes, slot) - added, lanes, slot))
            zeros = [put(acc, tir.broadcast(tir.i32(0), lanes), lanes, slot) for slot in slots]
            return tir.seq(zeros, conv.each_line(frame, self.tile, kh, step), done)

        rows = tir.loop(conv.w.height.kernel, row, "kh")
        return tir.seq(self.alloc, self.alloc_rows, alloc, start, rows)

    def bias(self, v: int) -> Expr:
        conv = self.conv
        if conv.bias.type.size == 1:
            return tir.broadcast(bias(tir.load(conv.biases, 0), conv.shift), conv.lanes)
        first = (self.tile * conv.vectors + v) * conv.lanes
        there = self.widths[v]
        found = bias(vector(conv.biases, there, first), conv.shift)
        if there == conv.lanes:
            return found
        if there == 1:
            return tir.broadcast(found, conv.lanes)
        # Zeros, not the same again: LLVM does not end with an addition to both halves of a vector that are one load.
        zeros = [tir.broadcast(tir.i32(0), there)] * (ceil_div(conv.lanes, there) - 1)
        return tirx.Shuffle([found, *zeros], [tir.i32(i) for i in range(conv.lanes)])

    def fill(self, t: Tile, acc: tir.Buffer) -> Stmt:
        """Statements that set the sums of a tile."""
        conv, lanes = self.conv, self.conv.lanes
        parts: list[Stmt | None] = []
        addends = [conv.addend(t, p) for p in range(len(t.pixels))]
        for v in range(self.vectors):
            if conv.zero:
                value, bind = self.without_rows(t, v)
            else:
                there = vector(self.full, lanes, v * lanes) if self.short else self.bias(v)
                value, bind = tir.let(there, "bias")
            parts.append(bind)
            for p, more in enumerate(addends):
                total = value if more is None else value + tir.broadcast(more, lanes)
                parts.append(put(acc, total, lanes, (p * self.vectors + v) * lanes))
        return tir.seq(parts)

    def without_rows(self, t: Tile, v: int) -> tuple[Expr, Stmt]:
        """The start of a tile that leaves out rows of taps: what they would add is not taken off."""
        conv, lanes = self.conv, self.conv.lanes
        value = vector(self.full, lanes, v * lanes)
        if not conv.row_by_row(t):
            return tir.let(value, "start")
        low, high = tap_bounds(conv.w.height, t.rows[0])
        here, alloc = tir.local((lanes,), I32, "here")

        def add(kh: Expr) -> Stmt:
            row = vector(self.rows, lanes, kh * (self.vectors * lanes) + v * lanes)
            return put(here, vector(here, lanes, 0) + row, lanes, 0)

        kernel = tir.i32(conv.w.height.kernel)
        low, high = tirx.min(low, kernel), tirx.min(high, kernel)  # windows may lie outside as a whole
        parts = [alloc, put(here, value, lanes, 0), tir.loop(low, add, "kh")]
        parts.append(tir.loop(kernel - high, add, "kh", start=high))
        value, bind = tir.let(vector(here, lanes, 0), "start")
        return value, tir.seq(parts, bind)
