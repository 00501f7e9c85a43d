"""TensorIR of convolutions along rows: output channels times vectors of pixels stay in registers.

Each step of the sums reads the vectors of a row of the input from where a tap of the window points, and multiplies them
by one weight per output channel, broadcast. Vectors at the ends of a row, whose place is known, are read from inside of
it and shifted, with zeros for what is outside; rows outside are left out by the bounds of the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.conversions import widened
from edgec.targets.tir import Expr, Stmt

from ..common import ceil_div, in_memory
from ..common_emit import F32, Frame, emit_kernel, full_or_rest, put, store_tile, vector
from .ahead import LINE
from .along_rows import Along, tasks, vector_widths
from .places import flat_type, runs, source, tap_bounds, widths
from .shape import Window, conv_operands
from .tiles import F32 as F32_BYTES

PAGE = 4096  # bytes
Lane = Callable[[Expr], Stmt]


@dataclass(frozen=True)
class Spot:
    """A tile's place: its output channels are `channels` from block `block` on, its pixels `length` from `first` on in
    row `row`, a number where the tile lies at an end of the row."""

    image: Expr
    block: Expr
    channels: int
    row: Expr
    first: Expr | int
    length: int


class AlongRows:
    def __init__(self, problem: Problem, w: Window, t: Along) -> None:
        self.problem, self.w, self.t = problem, w, t
        self.lanes = problem.target.cpu.lanes(32)
        self.x, weight, self.bias = conv_operands(problem.anchor)
        self.weight = in_memory(problem, weight)
        self.anchor = problem.anchor.results[0]
        self.rank = len(self.anchor.shape)

    def emit(self, choice: Choice, symbol: str) -> Emitted:
        blocks = ceil_div(self.w.channels_out, self.t.channels)

        def task(frame: Frame, number: Expr) -> Stmt:
            if self.t.rows_first:
                image, row, block = tir.split(number, self.w.batch, self.w.height.out, blocks)
            else:
                image, block, row = tir.split(number, self.w.batch, blocks, self.w.height.out)
            return full_or_rest(
                block, self.w.channels_out, self.t.channels, lambda n: self.line(frame, image, block, n, row)
            )

        return emit_kernel(self.problem, choice, symbol, tasks(self.w, self.t), task, self.view)

    def view(self, value: Value) -> Type:
        """The type under which an operand is addressed: pixels in one row where the window is flat."""
        flat = self.w.pointwise and self.w.height.out == 1 and self.rank == 4
        return flat_type(value.type, self.w) if flat else value.type

    def index(self, n: Expr, c: Expr, row: Expr | int, column: Expr | int) -> tuple[Expr, ...]:
        return (n, c, row, column) if self.rank == 4 else (n, c, column)

    def line(self, frame: Frame, image: Expr, block: Expr, channels: int, row: Expr) -> Stmt:
        """A row of some output channels."""

        def tile(positions: list[Expr | int], _: bool) -> Stmt:
            return self.tile(frame, Spot(image, block, channels, row, positions[0], len(positions)))

        return tir.seq(runs(self.w.width, self.t.vectors * self.lanes, tile))

    def tile(self, frame: Frame, s: Spot) -> Stmt:
        w, computed = self.w, vector_widths(s.length, self.lanes)
        acc, alloc = tir.local((s.channels * len(computed) * self.lanes,), F32)
        zeros = [
            put(acc, tir.broadcast(tir.lit(0.0, F32), n), n, self.slot(len(computed), m, v))
            for m in range(s.channels)
            for v, n in enumerate(computed)
        ]
        low, high = tap_bounds(w.height, s.row)

        def row(ci: Expr, kh: Expr) -> Stmt:
            parts = self.fetch(frame, s, ci + 1, kh)
            for kw in range(w.width.kernel):
                parts += self.tap(frame, s, acc, computed, ci, kh, kw)
            return tir.seq(parts)

        def channel(ci: Expr) -> Stmt:
            if w.height.kernel == 1 and w.height.pad == 0:
                return row(ci, tir.i32(0))
            return tir.loop(high - low, lambda kh: row(ci, kh), "kh", start=low)

        loop = tir.steps(w.channels_in, channel, "ci", s.channels * len(computed) * w.width.kernel)
        return tir.seq(alloc, zeros, loop, self.finish(frame, s, acc))

    def fetch(self, frame: Frame, s: Spot, ci: Expr, kh: Expr) -> list[Stmt]:
        """Ask for what the tile reads of a row of the next channel, where that lies on another page: there no stream
        of addresses goes on that the hardware would follow."""
        w, height = self.w.width, self.w.height
        if F32_BYTES * w.size * height.size < PAGE:
            return []
        first, span = source(w, s.first, 0), (s.length - 1) * w.stride + (w.kernel - 1) * w.dilation + 1
        row, step = source(height, s.row, kh), LINE // F32_BYTES
        return [
            tir.prefetch(frame.places[self.x].buffer, *self.index(s.image, ci, row, tirx.max(first + k, 0)))
            for k in range(0, span + step - 1, step)
        ]

    def slot(self, vectors: int, m: int, v: int) -> int:
        return (m * vectors + v) * self.lanes

    def tap(
        self, frame: Frame, s: Spot, acc: tir.Buffer, computed: tuple[int, ...], ci: Expr, kh: Expr, kw: int
    ) -> list[Stmt]:
        """The multiply-adds of a row of the window at one of its columns."""
        parts: list[Stmt] = []
        lines: list[Expr | None] = []
        for v, n in enumerate(computed):
            value = self.read(frame, s, n, ci, source(self.w.height, s.row, kh), v * self.lanes, kw)
            if value is not None:
                value, bind = tir.let(value, "x")
                parts.append(bind)
            lines.append(value)
        place = frame.places[self.weight]
        for m in range(s.channels):
            at = (s.block, ci, kh, kw, m) if self.rank == 4 else (s.block, ci, kw, m)
            weight, bind = tir.let(widened(tir.load(place.buffer, *at), self.weight.type.dtype), "w")
            parts.append(bind)
            for v, (n, x) in enumerate(zip(computed, lines, strict=True)):
                if x is not None:
                    here = self.slot(len(computed), m, v)
                    parts.append(put(acc, vector(acc, n, here) + tir.broadcast(weight, n) * x, n, here))
        return parts

    def read(self, frame: Frame, s: Spot, n: int, ci: Expr, row: Expr, ahead: int, kw: int) -> Expr | None:
        """The elements of the input under `n` pixels from `ahead` of the tile on; None where all are outside."""
        w, buffer = self.w.width, frame.places[self.x].buffer
        shift, span = ahead * w.stride - w.pad + kw * w.dilation, (n - 1) * w.stride + 1

        def load(start: Expr | int) -> Expr:
            return vector(buffer, n, *self.index(s.image, ci, row, start))

        def picked(start: Expr | int, offsets: list[int]) -> Expr:
            """Of two vectors, which begin and end with the elements under the pixels."""
            last = span - n
            order = [o if o < n else n + o - last for o in offsets]
            return tirx.Shuffle([load(start), load(start + last)], [tir.i32(k) for k in order])

        if not isinstance(s.first, int):
            start = s.first * w.stride + shift
            return load(start) if w.stride == 1 else picked(start, list(range(0, span, w.stride)))
        at = s.first * w.stride + shift
        if at <= -span or at >= w.size:
            return None
        start = min(max(at, 0), w.size - span)
        offsets = [at + j * w.stride - start for j in range(n)]
        true = [0 <= at + j * w.stride < w.size for j in range(n)]
        if all(true):
            return load(start) if w.stride == 1 else picked(start, offsets)
        zeros = tir.broadcast(tir.lit(0.0, F32), n)
        inside, order = load(start), offsets
        if w.stride > 1:
            inside, order = (
                picked(start, [o if here else 0 for o, here in zip(offsets, true, strict=True)]),
                list(range(n)),
            )
        kept = [tir.i32(k if here else n) for k, here in zip(order, true, strict=True)]
        return tirx.Shuffle([inside, zeros], kept)

    def finish(self, frame: Frame, s: Spot, acc: tir.Buffer) -> Stmt:
        true = widths(s.length, self.lanes)
        first = s.block * self.t.channels

        def write(
            buffer: tir.Buffer, slot: Expr | int, v: int, row: Expr | int, m: Expr | int
        ) -> Callable[[Expr], Stmt]:
            def lane(x: Expr) -> Stmt:
                channel = tir.expr(m)

                def anchor(_: tir.Index) -> Expr:
                    value = tir.load(buffer, slot + x)
                    return value if self.bias is None else value + frame.body.at(self.bias, (channel,))

                frame.body.bind(self.anchor, anchor)
                return frame.store(self.index(s.image, channel, row, s.first + v * self.lanes + x))

            return lane

        channels = [first + m for m in range(s.channels)]
        return store_tile(frame, acc, [s.row], channels, true, self.lanes, write)
