"""TensorIR of dense f32 kernels on Cortex-M with an FPU."""

from __future__ import annotations

from tvm import tirx

from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from ...common_emit import Frame
from ...conv.places import source
from ..asm import OPAQUE, STAY, at, called, imported, opaque, stay
from ..conv_emit import Conv
from ..move_asm import copied, copied_by_table
from ..sums_asm import float_dots
from .rows import SIZE, direct, long_code, tile_of, window_of


class Floats(Conv):
    """Emits one kernel; a task is an image."""

    element = "float32"

    def __init__(self, problem: Problem, choice: Choice) -> None:
        w = window_of(problem)
        super().__init__(problem, choice, w, tile_of(w, problem.target.small), 0)
        self.direct = direct(problem)
        self.steps, self.plain, self.strided, self.few = w.taps * w.channels_in, None, self.tile.pixels, False
        self.words, self.stored = w.channels_in, w.channels_in * w.group  # of f32

    def around(self, frame: Frame, tasks: Stmt) -> Stmt:
        w = self.w
        pitch = w.width.size * w.height.dilation * self.stored * 4
        shared = self.numbers.shared
        text = [OPAQUE, STAY, float_dots("m_dots", self.tile.pixels, SIZE, self.steps, self.tile.unroll, shared)]
        if shared:
            text.append(copied_by_table("m_window", self.strided, w.channels_in, self.most))
        elif self.at_once and not self.direct:
            taps, skipped = (w.width.kernel, self.stored - w.channels_in) if w.group > 1 else (1, 0)
            words = w.channels_in * (1 if skipped else w.width.kernel)
            text.append(copied("m_window", self.strided, words, w.height.kernel, pitch, self.most, taps, skipped * 4))
        return imported("".join(text), tasks)

    @property
    def block_size(self) -> int:
        return self.steps * SIZE

    def gather(self, frame: Frame, image: Expr, row: Expr, column: Expr, p: Expr) -> Stmt:
        return tir.seq() if self.direct else super().gather(frame, image, row, column, p)

    def whole_window(self, frame: Frame, pixel: Expr, p: Expr) -> Stmt:
        data, declared = tir.flat(frame.places[self.x].buffer)
        more = [self.numbers("words", self.w.channels_in // self.most)] if self.numbers.shared else []
        begin = at(data, pixel * self.numbers("channels", self.stored) + self.lead)
        return tir.seq(declared, called("m_window", begin, at(frame.parts[0], p), *more))

    def put(self, frame: Frame, image: Expr, channel: Expr, pixel: Expr) -> Stmt:
        if not self.numbers.shared:
            return super().put(frame, image, channel, pixel)
        out, declared = tir.flat(frame.place.buffer)
        value = frame.body.at(frame.out, self.index(image, channel, pixel))
        return tir.seq(declared, tir.store(out, value, pixel * self.numbers("out", self.w.channels_out) + channel))

    def by_lines(self, frame: Frame, image: Expr, row: Expr, column: Expr, p: Expr) -> Stmt:
        w, place, scratch = self.w, frame.places[self.x], frame.parts[0]

        def tap(kh: Expr, kw: Expr) -> Stmt:
            y, bind_y = tir.let(source(w.height, row, kh), "y")
            x, bind_x = tir.let(source(w.width, column, kw), "x")
            inside = tirx.And(tirx.And(y >= 0, y < w.height.size), tirx.And(x >= 0, x < w.width.size))
            first, bind = tir.let((kh * w.width.kernel + kw) * (w.channels_in * self.strided) + p, "first")

            def channel(c: Expr) -> Stmt:
                value = place.load((image, self.lead + c, y, x) if self.rank == 4 else (image, self.lead + c, x))
                return tir.seq(stay(), tir.store(scratch, value, first + c * self.strided))

            def nothing(c: Expr) -> Stmt:
                return tir.seq(stay(), tir.store(scratch, tir.lit(0.0, "float32"), first + c * self.strided))

            full, empty = (tir.loop(opaque(w.channels_in), f, "c") for f in (channel, nothing))
            return tir.seq(bind_y, bind_x, bind, tir.when(inside, full, empty))

        def line(kh: Expr) -> Stmt:
            return tir.loop(opaque(w.width.kernel), lambda kw: tap(kh, kw), "kw")

        return tir.loop(opaque(w.height.kernel), line, "kh")

    def block(self, frame: Frame, image: Expr, t: Expr, block: Expr, count: int, data: Buffer, size: int) -> Stmt:
        wide = self.tile.pixels
        sums, alloc = tir.local((wide * SIZE,), "float32", "sums")
        start: list[Stmt] = []
        for c in range(SIZE):
            value, bind = tir.let(self.first(frame, block * SIZE + min(c, count - 1)), "bias")
            start += [bind, *(tir.store(sums, value, p * SIZE + c) for p in range(wide))]
        x, declared = tir.flat(frame.places[self.x].buffer) if self.direct else (frame.parts[0], None)
        more = [self.numbers("turns", self.steps // self.tile.unroll)] if self.numbers.shared else []
        run = called("m_dots", at(sums, 0), at(data, block * self.numbers("block", size)), at(x, 0), *more)
        return tir.seq(alloc, declared, start, run, self.finish_all(frame, image, t, block * SIZE, count, sums))

    def finish_all(self, frame: Frame, image: Expr, t: Expr, first: Expr, count: int, sums: Buffer) -> Stmt:
        """What follows all sums of a block."""
        wide = self.tile.pixels
        if not long_code(self.problem):
            return tir.seq(self.finish(frame, image, t, first, count, sums, p) for p in range(wide))

        def pixel(p: Expr) -> Stmt:
            def channel(c: Expr) -> Stmt:
                frame.body.bind(self.anchor, lambda _: tir.load(sums, p * SIZE + c))
                return self.put(frame, image, first + c, t * wide + p)

            return tir.loop(opaque(count), channel, "c")

        pixels = tirx.min(self.numbers("pixels", self.w.pixels) - t * wide, wide) if self.short else wide
        return tir.loop(opaque(pixels), pixel, "p")
