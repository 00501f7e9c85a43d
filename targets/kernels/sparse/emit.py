"""TensorIR of products by a sparse matrix, with pixels in the lanes of vectors.

A unit is a block of pixels. Its inputs are laid into scratch with all pixels of a channel side by side; then each
output channel adds up the channels that it has weights for: one weight, broadcast, times some vectors of pixels. The
form is that of Elsen et al., "Fast Sparse ConvNets", 2020. Sums wait in scratch until what follows the product is
computed from them, turned into vectors of channels where the output lies so. Where the inputs of a unit outgrow the L1
cache, they come in slices, and the sums of all channels stay in scratch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.layout import layout
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from ..common import ceil_div
from ..common_emit import F32, Frame, emit_kernel, full_or_rest, put, store_tile, stretch, vector
from ..conv.places import flat_type
from ..conv.shape import Window
from ..turned import Turning
from .gather import Gather
from .rows import PART
from .stored import StoredBlocks


@dataclass(frozen=True)
class Unit:
    """Pixels `first` to `first + pixels` of an image, output channels from `channel` on in `blocks` blocks."""

    frame: Frame
    image: Expr
    first: Expr
    pixels: int
    channel: Expr
    blocks: Expr


class Sparse:
    """One product: of a pointwise convolution (pixels in one row) or of a matrix, `w` being its window."""

    def __init__(
        self, problem: Problem, choice: Choice, w: Window, operands: tuple[Value, Value, Value | None]
    ) -> None:
        self.problem, self.choice, self.w = problem, choice, w
        self.x, self.weight, self.bias = operands
        self.lanes, self.abreast, self.parts = (choice.get(key) for key in ("vl", "pb", "parts"))
        self.pixels = choice.get("pv") * self.lanes
        self.anchor = problem.anchor.results[0]
        self.matrix = problem.anchor.op == "MatMul"
        self.planar = not self.matrix and not problem.body.outputs[0].type.layout
        sparse = layout(self.weight.type.layout, len(self.weight.shape)).sparse
        assert sparse is not None
        self.slice = sparse.slice
        self.passes = ceil_div(w.channels_in, self.slice)
        self.blocks = ceil_div(w.channels_out, self.lanes)
        self.sums_at = ceil_div(min(self.slice, w.channels_in), self.lanes) * self.lanes * self.pixels
        self.stored: StoredBlocks

    def emit(self, symbol: str) -> Emitted:
        spaces = ceil_div(self.w.width.out, self.pixels)
        heads: list[Stmt] = []

        def make(frame: Frame, number: Expr) -> Stmt:
            stored = StoredBlocks(self.weight, frame.places[self.weight].buffer, self.problem.target.pointer_bits)
            self.stored = stored
            heads.extend(stored.heads)
            image, space, part = tir.split(number, self.w.batch, spaces, self.parts)
            first, many = stretch(part, ceil_div(self.blocks, self.parts), self.blocks)

            def unit(pixels: int) -> Stmt:
                return self.unit(Unit(frame, image, space * self.pixels, pixels, first * self.lanes, many))

            return full_or_rest(space, self.w.width.out, self.pixels, unit)

        tasks = self.w.batch * spaces * self.parts
        return emit_kernel(
            self.problem, self.choice, symbol, tasks, make, self.view, around=lambda _, tasks: tir.seq(heads, tasks)
        )

    def view(self, value: Value) -> Type:
        if not self.matrix:
            return flat_type(value.type, self.w)
        return Type(value.type.dtype, (prod(value.shape[:-1]), value.shape[-1])) if value == self.x else value.type

    def unit(self, u: Unit) -> Stmt:
        """Slice by slice, or block by block where there is one slice."""
        gather = Gather(u.frame, self.x, self.matrix, self.lanes, self.pixels, u.image, u.first, u.pixels)
        inputs = self.w.channels_in
        if self.passes == 1:
            return tir.seq(gather.planes(tir.i32(0), inputs), self.each_block(u, self.channels))
        whole, rest = divmod(inputs, self.slice)

        def one(k: Expr, count: int) -> Stmt:
            rows = self.w.channels_out * k + u.channel
            return tir.seq(
                gather.planes(k * self.slice, count),
                tir.loop(self.outputs(u), lambda o: self.row(u, rows + o, o, more=True), "o"),
            )

        return tir.seq(
            tir.loop(self.outputs(u), lambda o: tir.seq(self.keep(u, o, [self.zero] * self.vectors(u))), "o"),
            tir.loop(whole, lambda k: one(k, self.slice), "slice"),
            one(tir.i32(whole), rest) if rest else None,
            self.each_block(u, lambda u, b, n: self.finish(u, u.channel + b * self.lanes, b * self.lanes, n)),
        )

    def each_block(self, u: Unit, make: Callable[[Unit, Expr, int], Stmt]) -> Stmt:
        """`make(unit, block, channels)` for the blocks of output channels of a unit."""
        first = tirx.floordiv(u.channel, self.lanes)
        return tir.loop(
            u.blocks,
            lambda b: full_or_rest(first + b, self.w.channels_out, self.lanes, lambda n: make(u, b, n)),
            "block",
        )

    def outputs(self, u: Unit) -> Expr:
        """How many output channels a unit has."""
        return tirx.min(u.blocks * self.lanes, self.w.channels_out - u.channel)

    def vectors(self, u: Unit) -> int:
        return ceil_div(u.pixels, self.lanes)

    # -- sums ----------------------------------------------------------------------------------------------------

    @property
    def zero(self) -> Expr:
        return tir.broadcast(tir.lit(0.0, F32), self.lanes)

    def channels(self, u: Unit, block: Expr, count: int) -> Stmt:
        """A block of output channels, from the first weight to the result."""
        first = u.channel + block * self.lanes
        sums = tir.loop(count, lambda o: self.row(u, first + o, o), "o")
        return tir.seq(sums, self.finish(u, first, tir.i32(0), count))

    def keep(self, u: Unit, o: Expr, sums: list[Expr]) -> list[Stmt]:
        """Store the sums of row `o` of scratch."""
        at = o * self.pixels + self.sums_at
        return [put(u.frame.scratch, total, self.lanes, at + v * self.lanes) for v, total in enumerate(sums)]

    def row(self, u: Unit, row: Expr, o: Expr, more: bool = False) -> Stmt:
        """Products of one row of weights into row `o` of scratch, `more` of them: `abreast` weights at a time, each
        with sums of its own."""
        lanes, many, vectors, scratch = self.lanes, self.abreast, self.vectors(u), u.frame.scratch
        acc, alloc = tir.local((many * vectors * lanes,), F32)

        def slot(k: int, v: int) -> int:
            return (k * vectors + v) * lanes

        def first(k: int, v: int) -> Expr:
            return vector(scratch, lanes, o * self.pixels + self.sums_at + v * lanes) if more and not k else self.zero

        def step(at: Expr) -> Stmt:
            parts: list[Stmt] = []
            for k in range(many):
                w, bind = tir.let(tir.broadcast(tir.load(self.stored.values, at + k), lanes), "w")
                plane, place = tir.let(self.stored.place(at + k) * self.pixels, "plane")
                parts += [bind, place]
                for v in range(vectors):
                    product = w * vector(scratch, lanes, plane + v * lanes)
                    parts.append(put(acc, vector(acc, lanes, slot(k, v)) + product, lanes, slot(k, v)))
            return tir.seq(parts)

        totals = [vector(acc, lanes, slot(0, v)) for v in range(vectors)]
        for k in range(1, many):
            totals = [total + vector(acc, lanes, slot(k, v)) for v, total in enumerate(totals)]
        starts = [put(acc, first(k, v), lanes, slot(k, v)) for k in range(many) for v in range(vectors)]
        return tir.seq(alloc, starts, self.stored.each(row, step, many), self.keep(u, o, totals))

    # -- results -------------------------------------------------------------------------------------------------

    def finish(self, u: Unit, channel: Expr, o: Expr, count: int) -> Stmt:
        """What follows the product, for `count` channels whose sums are in rows from `o` of scratch on."""
        if self.planar:
            return tir.loop(count, lambda k: self.line(u, channel + k, o + k), "o")
        whole, rest = divmod(u.pixels, self.lanes)
        squares = [tir.loop(whole, lambda v: self.square(u, v, self.lanes, channel, o, count), "v")] if whole else []
        return tir.seq(squares, self.square(u, tir.i32(whole), rest, channel, o, count) if rest else None)

    def line(self, u: Unit, channel: Expr, o: Expr) -> Stmt:
        """One output channel whose pixels lie side by side."""
        at = o * self.pixels + self.sums_at

        def some(start: Expr | int, width: int) -> Stmt:
            return tir.vectorized(
                width,
                lambda lane: self.write(u, u.frame.scratch, at + start + lane, channel, u.first + start + lane),
            )

        whole, rest = divmod(u.pixels, self.lanes)
        lines = [tir.loop(whole, lambda v: some(v * self.lanes, self.lanes), "v")] if whole else []
        return tir.seq(lines, some(whole * self.lanes, rest) if rest else None)

    def square(self, u: Unit, v: Expr, count: int, channel: Expr, o: Expr, width: int) -> Stmt:
        """A vector of pixels of a block of channels, of which `count` and `width` count."""
        lanes, turning = self.lanes, Turning()

        def part(row: int, k: int) -> Expr:
            at = (o + min(row, width - 1)) * self.pixels + self.sums_at + v * lanes + k * PART
            return vector(u.frame.scratch, PART, at)

        acc, alloc = tir.local((count * lanes,), F32, "sums")
        kept = [put(acc, x, lanes, p * lanes) for p, x in enumerate(turning.turned(part, lanes)[:count])]

        def writer(
            sums: Buffer, slot: Expr | int, _: int, row: Expr | int, pixel: Expr | int
        ) -> Callable[[Expr], Stmt]:
            return lambda lane: self.write(u, sums, slot + lane, channel + lane, pixel)

        pixels = [u.first + v * lanes + p for p in range(count)]
        stores = store_tile(u.frame, acc, [tir.i32(0)], pixels, (width,), lanes, writer)
        return tir.seq(turning.statements, alloc, kept, stores)

    def write(self, u: Unit, sums: Buffer, slot: Expr, channel: Expr, pixel: Expr | int) -> Stmt:
        """The element of one lane, from its sum."""

        def anchor(_: tir.Index) -> Expr:
            value = tir.load(sums, slot)
            return value if self.bias is None else value + u.frame.body.at(self.bias, (channel,))

        u.frame.body.bind(self.anchor, anchor)
        if self.matrix:
            return u.frame.store((*tir.split(tir.expr(pixel), *self.anchor.shape[:-1]), channel))
        return u.frame.store((u.image, channel, tir.i32(0), tir.expr(pixel)))
