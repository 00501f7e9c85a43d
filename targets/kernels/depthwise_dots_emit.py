"""TensorIR of depthwise convolutions of bytes by dot products of neighbours: filters are dealt once per task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from .bytes_stage import Stage
from .bytes_tail import channel_operands, has_rounding, literal, rescales
from .bytes_tail_emit import Tail
from .bytes_vector import added_pairs, dealt, dot, joined, pair, quad
from .common import ceil_div
from .common_emit import Frame, chain, emit_kernel, put, stretch, vector
from .conv_places import runs, source, tap_bounds
from .conv_shape import Window, conv_operands
from .depthwise_dots_rows import ALIKE, Shift, filter_vectors, groups, rolled, scratch_vectors, shift, shifts


@dataclass(frozen=True)
class Group:
    """`size` blocks of 16 channels of an image, from `block` on; `place`: where scratch memory holds what is dealt."""

    image: Expr
    block: Expr
    size: int
    place: Expr | int = 0


class Dots:
    """A task is a band of rows of one group of channels of one image."""

    def __init__(self, problem: Problem, choice: Choice, w: Window, taps: int, most: int) -> None:
        self.problem, self.choice, self.w, self.taps, self.most = problem, choice, w, taps, most
        self.x, self.weight, self.bias = conv_operands(problem.anchor)
        self.anchor = problem.anchor.results[0]
        self.zero: int = full_attrs(problem.anchor)["zero"]  # type: ignore[assignment]
        self.blocks = ceil_div(w.channels_out, 16)
        self.small = problem.target.small  # one code for all tiles of a row, at edges too
        self.groups = groups(self.blocks, most, dict(choice.config).get(ALIKE, 0))
        self.operands = channel_operands(problem)
        self.rounds = has_rounding(choice)
        self.taken = ceil_div(w.width.kernel, taps)  # groups of taps of a row of the filter
        self.shifts = shifts(w.width, taps)
        self.each_scratch = 4 * most * scratch_vectors(w, taps, len(self.operands), self.small)  # floats of one group
        self.rolled = rolled(w, self.small)
        h = w.height
        self.leaves = not (h.inside(0, 0) and h.inside(h.out - 1, h.kernel - 1))  # windows reach above or below
        self.flat: dict[Value, Buffer] = {}

    def emit(self, symbol: str) -> Emitted:
        units, bands = sum(count for _, _, count in self.groups), self.choice.get("hb")
        outer = 1 if self.choice.get("ro") else units

        def task(frame: Frame, number: Expr) -> Stmt:
            decls = self.flatten(frame)
            image, unit, band = tir.split(number, self.w.batch, outer, bands)
            if self.choice.get("ro"):
                return tir.seq(
                    decls, self.each(image, lambda g: self.prepared(frame, g)), self.rows_first(frame, image, band)
                )
            cases: list[tuple[Expr | None, Callable[[], Stmt]]] = []
            before = 0
            for first, size, count in self.groups:
                at = first + (unit - before) * size if count > 1 else tir.i32(first)
                before += count
                plane = self._plane(frame, Group(image, at, size), band)
                cases.append((None if before == units else unit < before, plane))
            return tir.seq(decls, chain(cases))

        return emit_kernel(self.problem, self.choice, symbol, self.w.batch * outer * bands, task)

    def _plane(self, frame: Frame, g: Group, band: Expr) -> Callable[[], Stmt]:
        return lambda: tir.seq(
            self.prepared(frame, g), self.lines(lambda r, edge: self.across(frame, g, r, edge), band)
        )

    def rows_first(self, frame: Frame, image: Expr, band: Expr) -> Stmt:
        """A row of all groups before the next row."""
        return self.lines(lambda r, edge: self.each(image, lambda g: self.across(frame, g, r, edge)), band)

    def each(self, image: Expr, make: Callable[[Group], Stmt]) -> Stmt:
        """`make` of every group, whose filters have places of their own."""
        parts: list[Stmt] = []
        done = 0
        for first, size, count in self.groups:

            def one(k: Expr, first: int = first, size: int = size, done: int = done) -> Stmt:
                return make(Group(image, first + k * size, size, (done + k) * self.each_scratch))

            parts.append(tir.loop(count, one, "group"))
            done += count
        return tir.seq(parts)

    def flatten(self, frame: Frame) -> list[Stmt]:
        """Flat views of all that is read in whole vectors, and of the result."""
        binds = []
        places = {v: frame.places[v].buffer for v in self.problem.body.inputs} | {frame.out: frame.place.buffer}
        for value, buffer in places.items():
            self.flat[value], bind = tir.flat(buffer)
            binds.append(bind)
        return binds

    # -- once per task -----------------------------------------------------------------------------------------------

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
                start = dealt(self.flat[self.bias], g.block * 16, k, lanes)
            total, alloc = tir.local((lanes,), "int32", "start")
            parts += [alloc, put(total, start, lanes, 0)]
            parts.append(self.each_row(partial(self.row, frame, g, k=k, total=total)))
            parts.append(self.keep(frame, self.begins(vector(total, lanes, 0)), g.place + self.other(0, k)))
            for n, v in enumerate(self.operands):
                there = g.place + self.other(n + 1, k)
                parts.append(put(frame.scratch, dealt(self.flat[v], g.block * 16, k, lanes), lanes, there))
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
        """Vector k of group number i of row kh: the layout holds the groups of 16 channels side by side."""
        parts = []
        for lane in range(lanes // 4):
            first = (((block + lane) * self.w.height.kernel + kh) * self.taken + i) * 16 + 4 * k
            part = tir.load(self.flat[self.weight], tir.ramp(first * self.taps, 4 * self.taps))
            parts.append(part if self.taps == 4 else tirx.Cast("int16x8", part))
        return tirx.reinterpret(f"int32x{lanes}", joined(parts))

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

    # -- tiles -------------------------------------------------------------------------------------------------------

    def lines(self, make: Callable[[list[Any], bool], Stmt], band: Expr) -> Stmt:
        if self.rolled:
            first, count = stretch(band, ceil_div(self.w.height.out, self.choice.get("hb")), self.w.height.out)
            return tir.loop(count, lambda r: make([r], False), "row", start=first)
        return tir.seq(runs(self.w.height, self.choice.get("rt"), make, (band, self.choice.get("hb"))))

    def across(self, frame: Frame, g: Group, rows: list[Any], edge_row: bool) -> Stmt:
        def make(columns: list[Any], edge: bool) -> Stmt:
            return self.tile(frame, g, (rows, edge_row), (columns, edge))

        begins = self.row_begins(frame, g, rows[0]) if self.begin else None
        size = self.choice.get("mt")
        if not self.small:
            return tir.seq(begins, runs(self.w.width, size, make))
        turns, rest = divmod(self.w.width.out, size)
        whole = tir.loop(turns, lambda k: make([k * size + c for c in range(size)], True), "tile")
        return tir.seq(begins, whole, make([turns * size + c for c in range(rest)], True) if rest else None)

    def tile(self, frame: Frame, g: Group, down: tuple[list[Any], bool], across: tuple[list[Any], bool]) -> Stmt:
        (rows, _), (columns, edge_column) = down, across
        lanes, count = 4 * g.size, len(columns)
        acc, alloc = tir.local((len(rows) * count * 4 * lanes,), "int32")
        parts: list[Stmt] = [alloc]
        for k in range(4):
            start, bind = tir.let(self.kept(frame, g.place + self.other(self.begin, k), lanes), "start")
            parts.append(bind)
            parts += [put(acc, start, lanes, (p * 4 + k) * lanes) for p in range(len(rows) * count)]
        if self.rolled:
            parts.append(self.rows(frame, g, acc, rows[0], (columns, edge_column)))
        else:
            parts += self.written(frame, g, acc, down, across)
        sums = [[vector(acc, lanes, (p * 4 + k) * lanes) for k in range(4)] for p in range(len(rows) * count)]
        if rescales(self.problem) is not True:
            stage = Stage(self.problem, frame, self.flat)
            return tir.seq(parts, stage.finish(sums, rows, columns, g.image, g.block))
        parts += [
            self.finish(frame, g, sums[r * count + c], row, column)
            for r, row in enumerate(rows)
            for c, column in enumerate(columns)
        ]
        return tir.seq(parts)

    def rows(self, frame: Frame, g: Group, acc: Buffer, row: Any, across: tuple[list[Any], bool]) -> Stmt:
        """The window's rows inside the image, one after the other, into the sums of a row of pixels."""
        h = self.w.height
        low, high = tap_bounds(h, row) if self.leaves else (tir.i32(0), tir.i32(h.kernel))

        def one(kh: Expr) -> Stmt:
            return tir.seq(self.line(frame, g, acc, source(h, row, kh), [(0, kh)], *across))

        return tir.loop(high - low, one, "kh", start=low)

    def written(
        self, frame: Frame, g: Group, acc: Buffer, down: tuple[list[Any], bool], across: tuple[list[Any], bool]
    ) -> list[Stmt]:
        """Every input row of a tile, each into the sums of all output rows that it touches."""
        h, (rows, edge_row) = self.w.height, down
        parts: list[Stmt] = []
        lines: dict[int, list[tuple[int, int]]] = {}  # input row relative to the tile's first -> (output row, tap)
        for r in range(len(rows)):
            for kh in range(h.kernel):
                outside = edge_row and not h.inside(rows[r], kh)
                if not outside or self.zero:
                    lines.setdefault(10**6 if outside else r * h.stride + kh * h.dilation, []).append((r, kh))
        for at, users in sorted(lines.items()):
            r, kh = users[0]
            row = None if at == 10**6 else source(h, rows[r], kh)
            parts += self.line(frame, g, acc, row, users, *across)
        return parts

    def line(
        self,
        frame: Frame,
        g: Group,
        acc: Buffer,
        row: Expr | None,
        users: list[tuple[int, Any]],
        columns: list[Any],
        edge: bool,
    ) -> list[Stmt]:
        """One input row, or padding, into the output rows that it touches: (row of the tile, row of the window)."""
        w, lanes = self.w.width, 4 * g.size
        parts: list[Stmt] = []

        def named(x: Expr) -> Expr:
            value, bind = tir.let(x, "q")
            parts.append(bind)
            return value

        placed = [shift(w, c, self.taps) for c in range(len(columns))]
        live = {c * w.stride + tap for c in range(len(columns)) for tap in range(w.kernel)}
        known: dict[Any, Any] = {}

        def pixel(at: int) -> Expr:
            """The vector of the column `at` from the tile's first; of no other than taps read."""
            while at not in live:
                at -= 1
            if at not in known:
                known[at] = named(self.pixel(g, row, columns[0], at, edge))
            return known[at]

        def halves(at: int) -> tuple[Expr, Expr]:
            """Bytes in turn of two columns, or of one and nothing: 16 bits per channel."""
            if ("half", at) not in known:
                other = pixel(at + 1) if self.taps == 4 else tir.broadcast(tir.lit(0, "uint8"), 4 * lanes)
                known["half", at] = tuple(named(x) for x in pair(pixel(at), other))
            found: tuple[Expr, Expr] = known["half", at]
            return found

        for first in sorted({s.first + self.taps * i for s in placed for i in range(s.count)}):
            for half in range(2):
                group = [named(x) for x in quad(halves(first)[half], halves(first + self.taps // 2)[half])]
                for j, x in enumerate(group):
                    parts += self.dots(frame, g, acc, x, (first, 2 * half + j), users, placed)
        return parts

    def dots(
        self,
        frame: Frame,
        g: Group,
        acc: Buffer,
        x: Expr,
        at: tuple[int, int],
        users: list[tuple[int, Any]],
        placed: list[Shift],
    ) -> list[Stmt]:
        """Vector k of the group that starts at a column, `at` both, into all sums whose taps lie there."""
        (first, k), lanes = at, 4 * g.size
        parts = []
        for r, kh in users:
            for c, s in enumerate(placed):
                i, apart = divmod(first - s.first, self.taps)
                if not apart and 0 <= i < s.count:
                    here = ((r * len(placed) + c) * 4 + k) * lanes
                    total = self.dot(
                        vector(acc, lanes, here), x, self.kept(frame, g.place + self.slot(s.by, kh, i, k), lanes)
                    )
                    parts.append(put(acc, total, lanes, here))
        return parts

    def pixel(self, g: Group, row: Expr | None, column: Any, at: int, edge: bool) -> Expr:
        """The pixel `at` from the first that an output's column reads; the zero point where that is outside."""
        w = self.w.width
        if row is None or (edge and not self.small and not 0 <= column * w.stride - w.pad + at < w.size):
            return self.nothing(g)
        place = source(w, column, 0) + at
        x = self.load(g, row, place)
        if not self.small or (at >= w.pad and at - w.pad + (w.out - 1) * w.stride < w.size):
            return x
        return tirx.if_then_else(tirx.And(place >= 0, place < w.size), x, self.nothing(g))

    def load(self, g: Group, row: Expr, column: Expr) -> Expr:
        """All channels of a group at a pixel of the input."""
        place = (g.image * self.w.height.size + row) * self.w.width.size + column
        return tir.load(self.flat[self.x], tir.ramp((place * self.blocks + g.block) * 16, 16 * g.size))

    def nothing(self, g: Group) -> Expr:
        """The zero point of as many channels."""
        return tir.broadcast(tir.lit(self.zero, "uint8"), 16 * g.size)

    def finish(self, frame: Frame, g: Group, sums: list[Expr], row: Any, column: Any) -> Stmt:
        image, block, size = g.image, g.block, g.size
        lanes = 4 * size
        place = (image * self.w.height.out + tir.expr(row)) * self.w.width.out + tir.expr(column)
        here = (place * self.blocks + block) * 16

        def multiplier(value: Value, k: int) -> Expr:
            number = literal(value)
            if number is not None:
                return tir.broadcast(tir.lit(number, "float32"), lanes)
            return vector(frame.scratch, lanes, g.place + self.other(1 + self.operands.index(value), k))

        def bytes_at(value: Value) -> Expr:
            return tir.load(self.flat[value], tir.ramp(here, 16 * size))

        tail = Tail(
            lanes,
            {self.anchor: sums},
            multiplier,
            bytes_at,
            self.flat.__getitem__,
            self.problem.target.cpu,
            self.rounds,
        )
        result = tail.result(frame.out)
        return tir.seq(tail.binds, tir.store(self.flat[frame.out], result, tir.ramp(here, 16 * size)))
