"""TensorIR of pooling of bytes: maxima as bytes, sums as 16 bits while they fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.compiler.op import full_attrs
from edgec.compiler.ops.common import limits
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from ..bytes_tail import literal
from ..bytes_tail_emit import Tail
from ..common import ceil_div
from ..common_emit import Frame, emit_kernel, put, stretch, vector
from ..conv.places import runs, source, tap_bounds
from ..conv.shape import Window
from .depthwise_dots_rows import groups
from .pool_rows import MOST_SUMMED, most_blocks, written_out
from .vector import pair, quad

Sums = list[Expr]  # four vectors, dealt


class Pixels:
    def __init__(self, problem: Problem, choice: Choice) -> None:
        self.problem, self.choice = problem, choice
        self.x, self.anchor = problem.anchor.args[0], problem.anchor.results[0]
        self.blocks = ceil_div(self.x.shape[1], 16)
        self.groups = groups(self.blocks, most_blocks(problem.target.cpu))
        self.signed = self.x.type.dtype == "i8"
        self.flat: dict[Value, Buffer] = {}
        self.parts: list[Stmt] = []

    def named(self, x: Expr) -> Expr:
        value, bind = tir.let(x, "p")
        self.parts.append(bind)
        return value

    def flatten(self, frame: Frame) -> list[Stmt]:
        binds = []
        for value in (*self.problem.body.inputs, frame.out):
            buffer = frame.place.buffer if value == frame.out else frame.places[value].buffer
            self.flat[value], bind = tir.flat(buffer)
            binds.append(bind)
        return binds

    def vectors(self, make: Callable[[Expr, int], Stmt]) -> Stmt:
        """`make(first block, blocks)` for every vector of a pixel."""
        parts = []
        for first, size, count in self.groups:

            def one(k: Expr, first: int = first, size: int = size) -> Stmt:
                return make(first + k * size, size)

            parts.append(tir.loop(count, one, "block"))
        return tir.seq(parts)

    # -- windows -----------------------------------------------------------------------------------------------------

    def pool(self, symbol: str, w: Window) -> Emitted:
        bands = self.choice.get("hb")

        def task(frame: Frame, number: Expr) -> Stmt:
            image, band = tir.split(number, w.batch, bands)
            if not written_out(w):
                return tir.seq(self.flatten(frame), self.greatest(frame, w, image, band))

            def line(rows: list[Any], edge_row: bool) -> Stmt:
                def pixel(columns: list[Any], edge: bool) -> Stmt:
                    row, column = rows[0], columns[0]
                    taps = [
                        (source(w.height, row, kh), source(w.width, column, kw))
                        for kh in range(w.height.kernel)
                        for kw in range(w.width.kernel)
                        if not (edge_row and not w.height.inside(row, kh))
                        and not (edge and not w.width.inside(column, kw))
                    ]
                    place = [((image * w.height.size + r) * w.width.size + c) * self.blocks for r, c in taps]
                    at = tir.expr(row) * w.width.out + tir.expr(column)
                    first = image * w.pixels
                    return self.vectors(lambda block, size: self.window(frame, place, (first, at), block, size))

                return tir.seq(runs(w.width, 1, pixel))

            return tir.seq(self.flatten(frame), runs(w.height, 1, line, (band, bands)))

        bytes_of = self.choice.scratch_bytes
        parts = [("lines", "int8" if self.signed else "uint8", bytes_of, 0)] if bytes_of else []
        return emit_kernel(self.problem, self.choice, symbol, w.batch * bands, task, parts=parts)

    def greatest(self, frame: Frame, w: Window, image: Expr, band: Expr) -> Stmt:
        """Maxima over large windows: of each input row's columns, in scratch memory, then of these over rows."""
        kind = {True: "int8", False: "uint8"}[self.signed]
        first, count = stretch(band, ceil_div(w.height.out, self.choice.get("hb")), w.height.out)
        begin = tirx.max(source(w.height, first, 0), 0)
        end = tirx.min(source(w.height, first + count - 1, w.height.kernel - 1) + 1, w.height.size)
        (lines,) = frame.parts

        def one(block: Expr, size: int) -> Stmt:
            lanes = 16 * size
            least = tir.broadcast(tir.lit(int(limits(self.x.type.dtype)[0]), kind), lanes)

            def most(low: Expr, high: Expr, read: Callable[[Expr], Expr], write: Callable[[Expr], Stmt]) -> Stmt:
                acc, alloc = tir.local((lanes,), kind, "greatest")

                def tap(k: Expr) -> Stmt:
                    return put(acc, tirx.max(vector(acc, lanes, 0), read(k)), lanes, 0)

                return tir.seq(
                    alloc,
                    put(acc, least, lanes, 0),
                    tir.loop(high - low, tap, "k", start=low),
                    write(vector(acc, lanes, 0)),
                )

            def kept(line: Expr, column: Expr) -> Expr:
                return ((line - begin) * w.width.out + column) * lanes

            def across(line: Expr, column: Expr) -> Stmt:
                def read(kw: Expr) -> Expr:
                    place = (image * w.height.size + line) * w.width.size + source(w.width, column, kw)
                    return vector(self.flat[self.x], lanes, (place * self.blocks + block) * 16)

                return most(*tap_bounds(w.width, column), read, lambda x: put(lines, x, lanes, kept(line, column)))

            def down(row: Expr, column: Expr) -> Stmt:
                out = ((image * w.height.out + row) * w.width.out + column) * self.blocks + block
                return most(
                    *tap_bounds(w.height, row),
                    lambda kh: vector(lines, lanes, kept(source(w.height, row, kh), column)),
                    lambda x: put(self.flat[frame.out], x, lanes, out * 16),
                )

            def every(make: Callable[[Expr, Expr], Stmt], start: Expr, many: Expr) -> Stmt:
                return tir.loop(
                    many, lambda row: tir.loop(w.width.out, lambda c: make(row, c), "column"), "row", start=start
                )

            return tir.seq(every(across, begin, end - begin), every(down, first, count))

        return self.vectors(one)

    def window(self, frame: Frame, places: list[Expr], out: tuple[Expr, Expr], block: Expr, size: int) -> Stmt:
        """One output pixel (the image's first, and which), whose window has these blocks of 16 channels as the first of
        each of its pixels."""
        self.parts = []
        first, pixel = out
        loads = [tir.load(self.flat[self.x], tir.ramp((at + block) * 16, 16 * size)) for at in places]
        here = ((first + pixel) * self.blocks + block) * 16
        if self.problem.anchor.op == "MaxPool":
            kind = "int8" if self.signed else "uint8"
            nothing = tir.broadcast(tir.lit(int(limits(self.x.type.dtype)[0]), kind), 16 * size)
            greatest = reduce(lambda a, b: tirx.max(a, b), loads) if loads else nothing
            return tir.store(self.flat[frame.out], greatest, tir.ramp(here, 16 * size))
        halves = [self.halves(x, size) for x in loads]
        lanes = 8 * size
        none = tir.broadcast(tir.lit(0, "int16"), lanes)
        total = [self.named(reduce(lambda a, b: a + b, (h[k] for h in halves), none)) for k in range(2)]
        return self.finish(frame, self.widened(total, 4 * size), len(loads), here, pixel)

    def halves(self, x: Expr, size: int) -> tuple[Expr, Expr]:
        """A vector of bytes as two of 16 bits; of signed ones 128 too large, so that none is negative."""
        if self.signed:
            x = tirx.bitwise_xor(x, tir.broadcast(tir.lit(-128, "int8"), 16 * size))
        x = self.named(tirx.reinterpret(f"int8x{16 * size}", x))
        low, high = pair(x, tir.broadcast(tir.lit(0, "int8"), 16 * size))
        return low, high

    def widened(self, total: list[Expr], lanes: int) -> Sums:
        none = tir.broadcast(tir.lit(0, "int16"), 2 * lanes)
        return [x for half in total for x in quad(half, none)]

    def finish(self, frame: Frame, sums: Sums, count: int, here: Expr, pixel: Expr | int = 0) -> Stmt:
        """Take the zero points off, and store what the body makes of the sums: multipliers may be the pixel's."""
        zero: Any = full_attrs(self.problem.anchor)["zero"]
        lanes = sums[0].ty.dtype.lanes
        off = count * (zero + (128 if self.signed else 0))
        sums = [s - tir.broadcast(tir.i32(off), lanes) for s in sums] if off else sums

        def multiplier(value: Value, k: int) -> Expr:
            known = literal(value)
            of_pixel = tir.load(self.flat[value], pixel) if known is None else tir.lit(known, "float32")
            return tir.broadcast(of_pixel, lanes)

        def bytes_at(value: Value) -> Expr:
            return tir.load(self.flat[value], tir.ramp(here, 4 * lanes))

        tail = Tail(
            lanes,
            {self.anchor: [self.named(s) for s in sums]},
            multiplier,
            bytes_at,
            self.flat.__getitem__,
            self.problem.target.cpu,
        )
        result = tail.result(frame.out)
        return tir.seq(self.parts, tail.binds, tir.store(self.flat[frame.out], result, tir.ramp(here, 4 * lanes)))

    # -- whole images ------------------------------------------------------------------------------------------------

    def spatial(self, symbol: str) -> Emitted:
        pixels = prod(self.x.shape[2:])

        def task(frame: Frame, image: Expr) -> Stmt:
            return tir.seq(
                self.flatten(frame), self.vectors(lambda block, size: self.image(frame, image, pixels, block, size))
            )

        return emit_kernel(self.problem, self.choice, symbol, self.x.shape[0], task)

    def image(self, frame: Frame, image: Expr, pixels: int, block: Expr, size: int) -> Stmt:
        lanes = 4 * size
        acc, alloc = tir.local((4 * lanes,), "int32")
        parts = [alloc] + [put(acc, tir.broadcast(tir.i32(0), lanes), lanes, k * lanes) for k in range(4)]
        full, rest = divmod(pixels, MOST_SUMMED)

        def stretch(first: Expr, count: int) -> Stmt:
            """`count` pixels: as many as 16 bits hold the sum of."""
            half, made = tir.local((2 * 2 * lanes,), "int16", "half")
            none = tir.broadcast(tir.lit(0, "int16"), 2 * lanes)

            def pixel(p: Expr) -> Stmt:
                self.parts = []
                at = ((image * pixels + first + p) * self.blocks + block) * 16
                two = self.halves(tir.load(self.flat[self.x], tir.ramp(at, 16 * size)), size)
                for k in range(2):
                    total = vector(half, 2 * lanes, 2 * lanes * k) + two[k]
                    self.parts.append(put(half, total, 2 * lanes, 2 * lanes * k))
                return tir.seq(self.parts)

            wide = self.widened([vector(half, 2 * lanes, 2 * lanes * k) for k in range(2)], lanes)
            return tir.seq(
                made,
                [put(half, none, 2 * lanes, 2 * lanes * k) for k in range(2)],
                tir.steps(count, pixel, "pixel", 6),
                [put(acc, vector(acc, lanes, k * lanes) + x, lanes, k * lanes) for k, x in enumerate(wide)],
            )

        if full:
            parts.append(tir.loop(full, lambda n: stretch(n * MOST_SUMMED, MOST_SUMMED), "stretch"))
        if rest:
            parts.append(stretch(tir.i32(full * MOST_SUMMED), rest))
        self.parts = []
        sums = [vector(acc, lanes, k * lanes) for k in range(4)]
        return tir.seq(parts, self.finish(frame, sums, pixels, (image * self.blocks + block) * 16))
