"""TensorIR of depthwise f32 convolutions on Cortex-M with an FPU: four channels of a pixel, or of two, at a time.

Channels lie side by side, so that one instruction loads four of a pixel, and one the weights of a window's row. Nothing
is copied: windows at edges of the image are computed tap by tap, those inside two at a time, which share pixels.
"""

from __future__ import annotations

from edgec.compiler.ir import Type, Value
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from ...common import unblocked
from ...common_emit import Frame, Numbers, emit_kernel
from ...conv.places import source, tap_bounds
from ...conv.shape import conv_operands, geometry
from ..asm import OPAQUE, STAY, at, called, imported, opaque, stay
from .depthwise_asm import ABREAST, SIZE, inside, one, pair
from .rows import long_code


class FloatDepthwise:
    """Emits one kernel; a task is an image."""

    def __init__(self, problem: Problem, choice: Choice) -> None:
        self.problem, self.choice, self.w = problem, choice, geometry(problem)
        self.x, self.weight, self.bias = conv_operands(problem.anchor)
        self.anchor = problem.anchor.results[0]
        self.rank = len(self.anchor.shape)
        self.numbers = Numbers(problem.shared)
        self.first, self.pairs = inside(self.w.width)
        if problem.target.small:
            self.first, self.pairs = 0, 0

    def emit(self, symbol: str) -> Emitted:
        return emit_kernel(
            self.problem, self.choice, symbol, self.w.batch, self.task, self.view, (), self.around, self.numbers
        )

    def view(self, value: Value) -> Type:
        return value.type if value == self.weight else unblocked(value.type)

    def around(self, frame: Frame, tasks: Stmt) -> Stmt:
        text = [OPAQUE, STAY, one("m_one"), pair("m_pair", self.w.width) if self.pairs else ""]
        return imported("".join(text), tasks)

    def task(self, frame: Frame, image: Expr) -> Stmt:
        w, number = self.w, self.numbers

        def channels(c: Expr) -> Stmt:
            start, binds = self.begin(frame, c * SIZE)
            row = tir.loop(opaque(number("rows", w.height.out)), lambda o: self.row(frame, image, c, o, start), "o")
            return tir.seq(binds, row)

        return tir.loop(opaque(number("blocks", w.channels_in // SIZE)), channels, "c")

    def begin(self, frame: Frame, first: Expr) -> tuple[list[Expr], list[Stmt]]:
        """What the sums of four channels start from."""
        if self.bias is None:
            return [tir.lit(0.0, "float32")] * SIZE, []
        many = self.bias.shape[0] > 1
        pairs = [tir.let(frame.body.at(self.bias, (first + k if many else tir.i32(0),)), "b") for k in range(SIZE)]
        return [value for value, _ in pairs], [bind for _, bind in pairs]

    def row(self, frame: Frame, image: Expr, c: Expr, o: Expr, start: list[Expr]) -> Stmt:
        """A row of results."""
        w, number = self.w, self.numbers
        low, high = tap_bounds(w.height, o, number("height", w.height.size))
        low, bind_low = tir.let(low, "low")
        rows, bind_rows = tir.let(high - low, "rows")
        first = image * number("height", w.height.size) + source(w.height, o, low)
        line, bind_line = tir.let(first * number("width", w.width.size), "line")
        line_weights, bind_weights = tir.let((c * w.taps + low * w.width.kernel) * SIZE, "line_weights")
        data, declared = tir.flat(frame.places[self.x].buffer)
        weights, declared_weights = tir.flat(frame.places[self.weight].buffer)

        def place(pixel: Expr) -> Expr:
            return at(data, (line + pixel) * number("channels", w.channels_in) + c * SIZE)

        def edge(k: Expr) -> Stmt:
            i, bind = tir.let(tir.i32(0) + k, "i")
            if self.pairs:
                behind = (k >= number("first", self.first)).astype("int32")
                i, bind = tir.let(k + behind * number("inside", self.pairs * ABREAST), "i")
            left, right = tap_bounds(w.width, i, number("width", w.width.size))
            left, bind_left = tir.let(left, "left")
            taps, bind_taps = tir.let(right - left, "taps")
            run = [place(source(w.width, i, left)), at(weights, line_weights + left * SIZE), rows, taps]
            tap = number("tap", self.tap_bytes)
            run += [number("row", self.row_bytes) - taps * tap, (w.width.kernel - taps) * (SIZE * 4), tap]
            sums, alloc = tir.local((SIZE,), "float32", "sums")
            begin = [tir.store(sums, value, n) for n, value in enumerate(start)]
            work = tir.when((rows > 0) & (taps > 0), called("m_one", at(sums, 0), *run))
            ends = self.finish(frame, image, c, o, i, 1, sums)
            return tir.seq(stay(), bind, bind_left, bind_taps, alloc, begin, work, ends)

        def two(k: Expr) -> Stmt:
            i = k * ABREAST + number("first", self.first)
            sums, alloc = tir.local((SIZE * ABREAST,), "float32", "sums")
            begin = [tir.store(sums, value, p * SIZE + n) for p in range(ABREAST) for n, value in enumerate(start)]
            reach = (ABREAST - 1) * w.width.stride + (w.width.kernel - 1) * w.width.dilation + 1
            skip = self.row_bytes - reach * w.channels_in * 4
            run = [
                place(source(w.width, i, 0)),
                at(weights, line_weights),
                rows,
                opaque(number("skip", skip)),
                opaque(number("pixel", w.channels_in * 4)),
            ]
            work = tir.when(rows > 0, called("m_pair", at(sums, 0), *run))
            return tir.seq(stay(), alloc, begin, work, self.finish(frame, image, c, o, i, ABREAST, sums))

        edges = w.width.out - self.pairs * ABREAST
        return tir.seq(
            bind_low, bind_rows, bind_line, bind_weights, declared, declared_weights,
            tir.loop(opaque(number("pairs", self.pairs)), two, "k") if self.pairs else None,
            tir.loop(opaque(number("edges", edges)), edge, "k") if edges else None,
        )  # fmt: skip

    @property
    def row_bytes(self) -> int:
        """From a row of a window to the next."""
        return self.w.height.dilation * self.w.width.size * self.w.channels_in * 4

    @property
    def tap_bytes(self) -> int:
        return self.w.width.dilation * self.w.channels_in * 4

    def finish(self, frame: Frame, image: Expr, c: Expr, o: Expr, i: Expr, pixels: int, sums: Buffer) -> Stmt:
        """What follows the sums; long code stands once."""
        w, number = self.w, self.numbers
        out, declared = tir.flat(frame.place.buffer)
        pixel = (image * number("rows", w.height.out) + o) * number("columns", w.width.out) + i
        begin, bind = tir.let(pixel * number("channels", w.channels_in) + c * SIZE, "begin")

        def result(p: Expr, n: Expr) -> Stmt:
            frame.body.bind(self.anchor, lambda _: tir.load(sums, p * SIZE + n))
            spot = (o, i + p) if self.rank == 4 else (i + p,)
            if number.shared:
                value = frame.body.at(frame.out, (image, c * SIZE + n, *spot))
                return tir.store(out, value, begin + (p * number("channels", w.channels_in) + n))
            return frame.store((image, c * SIZE + n, *spot))

        head = tir.seq(declared, bind) if number.shared else None
        if long_code(self.problem):
            each = tir.loop(
                opaque(pixels), lambda p: tir.loop(opaque(SIZE), lambda n: tir.seq(stay(), result(p, n)), "n"), "p"
            )
            return tir.seq(head, each)
        return tir.seq(head, (result(tir.i32(p), tir.i32(n)) for p in range(pixels) for n in range(SIZE)))
