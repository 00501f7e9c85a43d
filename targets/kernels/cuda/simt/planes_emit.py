"""TensorIR of windows over channels that lie side by side: each thread some channels of some pixels of a row.

Row by row of the window a thread loads the input columns that its pixels see, each once, and joins them to its sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem

from .... import scalar, tir
from ....access import Place
from ....conversions import fetched, stored, widen
from ....cuda.block import Block, call, emit_grid, pointer, pure
from ....tir import Buffer, Expr, Stmt
from ...common import ceil_div, in_memory
from ...conv.shape import Axis, Window, conv_operands
from ...reduce_stages import add
from ..epilogue import ACCESS, Run, channel_vector, finish
from .planes_rows import BLOCK, Share, pads_after, share_of, window_of

UNROLLED_ROWS = 3  # of a window; the loop over more of them stays one
F32 = "float32"


def load_lanes(place: Place, lanes: int, *index: Expr) -> tuple[Buffer, Stmt, Stmt]:
    """Neighbouring elements in registers, as they are stored: (buffer, declaration and zeros, load)."""
    kind = stored(place.type.dtype)
    register, declared = tir.local((lanes,), kind, "column")
    clear = [tir.store(register, tir.lit(0, kind), k) for k in range(lanes)]
    size = lanes * dtype(place.type.dtype).bytes
    if size in ACCESS:
        load = call(f"ec_load{size}", pointer(register, 0), pointer(place.buffer, *index))
    else:
        assert lanes == 1
        load = tir.store(register, tir.load(place.buffer, *index), 0)
    return register, tir.seq(declared, clear), load


def wide(register: Buffer, k: Any, place: Place) -> Expr:
    """An element of a register as f32."""
    return widen(fetched(tir.load(register, k), place.type.dtype))


class Planes:
    """One kernel of a window over NHWC, one channel (or group of channels) at a time."""

    def __init__(self, problem: Problem, share: Share) -> None:
        self.problem, self.share = problem, share
        w = window_of(problem)
        assert isinstance(w, Window)
        self.w, self.node = w, problem.anchor
        self.across = ceil_div(w.width.out, share.pixels)
        self.groups = w.channels_out // share.lanes
        self.flat = len(self.node.types[0].shape) == 3

    def emit(self, symbol: str) -> Emitted:
        self.threads = self.w.batch * self.w.height.out * self.across * self.groups
        return emit_grid(self.problem, symbol, (ceil_div(self.threads, BLOCK), 1, 1), BLOCK, self._block)

    def _block(self, frame: Block) -> Stmt:
        self.frame, w, share = frame, self.w, self.share
        number, bind = tir.let(frame.at[0] * BLOCK + frame.thread, "number")
        digits = tir.split(number, w.batch, w.height.out, self.across, self.groups)
        names = ("image", "y", "x", "channel")
        scales = (1, 1, share.pixels, share.lanes)
        binds = [tir.let(d * s, n) for d, s, n in zip(digits, scales, names, strict=True)]
        (self.image, _), (self.y, _), (self.x0, _), (self.channel, _) = binds
        if w.batch == 1:
            self.image = tir.i32(0)
        self.x = frame.places[self.node.args[0]]
        self.sums, declared = tir.local((share.pixels * share.lanes,), F32, "sums")
        clear = tir.unrolled(share.pixels * share.lanes, lambda i: tir.store(self.sums, tir.lit(self.start, F32), i))
        height = w.height.kernel
        line = tir.unrolled if height <= UNROLLED_ROWS else tir.loop
        inside = tir.seq([b for _, b in binds], declared, clear, line(height, self._line, "line"), self._store())
        return tir.seq(bind, tir.when(number < self.threads, inside) if self.threads % BLOCK else inside)

    start: float = 0.0

    def source(self, row: Expr, column: Expr, channel: Expr) -> tuple[Expr, ...]:
        return (self.image, column, channel) if self.flat else (self.image, row, column, channel)

    def _line(self, line: Expr) -> Stmt:
        """The input columns under one row of the window, then all that they go into."""
        axis = self.w.width
        row, bind_row = tir.let(place_of(self.w.height, self.y, line), "row")
        first, bind_first = tir.let(self.x0 * axis.stride - axis.pad, "first")
        offsets = sorted(
            {p * axis.stride + t * axis.dilation for p in range(self.share.pixels) for t in range(axis.kernel)}
        )
        there = inside(self.w.height, row)
        columns = {}
        stmts: list[Stmt] = []
        for offset in offsets:
            register, declared, load = self._column(row, first + offset)
            here = [c for c in (there, self._inside(first + offset, offset)) if c is not None]
            condition = here[0] if len(here) == 1 else tirx.And(*here) if here else None
            stmts += [declared, tir.when(condition, load) if condition is not None else load]
            columns[offset] = register
        return tir.seq(bind_row, bind_first, stmts, self._taps(line, columns, first, there))

    def _column(self, row: Expr, column: Expr) -> tuple[Buffer, Stmt, Stmt]:
        return load_lanes(self.x, self.share.lanes, *self.source(row, column, self.channel))

    def _inside(self, column: Expr, offset: int) -> Expr | None:
        """Whether a column is one of the input's; None where all that a thread can ask for are."""
        axis = self.w.width
        greatest = (self.across - 1) * self.share.pixels * axis.stride - axis.pad + offset
        if offset - axis.pad >= 0 and greatest < axis.size:
            return None
        return below(column, axis.size)

    def _taps(self, line: Expr, columns: dict[int, Buffer], first: Expr, there: Expr | None) -> Stmt:
        raise NotImplementedError

    def join(self, at: int, combine: Callable[[Expr, Expr], Expr], x: Expr) -> Stmt:
        return tir.store(self.sums, combine(tir.load(self.sums, at), x), at)

    def multiplied(self, at: int, x: Expr, weight: Expr) -> Stmt:
        return tir.store(self.sums, pure(F32, "fmaf", x, weight, tir.load(self.sums, at)), at)

    def _store(self) -> Stmt:
        """Pixel by pixel, unless the row has ended."""
        w, share = self.w, self.share
        before = self.before()

        def one(p: int) -> Stmt:
            x = self.x0 + p if p else self.x0
            index = (self.image, self.channel, x) if self.flat else (self.image, self.channel, self.y, x)
            at = ((self.image * w.height.out + self.y) * w.width.out + x) * w.channels_out + self.channel
            values = self.results(p, x)
            done = finish(self.frame, Run(index, share.lanes, at), [(Value(self.node), self._narrowed(values))])
            return tir.when(x < w.width.out, done) if w.width.out % share.pixels and p else done

        return tir.seq(before, [one(p) for p in range(share.pixels)])

    def _narrowed(self, values: Callable[[int], Expr]) -> Callable[[int], Expr]:
        return lambda k: self.frame.body.rounded(Value(self.node), values(k))

    def before(self) -> Stmt:
        return tir.seq()

    def results(self, p: int, x: Expr) -> Callable[[int], Expr]:
        return lambda k: tir.load(self.sums, p * self.share.lanes + k)


class Depthwise(Planes):
    """One filter per channel, or several."""

    def _column(self, row: Expr, column: Expr) -> tuple[Buffer, Stmt, Stmt]:
        each = self.w.channels_out // self.w.channels_in
        channel = tirx.floordiv(self.channel, each) if each > 1 else self.channel
        return load_lanes(self.x, self.share.lanes, *self.source(row, column, channel))

    def _taps(self, line: Expr, columns: dict[int, Buffer], first: Expr, there: Expr | None) -> Stmt:
        axis, lanes = self.w.width, self.share.lanes
        place = weights(self)
        stmts: list[Stmt] = []
        for tap in range(axis.kernel):
            at = (tir.i32(tap), tir.i32(0), self.channel)
            register, declared, load = load_lanes(place, lanes, *(at if self.flat else (line, *at)))
            stmts += [declared, load]
            for p in range(self.share.pixels):
                column = columns[p * axis.stride + tap * axis.dilation]
                for k in range(lanes):
                    x, weight = wide(column, k, self.x), wide(register, k, place)
                    stmts.append(self.multiplied(p * lanes + k, x, weight))
        return tir.seq(stmts)

    def before(self) -> Stmt:
        _, _, bias = conv_operands(self.node)
        self.bias, stmt = channel_vector(self.frame, bias, self.channel, self.share.lanes)
        return stmt

    def results(self, p: int, x: Expr) -> Callable[[int], Expr]:
        return lambda k: tir.load(self.sums, p * self.share.lanes + k) + self.bias(k)


class Grouped(Depthwise):
    """`lanes` filters of one group; the channels of the group one after the other, some per access."""

    def _line(self, line: Expr) -> Stmt:
        inner = self.w.channels_in // self.w.group
        self.depth = 4 if inner % 4 == 0 else 2 if inner % 2 == 0 and self.x.type.dtype == "f32" else 1
        self.base = tirx.floordiv(self.channel, self.w.channels_out // self.w.group) * inner

        def some(c: Expr) -> Stmt:
            self.inner, bind = tir.let(c * self.depth, "inner")
            return tir.seq(bind, Planes._line(self, line))

        return tir.loop(inner // self.depth, some, "c")

    def _column(self, row: Expr, column: Expr) -> tuple[Buffer, Stmt, Stmt]:
        return load_lanes(self.x, self.depth, *self.source(row, column, self.base + self.inner))

    def _taps(self, line: Expr, columns: dict[int, Buffer], first: Expr, there: Expr | None) -> Stmt:
        axis, lanes = self.w.width, self.share.lanes
        place = weights(self)
        stmts: list[Stmt] = []
        for tap in range(axis.kernel):
            for c in range(self.depth):
                at = (tir.i32(tap), self.inner + c, self.channel)
                register, declared, load = load_lanes(place, lanes, *(at if self.flat else (line, *at)))
                stmts += [declared, load]
                for p in range(self.share.pixels):
                    x = wide(columns[p * axis.stride + tap * axis.dilation], c, self.x)
                    for k in range(lanes):
                        stmts.append(self.multiplied(p * lanes + k, x, wide(register, k, place)))
        return tir.seq(stmts)


def weights(kernel: Planes) -> Place:
    return kernel.frame.places[in_memory(kernel.problem, kernel.node.args[1])]


class Maximum(Planes):
    start = float("-inf")

    def _taps(self, line: Expr, columns: dict[int, Buffer], first: Expr, there: Expr | None) -> Stmt:
        axis, lanes = self.w.width, self.share.lanes
        stmts = []
        for p in range(self.share.pixels):
            for tap in range(axis.kernel):
                offset = p * axis.stride + tap * axis.dilation
                one = [self.join(p * lanes + k, scalar.maximum, wide(columns[offset], k, self.x)) for k in range(lanes)]
                here = [c for c in (there, self._inside(first + offset, offset)) if c is not None]
                condition = here[0] if len(here) == 1 else tirx.And(*here) if here else None
                stmts.append(tir.when(condition, tir.seq(one)) if condition is not None else tir.seq(one))
        return tir.seq(stmts)


class Average(Planes):
    def _taps(self, line: Expr, columns: dict[int, Buffer], first: Expr, there: Expr | None) -> Stmt:
        """What lies outside was loaded as zero."""
        axis, lanes = self.w.width, self.share.lanes
        return tir.seq(
            self.join(p * lanes + k, add, wide(columns[p * axis.stride + t * axis.dilation], k, self.x))
            for p in range(self.share.pixels)
            for t in range(axis.kernel)
            for k in range(lanes)
        )

    def results(self, p: int, x: Expr) -> Callable[[int], Expr]:
        down, across = pads_after(self.problem)
        padded = bool(full_attrs(self.node)["count_include_pad"])
        count = counted(self.w.height, self.y, down, padded) * counted(self.w.width, x, across, padded)
        return lambda k: tir.load(self.sums, p * self.share.lanes + k) / tirx.Cast(F32, tir.expr(count))


def counted(axis: Axis, position: Expr, after: int, padded: bool) -> Any:
    """How many taps of a window lie on the input, or on declared padding where that counts."""
    begin, end = (-axis.pad, axis.size + after) if padded else (0, axis.size)
    greatest = (axis.out - 1) * axis.stride - axis.pad + (axis.kernel - 1) * axis.dilation
    if -axis.pad >= begin and greatest < end:
        return axis.kernel
    total: Any = tir.i32(0)
    for tap in range(axis.kernel):
        t = place_of(axis, position, tir.i32(tap))
        total = total + tirx.Cast("int32", tirx.And(t >= begin, t < end))
    return total


def place_of(axis: Axis, position: Expr, tap: Expr) -> Expr:
    """The input element under a tap."""
    return position * axis.stride - axis.pad + tap * axis.dilation


def inside(axis: Axis, position: Expr) -> Expr | None:
    """Whether an input position exists; None where all do."""
    greatest = (axis.out - 1) * axis.stride - axis.pad + (axis.kernel - 1) * axis.dilation
    return None if axis.pad == 0 and greatest < axis.size else below(position, axis.size)


def below(x: Expr, size: int) -> Expr:
    """0 <= x < size."""
    return tirx.And(x >= 0, x < size)


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    node, share = problem.anchor, share_of(choice)
    if node.op != "Conv":
        return (Maximum if node.op == "MaxPool" else Average)(problem, share).emit(symbol)
    shape = window_of(problem)
    assert isinstance(shape, Window)
    return (Depthwise if shape.group == shape.channels_in else Grouped)(problem, share).emit(symbol)
