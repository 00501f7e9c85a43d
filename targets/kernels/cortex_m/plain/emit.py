"""TensorIR of dense int8 kernels on Cortex-M without the DSP extension."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from ...common_emit import Frame
from ...conv.places import source
from ..asm import OPAQUE, STAY, at, called, imported, opaque, stay
from ..conv_emit import Conv
from ..sums_asm import raw_sums
from .rows import steps_of, tile_of, window_of


class Plain(Conv):
    """Emits one kernel; a task is an image."""

    def __init__(self, problem: Problem, choice: Choice) -> None:
        w = window_of(problem)
        attrs: Any = full_attrs(problem.anchor)
        super().__init__(
            problem, choice, w, tile_of(w, problem.target.small), int(attrs.get("zero", attrs.get("a_zero", 0)))
        )
        self.steps, self.plain, self.strided = steps_of(w), None, self.tile.pixels

    @property
    def in_line(self) -> bool:
        return False

    def around(self, frame: Frame, tasks: Stmt) -> Stmt:
        text = [OPAQUE, STAY, raw_sums("m_sums", self.tile.pixels, self.tile.unroll)]
        return imported("".join(text), tasks)

    def gather(self, frame: Frame, image: Expr, row: Expr, column: Expr, p: Expr) -> Stmt:
        w, place, scratch = self.w, frame.places[self.x], frame.parts[0]
        if self.product:
            data, declared = tir.flat(place.buffer)

            def one(k: Expr) -> Stmt:
                value = tirx.Cast("int32", tir.load(data, column * w.channels_in + k)) - self.zero
                return tir.seq(stay(), tir.store(scratch, value, k * self.strided + p))

            return tir.seq(declared, tir.loop(opaque(w.channels_in), one, "k"))

        def tap(kh: Expr, kw: Expr) -> Stmt:
            y, bind_y = tir.let(source(w.height, row, kh), "y")
            x, bind_x = tir.let(source(w.width, column, kw), "x")
            first, bind = tir.let((kh * w.width.kernel + kw) * (w.channels_in * self.strided) + p, "first")

            def put(value: Any) -> Stmt:
                def one(c: Expr) -> Stmt:
                    return tir.seq(stay(), tir.store(scratch, value(c), first + c * self.strided))

                return tir.loop(opaque(w.channels_in), one, "c") if w.channels_in > 1 else one(tir.i32(0))

            def load(c: Expr) -> Expr:
                index = (image, c, y, x) if self.rank == 4 else (image, c, x)
                return tirx.Cast("int32", place.load(index)) - self.zero

            copy = put(load)
            if self.padded:
                inside = tirx.And(tirx.And(y >= 0, y < w.height.size), tirx.And(x >= 0, x < w.width.size))
                copy = tir.when(inside, copy, put(lambda c: tir.i32(0)))
            return tir.seq(bind_y, bind_x, bind, copy)

        def line(kh: Expr) -> Stmt:
            return tir.loop(opaque(w.width.kernel), lambda kw: tap(kh, kw), "kw")

        return tir.loop(opaque(w.height.kernel), line, "kh")

    def block(self, frame: Frame, image: Expr, t: Expr, block: Expr, count: int, data: Buffer, size: int) -> Stmt:
        wide = self.tile.pixels
        sums, alloc = tir.local((wide,), "int32", "sums")
        bias = self.first(frame, block)
        run = called(
            "m_sums", at(sums, 0), at(data, (block + 1) * self.steps), at(frame.parts[0], 0), bias, tir.i32(-self.steps)
        )

        def one(p: Expr) -> Stmt:
            frame.body.bind(self.anchor, lambda _: tir.load(sums, p))
            pixel = t * wide + p
            return frame.store(self.index(image, block, pixel))

        left = tirx.min(tir.i32(wide), self.w.pixels - t * wide) if self.w.pixels % wide else tir.i32(wide)
        return tir.seq(alloc, run, tir.loop(opaque(left), lambda p: tir.seq(stay(), one(p)), "p"))
