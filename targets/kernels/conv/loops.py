"""The innermost loops of a dense convolution in f32: one tap of the window, or one row of it, for a block of channels.

Each step loads the tile's weight vectors once and multiplies them by one input element per pixel, broadcast; on cores
whose multiply-add takes a factor from a lane, four elements are loaded at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Value
from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.access import Place
from edgec.targets.conversions import widened
from edgec.targets.tir import Expr, Stmt

from ..common import computed_lanes
from ..common_emit import Frame, put, vector
from ..cost import QUAD, by_lane
from .ahead import LINE, Rows, Slices
from .edge_taps import Inside
from .places import Tile, source
from .rows import tile_of
from .shape import Window

AHEAD = 24  # steps of the reduction between asking for weights and using them


class Tap(NamedTuple):
    """What an innermost loop is of: a tile, whose sums are in `acc`, a block of input channels, a tap of the window."""

    frame: Frame
    t: Tile
    acc: tir.Buffer
    cb: Expr
    kh: Expr | int
    kw: Expr | int = 0


class Pixel(NamedTuple):
    """Number of a pixel in its tile, and the input's row and column that it reads."""

    number: int
    row: Expr
    column: Expr


class Loops:
    """Emits the innermost loops of one convolution.

    `w` is its window (flattened where pixels form one row), `operands` are input, weights and bias.
    """

    def __init__(
        self, problem: Problem, choice: Choice, w: Window, operands: tuple[Value, Value, Value | None]
    ) -> None:
        self.w, self.lanes = w, choice.get("vl")
        self.vectors, self.block_in = choice.get("nv"), choice.get("ib")
        self.x, self.weight, self.bias = operands
        self.rank = len(problem.anchor.types[0].shape)
        self.stored = dtype(self.weight.type.dtype)
        self.by_lane = by_lane(problem.target.cpu)
        plan, cpu = tile_of(choice), problem.target.cpu
        self.ahead = Slices(w, plan, self.block_in, self.lanes * self.stored.bytes, cpu.l1d)
        self.rows_ahead = Rows(w, plan, cpu)

    def width_of(self, t: Tile, v: int) -> int:
        """Lanes with which a vector of the tile is computed; more than its true ones where padding may be read."""
        return computed_lanes(t.widths[v], self.lanes)

    def index(self, n: Expr, c: Expr, h: Expr | int, w: Expr | int) -> tuple[Expr, ...]:
        return (n, c, h, w) if self.rank == 4 else (n, c, w)

    def slot(self, t: Tile, pixel: int, v: int) -> int:
        return (pixel * len(t.widths) + v) * self.lanes

    def reach(self, t: Tile) -> tuple[int, int]:
        """The input's columns under a tile, from .. to (exclusive), counted from where its first window begins."""
        w = self.w.width
        end = (len(t.columns) - 1) * w.stride + w.kernel
        if not t.edge_column:
            return 0, end
        begin = int(t.columns[0]) * w.stride - w.pad
        return max(0, -begin), min(end, w.size - begin)

    def line(self, tap: Tap) -> Stmt:
        """A row of the window where pixels of a channel lie side by side: four of them are read at once."""
        t, w = tap.t, self.w.width
        left = source(w, t.columns[0], 0)

        def step(ci: Expr) -> Stmt:
            parts: list[Stmt | None] = []
            weights = [self.weight_vectors(tap._replace(kw=kw), ci, parts) for kw in range(w.kernel)]
            for r, row in enumerate(t.rows):
                at = (t.image, self.base(tap) + ci, source(self.w.height, row, tap.kh))
                parts += self.row(tap, r, at, left, weights)
            return tir.seq(parts)

        return tir.seq(self.fetch_slice(tap), tir.loop(self.block_in + tap.frame.zero, step, "ci"))

    def row(self, tap: Tap, r: int, at: tuple[Expr, ...], left: Expr, weights: Sequence[Sequence[Expr]]) -> list[Stmt]:
        """Multiply-adds of row `r` of the tile with all columns of the window; `at`: image, channel and input row,
        `left`: the input's column under the first of the tile's."""
        t, w, parts = tap.t, self.w.width, list[Stmt]()
        low, high = self.reach(t)
        spatial = at if self.rank == 4 else at[:2]
        for first in range(low, high, QUAD):
            start = min(first, high - QUAD)  # of the last four: nothing behind the tile is read
            x, bind = tir.let(tir.load(tap.frame.places[self.x].buffer, *spatial, tir.ramp(left + start, QUAD)), "x")
            parts.append(bind)
            for column in range(first, min(first + QUAD, high)):
                for kw in range(w.kernel):
                    c, odd = divmod(column - kw, w.stride)
                    if not odd and 0 <= c < len(t.columns):
                        factor = tirx.Shuffle([x], [tir.i32(column - start)])
                        parts += self.multiply_add(tap, r * len(t.columns) + c, factor, weights[kw])
        return parts

    def channels(self, tap: Tap, rows: Inside, columns: Inside) -> Stmt | None:
        """One tap for one block of input channels. `rows`, `columns`: which of the tile's take part in it."""
        t, h, w = tap.t, self.w.height, self.w.width
        pixels = [
            Pixel(p, source(h, t.rows[r], tap.kh), source(w, t.columns[c], tap.kw))
            for p, (r, c) in enumerate(t.pixels)
            if rows[r] and columns[c]
        ]
        if not pixels:
            return None
        ahead = [*self.fetch_slice(tap), *self.fetch_rows(tap)]
        if self.by_lane and self.quad(tap, tir.i32(0), pixels[0]) is not None:
            return tir.seq(ahead, tir.loop(self.block_in // QUAD, lambda q: self.four(tap, pixels, q * QUAD), "q"))
        # A tile at an edge holds several such loops. Were they unrolled, LLVM would keep what they share in registers
        # that the accumulators need.
        if (t.edge_row or t.edge_column) and self.block_in > 1:
            return tir.seq(ahead, tir.loop(self.block_in + tap.frame.zero, lambda ci: self.one(tap, pixels, ci), "ci"))
        size = len(pixels) * len(t.widths)
        return tir.seq(ahead, tir.steps(self.block_in, lambda ci: self.one(tap, pixels, ci), "ci", size))

    def one(self, tap: Tap, pixels: Sequence[Pixel], ci: Expr) -> Stmt:
        """One input channel."""
        parts: list[Stmt | None] = []
        weights = self.weight_vectors(tap, ci, parts)
        if not self.ahead.lines:
            parts += self.fetch(tap, ci)
        for pixel in pixels:
            place = tap.frame.places[self.x]
            x, bind = tir.let(self.element(place, tap.t.image, self.base(tap), ci, pixel), "x")
            parts.append(bind)
            parts += self.multiply_add(tap, pixel.number, x, weights)
        return tir.seq(parts)

    def four(self, tap: Tap, pixels: Sequence[Pixel], ci: Expr) -> Stmt:
        """Four input channels: a multiply-add takes its factor from a lane."""
        parts: list[Stmt | None] = []
        binds = [tir.let(self.quad(tap, ci, pixel), "x") for pixel in pixels]
        parts += [bind for _, bind in binds]
        if not self.ahead.lines:
            parts += self.fetch(tap, ci)
        for k in range(QUAD):
            weights = self.weight_vectors(tap, ci + k, parts)
            for pixel, (x, _) in zip(pixels, binds, strict=True):
                parts += self.multiply_add(tap, pixel.number, tirx.Shuffle([x], [tir.i32(k)]), weights)
        return tir.seq(parts)

    def multiply_add(self, tap: Tap, pixel: int, factor: Expr, weights: Sequence[Expr]) -> list[Stmt]:
        """Add an element of the input times the vectors of weights to a pixel's sums."""
        added = []
        for v, value in enumerate(weights):
            here, lanes = self.slot(tap.t, pixel, v), self.width_of(tap.t, v)
            total = vector(tap.acc, lanes, here) + tir.broadcast(factor, lanes) * value
            added.append(put(tap.acc, total, lanes, here))
        return added

    def weight_vectors(self, tap: Tap, ci: Expr, parts: list[Stmt | None]) -> list[Expr]:
        """The tile's vectors of weights of one step, bound by statements that are added to `parts`."""
        found = []
        for v in range(len(tap.t.widths)):
            value, bind = tir.let(self.weight_vector(tap, ci, v), "w")
            found.append(value)
            parts.append(bind)
        return found

    def weight_vector(self, tap: Tap, ci: Expr, v: int) -> Expr:
        at = (*self.weights_at(tap.t, tap.cb, tap.kh, tap.kw, ci), v * self.lanes)
        return widened(vector(tap.frame.places[self.weight].buffer, self.width_of(tap.t, v), *at), self.stored.name)

    def weights_at(self, t: Tile, cb: Expr, kh: Expr | int, kw: Expr | int, ci: Expr | int) -> tuple[Expr | int, ...]:
        """Index of the vectors of weights of one step, without their last axis."""
        return (t.weights, cb, kh, kw, ci) if self.rank == 4 else (t.weights, cb, kw, ci)

    def fetch(self, tap: Tap, ci: Expr) -> list[Stmt]:
        """Ask for the weights that the loop needs some steps later: hardware stops at page boundaries."""
        buffer = tap.frame.places[self.weight].buffer
        at = self.weights_at(tap.t, tap.cb, tap.kh, tap.kw, ci + AHEAD)
        each = self.lanes * self.stored.bytes
        return [tir.prefetch(buffer, *at, v * self.lanes) for v in range(len(tap.t.widths)) if v * each % LINE == 0]

    def fetch_slice(self, tap: Tap) -> list[Stmt]:
        """Ask for this tile's share of the next slice of weights, before an innermost loop of the tile."""
        if not self.ahead.lines:
            return []
        t = tap.t
        loop = (tap.cb - t.begin) * self.w.taps + tap.kh * self.w.width.kernel + tap.kw
        buffer, each = tap.frame.places[self.weight].buffer, LINE // self.stored.bytes
        first = tirx.floordiv(tir.expr(t.done) * self.ahead.slice, self.ahead.pixels) + loop * self.ahead.lines
        at = self.weights_at(t, tir.expr(t.begin) + self.ahead.blocks, 0, 0, 0)
        return [tir.prefetch(buffer, *at, (first + i) * each) for i in range(self.ahead.lines)]

    def fetch_rows(self, tap: Tap) -> list[Stmt]:
        """Ask for a share of what the next tile reads of the same rows and channels, before an innermost loop."""
        t, place, ahead = tap.t, tap.frame.places[self.x], self.rows_ahead
        if self.rank != 4 or not place.type.layout.endswith("c"):
            return []
        block = int(place.buffer.shape[-1])
        share = ahead.share(len(t.columns), block)
        if not share:
            return []
        row, column = ahead.next(t)
        first = column + tir.expr(tap.kw) * (share * ahead.pixels(block))
        at = (t.image, tirx.floordiv(self.base(tap), block), source(self.w.height, row, tap.kh))
        return [tir.prefetch(place.buffer, *at, first + i * ahead.pixels(block), 0, near=False) for i in range(share)]

    def base(self, tap: Tap) -> Expr:
        """The first channel of the block."""
        return tap.t.source + tap.cb * self.block_in

    def element(self, place: Place, n: Expr, base: Expr, ci: Expr, pixel: Pixel) -> Expr:
        """x[n, base + ci, row, column]; a block of input channels never crosses a block of the layout."""
        if place.type.layout.endswith("c"):
            block = place.buffer.shape[-1]
            spatial = (pixel.row, pixel.column) if self.rank == 4 else (pixel.column,)
            return tir.load(place.buffer, n, tirx.floordiv(base, block), *spatial, tirx.floormod(base, block) + ci)
        return place.load(self.index(n, base + ci, pixel.row, pixel.column))

    def quad(self, tap: Tap, ci: Expr, pixel: Pixel) -> Expr | None:
        """Channels `ci` .. `ci` + 3 of the block of a pixel's input, where these lie together."""
        place, channel = tap.frame.places[self.x], self.base(tap) + ci
        if self.block_in % QUAD or not place.type.layout.endswith(f"{QUAD}c"):
            return None
        spatial = (pixel.row, pixel.column) if self.rank == 4 else (pixel.column,)
        lanes = tir.ramp(tirx.floormod(channel, QUAD), QUAD)
        return tir.load(place.buffer, tap.t.image, tirx.floordiv(channel, QUAD), *spatial, lanes)
