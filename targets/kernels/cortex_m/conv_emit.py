"""TensorIR of dense int8 convolutions on Cortex-M: windows of a few pixels are widened, then all channels are computed.

Of a convolution with groups that is done for one group after the other; `w` has the channels of one.
Pixels are counted through the rows of an image, so that only the last tile of an image may be short.
"""

from __future__ import annotations

from functools import partial

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from ..common import ceil_div, unblocked
from ..common_emit import Frame, Numbers, emit_kernel
from ..conv.places import flat_type
from ..conv.shape import Window, conv_operands
from .asm import OPAQUE, at, called, imported, opaque
from .blocks import blocks, dots, given_numbers
from .bytes import STEP, Tile
from .conv_rows import FEW, steps_of, words_at_once
from .move_asm import few_widened, filled, widened, window
from .rescale import plain_rescale
from .windows import PAIR, Windows

MOST = 4095  # of an offset in an instruction


class Conv(Windows):
    """Emits one kernel; a task is an image."""

    element = "int32"  # of scratch
    direct = False  # whether data are read as bytes, without scratch
    half = False  # whether the last step has two products of each sum

    def __init__(self, problem: Problem, choice: Choice, w: Window, tile: Tile, zero: int) -> None:
        self.problem, self.choice, self.w, self.tile, self.zero = problem, choice, w, tile, zero
        self.x, self.weight, self.bias = conv_operands(problem.anchor)
        self.anchor = problem.anchor.results[0]
        self.product = problem.anchor.op in ("MatMul", "Edgec.MatMulInteger")  # whose rows are pixels
        self.rank, self.small = len(self.anchor.shape), problem.target.small
        self.steps, self.most = steps_of(w), words_at_once(self.small)
        self.few = w.channels_in == 1 or (w.channels_in <= FEW and not self.x.type.layout.endswith("c"))
        self.words = ceil_div(w.channels_in, STEP)  # of a pixel of the input
        self.stored = w.channels_in if self.few else ceil_div(w.channels_in * w.group, STEP) * STEP  # bytes of a pixel
        self.group: Expr = tir.i32(0)
        self.numbers = Numbers(problem.shared)
        near = self.short or problem.shared or (tile.pixels - 1) * self.out_pixel < MOST
        self.plain = plain_rescale(problem, True) if near and w.channels_out % tile.channels == 0 else None
        self.strided = self.tile.pixels * PAIR  # words from a step of a pixel to its next

    def emit(self, symbol: str) -> Emitted:
        scratch = [] if self.direct else [("scratch", self.element, self.steps * self.strided, 0)]
        return emit_kernel(
            self.problem, self.choice, symbol, self.w.batch, self.task, self.view, scratch, self.around, self.numbers
        )

    def around(self, frame: Frame, tasks: Stmt) -> Stmt:
        t, shared = self.tile, self.numbers.shared
        if self.plain:
            text = [
                OPAQUE,
                blocks(
                    "m_blocks",
                    t.pixels,
                    t.channels,
                    self.whole_steps,
                    t.unroll,
                    self.plain,
                    self.out_pixel,
                    short=self.short or (shared and t.pixels > 1),
                    direct=self.direct,
                    soft=shared,
                    half=self.half,
                ),
            ]
        else:
            text = [OPAQUE, dots("m_dots", t.pixels, t.channels, self.whole_steps, t.unroll, self.half)]
        w = self.w
        if self.at_once:
            pitch = w.width.size * w.height.dilation * self.stored
            channels = w.channels_in if self.few or self.stored < self.words * STEP else self.words * STEP
            sizes = self.strided, channels, w.width.kernel, w.height.kernel
            text.append(window("m_window", *sizes, pitch, self.most, self.stored - channels, shared))
        if self.padded or not self.at_once:
            if not self.few:
                text.append(widened("m_widened", self.strided, self.words, self.most, shared))
            elif self.bytes_joined:
                text.append(few_widened("m_widened", self.strided, w.channels_in, w.width.kernel))
            text.append(filled("m_filled", self.strided))
        return imported("".join(text), tasks)

    @property
    def block_size(self) -> int:
        """Elements of weights of a block of channels."""
        return (self.whole_steps * STEP + 2 * self.half) * self.tile.channels

    @property
    def whole_steps(self) -> int:
        return self.steps - self.half

    @property
    def out_pixel(self) -> int:
        """Bytes from a pixel of the result to the next."""
        return ceil_div(self.w.channels_out * self.w.group, STEP) * STEP

    @property
    def short(self) -> bool:
        """Whether the last tile of an image has fewer pixels."""
        return self.w.pixels % self.tile.pixels > 0

    def view(self, value: Value) -> Type:
        t = value.type
        if self.product or value in (self.x, self.weight):
            return t
        return flat_type(unblocked(t), self.w) if self.rank == 4 and self.w.width.out > 1 else unblocked(t)

    def index(self, image: Expr, channel: Expr, pixel: Expr) -> tuple[Expr, ...]:
        if self.product:
            return (*tir.split(pixel, *self.anchor.shape[:-1]), channel)
        if self.rank == 3:
            return (image, channel, pixel)
        if self.w.width.out == 1:
            return (image, channel, pixel, tir.i32(0))
        return (image, channel, tir.i32(0), pixel)

    @property
    def in_line(self) -> bool:
        """Whether windows are single pixels, in the order of the results."""
        return self.w.pointwise and self.w.group == 1 and not self.few

    def task(self, frame: Frame, image: Expr) -> Stmt:
        w, wide, number = self.w, self.tile.pixels, self.numbers
        row, column = tir.Cell("int32", "row"), tir.Cell("int32", "column")

        def one(t: Expr) -> Stmt:
            def pixel(p: Expr) -> Stmt:
                if self.in_line:
                    work = self.gather(frame, image, tir.i32(0), t * wide + p, p)
                else:
                    next_row = tir.seq(column.set(0), row.add(1))
                    move = tir.when(column.now >= number("columns", w.width.out), next_row)
                    work = tir.seq(self.gather(frame, image, row.now, column.now, p), column.add(1), move)
                return tir.when(t * wide + p < number("pixels", w.pixels), work) if w.pixels % wide else work

            gathered = tir.loop(opaque(wide), pixel, "p") if wide > 1 else pixel(tir.i32(0))
            return tir.seq(gathered, self.channels(frame, image, t))

        tiles = ceil_div(w.pixels, wide)

        def whole(group: Expr) -> Stmt:
            self.group = group
            start = None if self.in_line else tir.seq(row.set(0), column.set(0))
            return tir.seq(start, tir.loop(opaque(number("tiles", tiles)), one, "tile"))

        work = tir.loop(opaque(w.group), whole, "group") if w.group > 1 else whole(tir.i32(0))
        return work if self.in_line else tir.seq(row.made, column.made, work)

    # -- sums --------------------------------------------------------------------------------------------------------

    def channels(self, frame: Frame, image: Expr, t: Expr) -> Stmt:
        w, tile = self.w, self.tile
        data, declared = tir.flat(frame.places[self.weight].buffer)
        size = self.block_size
        if self.plain:
            return tir.seq(declared, self.all_channels(frame, image, t, data, size * (w.channels_out // tile.channels)))

        full, rest = divmod(w.channels_out, tile.channels)
        before = self.group * full  # blocks of other groups, of which none has a rest
        parts: list[Stmt] = [declared]
        if full:
            parts.append(
                tir.loop(
                    opaque(self.numbers("blocks", full)),
                    lambda b: self.block(frame, image, t, before + b, tile.channels, data, size),
                    "block",
                )
            )
        if rest:
            parts.append(self.block(frame, image, t, tir.i32(full), rest, data, size))
        return tir.seq(parts)

    def all_channels(self, frame: Frame, image: Expr, t: Expr, data: Buffer, size: int) -> Stmt:
        """Where only a Rescale follows."""
        assert self.plain is not None
        scratch, wide, number = frame.parts[0], self.tile.pixels, self.numbers
        total, apart = number("pixels", self.w.pixels), number("out_pixel", self.out_pixel)
        out, declared = tir.flat(frame.place.buffer)
        pixel, first = image * total + t * wide, self.group * self.w.channels_out
        left = total - t * wide
        offsets = [apart * p for p in range(1, wide)] if self.short or number.shared else []
        if self.short:
            offsets = [tirx.Select(left > p, o, tir.i32(0)) for p, o in enumerate(offsets, 1)]
        residual, more = self.plain.residual, []
        if residual:
            added, bind = tir.flat(frame.places[residual.value].buffer)
            more = [at(added, pixel * apart + first)]
        flat = [tir.flat(frame.places[v].buffer) for v in (self.bias, self.plain.factors) if v]
        start = self.group * size
        weights_end, scratch_end = number("weights", size), number("scratch", self.whole_steps * self.strided)
        return tir.seq(declared, [d for _, d in flat], bind if residual else None, called(
            "m_blocks", at(data, start), at(data, start + weights_end), at(scratch, 0), at(scratch, scratch_end),
            *(at(b, first) for b, _ in flat), at(out, pixel * apart + first), *more, *offsets, *self.given(),
        ))  # fmt: skip

    def given(self) -> list[Expr]:
        """Numbers of what follows the sums, where layers share the code."""
        if not self.numbers.shared or not self.plain:
            return []
        return [self.numbers(name, value) for name, value in given_numbers(self.plain).items()]

    def first(self, frame: Frame, channel: Expr) -> Expr:
        """What a channel's sums start from."""
        if self.bias is None:
            return tir.lit(0, self.element)
        return frame.body.at(self.bias, (channel if self.bias.shape[0] > 1 else tir.i32(0),))

    def block(self, frame: Frame, image: Expr, t: Expr, block: Expr, count: int, data: Buffer, size: int) -> Stmt:
        """The sums of some channels, and what follows them."""
        wide, many = self.tile.pixels, self.tile.channels
        sums, alloc = tir.local((wide * many,), "int32", "sums")
        first = block * many
        start: list[Stmt] = []
        for c in range(many):
            channel = first + min(c, count - 1)
            value, bind = tir.let(self.first(frame, channel), "bias")
            start += [bind, *(tir.store(sums, value, p * many + c) for p in range(wide))]
        weights = at(data, block * size)
        ends = at(frame.parts[0], self.whole_steps * self.strided)
        loop = [ends] if self.whole_steps // self.tile.unroll > 1 else []
        run = called("m_dots", at(sums, 0), weights, at(frame.parts[0], 0), *loop)
        return tir.seq(alloc, start, run, [self.finish(frame, image, t, first, count, sums, p) for p in range(wide)])

    def finish(self, frame: Frame, image: Expr, t: Expr, first: Expr, count: int, sums: Buffer, p: int) -> Stmt:
        wide, many = self.tile.pixels, self.tile.channels
        pixel = t * wide + p
        parts = []
        for c in range(count):
            frame.body.bind(self.anchor, partial(_loaded, sums, p * many + c))
            parts.append(self.put(frame, image, first + c, pixel))
        whole = tir.seq(parts)
        return tir.when(pixel < self.numbers("pixels", self.w.pixels), whole) if p and self.short else whole

    def put(self, frame: Frame, image: Expr, channel: Expr, pixel: Expr) -> Stmt:
        """Store a result."""
        return frame.store(self.index(image, channel, pixel))


def _loaded(buffer: Buffer, at: int, _: tir.Index) -> Expr:
    return tir.load(buffer, at)
