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

from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Type, Value
from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.access import Place
from edgec.targets.conversions import widened
from edgec.targets.tir import Expr, Stmt

from .common import ceil_div
from .common_emit import F32, Frame, put, store_tile, vector
from .conv_places import Tile, flat_type, source, tap_bounds
from .conv_rows import tile_of
from .conv_shape import Window
from .conv_tiles import TileChoice, in_lines, unit_pixels
from .cost import QUAD, by_lane
from .edge_taps import Inside, at_edge

Lane = Callable[[Expr], Stmt]
AHEAD = 24  # steps of the reduction between asking for weights and using them
LINE = 64  # bytes of a cache line
SHORT = 32  # products up to which a sum starts from the bias
BURST = 4  # lines that are asked for at once, at most, before a short loop; before a longer one
BURST_STEPS = 7  # ... a line for so many of its steps


class Ahead:
    """How tiles ask for the next slice of weights while they use the present one, so that memory works all the time.

    Slices follow each other in memory. `slice` is the size of one in cache lines, `blocks` in blocks of input channels;
    each tile asks for its share of the next, `lines` before each of its innermost loops. 0 lines: slices do not stay
    in L1, or few tiles use each, so that weights are asked for step by step.
    """

    def __init__(self, w: Window, plan: TileChoice, block_in: int, vector: int, l1d: int) -> None:
        """`vector`: bytes of a vector of weights."""
        self.blocks = ceil_div(ceil_div(w.channels_in // w.group, block_in), plan.passes)
        self.pixels = unit_pixels(w, plan)
        loops = self.blocks * w.taps
        self.slice = ceil_div(loops * block_in * plan.vectors * vector, LINE)
        share = ceil_div(self.slice * plan.rows * plan.columns, self.pixels)
        lines = ceil_div(share, loops)
        self.lines = lines if lines <= max(BURST, block_in // BURST_STEPS) and self.slice * LINE <= 3 * l1d // 4 else 0


class Conv:
    """Emits the tiles of one convolution. `w` is its window (flattened where pixels form one row)."""

    def __init__(
        self, problem: Problem, choice: Choice, w: Window, operands: tuple[Value, Value, Value | None]
    ) -> None:
        self.w, self.lanes = w, choice.get("vl")
        self.vectors, self.block_in = choice.get("nv"), choice.get("ib")
        self.x, self.weight, self.bias = operands
        self.anchor = problem.anchor.results[0]
        self.rank = len(problem.anchor.types[0].shape)
        self.problem = problem
        self.short = choice.get("kp") == 1 and w.channels_in // w.group * w.taps <= SHORT
        self.stored = dtype(self.weight.type.dtype)
        self.by_lane = by_lane(problem.target.cpu)
        self.ahead = Ahead(w, tile_of(choice), self.block_in, self.lanes * self.stored.bytes, problem.target.cpu.l1d)

    def view(self, value: Value) -> Type:
        """The type under which an operand is addressed: pixels in one row where the window is flat."""
        return (
            flat_type(value.type, self.w)
            if self.w.pointwise and self.w.height.out == 1 and self.rank == 4
            else value.type
        )

    def width_of(self, t: Tile, v: int) -> int:
        """Lanes with which a vector of the tile is computed; more than its true ones where padding may be read."""
        return self.lanes

    def index(self, n: Expr, c: Expr, h: Expr | int, w: Expr | int) -> tuple[Expr, ...]:
        return (n, c, h, w) if self.rank == 4 else (n, c, w)

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

    def slot(self, t: Tile, pixel: int, v: int) -> int:
        return (pixel * len(t.widths) + v) * self.lanes

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
            return self.line(frame, t, acc, cb, kh)

        def tap(kw: Expr | int, columns: Inside) -> Stmt | None:
            return self.channels(frame, t, acc, cb, kh, kw, rows, columns)

        if t.edge_column:
            return at_edge(w, t.columns, tap, frame.zero, self.w.height.kernel if t.edge_row else 1)
        return tir.loop(w.kernel, lambda kw: tir.seq(tap(kw, whole)), "kw")

    def reach(self, t: Tile) -> tuple[int, int]:
        """The input's columns under a tile, from .. to (exclusive), counted from where its first window begins."""
        w = self.w.width
        end = (len(t.columns) - 1) * w.stride + w.kernel
        if not t.edge_column:
            return 0, end
        begin = int(t.columns[0]) * w.stride - w.pad
        return max(0, -begin), min(end, w.size - begin)

    def line(self, frame: Frame, t: Tile, acc: tir.Buffer, cb: Expr, kh: Expr | int) -> Stmt:
        """A row of the window where pixels of a channel lie side by side: four of them are read at once."""
        h, w, place = self.w.height, self.w.width, frame.places[self.x]
        low, high = self.reach(t)
        left = source(w, t.columns[0], 0)

        def step(ci: Expr) -> Stmt:
            parts: list[Stmt | None] = []
            lines = {}
            for kw in range(w.kernel):
                for v in range(len(t.widths)):
                    lines[kw, v], bind = tir.let(self.weight_vector(frame, t, cb, kh, kw, ci, v), "w")
                    parts.append(bind)
            for r, row in enumerate(t.rows):
                image = (t.image, t.source + cb * self.block_in + ci, source(h, row, kh))
                for first in range(low, high, QUAD):
                    start = min(first, high - QUAD)  # of the last four: nothing behind the tile is read
                    spatial = image if self.rank == 4 else image[:2]
                    x, bind = tir.let(tir.load(place.buffer, *spatial, tir.ramp(left + start, QUAD)), "x")
                    parts.append(bind)
                    for at in range(first, min(first + QUAD, high)):
                        for kw in range(w.kernel):
                            c, odd = divmod(at - kw, w.stride)
                            if odd or not 0 <= c < len(t.columns):
                                continue
                            for v in range(len(t.widths)):
                                here, lanes = self.slot(t, r * len(t.columns) + c, v), self.width_of(t, v)
                                factor = tir.broadcast(tirx.Shuffle([x], [tir.i32(at - start)]), lanes)
                                parts.append(put(acc, vector(acc, lanes, here) + factor * lines[kw, v], lanes, here))
            return tir.seq(parts)

        ahead = self.fetch_slice(frame, t, (cb - t.begin) * self.w.taps + kh * w.kernel)
        return tir.seq(ahead, tir.loop(self.block_in + frame.zero, step, "ci"))

    def channels(
        self,
        frame: Frame,
        t: Tile,
        acc: tir.Buffer,
        cb: Expr,
        kh: Expr | int,
        kw: Expr | int,
        rows: Inside,
        columns: Inside,
    ) -> Stmt | None:
        """One tap for one block of input channels: the innermost loop. `rows`, `columns`: which take part in it."""
        h, w = self.w.height, self.w.width
        live = [(p, r, c) for p, (r, c) in enumerate(t.pixels) if rows[r] and columns[c]]
        if not live:
            return None
        base = t.source + cb * self.block_in
        at = {(r, c): (source(h, t.rows[r], kh), source(w, t.columns[c], kw)) for _, r, c in live}
        place = frame.places[self.x]

        def quads() -> Stmt:
            """All channels, four at a time: a multiply-add takes its factor from a lane."""

            def four(q: Expr) -> Stmt:
                parts: list[Stmt | None] = []
                binds = [tir.let(self.quad(place, t.image, base, q * QUAD, *at[r, c]), "x") for _, r, c in live]
                parts += [bind for _, bind in binds]
                if not self.ahead.lines:
                    parts += self.fetch(frame, t, cb, kh, kw, q * QUAD)
                for k in range(QUAD):
                    lines = [
                        tir.let(self.weight_vector(frame, t, cb, kh, kw, q * QUAD + k, v), "w")
                        for v in range(len(t.widths))
                    ]
                    parts += [bind for _, bind in lines]
                    for (p, _, _), (x, _) in zip(live, binds, strict=True):
                        for v, (value, _) in enumerate(lines):
                            here, lanes = self.slot(t, p, v), self.width_of(t, v)
                            factor = tir.broadcast(tirx.Shuffle([x], [tir.i32(k)]), lanes)
                            parts.append(put(acc, vector(acc, lanes, here) + factor * value, lanes, here))
                return tir.seq(parts)

            return tir.loop(self.block_in // QUAD, four, "q")

        def step(ci: Expr) -> Stmt:
            parts: list[Stmt | None] = []
            weights = []
            for v in range(len(t.widths)):
                value, bind = tir.let(self.weight_vector(frame, t, cb, kh, kw, ci, v), "w")
                weights.append(value)
                parts.append(bind)
            if not self.ahead.lines:
                parts += self.fetch(frame, t, cb, kh, kw, ci)
            for p, r, c in live:
                x, bind = tir.let(self.element(place, t.image, base, ci, *at[r, c]), "x")
                parts.append(bind)
                for v, value in enumerate(weights):
                    here, lanes = self.slot(t, p, v), self.width_of(t, v)
                    parts.append(put(acc, vector(acc, lanes, here) + tir.broadcast(x, lanes) * value, lanes, here))
            return tir.seq(parts)

        if self.by_lane and self.quad(place, t.image, base, tir.i32(0), *next(iter(at.values()))) is not None:
            return tir.seq(self.fetch_slice(frame, t, (cb - t.begin) * self.w.taps + kh * w.kernel + kw), quads())
        # A tile at an edge holds several such loops. Were they unrolled, LLVM would keep what they share in registers
        # that the accumulators need.
        shared = (t.edge_row or t.edge_column) and self.block_in > 1
        loop = (
            tir.loop(self.block_in + frame.zero, step, "ci")
            if shared
            else tir.steps(self.block_in, step, "ci", len(live) * len(t.widths))
        )
        return tir.seq(self.fetch_slice(frame, t, (cb - t.begin) * self.w.taps + kh * w.kernel + kw), loop)

    def weights_at(self, t: Tile, cb: Expr, kh: Expr | int, kw: Expr | int, ci: Expr | int) -> tuple[Expr | int, ...]:
        """Index of the vectors of weights of one step, without their last axis."""
        return (t.weights, cb, kh, kw, ci) if self.rank == 4 else (t.weights, cb, kw, ci)

    def fetch(self, frame: Frame, t: Tile, cb: Expr, kh: Expr | int, kw: Expr | int, ci: Expr) -> list[Stmt]:
        """Ask for the weights that the loop needs some steps later: hardware stops at page boundaries."""
        buffer, at = frame.places[self.weight].buffer, self.weights_at(t, cb, kh, kw, ci + AHEAD)
        each = self.lanes * self.stored.bytes
        return [tir.prefetch(buffer, *at, v * self.lanes) for v in range(len(t.widths)) if v * each % LINE == 0]

    def fetch_slice(self, frame: Frame, t: Tile, loop: Expr | int) -> list[Stmt]:
        """Ask for this tile's share of the next slice of weights, before innermost loop number `loop` of the tile."""
        if not self.ahead.lines:
            return []
        buffer, each = frame.places[self.weight].buffer, LINE // self.stored.bytes
        first = tirx.floordiv(tir.expr(t.done) * self.ahead.slice, self.ahead.pixels) + loop * self.ahead.lines
        at = self.weights_at(t, tir.expr(t.begin) + self.ahead.blocks, 0, 0, 0)
        return [tir.prefetch(buffer, *at, (first + i) * each) for i in range(self.ahead.lines)]

    def weight_vector(self, frame: Frame, t: Tile, cb: Expr, kh: Expr | int, kw: Expr | int, ci: Expr, v: int) -> Expr:
        at = (*self.weights_at(t, cb, kh, kw, ci), v * self.lanes)
        return widened(vector(frame.places[self.weight].buffer, self.lanes, *at), self.stored.name)

    def element(self, place: Place, n: Expr, base: Expr, ci: Expr, row: Expr, column: Expr) -> Expr:
        """x[n, base + ci, row, column]; a block of input channels never crosses a block of the layout."""
        if place.type.layout.endswith("c"):
            block = place.buffer.shape[-1]
            spatial = (row, column) if self.rank == 4 else (column,)
            return tir.load(place.buffer, n, tirx.floordiv(base, block), *spatial, tirx.floormod(base, block) + ci)
        return place.load(self.index(n, base + ci, row, column))

    def quad(self, place: Place, n: Expr, base: Expr, ci: Expr, row: Expr, column: Expr) -> Expr | None:
        """x[n, base + ci .. base + ci + 3, row, column], where these lie together."""
        if self.block_in % QUAD or not place.type.layout.endswith(f"{QUAD}c"):
            return None
        spatial = (row, column) if self.rank == 4 else (column,)
        block = tirx.floordiv(base + ci, QUAD)
        return tir.load(place.buffer, n, block, *spatial, tir.ramp(tirx.floormod(base + ci, QUAD), QUAD))

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
