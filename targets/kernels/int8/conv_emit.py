"""TensorIR of dense convolutions of bytes: a tile of output pixels times vectors of output channels stays in registers.

All channels of a pixel lie side by side, so that one row of a window is one stretch of memory where nothing is dilated.
Sums start from the bias. Taps outside the input add nothing where the zero point is 0; else they read the zero point,
and what all taps of it add to an output channel is taken off the bias: once per unit, from sums of the weights. Rows of
taps outside are left out in both cases; then only the rest of it is taken off.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from math import prod
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.layout import physical_shape
from edgec.compiler.op import full_attrs, int_attr
from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..bytes_tail import has_rounding
from ..common import ceil_div
from ..common_emit import Frame, full_or_rest, put, vector
from ..conv.edge_taps import Inside, at_edge, both
from ..conv.places import Tile, flat_type, source, tap_bounds
from ..conv.rows import tile_of
from ..conv.shape import Window
from ..conv.tiles import flat, unit_pixels
from ..conv.units import extent, pixels, place
from .ahead import Ahead
from .conv_finish import finish
from .dot import Step
from .multipliers import widened as widened_multipliers
from .starts import Starts
from .tiles import BLOCK, QUAD, dot_of, steps, stored, widened

I32 = "int32"


class Conv:
    """Emits the tiles of one convolution. `w` is its window (flattened where pixels form one row)."""

    def __init__(
        self, problem: Problem, choice: Choice, w: Window, operands: tuple[Value, Value, Value | None]
    ) -> None:
        self.cpu = problem.target.cpu
        dot = dot_of(self.cpu)
        assert dot is not None
        self.w, self.plan = w, tile_of(choice)
        self.lanes, self.vectors = self.plan.lanes, self.plan.vectors
        self.step = Step(dot, self.lanes)
        self.rounds = has_rounding(choice)
        self.anchor = problem.anchor.results[0]
        self.x, self.weight, bias = operands
        assert bias is not None
        self.bias, self.shift = bias, int_attr(problem.anchor, "shift")
        self.rank = len(self.anchor.shape)
        self.zero = self.zero_of(full_attrs(problem.anchor))
        self.pixel, self.pixel_out = (self.pixel_bytes(t) for t in (self.x.type, problem.body.outputs[0].type))
        self.group = dot.group
        self.groups = ceil_div(w.channels_in // w.group, self.group)
        self.row_steps = steps(w, self.plan) // w.height.kernel  # of a row of taps
        self.rest = 0  # bytes of the last group of a pixel, where these lie in memory without padding
        # The columns of a window follow each other without a gap, in memory as in the weights.
        self.joined = w.width.kernel == 1 or (w.width.dilation == 1 and self.pixel == self.group * self.groups)
        self.ahead = Ahead(w, self.plan, self.row_steps * w.height.kernel, self.width, self.cpu)

    def zero_of(self, attrs: Any) -> int:
        return int(attrs["zero"])

    def pixel_bytes(self, t: Type) -> int:
        """Elements of all channels of a pixel."""
        return prod(physical_shape(t)[self.rank - 1 :])

    def widths(self, channels: int) -> tuple[int, ...]:
        """Channels of each vector of a tile of so many that are computed after the anchor, padding included."""
        narrow = self.pixel_out == QUAD
        return (QUAD if narrow else self.lanes,) * ceil_div(channels, self.lanes)

    def view(self, value: Value) -> Type:
        """The type under which an operand is addressed: pixels in one row where the window is flat."""
        return flat_type(value.type, self.w) if flat(self.w) and self.rank == 4 else value.type

    # -- units ---------------------------------------------------------------------------------------------------

    def buffers(self, frame: Frame) -> list[Stmt]:
        """Statements before all others: operands as rows of elements."""
        places = [*(frame.places[v] for v in (self.x, self.weight, self.bias)), frame.place]
        buffers = [tir.flat(place.buffer) for place in places]
        self.data, self.weights, self.biases, self.out = (buffer for buffer, _ in buffers)
        self.origin = tir.i32(0)  # of the input, the element at which `data` begins
        return [declared for _, declared in buffers]

    def widen(self, frame: Frame, image: Expr, space: Expr) -> Stmt:
        """What a block of pixels reads of the input, copied to scratch in 16 bits; from now on tiles read it there."""
        w, narrow = self.w, self.data
        first, count = extent(w, self.plan, space)
        if flat(w):
            low, high = tir.expr(image) * w.width.size + first, count
        else:
            top = tirx.max(source(w.height, first, 0), 0)
            bottom = tirx.min(source(w.height, first + count - 1, w.height.kernel - 1) + 1, w.height.size)
            low, high = (tir.expr(image) * w.height.size + top) * w.width.size, (bottom - top) * w.width.size
        start, bind = tir.let(low * self.pixel, "start")
        words = tirx.decl_buffer((widened(w, self.plan, self.pixel),), "int16", "words", data=frame.scratch.data)
        self.data, self.origin = words, start

        def copy(i: Expr) -> Stmt:
            return tir.store(words, tirx.Cast("int16", tir.load(narrow, i)), i - start)

        copied = tir.ranged(start, start + high * self.pixel, BLOCK, copy)
        return tir.seq(bind, tirx.DeclBuffer(words, data=frame.scratch.data), copied)

    def unit(self, frame: Frame, image: Expr, tile: Expr, space: Expr) -> Stmt:
        """Full channel tiles, and a narrower one for the channels left over."""
        w, wide = self.w, self.vectors * self.lanes
        outputs, inputs = w.channels_out // w.group, w.channels_in // w.group
        first = tirx.floordiv(tile, ceil_div(outputs, wide)) * inputs if w.group > 1 else tir.i32(0)

        def make(channels: int) -> Stmt:
            widths = self.widths(channels)
            starts = Starts(self, tile, widths)

            def one(rows: list[Any], edge_row: bool, columns: list[Any], edge_column: bool) -> Stmt:
                done = place(w, self.plan, space, rows[0], columns[0])
                if not self.plan.channels_first:
                    done = done + space * unit_pixels(w, self.plan)
                t = Tile(
                    image, rows, columns, widths, tile * wide, self.slice_of(tile), first, edge_row, edge_column, done
                )
                return self.tile(frame, t, starts)

            factors = widened_multipliers(frame, tile * wide, widths, self.lanes)
            return tir.seq(starts.prepare(frame), factors, pixels(self, self.plan, space, one))

        return full_or_rest(tile, outputs, wide, make)

    def slice_of(self, tile: Expr) -> Expr:
        """Number of the slice of weights of a tile of channels."""
        return tile

    def each_line(self, frame: Frame, tile: Expr, kh: Expr, step: Callable[[Expr], Stmt]) -> Stmt:
        """`step(line)` for the weights of a tile of channels in a row of taps, which begin at `line`."""
        first = (self.slice_of(tile) * self.w.height.kernel + kh) * self.row_steps
        return tir.loop(self.row_steps + frame.zero, lambda s: step((first + s) * self.width), "s")

    def addend(self, t: Tile, pixel: int) -> Expr | None:
        """What is added to all sums of a pixel of a tile."""
        return None

    def tile(self, frame: Frame, t: Tile, starts: Starts) -> Stmt:
        """Accumulate and store one tile."""
        acc, alloc = tir.local((len(t.pixels) * len(t.widths) * self.lanes,), I32)
        return tir.seq(alloc, starts.fill(t, acc), self.taps(frame, t, acc), finish(self, frame, t, acc))

    # -- reduction -----------------------------------------------------------------------------------------------

    def taps(self, frame: Frame, t: Tile, acc: tir.Buffer) -> Stmt:
        h = self.w.height
        base, bind = self.base(t)
        if t.edge_row:
            line = partial(self.columns, frame, t, acc, base)
            wide = self.w.width.kernel if t.edge_column else 1
            return tir.seq(bind, at_edge(h, t.rows, line, frame.zero, wide))
        low, high = tir.i32(0), tir.i32(h.kernel)
        if self.row_by_row(t):
            low, high = tap_bounds(h, t.rows[0])
        return tir.seq(bind, tir.loop(high - low, lambda kh: self.columns(frame, t, acc, base, kh), "kh", start=low))

    def row_by_row(self, t: Tile) -> bool:
        """Whether rows of taps may be outside, and which is known when the kernel runs."""
        h = self.w.height
        inside = h.inside(0, 0) and h.inside(h.out - 1, h.kernel - 1)
        return not t.edge_row and len(t.rows) == 1 and not inside

    def base(self, t: Tile) -> tuple[Expr, Stmt | None]:
        """Offset of the first byte that the tile's first pixel reads at the first tap (which may lie outside)."""
        w = self.w
        row = tir.expr(t.image) * w.height.size + source(w.height, t.rows[0], 0)
        offset = (row * w.width.size + source(w.width, t.columns[0], 0)) * self.pixel + t.source
        return tir.let(offset - self.origin, "base")

    def columns(
        self, frame: Frame, t: Tile, acc: tir.Buffer, base: Expr, kh: Expr | int, rows: Inside | None = None
    ) -> Stmt:
        """One row of taps. `rows`: which of the tile's rows are inside; all of them, unless it is at an edge."""
        w, whole = self.w.width, [True] * len(t.columns)
        rows = rows or [True] * len(t.rows)

        def loop(kw: Expr | int, columns: Inside, steps: int = self.groups) -> Stmt | None:
            inside = [both(rows[r], columns[c]) for r, c in t.pixels]
            return self.quad_loop(t, acc, frame.zero, self.tap_at(t, base, kh, kw), inside, steps)

        if t.edge_column:
            return at_edge(w, t.columns, loop, frame.zero, self.w.height.kernel if t.edge_row else 1)
        if self.joined:
            return tir.seq(loop(0, whole, self.row_steps))
        return tir.loop(w.kernel, lambda kw: tir.seq(loop(kw, whole)), "kw")

    def tap_at(self, t: Tile, base: Expr, kh: Expr | int, kw: Expr | int) -> tuple[Expr, Expr]:
        """Where a tap's first input, and its weights, begin."""
        h, w = self.w.height, self.w.width
        tap = base + tir.expr(kh) * (h.dilation * w.size * self.pixel) + tir.expr(kw) * (w.dilation * self.pixel)
        return tap, ((tir.expr(t.weights) * h.kernel + kh) * self.row_steps + tir.expr(kw) * self.groups) * self.width

    def quad_loop(
        self, t: Tile, acc: tir.Buffer, zero: Expr, where: tuple[Expr, Expr], inside: Inside, count: int
    ) -> Stmt | None:
        """`count` steps from a tap on; pixels that are not inside add the zero point, or take no part."""
        h, w = self.w.height, self.w.width
        if not any(inside) and (self.zero == 0 or False not in inside):
            return None
        tap, line = where
        at = [(r * h.stride * w.size + c * w.stride) * self.pixel for r, c in t.pixels]

        def step(s: Expr, some: Callable[[Expr], Expr]) -> Stmt:
            padding = self.step.same(self.zero) if self.zero else None
            numbers = [
                some(tap + s * self.group + offset) if state else padding if state is False else None
                for offset, state in zip(at, inside, strict=True)
            ]
            asked = self.ahead.ask(self.weights, t, line + s * self.width)
            return tir.seq(asked, self.one_step(acc, len(t.widths), line + s * self.width, numbers))

        whole = count - 1 if self.rest else count
        size = sum(map(bool, inside)) * len(t.widths) * self.step.dot.work
        if 1 < whole <= tir.WRITTEN_OUT:  # written out, it would need more registers than there are
            loop = tir.loop(whole + zero, lambda s: step(s, self.some), "s")
        else:
            loop = tir.steps(whole, lambda s: step(s, self.some), "s", size)
        return tir.seq(loop, step(tir.i32(whole), self.fewer) if self.rest else None)

    @property
    def width(self) -> int:
        """Bytes of the weights of one step of a tile."""
        return self.group * self.kept()

    def kept(self) -> int:
        """Output channels of a tile that weights are stored for."""
        return stored(self.w, self.plan)

    def one_step(self, acc: tir.Buffer, vectors: int, line: Expr, numbers: list[Expr | None]) -> Stmt:
        """Add a group of channels of each pixel; None: the pixel is left out."""
        parts: list[Stmt | None] = []
        lines = []
        for v in range(vectors):
            value, bind = tir.let(self.step.line(self.weights_at(line, v)), "w")
            lines.append(value)
            parts.append(bind)
        for p, number in enumerate(numbers):
            if number is None:
                continue
            x, bind = tir.let(self.step.number(number), "x")
            parts.append(bind)
            for v, value in enumerate(lines):
                here = (p * vectors + v) * self.lanes
                parts.append(put(acc, self.step.add(vector(acc, self.lanes, here), x, value), self.lanes, here))
        return tir.seq(parts)

    def weights_at(self, line: Expr, v: int) -> Expr:
        """A vector of weights; channels that none are stored for get those of others."""
        there = self.group * min(self.lanes, self.kept() - v * self.lanes)
        found = vector(self.weights, there, line + v * self.group * self.lanes)
        size = self.group * self.lanes
        if there == size:
            return found
        return tirx.Shuffle([found] * ceil_div(size, there), [tir.i32(i % there) for i in range(size)])

    def some(self, offset: Expr) -> Expr:
        """A group of the input's elements as a number."""
        return tirx.reinterpret(I32, vector(self.data, self.group, offset))

    def fewer(self, offset: Expr) -> Expr:
        """The last `rest` bytes of a pixel, from `offset` on, as a number."""
        if self.w.channels_in >= QUAD:  # the four bytes that end there
            ended = tirx.reinterpret("uint32", self.some(offset - (QUAD - self.rest)))
            return tirx.reinterpret(I32, tirx.shift_right(ended, tir.lit(8 * (QUAD - self.rest), "uint32")))
        parts = [tirx.Cast(I32, tir.load(self.data, offset + i)) << tir.i32(8 * i) for i in range(self.rest)]
        return reduce(tirx.bitwise_or, parts)

    def index(self, t: Tile, v: int, row: Any, column: Any, lane: Expr) -> tuple[Expr, ...]:
        """Of the output, in vector v of a pixel."""
        channel = t.channel + v * self.lanes + lane
        return (t.image, channel, row, column) if self.rank == 4 else (t.image, channel, column)
