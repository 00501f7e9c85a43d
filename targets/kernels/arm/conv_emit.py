"""TensorIR of dense int8 convolutions on AArch64: which tiles a task has, and what follows them."""

from __future__ import annotations

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.addends import turning
from edgec.targets.tir import Buffer, Expr, Stmt

from ..common import ceil_div, unblocked
from ..common_emit import Frame, emit_kernel, full_or_rest, put, stretch
from ..conv.places import flat_type, runs, source, tap_bounds
from ..conv.shape import WRITTEN, Window
from ..int8.multipliers import widened
from .bytes import BLOCK, LANES, Method, row_blocks, tasks
from .dots import Dots
from .tail import HALF, Tail, at_once, short
from .tail import Sums as Ended
from .tiles import Part, Tiles


class Sums(Tiles):
    """Emits one kernel: a task is a tile of channels over a share of the pixels of an image."""

    def __init__(self, method: Method, problem: Problem, choice: Choice, w: Window) -> None:
        super().__init__(method, problem, choice, w)
        self.short = short(problem)

    def emit(self, symbol: str) -> Emitted:
        return emit_kernel(
            self.problem, self.choice, symbol, tasks(self.w, self.plan), self.task, lambda v: self.view(v)
        )

    def view(self, value: Value) -> Type:
        """Blocks of channels innermost are one row of channels; pixels are one row where the window is flat."""
        t = unblocked(value.type)
        return flat_type(t, self.w) if self.flat and len(t.shape) == 4 else t

    @property
    def flat(self) -> bool:
        return self.w.pointwise and self.w.height.out == 1

    def index(self, image: Expr, channel: Expr, row: Expr | int, column: Expr | int) -> tuple[Expr, ...]:
        """Logical index of a result, as operands are viewed."""
        return (image, channel, row, column) if len(self.anchor.shape) == 4 else (image, channel, column)

    def task(self, frame: Frame, number: Expr) -> Stmt:
        w, wide = self.w, self.plan.channels
        each, spaces = row_blocks(w, self.plan)
        image, space, tile = tir.split(number, w.batch, spaces, ceil_div(w.channels_out, wide))
        x, declared_x = tir.flat(frame.places[self.x].buffer)
        weights, declared_weights = tir.flat(frame.places[self.weight].buffer)
        first, alloc = tir.local((wide,), "int32", "first")
        sums, alloc_sums = tir.local((wide * w.height.kernel,), "int32", "sums")
        offsets, alloc_offsets = tir.local((wide,), "float32", "offsets")

        def make(channels: int) -> Stmt:
            part = Part(frame, image, tile, channels, x, weights, first, sums, offsets)
            factors = widened(frame, tile * wide, [width for _, width in pieces(channels, LANES)], LANES)
            body = self.flat_row(part, space, each) if self.flat else self.rows(part, space, each)
            return tir.seq(self.sum_weights(part), factors, body)

        heads = [
            declared_x,
            declared_weights,
            alloc,
            alloc_sums if self.zero else None,
            alloc_offsets if self.added else None,
        ]
        return tir.seq(heads, full_or_rest(tile, w.channels_out, wide, make))

    def rows(self, part: Part, space: Expr, each: int) -> Stmt:
        total = self.w.height.out
        first, count = stretch(space, each, total) if each < total else (tir.i32(0), tir.i32(total))

        def line(row: Expr) -> Stmt:
            low, high = self.taps_of(row)
            begin = self.begin(part, low, high) if self.padded and self.zero else None

            def tile(columns: list[Expr | int], edge: bool) -> Stmt:
                return self.tile(part, row, columns, edge, low, high)

            return tir.seq(begin, runs(self.w.width, self.plan.columns, tile))

        whole = self.begin(part, 0, self.w.height.kernel) if not (self.padded and self.zero) else None
        return tir.seq(whole, tir.loop(count, line, "row", start=first))

    def taps_of(self, row: Expr) -> tuple[Expr, Expr]:
        """The window's rows from .. to (exclusive) that lie inside."""
        return tap_bounds(self.w.height, row) if self.padded else (tir.i32(0), tir.i32(self.w.height.kernel))

    def flat_row(self, part: Part, space: Expr, each: int) -> Stmt:
        columns = self.plan.columns
        full, rest = divmod(self.w.width.out, columns)

        def tile(start: Expr, length: int) -> Stmt:
            places = [start + i for i in range(length)]
            return self.tile(part, tir.i32(0), places, False, tir.i32(0), tir.i32(1))

        parts: list[Stmt | None] = [self.begin(part, 0, 1)]
        if full:
            many = tirx.min(each, full - space * each) if each < full else tir.i32(full)
            parts.append(tir.loop(many, lambda k: tile((space * each + k) * columns, columns), "tile"))
        if rest:
            last = tile(tir.i32(full * columns), rest)
            parts.append(last if each > full else tir.when(space.equal(full // each), last))
        return tir.seq(parts)

    def tile(self, part: Part, row: Expr, columns: list[Expr | int], edge: bool, low: Expr, high: Expr) -> Stmt:
        dots = Dots(self.method, len(columns), part.vectors)

        def line(kh: Expr) -> Stmt:
            return self.line(part, dots, source(self.w.height, row, kh), kh, columns, edge)

        reduce = tir.loop(high - low, line, "kh", start=low)
        begin = dots.start(lambda p: part.start(tir.expr(row) + columns[min(p, len(columns) - 1)]))
        return tir.seq(dots.alloc, begin, reduce, self.finish(part, dots, row, columns))

    def line(self, part: Part, dots: Dots, row: Expr, kh: Expr, columns: list[Expr | int], edge: bool) -> Stmt:
        """A row of the window."""
        taps = self.taps_few if self.few and self.w.width.kernel <= WRITTEN else self.taps
        return taps(part, dots, row, kh, columns, edge)

    def finish(self, part: Part, dots: Dots, row: Expr, columns: list[Expr | int]) -> Stmt:
        """Store a tile, pixel by pixel: long code stands once, in a loop over sums in memory."""
        wide = part.vectors * LANES

        def kept(stage: Buffer, p: int, at: int) -> list[Stmt]:
            return [put(stage, dots.total(p, v), LANES, at + v * LANES) for v in range(part.vectors)]

        def ended(stage: Buffer, at: Expr | int, column: Expr | int) -> list[Ended]:
            """Vectors of 16 channels, then of fewer: LLVM makes poor code of others."""
            first = part.tile * self.plan.channels
            other = part.frame.zero * (tir.expr(row) + column)  # 0, as in Part.start

            def one(low: int, width: int) -> Ended:
                def index(lane: Expr) -> tuple[Expr, ...]:
                    return self.index(part.image, first + low + lane, row, column)

                def offset(lane: Expr) -> Expr:
                    return tir.load(part.offsets, other + low + lane)

                return Ended(stage, at + low, width, index, offset)

            return [one(low, width) for low, width in pieces(part.channels, at_once(self.problem, BLOCK))]

        tail = Tail(self.problem, self.choice)
        if self.short or len(columns) < 2:
            parts: list[Stmt] = []
            every: list[Ended] = []
            for p, column in enumerate(columns):
                stage, alloc = tir.local((wide,), "int32", "stage")
                parts += [alloc, *kept(stage, p, 0)]
                every += ended(stage, 0, column)
            return tir.seq(parts, tail.store(part.frame, every))
        stage, alloc = tir.local((len(columns) * wide,), "int32", "stage")
        copies = [s for p in range(len(columns)) for s in kept(stage, p, p * wide)]
        left = tir.expr(columns[0])

        def pixel(p: Expr) -> Stmt:
            with turning(part.frame.zero * p):
                return tail.store(part.frame, ended(stage, p * wide, left + p))

        return tir.seq(alloc, copies, tir.loop(len(columns) + part.frame.zero, pixel, "p"))


def pieces(channels: int, most: int = BLOCK) -> list[tuple[int, int]]:
    """(first, width) of runs of `most` channels, and of what is left."""
    found = [(at, most) for at in range(0, channels - most + 1, most)]
    at = channels // most * most
    for width in (HALF, channels % min(most, HALF)):
        if width and channels - at >= width:
            found.append((at, width))
            at += width
    return found
