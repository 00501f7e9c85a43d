"""TensorIR of Winograd convolutions: input tiles into scratch, a matrix product per position, products back to pixels.

Scratch of one worker: transformed inputs [position][channel block][tile][lane], then products
[tile][position][vector][lane]; PAD floats between the outermost slices keep them out of one cache set.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tvm import tirx

from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.compiler.winograd import TAPS, matrices
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from ..common import ceil_div
from ..common_emit import F32, Frame, chunked, emit_kernel, full_or_rest, put, vector
from ..cost import QUAD, by_lane
from ..register_tile import Tile
from .ahead import LINE
from .places import widths
from .shape import Window, conv_operands
from .winograd_rows import PAD, VECTORS, Plan
from .winograd_transform import transformed


class Winograd:
    """A task is one part of the output channels of one block of tiles."""

    def __init__(self, problem: Problem, choice: Choice, w: Window) -> None:
        self.problem, self.choice, self.w = problem, choice, w
        self.lanes = problem.target.cpu.lanes(32)
        self.x, self.weight, self.bias = conv_operands(problem.anchor)
        self.anchor = problem.anchor.results[0]
        self.plan = Plan(choice.get("m"), choice.get("tb"), choice.get("mt"), choice.get("parts"))
        self.m, self.n = self.plan.m, self.plan.m + TAPS - 1
        self.to_outputs, _, self.to_inputs = matrices(self.m)
        self.across = ceil_div(w.width.out, self.m)  # tiles in a row
        self.wide = VECTORS * self.lanes
        self.products_at, _ = self.plan.scratch(w, self.lanes)
        self.tile_stride = self.plan.positions * self.wide + PAD

    def emit(self, symbol: str) -> Emitted:
        blocks, parts = self.plan.blocks(self.w), self.plan.parts

        def task(frame: Frame, number: Expr) -> Stmt:
            image, block, part = tir.split(number, self.w.batch, blocks, parts)
            first, bind = tir.let(block * self.plan.block, "first")
            tiles = self.plan.tiles(self.w)
            even = tiles % self.plan.block == 0
            count = tir.i32(self.plan.block) if even else tirx.min(tir.i32(self.plan.block), tiles - first)
            return tir.seq(
                bind,
                tir.loop(count, lambda t: self.input_tile(frame, image, first + t, t), "t"),
                self.channels(frame, image, part, first, count),
            )

        return emit_kernel(self.problem, self.choice, symbol, self.w.batch * blocks * parts, task)

    def corner(self, tile: Expr) -> tuple[Expr, Expr]:
        """Output row and column of a tile's first pixel."""
        return tirx.floordiv(tile, self.across) * self.m, tirx.floormod(tile, self.across) * self.m

    # -- inputs --------------------------------------------------------------------------------------------------

    def input_tile(self, frame: Frame, image: Expr, tile: Expr, t: Expr) -> Stmt:
        """B^T d B of one tile, all channels: columns first, then rows."""
        height, width = self.w.height, self.w.width
        row, column = self.corner(tile)
        top, bind_top = tir.let(row - height.pad, "top")
        left, bind_left = tir.let(column - width.pad, "left")
        n, stride = self.n, self.plan.input_stride(self.w, self.lanes)
        inside = tirx.all(top >= 0, top + n <= height.size, left >= 0, left + n <= width.size)
        inner = [(a.size, ceil_div(a.out, self.m) * self.m + TAPS - 1, a.pad) for a in (height, width)]
        whole = all(pad == 0 and reach <= size for size, reach, pad in inner)  # no tile leaves the image

        def block(cb: Expr) -> Stmt:
            stage, alloc = tir.local((n * n * self.lanes,), F32, "stage")

            def columns(one: Callable[[Expr], tuple[list[Stmt], list[Expr]]]) -> Stmt:
                def step(j: Expr) -> Stmt:
                    binds, values = one(j)
                    more, outs = transformed(self.to_inputs, values, self.lanes)
                    stores = [put(stage, x, self.lanes, (i * n + j) * self.lanes) for i, x in enumerate(outs)]
                    return tir.seq(binds, more, stores)

                return tir.loop(n + frame.zero, step, "j")

            def plain(j: Expr) -> tuple[list[Stmt], list[Expr]]:
                return self._bound([self.source(frame, image, cb, top + i, left + j) for i in range(n)])

            def guarded(j: Expr) -> tuple[list[Stmt], list[Expr]]:
                return self._guarded(frame, image, cb, top, left + j)

            def rows(i: Expr) -> Stmt:
                at = [vector(stage, self.lanes, (i * n + j) * self.lanes) for j in range(n)]
                binds, values = self._bound(at)
                more, outs = transformed(self.to_inputs, values, self.lanes)
                base = (cb * self.plan.block + t) * self.lanes
                stores = [put(frame.scratch, x, self.lanes, (i * n + j) * stride + base) for j, x in enumerate(outs)]
                return tir.seq(binds, more, stores)

            down_columns = columns(plain) if whole else tir.when(inside, columns(plain), columns(guarded))
            return tir.seq(alloc, down_columns, tir.loop(n + frame.zero, rows, "i"))

        blocks = ceil_div(self.w.channels_in, self.lanes)
        return tir.seq(bind_top, bind_left, tir.loop(blocks, block, "cb"))

    def source(self, frame: Frame, image: Expr, cb: Expr, row: Expr, column: Expr) -> Expr:
        return vector(frame.places[self.x].buffer, self.lanes, image, cb, row, column, 0)

    def _bound(self, values: list[Expr]) -> tuple[list[Stmt], list[Expr]]:
        pairs = [tir.let(x, "d") for x in values]
        return [bind for _, bind in pairs], [name for name, _ in pairs]

    def _guarded(self, frame: Frame, image: Expr, cb: Expr, top: Expr, column: Expr) -> tuple[list[Stmt], list[Expr]]:
        """A column of a tile at the border: zero outside the image."""
        size = self.w.height.size, self.w.width.size
        edge, alloc = tir.local((self.n * self.lanes,), F32, "edge")
        zero = tir.broadcast(tir.lit(0.0, F32), self.lanes)
        parts: list[Stmt] = [alloc]
        for i in range(self.n):
            here = tirx.all(column >= 0, column < size[1], top + i >= 0, top + i < size[0])
            x = self.source(frame, image, cb, top + i, column)
            at = i * self.lanes
            parts.append(tir.when(here, put(edge, x, self.lanes, at), put(edge, zero, self.lanes, at)))
        binds, values = self._bound([vector(edge, self.lanes, i * self.lanes) for i in range(self.n)])
        return parts + binds, values

    # -- products ------------------------------------------------------------------------------------------------

    def channels(self, frame: Frame, image: Expr, part: Expr, first: Expr, count: Expr) -> Stmt:
        """The products and outputs of the output channels of one part."""
        total = ceil_div(self.w.channels_out, self.wide)

        def block(ob: Expr) -> Stmt:
            def make(channels: int) -> Stmt:
                true = widths(channels, self.lanes)
                products = tir.loop(
                    self.plan.positions, lambda p: self.product(frame, ob, p, count, len(true)), "position"
                )
                return tir.seq(
                    products,
                    tir.loop(count, lambda t: self.output_tile(frame, image, ob, first + t, t, true), "t"),
                )

            return full_or_rest(ob, self.w.channels_out, self.wide, make)

        return chunked(total, ceil_div(total, self.plan.parts), part, block)

    def product(self, frame: Frame, ob: Expr, position: Expr, count: Expr, vectors: int) -> Stmt:
        """[tiles, channels in] x [channels in, channels out] of one position."""
        rows, block = self.plan.rows, self.plan.block
        full, rest = divmod(block, rows)
        groups = tirx.floordiv(count + (rows - 1), rows) if not rest else tir.i32(full)
        return tir.seq(
            tir.loop(groups, lambda g: self.register_tile(frame, ob, position, g * rows, rows, vectors), "g"),
            self.register_tile(frame, ob, position, tir.i32(full * rows), rest, vectors) if rest else None,
        )

    def register_tile(self, frame: Frame, ob: Expr, position: Expr, t: Expr, rows: int, vectors: int) -> Stmt:
        lanes, inputs = self.lanes, self.w.channels_in
        tile = Tile(rows, (lanes,) * vectors, lanes)
        base = position * self.plan.input_stride(self.w, lanes) + t * lanes
        filters = frame.places[self.weight].buffer
        place = ob, tirx.floordiv(position, self.n), tirx.floormod(position, self.n)

        def line(first: Expr, ci: Expr | int, v: int) -> Expr:
            return vector(filters, lanes, *place, first + ci, v * lanes)

        def four(cb: Expr, r: int) -> Expr:
            return vector(frame.scratch, QUAD, base + (cb * self.plan.block + r) * lanes)

        def channel_block(cb: Expr, channels: int) -> Stmt:
            def step(ci: Expr) -> Stmt:
                return tile.step(
                    partial(line, cb * lanes, ci),
                    lambda r: tir.load(frame.scratch, base + (cb * self.plan.block + r) * lanes + ci),
                )

            fetch = self.fetch(frame, ob, position, tirx.floordiv(t, self.plan.rows), cb)
            if channels == QUAD and by_lane(self.problem.target.cpu):
                return tir.seq(fetch, tile.four_steps(partial(line, cb * lanes), partial(four, cb)))
            return tir.seq(fetch, tir.loop(channels, step, "ci"))

        whole, left = divmod(inputs, lanes)
        to = self.products_at + t * self.tile_stride + position * self.wide
        return tir.seq(
            tile.alloc,
            tile.zeros(),
            tir.loop(whole, lambda cb: channel_block(cb, lanes), "cb") if whole else None,
            channel_block(tir.i32(whole), left) if left else None,
            [put(frame.scratch, tile.sum(r, v), lanes, to + r * self.tile_stride + v * lanes) for r, v in tile.places],
        )

    def fetch(self, frame: Frame, ob: Expr, position: Expr, group: Expr, cb: Expr) -> list[Stmt]:
        """Ask for this register tile's share of the next position's filters, so that memory works all the time."""
        inputs, blocks = self.w.channels_in, ceil_div(self.w.channels_in, self.lanes)
        loops = ceil_div(self.plan.block, self.plan.rows) * blocks
        lines = ceil_div(ceil_div(inputs * self.wide * 4, LINE), loops)
        at = (ob, tirx.floordiv(position, self.n), tirx.floormod(position, self.n), tir.i32(inputs))
        first = (group * blocks + cb) * lines
        buffer = frame.places[self.weight].buffer
        return [tir.prefetch(buffer, *at, (first + i) * (LINE // 4)) for i in range(lines)]

    # -- outputs -------------------------------------------------------------------------------------------------

    def output_tile(self, frame: Frame, image: Expr, ob: Expr, tile: Expr, t: Expr, true: tuple[int, ...]) -> Stmt:
        """A^T M A of one tile and the epilogue of its pixels that lie inside."""
        row, column = self.corner(tile)
        top, bind_top = tir.let(row, "top")
        left, bind_left = tir.let(column, "left")

        def one(v: Expr, width: int) -> Stmt:
            return self.output_vector(frame, image, ob, top, left, t, v, width)

        if len(set(true)) == 1:
            return tir.seq(bind_top, bind_left, tir.loop(len(true), lambda v: one(v, true[0]), "v"))
        return tir.seq(bind_top, bind_left, [one(tir.i32(v), width) for v, width in enumerate(true)])

    def output_vector(
        self, frame: Frame, image: Expr, ob: Expr, top: Expr, left: Expr, t: Expr, v: Expr, width: int
    ) -> Stmt:
        n, m, lanes = self.n, self.m, self.lanes
        size = self.w.height.out, self.w.width.out
        stage, alloc_stage = tir.local((m * n * lanes,), F32, "stage")
        out, alloc_out = tir.local((m * lanes,), F32, "out")
        base = self.products_at + t * self.tile_stride + v * lanes

        def columns(j: Expr) -> Stmt:
            at = [vector(frame.scratch, lanes, base + (i * n + j) * self.wide) for i in range(n)]
            binds, values = self._bound(at)
            more, outs = transformed(self.to_outputs, values, self.lanes)
            return tir.seq(binds, more, [put(stage, x, lanes, (k * n + j) * lanes) for k, x in enumerate(outs)])

        def rows(k: Expr) -> Stmt:
            binds, values = self._bound([vector(stage, lanes, (k * n + j) * lanes) for j in range(n)])
            more, outs = transformed(self.to_outputs, values, self.lanes)
            keep = [put(out, x, lanes, pixel * lanes) for pixel, x in enumerate(outs)]
            return tir.seq(binds, more, keep, [store(k, pixel) for pixel in range(m)])

        def store(k: Expr, pixel: int) -> Stmt:
            def lane(x: Expr) -> Stmt:
                channel = ob * self.wide + v * lanes + x
                frame.body.bind(self.anchor, lambda _: self._value(frame, out, pixel, x, channel))
                return frame.store((image, channel, top + k, left + pixel))

            done = tir.vectorized(width, lane)
            return done if size[1] % m == 0 else tir.when(left + pixel < size[1], done)

        count = tir.i32(m) if size[0] % m == 0 else tirx.min(tir.i32(m), size[0] - top)
        return tir.seq(
            alloc_stage, alloc_out, tir.loop(n + frame.zero, columns, "j"), tir.loop(count + frame.zero, rows, "k")
        )

    def _value(self, frame: Frame, out: Buffer, pixel: int, lane: Expr, channel: Expr) -> Expr:
        value = tir.load(out, pixel * self.lanes + lane)
        return value if self.bias is None else value + frame.body.at(self.bias, (channel,))
