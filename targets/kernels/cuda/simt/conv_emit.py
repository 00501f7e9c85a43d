"""TensorIR of f32 convolutions as products: pixels x (taps x channels) by (taps x channels) x filters."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.compiler.registry import Choice, Emitted, Problem

from .... import tir
from ....cuda.block import pointer
from ....tir import Expr, Stmt
from ...common import ceil_div, in_memory
from ...conv.shape import Axis, Window, conv_operands, geometry
from ..epilogue import Finish, Run, channel_vector, finishing
from .emit import Simt, copied
from .tile import PAD, Tile, tile_of

OUTSIDE = -(1 << 24)  # a row of an image that no tap reaches


class Conv(Simt):
    """A stage holds `step` consecutive elements of taps x channels, channels innermost, of each pixel."""

    def __init__(self, problem: Problem, tile: Tile) -> None:
        from .conv_rows import product_of

        self.window: Window = geometry(problem)
        super().__init__(problem, product_of(self.window), tile)
        self.flat = len(problem.anchor.types[0].shape) == 3

    def pixel(self, row: Expr) -> tuple[Expr, Expr, Expr]:
        """Image, y and x of a result's row."""
        w = self.window
        image, y, x = tir.split(row, w.batch, w.height.out, w.width.out)
        return (tir.i32(0) if w.batch == 1 else image), y, x

    def index(self, image: Expr, channel: Expr, y: Expr, x: Expr) -> tuple[Expr, ...]:
        return (image, channel, x) if self.flat else (image, channel, y, x)

    def prepare(self) -> Stmt:
        """Of each row of the left operand that a thread copies: where its window begins."""
        t, w = self.tile, self.window
        x, _, self.bias = conv_operands(self.problem.anchor)
        self.x, self.w = self.frame.places[x], self.frame.places[self.weights]
        self.filters, filters_declared = tir.flat(self.w.buffer)
        self.image, image_declared = tir.flat(self.x.buffer)
        self.quads = w.channels_in % 4 == 0 and self.x.type.layout in ("NHWC", "NWC")
        self.chunks = t.rows * t.step // (4 if self.quads else 1)
        count = self.shares(self.chunks) if self.quads else 1
        self.rows = count
        names = ("start", "top", "side")
        (self.start, d0), (self.top, d1), (self.side, d2) = (tir.local((count,), "int32", n) for n in names)

        def one(r: Expr) -> Stmt:
            row = self.row0 + self.own(r)
            image, y, x = self.pixel(row)
            top, side = y * w.height.stride - w.height.pad, x * w.width.stride - w.width.pad
            start = self.address(image, tir.i32(0), top, side)
            if self.product.rows % t.rows:
                top = tirx.Select(row < self.product.rows, top, tir.i32(OUTSIDE))
            return tir.seq(tir.store(self.start, start, r), tir.store(self.top, top, r), tir.store(self.side, side, r))

        return tir.seq(filters_declared, image_declared, d0, d1, d2, tir.unrolled(count, one, "r"))

    def own(self, r: Expr) -> Expr:
        """The row, within the block, of a thread's share."""
        if self.quads:
            return tirx.floordiv(self.thread + r * self.tile.threads, self.tile.step // 4)
        return tirx.floormod(self.thread, self.tile.rows)

    def address(self, image: Expr, channel: Expr, y: Expr, x: Expr) -> Expr:
        """Elements from the beginning of the input; linear, so that parts of it add up."""
        w = self.window
        if self.x.type.layout:
            return ((image * w.height.size + y) * w.width.size + x) * w.channels_in + channel
        return ((image * w.channels_in + channel) * w.height.size + y) * w.width.size + x

    @property
    def weights(self) -> Value:
        return in_memory(self.problem, conv_operands(self.problem.anchor)[1])

    def left(self, stage: Expr, k: Expr) -> Stmt:
        return self._quads(stage, k) if self.quads else self._elements(stage, k)

    def right(self, stage: Expr, k: Expr) -> Stmt:
        return self.columns(self.filters, stage, k, tir.i32(0), ceil_div(self.window.channels_out, 4) * 4)

    def _tap(self, at: Expr) -> tuple[Expr, Expr, Expr]:
        """Offsets in y and x, and channel, of an element of taps x channels."""
        w = self.window
        tap, channel = tir.split(at, w.taps, w.channels_in)
        if w.taps == 1:
            return tir.i32(0), tir.i32(0), at
        y, x = tir.split(tap, w.height.kernel, w.width.kernel)
        return y * w.height.dilation, x * w.width.dilation, channel

    def _quads(self, stage: Expr, k: Expr) -> Stmt:
        t, w = self.tile, self.window
        across = t.step // 4
        within = tirx.floormod(self.thread, across) * 4
        if w.channels_in % t.step == 0:  # the whole stage belongs to one tap
            dy, dx, channel = self._tap(k * t.step)
            channel = channel + within
        else:
            dy, dx, channel = self._tap(k * t.step + within)
        offset, bind = tir.let(self.address(tir.i32(0), channel, dy, dx), "offset")
        (dy, bind_y), (dx, bind_x) = tir.let(dy, "dy"), tir.let(dx, "dx")

        def one(r: Expr) -> Stmt:
            number = self.thread + r * t.threads
            target = pointer(self.shared, stage + tirx.floordiv(number, across) * (t.step + PAD) + within)
            origin = pointer(self.image, tir.load(self.start, r) + offset)
            inside = self._inside(r, dy, dx)
            if self.product.depth % t.step:
                inside.append(k * t.step + within < self.product.depth)
            return self.guarded(number, self.chunks, copied(16, target, origin, inside))

        return tir.seq(bind, bind_y, bind_x, tir.unrolled(self.rows, one, "r"))

    def _elements(self, stage: Expr, k: Expr) -> Stmt:
        """A thread copies one row's elements, `stride` steps apart."""
        t = self.tile
        stride = max(1, t.threads // t.rows)
        first = tirx.floordiv(self.thread, t.rows) if t.threads > t.rows else tir.i32(0)

        def one(i: Expr, row: int) -> Stmt:
            step = first + i * stride
            dy, dx, channel = self._tap(k * t.step + step)
            own = self.own(tir.i32(0)) + row
            target = pointer(self.shared, stage + own * (t.step + PAD) + step)
            origin = pointer(self.image, tir.load(self.start, 0) + self.address(tir.i32(0), channel, dy, dx))
            inside = self._inside(tir.i32(0), dy, dx)
            if self.product.depth % t.step:
                inside.append(k * t.step + step < self.product.depth)
            return copied(4, target, origin, inside)

        assert t.threads % t.rows == 0
        return tir.unrolled(t.step // stride, lambda i: one(i, 0), "e")

    def _inside(self, r: Expr, dy: Expr, dx: Expr) -> list[Expr]:
        t, w = self.tile, self.window
        found = []
        if leaves(w.height) or self.product.rows % t.rows:
            found.append(below(tir.load(self.top, r) + dy, w.height.size))
        if leaves(w.width):
            found.append(below(tir.load(self.side, r) + dx, w.width.size))
        return found

    def before(self, column: Expr, lanes: int) -> Stmt:
        self.offsets, stmt = channel_vector(self.frame, self.bias, column, lanes)
        return stmt

    def store(self, row: Expr, column: Expr, lanes: int, acc: Any) -> Finish:
        image, y, x = self.pixel(row)
        run = Run(self.index(image, column, y, x), lanes, row * self.window.channels_out + column)
        return finishing(self.frame, run, [(Value(self.problem.anchor), lambda lane: acc(lane) + self.offsets(lane))])


def leaves(axis: Axis) -> bool:
    """Whether a window reaches beyond the input."""
    last = (axis.out - 1) * axis.stride - axis.pad + (axis.kernel - 1) * axis.dilation
    return axis.pad > 0 or last >= axis.size


def below(x: Expr, size: int) -> Expr:
    """0 <= x < size."""
    return tirx.And(x >= 0, x < size)


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    return Conv(problem, tile_of(choice)).emit(symbol)
