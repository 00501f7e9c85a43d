"""TensorIR of depthwise int8 convolutions by sdot that slide along rows: what stays in registers, what is dealt."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.integer import bias
from edgec.targets.tir import Buffer, Expr, Stmt

from ..bytes_tail import short_multipliers
from ..common import ceil_div
from ..common_emit import Frame, emit_kernel, put, stretch, vector
from ..conv.shape import Window
from ..int8.multipliers import local, number_of
from .bytes import BLOCK, HELD, LANES, added
from .dots import dot, shuffled, splat
from .slide_ends import Again, Ends, Output, of_copy
from .slide_rows import HALF, ROWS, halves, new_columns, pairs, parts, scratch_bytes, whole
from .tail import Tail, lifted, offset

VECTORS = HALF // LANES  # of sums
WORDS = "int32x4"


class Slide:
    """A task is a band of pairs of output rows of an image, of eight channels or of all."""

    def __init__(self, problem: Problem, choice: Choice, w: Window) -> None:
        self.problem, self.choice, self.w = problem, choice, w
        self.x, self.weight, self.bias = problem.anchor.args
        self.anchor = problem.anchor.results[0]
        attrs: Any = full_attrs(problem.anchor)
        self.zero, self.shift, self.held = int(attrs["zero"]), int(attrs["shift"]), choice.get(HELD)
        self.factors = short_multipliers(problem.body)
        self.added = added(problem, self.held)
        self.pixel = ceil_div(w.channels_out, BLOCK) * BLOCK  # bytes
        self.parts, self.new = parts(w), new_columns(w)
        self.lines = (ROWS - 1) * w.height.stride + w.height.kernel  # input rows of a pair
        self.flat: dict[Value, Buffer] = {}

    def emit(self, symbol: str) -> Emitted:
        outer, bands = (1 if self.choice.get("ro") else halves(self.w)), self.choice.get("hb")

        def task(frame: Frame, number: Expr) -> Stmt:
            binds = []
            for value in (self.x, self.weight, self.bias):
                self.flat[value], bind = tir.flat(frame.places[value].buffer)
                binds.append(bind)
            image, unit, band = tir.split(number, self.w.batch, outer, bands)
            total = pairs(self.w)
            first, count = stretch(band, ceil_div(total, bands), total) if bands > 1 else (tir.i32(0), tir.i32(total))

            def pair(number: Expr) -> Stmt:
                return self.pair(frame, image, unit, number, first)

            return tir.seq(binds, tir.loop(count, pair, "pair", start=first))

        return emit_kernel(self.problem, self.choice, symbol, self.w.batch * outer * bands, task)

    def pair(self, frame: Frame, image: Expr, unit: Expr, number: Expr, first: Expr) -> Stmt:
        """Two output rows. Weights are dealt anew where other rows of the window lie in the image than before."""
        row = self.row(number)
        anew = tirx.any(number.equal(first), *(self.inside(row, i) != self.inside(self.row(number - 1), i)
                                              for i in range(self.lines)))  # fmt: skip

        def group(k: Expr) -> Stmt:
            place = k * (scratch_bytes(self.problem, self.w) // 4) if self.choice.get("ro") else tir.i32(0)
            rows = self.across(frame, image, k, row, place, False)
            if self.w.channels_out % HALF:
                last = k.equal(self.w.channels_out // HALF)
                rows = tir.when(last, self.across(frame, image, k, row, place, True), rows)
            return tir.seq(tir.when(anew, self.prepared(frame, k, row, place)), rows)

        return tir.loop(halves(self.w), group, "group") if self.choice.get("ro") else group(unit)

    def row(self, number: Expr) -> Expr:
        return tirx.min(number * ROWS, self.w.height.out - ROWS)

    def source(self, row: Expr, line: int) -> Expr:
        """Number of the input row that is number `line` of a pair; it may lie outside."""
        return row * self.w.height.stride + (line - self.w.height.pad)

    def inside(self, row: Expr, line: int) -> Expr:
        """1 where it lies in the image."""
        source = self.source(row, line)
        return tirx.Cast("int32", tirx.all(source >= 0, source < self.w.height.size))

    # -- weights, once for rows of the same kind -----------------------------------------------------------------------

    def place(self, r: int, kw: int, v: int) -> int:
        """Where scratch memory (of 32 bits) holds weights of output row `r`; kw = kernel: what sums start from."""
        return ((r * (self.w.width.kernel + 1) + kw) * VECTORS + v) * LANES

    def prepared(self, frame: Frame, group: Expr, row: Expr, place: Expr) -> Stmt:
        """Weights of rows outside are 0, so that any row may be read there."""
        w, block, half = self.w, group // 2, group % 2
        done: list[Stmt] = []
        for r in range(ROWS):
            mask: Expr = tir.i32(0)
            for kh in range(w.height.kernel):
                mask = mask | (self.inside(row, r * w.height.stride + kh) * tir.lit(255 << 8 * kh, "int32"))
            mask, bind = tir.let(mask, "mask")
            done.append(bind)
            for v in range(VECTORS):
                total: Expr = tir.broadcast(tir.i32(0), LANES)
                for kw in range(w.width.kernel):
                    at = (block * w.width.kernel + kw) * BLOCK + half * HALF + v * LANES
                    taps, bind = tir.let(tirx.bitwise_and(self.fours(at), tir.broadcast(mask, LANES)), "w")
                    done.append(bind)
                    if self.zero:
                        total = dot(total, tirx.reinterpret("int8x16", taps), splat(self.zero))
                    if r and self.parts == 1:  # the second row's taps begin a row later
                        taps = tirx.shift_left(taps, tir.broadcast(tir.i32(8), LANES))
                    done.append(self.keep(frame, taps, place + self.place(r, kw, v)))
                channel = group * HALF + v * LANES
                start = bias(vector(self.flat[self.bias], LANES, channel), self.shift) - total
                start = start + tir.broadcast(tir.i32(lifted(self.held)), LANES)
                done.append(self.keep(frame, start, place + self.place(r, w.width.kernel, v)))
        rescaling = self.added
        if rescaling is not None:
            done.append(self.each(frame, group, place, 0, lambda channel: offset(frame, rescaling, channel)))
        for n, value in enumerate(self.factors):
            done.append(self.each(frame, group, place, 1 + n, partial(number_of, frame, value)))
        return tir.seq(done)

    def fours(self, at: Expr) -> Expr:
        """A column of four filters from number `at` on, with any bytes behind the rows of a window."""
        each = self.w.height.kernel
        stored = vector(self.flat[self.weight], LANES * each, at * each)
        return shuffled(
            [stored, stored],
            f"int8x{LANES * each}",
            [n // 4 * each + min(n % 4, each - 1) for n in range(BLOCK)],
            WORDS,
        )

    def each(self, frame: Frame, group: Expr, place: Expr, n: int, number: Callable[[Expr], Expr]) -> Stmt:
        """Keep a number of each channel, as number `n` of those behind the weights."""
        last = self.w.channels_out - 1

        def one(lane: Expr) -> Stmt:
            channel = group * HALF + lane
            channel = tirx.min(channel, last) if self.w.channels_out % HALF else channel
            return tir.store(frame.scratch, number(channel), place + self.numbers(n) + lane)

        return tir.vectorized(HALF, one)

    def numbers(self, n: int) -> int:
        """Where scratch memory holds them."""
        return self.place(ROWS, 0, 0) + n * HALF

    def keep(self, frame: Frame, x: Expr, at: Expr) -> Stmt:
        return put(frame.scratch, tirx.reinterpret("float32x4", x), LANES, at)

    def kept(self, frame: Frame, at: Expr) -> Expr:
        return tirx.reinterpret(WORDS, vector(frame.scratch, LANES, at))

    # -- a pair of rows ------------------------------------------------------------------------------------------------

    def across(self, frame: Frame, image: Expr, group: Expr, row: Expr, place: Expr, last: bool) -> Stmt:
        """All columns; the `last` channels may be fewer than eight."""
        w, tail = self.w.width, Tail(self.problem, self.choice)
        columns, alloc = tir.local((w.kernel * self.parts * VECTORS * BLOCK,), "int8", "columns")
        starts, alloc_starts = tir.local((w.kernel * ROWS * HALF,), "int32", "starts")
        offsets, alloc_offsets = tir.local((w.kernel * ROWS * HALF,), "float32", "offsets")
        done: list[Stmt] = [alloc, alloc_starts]
        if self.added is not None:
            own = vector(frame.scratch, HALF, place + self.numbers(0))
            done += [alloc_offsets, *(put(offsets, own, HALF, k * HALF) for k in range(w.kernel * ROWS))]
        for n, value in enumerate(self.factors):
            factors, alloc = tir.local((HALF,), "float32", "factors")
            done += [alloc, put(factors, vector(frame.scratch, HALF, place + self.numbers(1 + n)), HALF, 0)]
            frame.body.places[value] = local(value, factors, group * HALF)
        bases = []
        for line in range(self.lines):
            source = tirx.max(tirx.min(self.source(row, line), self.w.height.size - 1), 0)
            base, bind = tir.let((image * self.w.height.size + source) * (w.size * self.pixel) + group * HALF, "row")
            bases.append(base)
            done.append(bind)
        for r in range(ROWS):
            for v in range(VECTORS):
                start = self.kept(frame, place + self.place(r, w.kernel, v))
                copies = range(r * HALF + v * LANES, w.kernel * ROWS * HALF, ROWS * HALF)
                done += [put(starts, start, LANES, at) for at in copies]
        for c in range(w.kernel - self.new):
            done.append(self.column(columns, bases, c - w.pad if c >= w.pad else None, c))

        def output(number: Any, turn: int, again: Expr, edge: bool = False) -> Output:
            """`number` is that of an output of a row, modulo the window's columns `turn`; `again`: 0, of all turns."""
            loads = []
            for c in range(w.kernel - self.new, w.kernel):
                source = number * w.stride + c - w.pad
                read = source if not edge or source < w.size else None
                loads.append(self.column(columns, bases, read, turn * w.stride + c))
            own = of_copy(again, turn)
            made, stages = self.sums(frame, place + again, columns, starts, own, turn)
            return Output(number, tir.seq(loads, made), stages, own)

        full = whole(self.w)
        many = full // w.kernel
        ends = Ends(self.problem, tail, frame, image, group, row, offsets, last)

        def turn(k: Expr) -> Stmt:
            # LLVM must not know that turns read the same: it would keep weights on the stack, where offsets are long
            return ends.stored([output(k * w.kernel + i, i, frame.zero * k) for i in range(w.kernel)])

        done.append(tir.loop(many + frame.zero, turn, "turn"))
        left = range(many * w.kernel, w.out)
        after = [output(n, n % w.kernel, frame.zero * (n // w.kernel), n >= full) for n in left]
        return tir.seq(done, ends.stored(after) if after else None)

    def slot(self, column: int, part: int, v: int) -> int:
        return ((column % self.w.width.kernel * self.parts + part) * VECTORS + v) * BLOCK

    def column(self, columns: Buffer, bases: list[Expr], source: Any, number: int) -> Stmt:
        """Deal a column's rows to fours. Outside the image it holds the zero point."""
        if source is None:
            every = [(p, v) for p in range(self.parts) for v in range(VECTORS)]
            return tir.seq(put(columns, splat(self.zero), BLOCK, self.slot(number, p, v)) for p, v in every)
        done: list[Stmt] = []
        lines = []
        for base in bases:
            line, bind = tir.let(vector(self.flat[self.x], HALF, base + source * self.pixel), "line")
            lines.append(line)
            done.append(bind)
        inner = [8 * (i % 2) + i // 2 for i in range(BLOCK)]
        twos = []
        for i in range(0, self.lines, 2):
            both = [lines[i], lines[min(i + 1, self.lines - 1)]]
            two, bind = tir.let(shuffled(both, "int8x8", inner, "int8x16"), "two")
            twos.append(two)
            done.append(bind)
        for p in range(self.parts):
            both = [twos[p], twos[min(p + 1, len(twos) - 1)]]
            for v in range(VECTORS):
                order = [8 * (i % 2) + i // 2 + 4 * v for i in range(8)]
                done.append(put(columns, shuffled(both, "int16x8", order, "int8x16"), BLOCK, self.slot(number, p, v)))
        return tir.seq(done)

    def sums(
        self, frame: Frame, place: Expr, columns: Buffer, starts: Buffer, again: Again, turn: int
    ) -> tuple[Stmt, list[Buffer]]:
        """Of both rows of an output column."""
        w = self.w.width
        done: list[Stmt] = []
        stages = []
        for r in range(ROWS):
            stage, alloc = tir.local((HALF,), "int32", "stage")
            stages.append(stage)
            done.append(alloc)
            for v in range(VECTORS):

                def tap(total: Expr, kw: int, r: int = r, v: int = v) -> Expr:
                    slot = self.slot(turn * w.stride + kw, min(r, self.parts - 1), v)
                    taps = tirx.reinterpret("int8x16", self.kept(frame, place + self.place(r, kw, v)))
                    return dot(total, vector(columns, BLOCK, slot), taps)

                start = vector(starts, LANES, again(r, HALF) + v * LANES)
                done.append(put(stage, reduce(tap, range(w.kernel), start), LANES, v * LANES))
        return tir.seq(done), stages
