"""TensorIR of sums and maxima of bytes over windows on Helium: pixel by pixel, all channels of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tvm import tirx

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from ...common import ceil_div
from ...common_emit import Frame, emit_kernel, put, vector
from ...conv.shape import Window
from .pool_rows import whole_vectors
from .shape import BYTES, QUAD, stored_channels
from .vector import store_four
from .window import bounds


@dataclass(frozen=True)
class Taps:
    """Those of a pixel's window that lie inside: rows `low` .. `high`, columns `first` .. `last`."""

    data: Buffer
    place: Callable[[Expr, Expr], Expr]  # of the first channel under a tap
    low: Expr
    high: Expr
    first: Expr
    last: Expr

    def loop(self, tap: Callable[[Expr, Expr], Stmt]) -> Stmt:
        def line(kh: Expr) -> Stmt:
            return tir.loop(self.last - self.first, lambda kw: tap(kh, kw), "kw", start=self.first)

        return tir.loop(self.high - self.low, line, "kh", start=self.low)


class Pool:
    def __init__(self, problem: Problem, choice: Choice, w: Window) -> None:
        self.problem, self.choice, self.w = problem, choice, w
        self.x, self.anchor = problem.anchor.args[0], problem.anchor.results[0]
        self.stored, self.greatest = stored_channels(self.x.type), problem.anchor.op == "MaxPool"
        attrs: Any = full_attrs(problem.anchor)
        self.zero = int(attrs.get("zero", 0))

    def emit(self, symbol: str) -> Emitted:
        return emit_kernel(self.problem, self.choice, symbol, 1, self.task)

    def task(self, frame: Frame, number: Expr) -> Stmt:
        w = self.w

        def one(n: Expr) -> Stmt:
            image, row, column = tir.split(n, w.batch, w.height.out, w.width.out)
            return self.pixel(frame, image if w.batch > 1 else tir.i32(0), row, column)

        return tir.loop(w.batch * w.pixels + frame.zero, one, "pixel")

    def pixel(self, frame: Frame, image: Expr, row: Expr, column: Expr) -> Stmt:
        w = self.w
        data, declared = tir.flat(frame.places[self.x].buffer)
        top, left = row * w.height.stride - w.height.pad, column * w.width.stride - w.width.pad
        ends = [tir.let(tir.expr(v), "bound") for v in (*bounds(w.height, top), *bounds(w.width, left))]

        def place(kh: Expr, kw: Expr) -> Expr:
            line = (image * w.height.size + (top + kh * w.height.dilation)) * w.width.size
            return (line + (left + kw * w.width.dilation)) * self.stored

        low, high, first, last = (name for name, _ in ends)
        taps = Taps(data, place, low, high, first, last)
        if whole_vectors(self.problem):
            target = ((image * w.height.out + row) * w.width.out + column) * self.stored
            count, some = ceil_div(self.stored, BYTES), partial(self.sixteen, frame, taps, target)
        else:
            count, some = ceil_div(w.channels_out, QUAD), partial(self.four, frame, taps, (image, row, column))
        blocks = tir.loop(count + frame.zero, some, "block")
        return tir.seq(declared, [bind for _, bind in ends], blocks)

    def four(self, frame: Frame, taps: Taps, at: tuple[Expr, Expr, Expr], q: Expr) -> Stmt:
        """Four channels in 32 bits, and what follows them."""
        acc, alloc = tir.local((QUAD,), "int32")
        image, *spatial = at if len(self.anchor.shape) == 4 else (at[0], at[2])

        def tap(kh: Expr, kw: Expr) -> Stmt:
            value = tirx.Cast(f"int32x{QUAD}", vector(taps.data, QUAD, taps.place(kh, kw) + q * QUAD))
            now = vector(acc, QUAD, 0)
            return put(acc, tirx.max(now, value) if self.greatest else now + value, QUAD, 0)

        # sums start from what the zero point of all their elements takes off
        elements = (taps.high - taps.low) * (taps.last - taps.first)
        start = tir.i32(-256) if self.greatest else elements * -self.zero
        stage, room = tir.local((QUAD,), "int32", "stage")
        return tir.seq(
            alloc,
            room,
            put(acc, tir.broadcast(start, QUAD), QUAD, 0),
            taps.loop(tap),
            put(stage, vector(acc, QUAD, 0), QUAD, 0),
            store_four(frame, self.anchor, stage, q * QUAD, self.w.channels_out, lambda c: (image, c, *spatial)),
        )

    def sixteen(self, frame: Frame, taps: Taps, target: Expr, v: Expr) -> Stmt:
        """The greatest of sixteen channels as they lie; the last vector lies before the end of the pixel."""
        first, bind = tir.let(tirx.min(v * BYTES, self.stored - BYTES), "first")
        acc, alloc = tir.local((BYTES,), str(taps.data.dtype))

        def at(kh: Expr, kw: Expr) -> Expr:
            return vector(taps.data, BYTES, taps.place(kh, kw) + first)

        def tap(kh: Expr, kw: Expr) -> Stmt:
            return put(acc, tirx.max(vector(acc, BYTES, 0), at(kh, kw)), BYTES, 0)

        out, declared = tir.flat(frame.place.buffer)
        begin = put(acc, at(taps.low, taps.first), BYTES, 0)
        end = put(out, vector(acc, BYTES, 0), BYTES, target + first)
        return tir.seq(bind, alloc, declared, begin, taps.loop(tap), end)
