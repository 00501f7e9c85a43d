"""TensorIR of Winograd convolutions of bytes: tiles and filters into scratch in 16 bits, a matrix product per position.

Scratch of one worker: transformed inputs [position][tile][channel] and filters [position][pair of channels][vector]
[lane][channel of the pair], products [tile][position][vector][lane], and where a reduction has several slices the
outputs of those before, [tile][row][column][vector][lane].
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common import ceil_div
from ..common_emit import Frame, chunked, emit_kernel, full_or_rest, put, stretch, vector
from ..conv.shape import Window
from .conv_emit import I32, Conv
from .multipliers import widened as widened_multipliers
from .starts import Starts
from .tiles import BLOCK
from .winograd_arithmetic import Words, Wrapping
from .winograd_outputs import Place, clear, output_tile
from .winograd_rows import VECTORS, of_slice, plan_of, slices, tiles
from .winograd_transform import OUT, POSITIONS, SIDE, TAPS, filters, inputs

WORD = "int16"


class Winograd(Conv):
    """A task is one part of the output channels of one block of tiles."""

    def __init__(
        self, problem: Problem, choice: Choice, w: Window, operands: tuple[Value, Value, Value | None]
    ) -> None:
        super().__init__(problem, choice, w, operands)
        self.cut = plan_of(choice)
        self.across = ceil_div(w.width.out, OUT)  # tiles in a row
        self.wide = VECTORS * self.lanes
        self.pairs = ceil_div(w.channels_in, self.group)
        self.in_slice = of_slice(w) // self.group  # pairs of channels
        self.slices = slices(w)
        self.row = self.wide * OUT  # sums of a row of a tile

    def zero_of(self, attrs: Any) -> int:
        """Of what sums start from: nothing, since the zero point is taken off the input."""
        self.offset = int(attrs["zero"])
        return 0

    def emit(self, problem: Problem, choice: Choice, symbol: str) -> Emitted:
        blocks, parts, total = self.cut.blocks(self.w), self.cut.parts, tiles(self.w)

        def task(frame: Frame, number: Expr) -> Stmt:
            image, block, part = tir.split(number, self.w.batch, blocks, parts)
            declared = self.buffers(frame)
            self.inputs, self.filters, self.products, *self.waiting = frame.parts
            first, bind = tir.let(block * self.cut.block, "first")
            even = total % self.cut.block == 0
            count = tir.i32(self.cut.block) if even else tirx.min(tir.i32(self.cut.block), total - first)
            return tir.seq(
                declared,
                bind,
                tir.loop(count, lambda t: self.input_tile(frame, image, first + t, t), "t"),
                self.channels(frame, image, part, first, count),
            )

        scratch = self.cut.scratch(self.w, self.lanes)
        return emit_kernel(problem, choice, symbol, self.w.batch * blocks * parts, task, parts=scratch)

    def corner(self, tile: Expr) -> tuple[Expr, Expr]:
        """Output row and column of a tile's first pixel."""
        return tirx.floordiv(tile, self.across) * OUT, tirx.floormod(tile, self.across) * OUT

    # -- inputs --------------------------------------------------------------------------------------------------

    def input_tile(self, frame: Frame, image: Expr, tile: Expr, t: Expr) -> Stmt:
        """B^T d B of one tile, all channels: columns first, then rows."""
        height, width = self.w.height, self.w.width
        row, column = self.corner(tile)
        top, bind_top = tir.let(row - height.pad, "top")
        left, bind_left = tir.let(column - width.pad, "left")
        inside = tirx.all(top >= 0, top + SIDE <= height.size, left >= 0, left + SIDE <= width.size)
        each, position = self.cut.inputs(self.w)

        def block(cb: Expr) -> Stmt:
            stage, alloc = tir.local((POSITIONS * BLOCK,), WORD, "stage")

            def columns(guarded: bool) -> Stmt:
                def one(j: Expr) -> Stmt:
                    on = Words(BLOCK)
                    d = [self.source(on, image, top + i, left + j, cb, guarded) for i in range(SIDE)]
                    done = inputs(on, d)
                    return tir.seq(on.parts, [put(stage, x, BLOCK, (i * SIDE + j) * BLOCK) for i, x in enumerate(done)])

                return tir.loop(SIDE + frame.zero, one, "j")

            def rows(i: Expr) -> Stmt:
                on = Words(BLOCK)
                done = inputs(on, [on.named(vector(stage, BLOCK, (i * SIDE + j) * BLOCK)) for j in range(SIDE)])
                to = t * each + cb * BLOCK
                return tir.seq(
                    on.parts, [put(self.inputs, x, BLOCK, (i * SIDE + j) * position + to) for j, x in enumerate(done)]
                )

            down = tir.when(inside, columns(False), columns(True))
            return tir.seq(alloc, down, tir.loop(SIDE + frame.zero, rows, "i"))

        return tir.seq(bind_top, bind_left, tir.loop(each // BLOCK, block, "cb"))

    def source(self, on: Words, image: Expr, row: Expr, column: Expr, cb: Expr, guarded: bool) -> Expr:
        """A block of channels of a pixel, less the zero point; `guarded`: nothing, where it is outside."""
        height, width = self.w.height.size, self.w.width.size
        there = tirx.all(row >= 0, row < height, column >= 0, column < width)
        if guarded:
            row, column = (tirx.max(tirx.min(p, n - 1), 0) for p, n in ((row, height), (column, width)))
        at = ((tir.expr(image) * height + row) * width + column) * self.pixel + cb * BLOCK
        x = on.named(tirx.Cast(on.kind, vector(self.data, BLOCK, at)))
        if self.offset:
            x = on.subtract(x, on.same(self.offset))
        if guarded:
            kept = tirx.Select(there, tir.lit(-1, WORD), tir.lit(0, WORD))
            x = on.named(tirx.bitwise_and(x, tir.broadcast(kept, BLOCK)))
        return x

    # -- channels ------------------------------------------------------------------------------------------------

    def channels(self, frame: Frame, image: Expr, part: Expr, first: Expr, count: Expr) -> Stmt:
        """The products and outputs of the output channels of one part."""
        total = ceil_div(self.w.channels_out, self.wide)

        def block(ob: Expr) -> Stmt:
            def make(channels: int) -> Stmt:
                widths = self.widths(channels)
                starts = Starts(self, ob, widths)
                factors = widened_multipliers(frame, ob * self.wide, widths, self.lanes)

                def outputs(t: Expr, last: bool) -> Stmt:
                    row, column = self.corner(first + t)
                    return output_tile(self, frame, Place(image, ob, row, column, t), starts, last)

                def one(k: Expr, last: bool) -> Stmt:
                    return tir.seq(
                        self.slice(frame, ob, k, len(widths), count),
                        tir.loop(count, lambda t: outputs(t, last), "t"),
                    )

                many = self.slices - 1
                before = tir.loop(many, lambda k: one(k, False), "slice") if many else None
                return tir.seq(starts.prepare(frame), factors, clear(self, count), before, one(tir.i32(many), True))

            return full_or_rest(ob, self.w.channels_out, self.wide, make)

        return chunked(total, ceil_div(total, self.cut.parts), part, block)

    def slice(self, frame: Frame, ob: Expr, k: Expr, vectors: int, count: Expr) -> Stmt:
        """Products of all tiles with the filters of one slice of the reduction."""
        begin, pairs = stretch(k, self.in_slice, self.pairs)
        full, rest = divmod(self.cut.block, self.cut.rows)
        groups = tirx.floordiv(count + (self.cut.rows - 1), self.cut.rows) if not rest else tir.i32(full)

        def position(p: Expr) -> Stmt:
            def some(t: Expr, rows: int) -> Stmt:
                return self.register_tile(frame, p, begin, pairs, t, rows, vectors)

            return tir.seq(
                tir.loop(groups, lambda g: some(g * self.cut.rows, self.cut.rows), "g"),
                some(tir.i32(full * self.cut.rows), rest) if rest else None,
            )

        return tir.seq(
            tir.loop(pairs, lambda s: self.filter_pair(ob, begin, s, vectors), "s"),
            tir.loop(POSITIONS, position, "p"),
        )

    def filter_pair(self, ob: Expr, begin: Expr, s: Expr, vectors: int) -> Stmt:
        """G g G^T of the filters of two input channels."""
        size, stride = self.group * self.lanes, self.cut.filters(self.w, self.lanes)
        parts: list[Stmt] = []
        for v in range(vectors):
            on = Words(size)

            def tap(kh: int, kw: int, v: int = v, on: Words = on) -> Expr:
                step = ((ob * TAPS + kh) * TAPS + kw) * self.pairs + begin + s
                return on.named(self.step.line(vector(self.weights, size, (step * VECTORS + v) * size)))

            columns = [filters(on, [tap(kh, kw) for kh in range(TAPS)]) for kw in range(TAPS)]
            for i in range(SIDE):
                for j, x in enumerate(filters(on, [column[i] for column in columns])):
                    on.parts.append(put(self.filters, x, size, (i * SIDE + j) * stride + (s * VECTORS + v) * size))
            parts += on.parts
        return tir.seq(parts)

    def register_tile(
        self, frame: Frame, position: Expr, begin: Expr, pairs: Expr, t: Expr, rows: int, vectors: int
    ) -> Stmt:
        """[tiles, pairs of channels] x [pairs, output channels] of one position."""
        each, stride = self.cut.inputs(self.w)
        acc, alloc = tir.local((rows * vectors * self.lanes,), I32)
        slots = [(r, v, (r * vectors + v) * self.lanes) for r in range(rows) for v in range(vectors)]
        on, size = Wrapping(self.lanes), self.group * self.lanes
        base, bind = tir.let(position * stride + t * each + begin * self.group, "base")
        lines, bind_lines = tir.let(position * self.cut.filters(self.w, self.lanes), "lines")

        def step(s: Expr) -> Stmt:
            on.parts = []
            at = [lines + (s * VECTORS + v) * size for v in range(vectors)]
            w = [on.named(vector(self.filters, size, first)) for first in at]
            for r in range(rows):
                two = vector(self.inputs, self.group, base + r * each + s * self.group)
                x = on.named(self.step.number(tirx.reinterpret(I32, two)))
                for v in range(vectors):
                    slot = (r * vectors + v) * self.lanes
                    more = on.add(vector(acc, self.lanes, slot), self.step.product(x, w[v]))
                    on.parts.append(put(acc, more, self.lanes, slot))
            return tir.seq(on.parts)

        stride_out = self.cut.products(self.lanes)
        to = t * stride_out + position * self.wide
        return tir.seq(
            bind,
            bind_lines,
            alloc,
            [put(acc, tir.broadcast(tir.i32(0), self.lanes), self.lanes, slot) for _, _, slot in slots],
            tir.loop(pairs + frame.zero, step, "pair"),
            [
                put(self.products, vector(acc, self.lanes, slot), self.lanes, to + r * stride_out + v * self.lanes)
                for r, v, slot in slots
            ],
        )
