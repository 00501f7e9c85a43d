"""What a task of a depthwise convolution by dot products prepares: filters dealt for every shift, starts of sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.compiler.op import int_attr
from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.conversions import widened
from edgec.targets.integer import bias
from edgec.targets.tir import Buffer, Expr, Stmt

from ..bytes_tail import channel_operands, has_rounding, rescales
from ..common import after_anchor, ceil_div
from ..common_emit import Frame, put, vector
from ..conv.places import tap_bounds
from ..conv.shape import Window, conv_operands
from .depthwise_dots_rows import ALIKE, filter_vectors, groups, rolled, scratch_vectors, shifts, stored_taps
from .vector import added_pairs, dealt, dot, joined, shuffled

LONG = 2  # nodes after the anchor that are written out at edges as well


@dataclass(frozen=True)
class Group:
    """`size` blocks of 16 channels of an image, from `block` on; `place`: where scratch memory holds what is dealt."""

    image: Expr
    block: Expr
    size: int
    place: Expr | int = 0


class Filters:
    """Filters and starts of the sums of one group of channels, as they stand in scratch memory."""

    def __init__(self, problem: Problem, choice: Choice, w: Window, taps: int, most: int) -> None:
        self.problem, self.choice, self.w, self.taps, self.most = problem, choice, w, taps, most
        self.x, self.weight, self.bias = conv_operands(problem.anchor)
        self.anchor = problem.anchor.results[0]
        self.zero, self.shift = int_attr(problem.anchor, "zero"), int_attr(problem.anchor, "shift")
        self.blocks = ceil_div(w.channels_out, 16)
        self.small = problem.target.small  # one code for all tiles of a row, at edges too
        self.groups = groups(self.blocks, most, dict(choice.config).get(ALIKE, 0))
        self.operands = channel_operands(problem)
        self.rounds, self.staged = has_rounding(choice), rescales(problem) is not True
        self.taken = ceil_div(w.width.kernel, taps)  # groups of taps of a row of the filter
        self.shifts = shifts(w.width, taps)
        self.each_scratch = 4 * most * scratch_vectors(w, taps, len(self.operands), self.small)  # floats of one group
        self.rolled = rolled(w, self.small)
        h = w.height
        self.leaves = not (h.inside(0, 0) and h.inside(h.out - 1, h.kernel - 1))  # windows reach above or below
        self.long = len(after_anchor(problem)) > LONG
        self.flat: dict[Value, Buffer] = {}

    def flatten(self, frame: Frame) -> list[Stmt]:
        """Flat views of all that is read in whole vectors, and of the result."""
        binds = []
        places = {v: frame.places[v].buffer for v in self.problem.body.inputs} | {frame.out: frame.place.buffer}
        for value, buffer in places.items():
            self.flat[value], bind = tir.flat(buffer)
            binds.append(bind)
        return binds

    def slot(self, by: int, kh: Expr | int, i: int, k: int) -> Expr | int:
        """Where scratch memory holds vector k of four number i of a row of the filter, moved `by` bytes."""
        before = sum(self.shifts[b].count for b in sorted(self.shifts) if b < by) * self.w.height.kernel
        return 4 * self.most * (4 * (before + kh * self.shifts[by].count + i) + k)

    def other(self, number: int, k: int) -> int:
        """The same of what sums start from (0) and of operand number - 1; behind these, of what those of a row do."""
        return 4 * self.most * (filter_vectors(self.w, self.taps) + 4 * number + k)

    @property
    def begin(self) -> int:
        """The number of what a tile's sums start from."""
        return 1 + len(self.operands) if self.rolled and self.leaves and self.zero else 0

    def keep(self, frame: Frame, x: Expr, at: Expr | int) -> Stmt:
        lanes = x.ty.dtype.lanes
        return put(frame.scratch, tirx.reinterpret(f"float32x{lanes}", x), lanes, at)

    def kept(self, frame: Frame, at: Expr | int, lanes: int) -> Expr:
        return tirx.reinterpret(f"int32x{lanes}", vector(frame.scratch, lanes, at))

    def prepared(self, frame: Frame, g: Group) -> Stmt:
        lanes = 4 * g.size
        parts: list[Stmt] = []
        for k in range(4):
            start: Expr = tir.broadcast(tir.i32(0), lanes)
            if self.bias is not None:
                start = bias(dealt(self.flat[self.bias], g.block * 16, k, lanes), self.shift)
            total, alloc = tir.local((lanes,), "int32", "start")
            parts += [alloc, put(total, start, lanes, 0)]
            parts.append(self.each_row(partial(self.row, frame, g, k=k, total=total)))
            parts.append(self.keep(frame, self.begins(vector(total, lanes, 0)), g.place + self.other(0, k)))
            for n, v in enumerate(self.operands):
                there = g.place + self.other(n + 1, k)
                factors = widened(dealt(self.flat[v], g.block * 16, k, lanes), v.type.dtype)
                parts.append(put(frame.scratch, factors, lanes, there))
        return tir.seq(parts)

    def each_row(self, make: Callable[[Any], Stmt]) -> Stmt:
        """`make` of every row of the filter."""
        count = self.w.height.kernel
        return tir.loop(count, make, "kh") if self.rolled else tir.seq(make(kh) for kh in range(count))

    def row(self, frame: Frame, g: Group, kh: Expr | int, k: int, total: Buffer) -> Stmt:
        """Vector k of a row of the filter for every shift; the zero point's share is taken off the total."""
        parts: list[Stmt] = []
        lanes, row = 4 * g.size, list[Expr]()
        for i in range(self.taken):
            x, bind = tir.let(self.filter(g.block, kh, i, k, lanes), "w")
            row.append(x)
            parts.append(bind)
        for by, s in self.shifts.items():
            for i in range(s.count):
                parts.append(self.keep(frame, self.shifted(row, by, i, lanes), g.place + self.slot(by, kh, i, k)))
        if self.zero:
            for x in row:
                product = self.dot(tir.broadcast(tir.i32(0), lanes), self.repeated(lanes), x)
                parts.append(put(total, vector(total, lanes, 0) - product, lanes, 0))
        return tir.seq(parts)

    def row_begins(self, frame: Frame, g: Group, row: Any) -> Stmt:
        """What sums of a row of pixels start from: the window's rows outside the image hold the zero point."""
        lanes, kernel = 4 * g.size, self.w.height.kernel
        low, high = tap_bounds(self.w.height, row)
        parts: list[Stmt] = []
        for k in range(4):
            total, alloc = tir.local((lanes,), "int32", "start")

            def outside(n: Expr, k: int = k, total: Buffer = total) -> Stmt:
                kh = n + tirx.Select(n < low, tir.i32(0), high - low)
                added = vector(total, lanes, 0)
                for i in range(self.shifts[0].count):
                    added = self.dot(
                        added, self.repeated(lanes), self.kept(frame, g.place + self.slot(0, kh, i, k), lanes)
                    )
                return put(total, added, lanes, 0)

            parts += [alloc, put(total, self.kept(frame, g.place + self.other(0, k), lanes), lanes, 0)]
            parts.append(tir.loop(kernel - (high - low), outside, "outside"))
            parts.append(self.keep(frame, vector(total, lanes, 0), g.place + self.other(self.begin, k)))
        return tir.seq(parts)

    def begins(self, start: Expr) -> Expr:
        """What sums start from, of the bias less the zero point's share."""
        return start

    def repeated(self, lanes: int) -> Expr:
        """The zero point in the place of every pixel of a group."""
        if self.taps == 2:
            return tir.broadcast(tir.i32(self.zero * 0x10001), lanes)
        return tirx.reinterpret(f"int32x{lanes}", tir.broadcast(tir.lit(self.zero, "uint8"), 4 * lanes))

    def dot(self, total: Expr, x: Expr, w: Expr) -> Expr:
        return dot(total, x, w) if self.taps == 4 else total + added_pairs(x, w)

    def filter(self, block: Expr, kh: Expr | int, i: int, k: int, lanes: int) -> Expr:
        """Vector k of group number i of row kh: the layout holds the groups of 16 channels side by side. Short rows get
        their zeros here; what is read of them ends where those of 16 channels do."""
        each, count = stored_taps(self.w.width, self.taps), 4 * lanes
        rows = [(block + lane) * self.w.height.kernel + kh for lane in range(lanes // 4)]
        flat = self.flat[self.weight]
        if each % self.taps == 0:
            firsts = [((row * self.taken + i) * 16 + 4 * k) * each for row in rows]
            parts = [tir.load(flat, tir.ramp(first, 4 * self.taps)) for first in firsts]
            return self.words(joined(parts), lanes)
        early = max(4 * k * each + 16 - 16 * each, 0)
        row = joined([tir.load(flat, tir.ramp((row * 16 + 4 * k) * each - early, 16)) for row in rows])

        def place(n: int) -> int:
            channel, tap = n // self.taps, i * self.taps + n % self.taps
            return 16 * (channel // 4) + early + channel % 4 * each + tap if tap < each else count

        order = [place(n) for n in range(self.taps * lanes)]
        return self.words(shuffled(row, tir.broadcast(tir.lit(0, "int8"), count), order), lanes)

    def words(self, taps: Expr, lanes: int) -> Expr:
        """The taps of a vector of sums, as they are multiplied."""
        wide = tirx.Cast(f"int16x{2 * lanes}", taps) if self.taps == 2 else taps
        return tirx.reinterpret(f"int32x{lanes}", wide)

    def shifted(self, row: list[Expr], by: int, i: int, lanes: int) -> Expr:
        """Group number i of a row whose taps are moved by so many pixels."""
        if not by:
            return row[i]

        def moved(x: Expr, bits: int, left: bool) -> Expr:
            unsigned = tirx.reinterpret(f"uint32x{lanes}", x)
            number = tir.broadcast(tir.lit(bits, "uint32"), lanes)
            return tirx.reinterpret(f"int32x{lanes}", unsigned << number if left else unsigned >> number)

        bits = 32 // self.taps * by
        own = moved(row[i], bits, True) if i < self.taken else None
        before = moved(row[i - 1], 32 - bits, False) if i else None
        if own is None or before is None:
            return before if own is None else own
        return tirx.bitwise_or(own, before)
