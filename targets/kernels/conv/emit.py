"""TensorIR of dense convolutions: a tile of output pixels times vectors of output channels stays in registers.

Each step of the reduction loads the tile's weight vectors once and multiplies them by one input element per pixel,
broadcast. Padding costs neither a halo nor a copy: rows outside are left out by the bounds of the row loop, columns by
tiles at the edge that are generated with constant positions and simply lack those multiply-adds.

Long sums start from zero, and the bias comes last: a bias is often much larger than the products, and every step of a
sum that starts from it would be rounded at its size. Short ones start from it, since the addition would be felt.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from edgec.compiler.ir import Type, Value
from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common import ceil_div
from ..common_emit import F32, Frame, put, store_tile, vector
from ..cost import QUAD
from .edge_taps import Inside, at_edge
from .loops import Loops, Tap
from .places import Tile, flat_type, tap_bounds
from .shape import Window
from .tiles import in_lines

Lane = Callable[[Expr], Stmt]
SHORT = 32  # products up to which a sum starts from the bias


class Conv(Loops):
    """Emits the tiles of one convolution."""

    def __init__(
        self, problem: Problem, choice: Choice, w: Window, operands: tuple[Value, Value, Value | None]
    ) -> None:
        super().__init__(problem, choice, w, operands)
        self.anchor = problem.anchor.results[0]
        self.problem = problem
        self.short = choice.get("kp") == 1 and w.channels_in // w.group * w.taps <= SHORT

    def view(self, value: Value) -> Type:
        """The type under which an operand is addressed: pixels in one row where the window is flat."""
        return (
            flat_type(value.type, self.w)
            if self.w.pointwise and self.w.height.out == 1 and self.rank == 4
            else value.type
        )

    def prepare(self, frame: Frame, whole: Tile) -> Stmt | None:
        """What comes before the tiles of a unit; `whole` stands for any of them."""
        return None

    # -- reduction -----------------------------------------------------------------------------------------------

    def tile(self, frame: Frame, t: Tile) -> Stmt:
        """Accumulate and store one tile."""
        acc, alloc = tir.local((len(t.pixels) * len(t.widths) * self.lanes,), F32)
        blocks = ceil_div(self.w.channels_in // self.w.group, self.block_in)
        work = self.reduce(frame, t, acc, tir.i32(0), tir.i32(blocks))
        return tir.seq(alloc, self.start(frame, t, acc), work, self.finish(frame, t, acc))

    def add(self, frame: Frame, t: Tile, first: Expr, count: Expr, sums: Callable[[int], Expr]) -> Stmt:
        """Add `count` blocks of input channels to sums in scratch; those of the tile's pixel p lie at `sums(p)`."""
        acc, alloc = tir.local((len(t.pixels) * len(t.widths) * self.lanes,), F32)
        t.begin = first
        parts: list[Stmt] = []
        for p in range(len(t.pixels)):
            for v in range(len(t.widths)):
                there, lanes = sums(p) + v * self.lanes, self.width_of(t, v)
                total = vector(frame.scratch, lanes, there) + vector(acc, lanes, self.slot(t, p, v))
                parts.append(put(frame.scratch, total, lanes, there))
        return tir.seq(alloc, self.start(frame, t, acc), self.reduce(frame, t, acc, first, count), parts)

    def start(self, frame: Frame, t: Tile, acc: tir.Buffer) -> Stmt:
        parts: list[Stmt] = []
        for v in range(len(t.widths)):
            value, bind = tir.let(self.first(frame, t, v), "first")
            parts.append(bind)
            parts += [put(acc, value, self.width_of(t, v), self.slot(t, p, v)) for p in range(len(t.pixels))]
        return tir.seq(parts)

    def first(self, frame: Frame, t: Tile, v: int) -> Expr:
        """What the sums of a vector of channels start from."""
        if self.bias is not None and self.bias_first(frame, t, v):
            return vector(frame.places[self.bias].buffer, self.lanes, t.channel + v * self.lanes)
        return tir.broadcast(tir.lit(0.0, F32), self.width_of(t, v))

    def bias_first(self, frame: Frame, t: Tile, v: int) -> bool:
        """Whether that is the bias: of short sums, where it can be read as a whole vector."""
        return self.short and self.bias in frame.places and t.widths[v] == self.lanes

    def reduce(self, frame: Frame, t: Tile, acc: tir.Buffer, first: Expr, count: Expr) -> Stmt:
        """Loops over `count` blocks of input channels, rows and columns of the window, channels within a block."""
        return tir.loop(count, lambda cb: self.taps(frame, t, acc, cb), "cb", start=first)

    def taps(self, frame: Frame, t: Tile, acc: tir.Buffer, cb: Expr) -> Stmt:
        h = self.w.height
        if t.edge_row:
            wide = self.w.width.kernel if t.edge_column else 1
            return at_edge(h, t.rows, partial(self.columns, frame, t, acc, cb), frame.zero, wide)
        if len(t.rows) > 1 or h.plain or (h.kernel == 1 and h.pad == 0 and h.inside(h.out - 1, 0)):
            return tir.loop(h.kernel, lambda kh: self.columns(frame, t, acc, cb, kh), "kh")
        low, high = tap_bounds(h, t.rows[0])
        return tir.loop(high - low, lambda kh: self.columns(frame, t, acc, cb, kh), "kh", start=low)

    def columns(
        self, frame: Frame, t: Tile, acc: tir.Buffer, cb: Expr, kh: Expr | int, rows: Inside | None = None
    ) -> Stmt:
        """`rows`: which of the tile's rows are inside; all of them, unless it is at an edge."""
        w, whole = self.w.width, [True] * len(t.columns)
        rows = rows or [True] * len(t.rows)
        low, high = self.reach(t)
        if self.by_lane and high - low >= QUAD and not t.edge_row and in_lines(w, frame.places[self.x].type.layout):
            return self.line(Tap(frame, t, acc, cb, kh))

        def tap(kw: Expr | int, columns: Inside) -> Stmt | None:
            return self.channels(Tap(frame, t, acc, cb, kh, kw), rows, columns)

        if t.edge_column:
            return at_edge(w, t.columns, tap, frame.zero, self.w.height.kernel if t.edge_row else 1)
        return tir.loop(w.kernel, lambda kw: tir.seq(tap(kw, whole)), "kw")

    # -- epilogue ------------------------------------------------------------------------------------------------

    def finish(self, frame: Frame, t: Tile, acc: tir.Buffer) -> Stmt:
        def write(buffer: tir.Buffer, slot: Expr | int, v: int, row: Expr | int, column: Expr | int) -> Lane:
            return self.writer(frame, t, buffer, slot, v, row, column)

        return store_tile(frame, acc, t.rows, t.columns, t.widths, self.lanes, write)

    def writer(
        self, frame: Frame, t: Tile, acc: tir.Buffer, slot: Expr | int, v: int, row: Expr | int, column: Expr | int
    ) -> Lane:
        def write(lane: Expr) -> Stmt:
            channel = t.channel + v * self.lanes + lane

            def anchor(_: tir.Index) -> Expr:
                value = tir.load(acc, slot + lane)
                if self.bias is None or self.bias_first(frame, t, v):
                    return value
                return value + frame.body.at(self.bias, (channel,))

            frame.body.bind(self.anchor, anchor)
            return frame.store(self.index(t.image, channel, row, column))

        return write
