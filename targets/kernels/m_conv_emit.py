"""TensorIR of dense int8 convolutions on Cortex-M: windows of a few pixels are widened, then all channels are computed.

Pixels are counted through the rows of an image, so that only the last tile of an image may be short.
"""

from __future__ import annotations

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from .common import ceil_div
from .common_emit import Frame, emit_kernel
from .conv_emit import flat_type, source, tap_bounds
from .conv_shape import Window
from .m_asm import OPAQUE, at, called, few_widened, filled, imported, opaque, widened, window
from .m_blocks import blocks, dots, plain_rescale
from .m_bytes import STEP, Tile
from .m_conv_rows import FEW, side_by_side, steps_of
from .m_dsp import twice
from .m_tail import bind_rescales, dense

PAIR = 2  # words that four bytes become


class Conv:
    """Emits one kernel; a task is an image."""

    direct = False  # whether data are read as bytes, without scratch

    def __init__(self, problem: Problem, choice: Choice, w: Window, tile: Tile, zero: int) -> None:
        self.problem, self.choice, self.w, self.tile, self.zero = problem, choice, w, tile, zero
        self.x, self.weight, self.bias = problem.anchor.args
        self.anchor = problem.anchor.results[0]
        self.rank = len(self.anchor.shape)
        self.steps = steps_of(w)
        self.few = w.channels_in == 1 or (w.channels_in <= FEW and not self.x.type.layout.endswith("c"))
        self.words = ceil_div(w.channels_in, STEP)  # of a pixel of the input
        self.plain = plain_rescale(problem) if w.channels_out % self.tile.channels == 0 else None
        self.strided = self.tile.pixels * PAIR  # words from a step of a pixel to its next

    def emit(self, symbol: str) -> Emitted:
        scratch = [] if self.direct else [("scratch", "int32", self.steps * self.strided, 0)]
        return emit_kernel(self.problem, self.choice, symbol, self.w.batch, self.task, self.view, scratch, self.around)

    def around(self, frame: Frame, tasks: Stmt) -> Stmt:
        t = self.tile
        if self.plain:
            text = [
                OPAQUE,
                blocks(
                    "m_blocks",
                    t.pixels,
                    t.channels,
                    self.steps,
                    t.unroll,
                    self.plain,
                    self.out_pixel,
                    short=self.short,
                    direct=self.direct,
                ),
            ]
        else:
            text = [OPAQUE, dots("m_dots", t.pixels, t.channels, self.steps, t.unroll)]
        w = self.w
        if self.at_once:
            pitch = w.width.size * w.height.dilation * (w.channels_in if self.few else self.words * STEP)
            channels = w.channels_in if self.few else self.words * STEP
            text.append(window("m_window", self.strided, channels, w.width.kernel, w.height.kernel, pitch))
        if self.padded or not self.at_once:
            if not self.few:
                text.append(widened("m_widened", self.strided, self.words))
            elif self.bytes_joined:
                text.append(few_widened("m_widened", self.strided, w.channels_in, w.width.kernel))
            text.append(filled("m_filled", self.strided))
        return imported("".join(text), tasks)

    @property
    def out_pixel(self) -> int:
        """Bytes from a pixel of the result to the next."""
        return ceil_div(self.w.channels_out, STEP) * STEP

    @property
    def short(self) -> bool:
        """Whether the last tile of an image has fewer pixels."""
        return self.w.pixels % self.tile.pixels > 0

    @property
    def joined(self) -> bool:
        """Whether the columns of a window lie side by side."""
        return self.w.width.dilation == 1

    @property
    def bytes_joined(self) -> bool:
        """Whether the channels of few, and the columns of a window, lie side by side without padding."""
        return self.few and self.joined and side_by_side(self.w, self.x.type.layout)

    @property
    def at_once(self) -> bool:
        """Whether a window inside of the image can be widened by one call."""
        return self.bytes_joined if self.few else self.joined

    @property
    def padded(self) -> bool:
        return any(
            not a.inside(p, t) for a in (self.w.height, self.w.width) for p in (0, a.out - 1) for t in range(a.kernel)
        )

    def view(self, value: Value) -> Type:
        t = value.type
        if value in (self.x, self.weight):
            return t
        return flat_type(dense(t), self.w) if self.rank == 4 and self.w.width.out > 1 else dense(t)

    def index(self, image: Expr, channel: Expr, pixel: Expr) -> tuple[Expr, ...]:
        if self.rank == 3:
            return (image, channel, pixel)
        if self.w.width.out == 1:
            return (image, channel, pixel, tir.i32(0))
        return (image, channel, tir.i32(0), pixel)

    def task(self, frame: Frame, image: Expr) -> Stmt:
        w, wide = self.w, self.tile.pixels
        bind_rescales(frame.body)
        row, column = tir.Cell("int32", "row"), tir.Cell("int32", "column")

        def one(t: Expr) -> Stmt:
            def pixel(p: Expr) -> Stmt:
                move = tir.seq(
                    column.add(1),
                    tir.when(column.now >= w.width.out, tir.seq(column.set(0), row.add(1))),
                )
                work = tir.seq(self.gather(frame, image, row.now, column.now, p), move)
                return tir.when(t * wide + p < w.pixels, work) if w.pixels % wide else work

            gathered = tir.loop(opaque(wide), pixel, "p") if wide > 1 else pixel(tir.i32(0))
            return tir.seq(gathered, self.channels(frame, image, t))

        tiles = ceil_div(w.pixels, wide)
        return tir.seq(row.made, column.made, row.set(0), column.set(0), tir.loop(opaque(tiles), one, "tile"))

    # -- windows -----------------------------------------------------------------------------------------------------

    def gather(self, frame: Frame, image: Expr, row: Expr, column: Expr, p: Expr) -> Stmt:
        """The window of a pixel, widened, into its place in scratch."""
        if not self.at_once:
            return self.by_lines(frame, image, row, column, p)
        w = self.w
        data, declared = tir.flat(frame.places[self.x].buffer)
        y, x = source(w.height, row, 0), source(w.width, column, 0)
        pixel = (image * w.height.size + y) * w.width.size + x
        stored = w.channels_in if self.few else self.words * STEP
        whole = called("m_window", at(data, pixel * stored), at(frame.parts[0], p * PAIR), twice(-self.zero))
        if not self.padded:
            return tir.seq(declared, whole)
        inside: Expr = tir.lit(True, "bool")
        for axis, first in ((w.height, y), (w.width, x)):
            last = axis.size - 1 - (axis.kernel - 1) * axis.dilation
            if axis.pad:
                inside = tirx.And(inside, first >= 0)
            if not axis.inside(axis.out - 1, axis.kernel - 1):
                inside = tirx.And(inside, first <= last)
        return tir.seq(declared, tir.when(inside, whole, self.by_lines(frame, image, row, column, p)))

    def by_lines(self, frame: Frame, image: Expr, row: Expr, column: Expr, p: Expr) -> Stmt:
        """The same row by row, with zeros for what lies outside."""
        low, high = tap_bounds(self.w.width, column) if self.padded else (tir.i32(0), tir.i32(self.w.width.kernel))
        low, bind_low = tir.let(low, "low")
        high, bind_high = tir.let(high, "high")
        each = self.line_few if self.few else self.line

        def line(kh: Expr) -> Stmt:
            y, bind = tir.let(source(self.w.height, row, kh), "y")
            inside = tirx.And(y >= 0, y < self.w.height.size)
            last = tirx.Select(inside, high, low) if self.padded else high
            end, bind_end = tir.let(last, "end")
            begin, bind_begin = tir.let(opaque(low), "begin")
            return tir.seq(bind, bind_begin, bind_end, each(frame, image, y, column, p, kh, begin, end))

        rows = self.w.height.kernel
        lines = tir.loop(opaque(rows), line, "kh") if rows > 1 else line(tir.i32(0))
        return tir.seq(bind_low, bind_high, lines)

    def line(self, frame: Frame, image: Expr, y: Expr, column: Expr, p: Expr, kh: Expr, low: Expr, end: Expr) -> Stmt:
        """A row of a window, columns low .. end of it from memory, the others zeros."""
        w, scratch = self.w, frame.parts[0]
        base = (image * w.height.size + y) * w.width.size
        first = kh * (w.width.kernel * self.words) * self.strided + p * PAIR
        data, declared = tir.flat(frame.places[self.x].buffer)
        by = twice(-self.zero)

        def copied(kw: Expr, count: Expr) -> Stmt:
            place = (base + source(w.width, column, kw)) * (self.words * STEP)
            to = first + kw * (self.words * self.strided)
            return called("m_widened", at(data, place), at(scratch, to), count, by)

        def blank(start: Expr, stop: Expr) -> Stmt:
            to = first + start * (self.words * self.strided)
            return tir.when(start < stop, called("m_filled", at(scratch, to), (stop - start) * self.words))

        if self.joined:
            copy = tir.when(low < end, copied(low, end - low))
        else:
            copy = tir.loop(tirx.max(end - low, 0), lambda k: copied(low + k, tir.i32(1)), "kw")
        if not self.padded:
            return tir.seq(declared, copy)
        return tir.seq(declared, blank(tir.i32(0), low), copy, blank(end, tir.i32(w.width.kernel)))

    def line_few(
        self, frame: Frame, image: Expr, y: Expr, column: Expr, p: Expr, kh: Expr, low: Expr, end: Expr
    ) -> Stmt:
        """The same byte by byte."""
        w, place = self.w, frame.places[self.x]
        halves, declared = tir.section(frame.parts[0], "int16", self.steps * self.strided * 2, 0, "int32")
        across = ceil_div(w.width.kernel, STEP) if w.channels_in == 1 else w.width.kernel

        def where(kw: Expr, c: int) -> Expr:
            lane = kw % STEP if w.channels_in == 1 else tir.i32(c)
            step = kh * across + (kw // STEP if w.channels_in == 1 else kw)
            return (step * self.strided + p * PAIR + lane % 2) * 2 + lane // 2

        def load(kw: Expr, c: int) -> Expr:
            x = source(w.width, column, kw)
            index = (image, tir.i32(c), y, x) if self.rank == 4 else (image, tir.i32(c), x)
            return tirx.Cast("int16", tirx.Cast("int32", place.load(index)) - self.zero)

        def over(start: Expr, count: Expr, value: object) -> Stmt:
            def one(k: Expr) -> Stmt:
                kw = start + k
                return tir.seq(tir.store(halves, value(kw, c), where(kw, c)) for c in range(w.channels_in))  # type: ignore[operator]

            return tir.loop(count, one, "kw")

        def nothing(kw: Expr, c: int) -> Expr:
            return tir.lit(0, "int16")

        copy = over(low, tirx.max(end - low, 0), load)
        slow = (
            tir.seq(over(tir.i32(0), low, nothing), copy, over(end, w.width.kernel - end, nothing))
            if self.padded
            else copy
        )
        if not self.bytes_joined:
            return tir.seq(declared, slow)
        data, declared_data = tir.flat(place.buffer)
        whole = across * self.strided
        to = at(frame.parts[0], kh * whole + p * PAIR)

        def fast(first: Expr, count: Expr) -> Stmt:
            pixel = (image * w.height.size + y) * w.width.size + source(w.width, column, first)
            target = to if w.channels_in == 1 else at(frame.parts[0], kh * whole + first * self.strided + p * PAIR)
            return called("m_widened", at(data, pixel * w.channels_in), target, count, twice(-self.zero))

        heads = [declared, declared_data]
        if not self.padded:
            return tir.seq(heads, fast(tir.i32(0), tir.i32(w.width.kernel)))

        def blank(start: Expr, stop: Expr) -> Stmt:
            place = at(frame.parts[0], kh * whole + start * self.strided + p * PAIR)
            return tir.when(start < stop, called("m_filled", place, stop - start))

        if w.channels_in > 1:
            some = tir.when(low < end, fast(low, end - low))
            return tir.seq(heads, blank(tir.i32(0), low), some, blank(end, tir.i32(w.width.kernel)))
        inside = tirx.And(low.equal(0), end.equal(w.width.kernel))
        nothing_here = called("m_filled", to, tir.i32(across))
        return tir.seq(heads, tir.when(inside, fast(tir.i32(0), tir.i32(1)), tir.when(low >= end, nothing_here, slow)))

    # -- sums --------------------------------------------------------------------------------------------------------

    def channels(self, frame: Frame, image: Expr, t: Expr) -> Stmt:
        w, tile = self.w, self.tile
        data, declared = tir.flat(frame.places[self.weight].buffer)
        size = self.steps * STEP * tile.channels
        if self.plain:
            return tir.seq(declared, self.all_channels(frame, image, t, data, size * (w.channels_out // tile.channels)))

        full, rest = divmod(w.channels_out, tile.channels)
        parts: list[Stmt] = [declared]
        if full:
            parts.append(
                tir.loop(opaque(full), lambda b: self.block(frame, image, t, b, tile.channels, data, size), "block")
            )
        if rest:
            parts.append(self.block(frame, image, t, tir.i32(full), rest, data, size))
        return tir.seq(parts)

    def all_channels(self, frame: Frame, image: Expr, t: Expr, data: Buffer, size: int) -> Stmt:
        """Where only a Rescale follows."""
        assert self.plain is not None
        scratch, wide, total = frame.parts[0], self.tile.pixels, self.w.pixels
        out, declared = tir.flat(frame.place.buffer)
        pixel = image * total + t * wide
        left = total - t * wide
        offsets = (
            [tirx.Select(left > p, tir.i32(p * self.out_pixel), tir.i32(0)) for p in range(1, wide)]
            if self.short
            else []
        )
        flat = [tir.flat(frame.places[v].buffer) for v in (self.bias, self.plain.factors) if v]
        return tir.seq(declared, [d for _, d in flat], called(
            "m_blocks", at(data, 0), at(data, size), at(scratch, 0), at(scratch, self.steps * self.strided),
            *(at(b, 0) for b, _ in flat), at(out, pixel * self.out_pixel), *offsets,
        ))  # fmt: skip

    def block(self, frame: Frame, image: Expr, t: Expr, block: Expr, count: int, data: Buffer, size: int) -> Stmt:
        """The sums of some channels, and what follows them."""
        wide, many = self.tile.pixels, self.tile.channels
        sums, alloc = tir.local((wide * many,), "int32", "sums")
        first = block * many
        start: list[Stmt] = []
        for c in range(many):
            channel = first + min(c, count - 1)
            bias = frame.body.at(self.bias, (channel if self.bias.shape[0] > 1 else tir.i32(0),))
            value, bind = tir.let(bias, "bias")
            start += [bind, *(tir.store(sums, value, p * many + c) for p in range(wide))]
        weights = at(data, block * size)
        ends = at(frame.parts[0], self.steps * self.strided)
        loop = [ends] if self.steps // self.tile.unroll > 1 else []
        run = called("m_dots", at(sums, 0), weights, at(frame.parts[0], 0), *loop)
        return tir.seq(alloc, start, run, [self.finish(frame, image, t, first, count, sums, p) for p in range(wide)])

    def finish(self, frame: Frame, image: Expr, t: Expr, first: Expr, count: int, sums: Buffer, p: int) -> Stmt:
        wide, many = self.tile.pixels, self.tile.channels
        pixel = t * wide + p
        parts = []
        for c in range(count):
            value = tir.load(sums, p * many + c)
            frame.body.bind(self.anchor, lambda _, value=value: value)
            parts.append(frame.store(self.index(image, first + c, pixel)))
        whole = tir.seq(parts)
        return tir.when(pixel < self.w.pixels, whole) if p and self.w.pixels % wide else whole
