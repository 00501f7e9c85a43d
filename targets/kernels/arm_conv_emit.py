"""TensorIR of dense int8 convolutions on AArch64: tiles of pixels x channels, zero points, and what follows.

Products are those of the stored bytes. The zero point's share, zero * (sum of the weights), is taken from the bias once
for each task: by rows of the window, so that rows outside the input can be left out. A column outside is no place to
leave out where the zero point is not 0: there the tile multiplies the zero point itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.layout import layout
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from .arm_bytes import BLOCK, FEW, LANES, Method, Plan, row_blocks, tasks
from .arm_dots import Act, Dots, alive, splat
from .common import after_anchor, ceil_div, LIGHT
from .common_emit import Frame, emit_kernel, full_or_rest, put, stretch, vector
from .conv_emit import flat_type, runs, source, tap_bounds
from .conv_shape import Window, segments

SHORT_CODE = LIGHT | {"Edgec.Rescale", "DequantizeLinear", "Cast"}  # a copy for each pixel of a tile is no burden


@dataclass
class Part:
    """One task's tile of channels: `vectors` of four, of which `channels` are true."""

    frame: Frame
    image: Expr
    tile: Expr
    channels: int
    x: Buffer
    weights: Buffer
    first: Buffer  # what the sums start from
    sums: Buffer  # of weights, for each row of the window

    @property
    def vectors(self) -> int:
        return ceil_div(self.channels, LANES)

    def start(self) -> list[Expr]:
        return [vector(self.first, LANES, v * LANES) for v in range(self.vectors)]


class Sums:
    """Emits one kernel. `w` is its window, with all pixels in one row where that can be."""

    def __init__(self, method: Method, problem: Problem, choice: Choice, w: Window) -> None:
        self.method, self.problem, self.choice, self.w = method, problem, choice, w
        self.plan = Plan(choice.get("mt"), choice.get("nv"), choice.get("sp"))
        self.x, self.weight, self.bias = problem.anchor.args
        self.anchor = problem.anchor.results[0]
        attrs: Any = full_attrs(problem.anchor)
        self.zero = int(attrs.get("zero", attrs.get("a_zero", 0)))
        self.few = w.channels_in <= FEW
        self.inputs = FEW if self.few else BLOCK  # channels of a block
        self.stored = ceil_div(w.channels_in, self.inputs) * self.inputs  # bytes of a pixel
        self.short = SHORT_CODE.issuperset(n.op for n in after_anchor(problem))
        self.padded = any(s.edge for s in segments(w.height, 1))

    def emit(self, symbol: str) -> Emitted:
        return emit_kernel(
            self.problem, self.choice, symbol, tasks(self.w, self.plan), self.task, lambda v: self.view(v)
        )

    # -- places ----------------------------------------------------------------------------------------------------

    def view(self, value: Value) -> Type:
        """Blocks of channels innermost are one row of channels; pixels are one row where the window is flat."""
        t = dense(value.type)
        return flat_type(t, self.w) if self.flat and len(t.shape) == 4 else t

    @property
    def flat(self) -> bool:
        return self.w.pointwise and self.w.height.out == 1

    def index(self, image: Expr, channel: Expr, row: Expr | int, column: Expr | int) -> tuple[Expr, ...]:
        """Logical index of a result, as operands are viewed."""
        return (image, channel, row, column) if len(self.anchor.shape) == 4 else (image, channel, column)

    def pixel(self, part: Part, row: Expr | int, column: Expr | int) -> Expr:
        """Offset of an input pixel."""
        line = (part.image * self.w.height.size + row) * self.w.width.size
        return (line + column) * self.stored

    # -- tasks -----------------------------------------------------------------------------------------------------

    def task(self, frame: Frame, number: Expr) -> Stmt:
        w, wide = self.w, self.plan.channels
        each, spaces = row_blocks(w, self.plan)
        image, space, tile = tir.split(number, w.batch, spaces, ceil_div(w.channels_out, wide))
        x, declared_x = tir.flat(frame.places[self.x].buffer)
        weights, declared_weights = tir.flat(frame.places[self.weight].buffer)
        first, alloc = tir.local((wide,), "int32", "first")
        sums, alloc_sums = tir.local((wide * w.height.kernel,), "int32", "sums")

        def make(channels: int) -> Stmt:
            part = Part(frame, image, tile, channels, x, weights, first, sums)
            body = self.flat_row(part, space, each) if self.flat else self.rows(part, space, each)
            return tir.seq(self.sum_weights(part), body)

        heads = [declared_x, declared_weights, alloc, alloc_sums if self.zero else None]
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

    # -- zero points -----------------------------------------------------------------------------------------------

    def sum_weights(self, part: Part) -> Stmt | None:
        """Sums of weights, for each row of the window."""
        if not self.zero:
            return None
        ones = Act(splat(1))

        def row(kh: Expr) -> Stmt:
            dots = Dots(self.method, 1, part.vectors)
            none = tir.broadcast(tir.lit(0, "int32"), LANES)
            parts = [self.blocks(part, dots, kh, kw, lambda cb, g: ([], [ones])) for kw in range(self.w.width.kernel)]
            ends = [
                put(part.sums, dots.total(0, v), LANES, kh * self.plan.channels + v * LANES)
                for v in range(part.vectors)
            ]
            return tir.seq(dots.alloc, dots.start([none] * part.vectors), parts, ends)

        return tir.loop(self.w.height.kernel + part.frame.zero, row, "kh")

    def begin(self, part: Part, low: Expr | int, high: Expr | int) -> Stmt:
        """What sums start from: the bias, and the zero point's share of the window's rows low .. high."""
        wide = self.plan.channels
        parts: list[Stmt] = []
        for v in range(part.vectors):
            last = self.w.channels_out - 1
            short = part.channels < (v + 1) * LANES

            def bias(lane: Expr, v: int = v, short: bool = short, last: int = last) -> Stmt:
                channel = part.tile * wide + v * LANES + lane
                index = tirx.min(channel, last) if short else channel
                value = part.frame.body.at(self.bias, (index if self.bias.shape[0] > 1 else tir.i32(0),))
                return tir.store(part.first, value, v * LANES + lane)

            parts.append(tir.vectorized(LANES, bias))
        if self.zero:
            zero = tir.broadcast(tir.lit(self.zero, "int32"), LANES)

            def row(kh: Expr) -> Stmt:
                return tir.seq(
                    put(
                        part.first,
                        vector(part.first, LANES, v * LANES) - vector(part.sums, LANES, kh * wide + v * LANES) * zero,
                        LANES,
                        v * LANES,
                    )
                    for v in range(part.vectors)
                )

            parts.append(tir.loop(tir.expr(high) - low, row, "kh", start=low))
        return tir.seq(parts)

    # -- a tile ----------------------------------------------------------------------------------------------------

    def tile(
        self, part: Part, row: Expr, columns: list[Expr | int], edge: bool, low: Expr, high: Expr
    ) -> Stmt:
        dots = Dots(self.method, len(columns), part.vectors)
        taps = self.taps_few if self.few else self.taps

        def line(kh: Expr) -> Stmt:
            return taps(part, dots, source(self.w.height, row, kh), kh, columns, edge)

        reduce = tir.loop(high - low, line, "kh", start=low)
        return tir.seq(dots.alloc, dots.start(part.start()), reduce, self.finish(part, dots, row, columns))

    def taps(
        self, part: Part, dots: Dots, row: Expr, kh: Expr, columns: list[Expr | int], edge: bool
    ) -> Stmt:
        """A row of the window, blocks of 16 input channels."""
        axis = self.w.width

        def tap(kw: Expr | int) -> Stmt | None:
            inside = [not edge or axis.inside(c, kw) for c in columns]
            if not self.zero and not any(inside):
                return None
            at = [self.pixel(part, row, source(axis, c, kw)) for c in columns]

            def acts(cb: Expr, groups: int) -> tuple[list[Stmt], list[Act | None]]:
                binds: list[Stmt] = []
                found: list[Act | None] = []
                for p, read in enumerate(inside):
                    if read:
                        value, bind = tir.let(self.block(part, at[p], cb, groups), "a")
                        binds.append(bind)
                        found.append(Act(value))
                    else:
                        found.append(Act(splat(self.zero)) if self.zero else None)
                return binds, alive(self.method, found, Act(splat(0)))

            return self.blocks(part, dots, kh, kw, acts)

        if edge or axis.kernel == 1:
            return tir.seq(tap(kw) for kw in range(axis.kernel))
        return tir.loop(axis.kernel + part.frame.zero, lambda kw: tir.seq(tap(kw)), "kw")

    def block(self, part: Part, at: Expr, cb: Expr, groups: int) -> Expr:
        """Block `cb` of a pixel's channels, of which `groups` groups count."""
        return vector(part.x, BLOCK, at + cb * BLOCK)

    def blocks(
        self,
        part: Part,
        dots: Dots,
        kh: Expr | int,
        kw: Expr | int,
        acts: Callable[[Expr, int], tuple[list[Stmt], Sequence[Act | None]]],
    ) -> Stmt:
        """All blocks of input channels of one tap."""
        method, wide = self.method, self.plan.channels * self.method.each
        full, rest = divmod(self.w.channels_in, self.inputs)
        groups, count = self.inputs // method.each, ceil_div(self.w.channels_in, self.inputs)
        tap = (part.tile * self.w.height.kernel + kh) * self.w.width.kernel + kw

        def step(cb: Expr, live: int) -> Stmt:
            base = (tap * count + cb) * (groups * wide)
            binds, found = acts(cb, live)
            return tir.seq(binds, dots.step(found, live, lambda k, at: vector(part.weights, BLOCK, base + (k * wide + at))))

        parts: list[Stmt] = []
        if full:
            parts.append(tir.loop(full + part.frame.zero, lambda cb: step(cb, groups), "cb") if full > 1 else step(tir.i32(0), groups))
        if rest:
            parts.append(step(tir.i32(full), ceil_div(rest, method.each)))
        return tir.seq(parts)

    def taps_few(
        self, part: Part, dots: Dots, row: Expr, kh: Expr, columns: list[Expr | int], edge: bool
    ) -> Stmt:
        """A row of the window where a pixel has four bytes: 16 bytes hold four neighbours, each used where it is read."""
        axis, each = self.w.width, FEW // self.method.each
        first = 0 if edge else source(axis, columns[0], 0)
        relative = [source_number(axis, c if edge else i, kw, edge) for i, c in enumerate(columns) for kw in range(axis.kernel)]
        needed = sorted({c for c in relative if not edge or 0 <= c < axis.size})
        low, high = (0, axis.size - 1) if edge else (needed[0], needed[-1]) if needed else (0, 0)
        binds: list[Stmt] = []
        held: dict[int, Act] = {}
        base = self.pixel(part, row, first)
        for c in needed:
            if c in held:
                continue
            if high - low < 3:
                four = tirx.reinterpret("int32", vector(part.x, FEW, base + c * FEW))
                value, bind = tir.let(tirx.reinterpret("int8x16", tir.broadcast(four, LANES)), "a")
                held[c] = Act(value)
            else:
                start = min(c, high - 3)
                value, bind = tir.let(vector(part.x, BLOCK, base + start * FEW), "a")
                held.update({start + i: Act(value, i * each) for i in range(4) if start + i not in held})
            binds.append(bind)
        outside = Act(splat(self.zero)) if self.zero else None
        steps = []
        for kw in range(axis.kernel):
            acts = [
                held.get(relative[i * axis.kernel + kw], outside) for i in range(len(columns))
            ]
            if any(a is not None for a in acts):
                steps.append(self.blocks(part, dots, kh, kw, lambda cb, g, acts=acts: ([], acts)))
        return tir.seq(binds, steps)

    # -- what follows ----------------------------------------------------------------------------------------------

    def finish(self, part: Part, dots: Dots, row: Expr, columns: list[Expr | int]) -> Stmt:
        """Store a tile, pixel by pixel: long code stands once, in a loop over sums in memory."""
        many, wide = part.vectors, part.vectors * LANES
        if self.short or len(columns) < 3:
            parts: list[Stmt] = []
            for p, column in enumerate(columns):
                stage, alloc = tir.local((wide,), "int32", "stage")
                parts.append(alloc)
                parts += [put(stage, dots.total(p, v), LANES, v * LANES) for v in range(many)]
                parts.append(self.store(part, stage, 0, row, column))
            return tir.seq(parts)
        stage, alloc = tir.local((len(columns) * wide,), "int32", "stage")
        kept = [
            put(stage, dots.total(p, v), LANES, p * wide + v * LANES)
            for p in range(len(columns))
            for v in range(many)
        ]
        left = tir.expr(columns[0])
        loop = tir.loop(
            len(columns) + part.frame.zero, lambda p: self.store(part, stage, p * wide, row, left + p), "p"
        )
        return tir.seq(alloc, kept, loop)

    def store(self, part: Part, stage: Buffer, at: Expr | int, row: Expr, column: Expr | int) -> Stmt:
        frame = part.frame

        def lane(v: Expr) -> Stmt:
            frame.body.bind(self.anchor, lambda _: tir.load(stage, at + v))
            return frame.store(self.index(part.image, part.tile * self.plan.channels + v, row, column))

        return tir.vectorized(part.channels, lane)


def source_number(axis: Any, position: Any, tap: int, absolute: bool) -> int:
    """Input column of a tap; relative to the first position's first tap where positions are counted from it."""
    return int(position) * axis.stride + tap * axis.dilation - (axis.pad if absolute else 0)


def dense(t: Type) -> Type:
    """Channels in blocks that lie innermost are channels in a row, padding included."""
    if t.layout not in ("NHWC16c", "NWC16c", "NHWC4c", "NWC4c"):
        return t
    block = layout(t.layout, len(t.shape)).block(1)
    padded = ceil_div(t.shape[1], block) * block
    return replace(t, shape=(t.shape[0], padded, *t.shape[2:]), layout=t.layout.rstrip("c0123456789"))
