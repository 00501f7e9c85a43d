"""TensorIR of tiles of int8 products on AArch64: how a tile's sums start, and how a row of the window adds to them.

Products are those of the stored bytes. The zero point's share, zero * (sum of the weights), is taken from the bias once
for each task: by rows of the window, so that rows outside the input can be left out. A column outside is no place to
leave out where the zero point is not 0: there the tile multiplies the zero point itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tvm import tirx

from edgec.compiler.layout import layout
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from ..common import ceil_div
from ..common_emit import Frame, put, vector
from ..conv.edge_taps import Inside, at_edge
from ..conv.places import source
from ..conv.shape import WRITTEN, Axis, Window, segments
from .bytes import BLOCK, FEW, HELD, LANES, Method, Plan, added
from .dots import Act, Dots, alive, shuffled, splat
from .tail import lifted, offset

MANY = 64  # turns of a loop that LLVM does not write out
Acts = tuple[list[Stmt], Sequence[Act | None]]  # what must stand before, and the input channels of each pixel


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
    offsets: Buffer  # what is added to products with multipliers, where anything is

    @property
    def vectors(self) -> int:
        return ceil_div(self.channels, LANES)

    def start(self, place: Expr | int) -> list[Expr]:
        """Sums of a pixel at first. LLVM must not know that all pixels read the same: it would load once and copy
        registers, which takes an instruction on the pipes that multiply."""
        return [vector(self.first, LANES, self.frame.zero * place + v * LANES) for v in range(self.vectors)]


class Tiles:
    """Tiles of one kernel. `w` is its window, with all pixels in one row where that can be."""

    def __init__(self, method: Method, problem: Problem, choice: Choice, w: Window) -> None:
        self.method, self.problem, self.choice, self.w = method, problem, choice, w
        self.plan = Plan(choice.get("mt"), choice.get("nv"), choice.get("sp"))
        self.held = choice.get(HELD)
        self.added = added(problem, self.held)
        self.x, self.weight, self.bias = problem.anchor.args
        self.anchor = problem.anchor.results[0]
        attrs: Any = full_attrs(problem.anchor)
        self.zero = int(attrs.get("zero", attrs.get("a_zero", 0)))
        self.few = w.channels_in <= FEW
        self.inputs = FEW if self.few else BLOCK  # channels of a block
        self.stored = ceil_div(w.channels_in, self.inputs) * self.inputs  # bytes of a pixel
        self.unit = layout(self.weight.type.layout, len(self.weight.shape)).unit
        self.padded = any(s.edge for s in segments(w.height, 1))

    def pixel(self, part: Part, row: Expr | int, column: Expr | int) -> Expr:
        """Offset of an input pixel."""
        line = (part.image * self.w.height.size + row) * self.w.width.size
        return (line + column) * self.stored

    # -- what sums start from --------------------------------------------------------------------------------------

    def sum_weights(self, part: Part) -> Stmt | None:
        """Sums of weights, for each row of the window."""
        if not self.zero:
            return None
        ones = Act(splat(1))

        def row(kh: Expr) -> Stmt:
            dots = Dots(self.method, 1, part.vectors)
            none = tir.broadcast(tir.lit(0, "int32"), LANES)
            parts = self.each_tap(part, lambda kw: self.blocks(part, dots, kh, kw, lambda cb, g: ([], [ones])))
            ends = [
                put(part.sums, dots.total(0, v), LANES, kh * self.plan.channels + v * LANES)
                for v in range(part.vectors)
            ]
            return tir.seq(dots.alloc, dots.start(lambda _: [none] * part.vectors), parts, ends)

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
                return tir.store(part.first, value + lifted(self.held), v * LANES + lane)

            parts.append(tir.vectorized(LANES, bias))
            if self.added is not None:
                parts.append(tir.vectorized(LANES, partial(self.offset, part, v, short)))
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

    def each_tap(self, part: Part, one: Callable[[Expr | int], Stmt | None]) -> Stmt:
        """`one(kw)` for a row of the window."""
        kernel = self.w.width.kernel
        if kernel <= WRITTEN:
            return tir.seq(one(kw) for kw in range(kernel))
        return tir.loop(kernel + part.frame.zero, lambda kw: tir.seq(one(kw)), "kw")

    def offset(self, part: Part, v: int, short: bool, lane: Expr) -> Stmt:
        assert self.added is not None
        channel = part.tile * self.plan.channels + v * LANES + lane
        index = tirx.min(channel, self.w.channels_out - 1) if short else channel
        return tir.store(part.offsets, offset(part.frame, self.added, index), v * LANES + lane)

    # -- products --------------------------------------------------------------------------------------------------

    def taps(self, part: Part, dots: Dots, row: Expr, kh: Expr, columns: list[Expr | int], edge: bool) -> Stmt:
        """A row of the window, in blocks of input channels."""
        axis = self.w.width

        def tap(kw: Expr | int, inside: Inside) -> Stmt | None:
            if not any(inside) and (not self.zero or False not in inside):
                return None
            at = [self.pixel(part, row, source(axis, c, kw)) for c in columns]

            def acts(cb: Expr, groups: int) -> Acts:
                binds: list[Stmt] = []
                found: list[Act | None] = []
                for p, state in enumerate(inside):
                    if state:
                        value, bind = tir.let(self.block(part, at[p], cb, groups), "a")
                        binds.append(bind)
                        found.append(Act(value))
                    else:
                        found.append(Act(splat(self.zero)) if self.zero and state is False else None)
                return binds, alive(self.method, found, Act(splat(0)))

            return self.blocks(part, dots, kh, kw, acts)

        if edge:
            return at_edge(axis, columns, tap, part.frame.zero)
        whole = [True] * len(columns)
        if axis.kernel == 1:
            return tir.seq(tap(0, whole))
        return tir.loop(axis.kernel + part.frame.zero, lambda kw: tir.seq(tap(kw, whole)), "kw")

    def taps_few(self, part: Part, dots: Dots, row: Expr, kh: Expr, columns: list[Expr | int], edge: bool) -> Stmt:
        """A row of the window where pixels have four bytes: 16 bytes are four neighbours, read once for all taps."""
        axis, each = self.w.width, FEW // self.method.each
        first = 0 if edge else source(axis, columns[0], 0)
        relative = [
            source_number(axis, c if edge else i, kw, edge) for i, c in enumerate(columns) for kw in range(axis.kernel)
        ]
        needed = sorted({c for c in relative if not edge or 0 <= c < axis.size})
        low, high = (0, axis.size - 1) if edge else (needed[0], needed[-1]) if needed else (0, 0)
        binds: list[Stmt] = []
        held: dict[int, Act] = {}
        base = self.pixel(part, row, first)
        for c in needed:
            if c in held:
                continue
            if high - low < 3:
                value, bind = tir.let(repeated(part.x, base + c * FEW), "a")
                held[c] = Act(value)
            else:
                start = min(c, high - 3)
                value, bind = tir.let(vector(part.x, BLOCK, base + start * FEW), "a")
                held.update({start + i: Act(value, i * each) for i in range(4) if start + i not in held})
            binds.append(bind)
        outside = Act(splat(self.zero)) if self.zero else None
        steps = []
        for kw in range(axis.kernel):
            acts = [held.get(relative[i * axis.kernel + kw], outside) for i in range(len(columns))]
            if any(a is not None for a in acts):
                steps.append(self.blocks(part, dots, kh, kw, partial(given, acts)))
        return tir.seq(binds, steps)

    def blocks(
        self,
        part: Part,
        dots: Dots,
        kh: Expr | int,
        kw: Expr | int,
        acts: Callable[[Expr, int], Acts],
    ) -> Stmt:
        """All blocks of input channels of one tap. One of them stands before the loop over the others where no more
        taps come, so that sums are loaded beside its products. LLVM sees a loop of a turn at least, and of too many to
        write them out: that would mix them with what follows, and copy registers from one to the other."""
        method, unit, wide = self.method, self.unit or self.method.each, self.wide(part)
        full, rest = divmod(self.w.channels_in, self.inputs)
        groups, count = self.inputs // method.each, ceil_div(self.w.channels_in, self.inputs)
        line = ceil_div(self.w.channels_in, unit) * unit  # weights of a pixel and an output
        tap = tir.expr(kh) * self.w.width.kernel + kw
        first = part.tile * (self.w.taps * line * self.plan.channels)

        def step(cb: Expr, live: int, short: bool = False) -> Stmt:
            base = first + (tap * line + cb * self.inputs) * wide
            binds, found = acts(cb, live)

            def weights(k: int, at: int) -> Expr:
                size = unit if short and k == live - 1 else method.each
                return grouped(part.weights, base + k * method.each * wide, at, size, method.each)

            return tir.seq(binds, dots.step(found, live, weights))

        last = step(tir.i32(full), ceil_div(rest, method.each), rest % method.each > 0) if rest else None
        if self.w.taps == 1 and count > 1 and not self.problem.target.small:
            begin = 0 if rest else 1
            loop = tir.loop(full - begin - MANY * part.frame.zero, lambda cb: step(cb, groups), "cb", start=begin)
            return tir.seq(step(tir.i32(0), groups) if last is None else last, loop)
        every = tir.loop(full + part.frame.zero, lambda cb: step(cb, groups), "cb") if full > 1 else None
        return tir.seq(step(tir.i32(0), groups) if full == 1 else every, last)

    def wide(self, part: Part) -> int:
        """Outputs of a tile in memory."""
        return part.channels if self.unit else self.plan.channels

    def block(self, part: Part, at: Expr, cb: Expr, groups: int) -> Expr:
        """Block `cb` of a pixel's channels, of which `groups` groups count."""
        return repeated(part.x, at) if self.few else vector(part.x, BLOCK, at + cb * BLOCK)


def grouped(weights: Buffer, begin: Expr, at: int, size: int, each: int) -> Expr:
    """16 bytes, from `at` on, of weights in groups of `each`; from `begin` on lie groups of `size`: zeros fill them."""
    if size == each:
        return vector(weights, BLOCK, begin + at)
    times, count = each // size, BLOCK // size
    line, part = divmod(at // BLOCK, times)
    first = part * count // times
    order = [count if i % times else first + i // times for i in range(count)]
    found = vector(weights, BLOCK, begin + line * BLOCK)
    return shuffled([found, splat(0)], f"int{8 * size}x{count}", order, "int8x16")


def repeated(x: Buffer, at: Expr) -> Expr:
    """The four bytes at an offset, four times."""
    four = tirx.reinterpret("int32", vector(x, FEW, at))
    return tirx.reinterpret("int8x16", tir.broadcast(four, LANES))


def given(acts: Sequence[Act | None], block: Expr, groups: int) -> Acts:
    return [], acts


def source_number(axis: Axis, position: Any, tap: int, absolute: bool) -> int:
    """Input column of a tap; relative to the first position's first tap where positions are counted from it."""
    return int(position * axis.stride + tap * axis.dilation - (axis.pad if absolute else 0))
