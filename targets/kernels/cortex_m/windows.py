"""How dense kernels on Cortex-M bring windows into scratch: at once inside of the image, elsewhere row by row."""

from __future__ import annotations

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common import ceil_div
from ..common_emit import Frame, Numbers
from ..conv.places import source, tap_bounds
from ..conv.shape import Window
from .asm import at, called, opaque, twice
from .bytes import STEP, largest
from .conv_rows import side_by_side

MOST_WORDS = 16  # of a group of channels, which are written out
PAIR = 2  # words that four bytes become


class Windows:
    """What is known of the data.

    `few` channels are read byte by byte at edges; `words` of four bytes make a pixel; steps of a pixel lie `strided`
    words apart in scratch. A pixel of all groups is `stored` bytes.
    """

    w: Window
    x: Value
    rank: int
    zero: int
    steps: int
    few: bool
    words: int
    strided: int
    stored: int
    group: Expr  # number of the group of channels
    small: bool  # whether all windows are brought row by row where some must be
    numbers: Numbers
    most: int  # words that one turn of a loop brings into scratch, at most

    @property
    def lead(self) -> Expr:
        """Where the group's channels begin in a pixel."""
        return self.group * self.w.channels_in

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
        """Whether a window inside of the image is widened by one call."""
        if self.small and self.padded:
            return False
        if self.w.group > 1 and self.words > MOST_WORDS:
            return False
        return self.bytes_joined if self.few else self.joined

    @property
    def padded(self) -> bool:
        return any(
            not a.inside(p, t) for a in (self.w.height, self.w.width) for p in (0, a.out - 1) for t in range(a.kernel)
        )

    def gather(self, frame: Frame, image: Expr, row: Expr, column: Expr, p: Expr) -> Stmt:
        """The window of a pixel, widened, into its place in scratch."""
        if not self.at_once:
            return self.by_lines(frame, image, row, column, p)
        w = self.w
        y, x = source(w.height, row, 0), source(w.width, column, 0)
        whole = self.whole_window(frame, self.pixel_of(image, y) + x, p)
        if not self.padded:
            return whole
        inside: Expr = tir.lit(True, "bool")
        for name, axis, first in (("last_row", w.height, y), ("last_column", w.width, x)):
            last = axis.size - 1 - (axis.kernel - 1) * axis.dilation
            if axis.pad:
                inside = tirx.And(inside, first >= 0)
            if not axis.inside(axis.out - 1, axis.kernel - 1):
                inside = tirx.And(inside, first <= self.numbers(name, last))
        return tir.when(inside, whole, self.by_lines(frame, image, row, column, p))

    def whole_window(self, frame: Frame, pixel: Expr, p: Expr) -> Stmt:
        """The window that begins at a pixel, all of it inside of the image."""
        data, declared = tir.flat(frame.places[self.x].buffer)
        to = at(frame.parts[0], p * PAIR)
        stored, more = self.numbers("stored", self.stored), []
        if self.numbers.shared:
            w, words = self.w, self.w.width.kernel * (min(self.stored, self.words * STEP) // STEP)
            if words >= 2 * self.most:
                more.append(self.numbers("words", words // self.most))
            if w.height.kernel > 1:
                pitch = w.width.size * w.height.dilation * self.stored
                more.append(self.numbers("to_next_row", pitch - words * STEP))
        return tir.seq(declared, called("m_window", at(data, pixel * stored + self.lead), to, self.by, *more))

    @property
    def by(self) -> Expr:
        """What is added to bytes as they are widened, in both halves of a word."""
        return self.numbers("by", twice(-self.zero).value)

    def pixel_of(self, image: Expr, y: Expr) -> Expr:
        """The number of a row's first pixel."""
        w = self.w
        if w.batch == 1:
            return y * self.numbers("width", w.width.size)
        return (image * self.numbers("height", w.height.size) + y) * self.numbers("width", w.width.size)

    def by_lines(self, frame: Frame, image: Expr, row: Expr, column: Expr, p: Expr) -> Stmt:
        """The same row by row, with zeros for what lies outside."""
        size = self.numbers("width", self.w.width.size)
        low, high = (
            tap_bounds(self.w.width, column, size) if self.padded else (tir.i32(0), tir.i32(self.w.width.kernel))
        )
        low, bind_low = tir.let(low, "low")
        high, bind_high = tir.let(high, "high")
        each = self.line_few if self.few else self.line

        def line(kh: Expr) -> Stmt:
            y, bind = tir.let(source(self.w.height, row, kh), "y")
            inside = tirx.And(y >= 0, y < self.numbers("height", self.w.height.size))
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
        base, words = self.pixel_of(image, y), self.numbers("pixel_words", self.words)
        first = kh * (words * w.width.kernel) * self.strided + p * PAIR
        data, declared = tir.flat(frame.places[self.x].buffer)
        if self.numbers.shared:
            turns = self.numbers("pixel_turns", self.words // largest(self.words, self.most))

        def copied(kw: Expr, count: Expr) -> Stmt:
            place = (base + source(w.width, column, kw)) * self.numbers("stored", self.stored) + self.lead
            to = first + kw * (words * self.strided)
            many = count * turns if self.numbers.shared else count
            return called("m_widened", at(data, place), at(scratch, to), many, self.by)

        def blank(start: Expr, stop: Expr) -> Stmt:
            to = first + start * (words * self.strided)
            return tir.when(start < stop, called("m_filled", at(scratch, to), (stop - start) * words))

        if self.joined and w.group == 1:
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
