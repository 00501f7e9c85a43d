"""TensorIR of depthwise convolutions of bytes by dot products of neighbours: tasks, and the tiles of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.compiler.registry import Emitted
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from ..bytes_stage import Stage
from ..bytes_tail import literal
from ..bytes_tail_emit import Tail
from ..common import ceil_div
from ..common_emit import Frame, chain, emit_kernel, put, stretch, vector
from ..conv.places import runs, source, tap_bounds
from .depthwise_dots_filters import Filters, Group
from .depthwise_dots_rows import Shift, shift
from .vector import pair, quad


class Dots(Filters):
    """A task is a band of rows of one group of channels of one image."""

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
        (rows, edge_row), (columns, edge_column) = down, across
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
        if self.staged:
            stage = Stage(self.problem, frame, self.flat)
            return tir.seq(parts, stage.finish(sums, rows, columns, g.image, g.block))
        if self.long and len(rows) > 1 and (edge_row or edge_column):
            return tir.seq(parts, self.in_turns(frame, g, sums, rows, columns))
        parts += [
            self.finish(frame, g, sums[r * count + c], row, column)
            for r, row in enumerate(rows)
            for c, column in enumerate(columns)
        ]
        return tir.seq(parts)

    def in_turns(self, frame: Frame, g: Group, sums: list[list[Expr]], rows: list[Any], columns: list[Any]) -> Stmt:
        """One code for all rows of a tile, whose sums wait in memory: tiles at edges are few, their codes many."""
        lanes, count = 4 * g.size, len(columns)
        waiting, alloc = tir.local((len(sums) * 4 * lanes,), "int32", "waiting")
        parts = [put(waiting, x, lanes, n * lanes) for n, x in enumerate(x for four in sums for x in four)]

        def row(r: Expr) -> Stmt:
            sums = [[vector(waiting, lanes, ((r * count + c) * 4 + k) * lanes) for k in range(4)] for c in range(count)]
            at = tir.expr(rows[0]) + r
            return tir.seq(self.finish(frame, g, four, at, column) for four, column in zip(sums, columns, strict=True))

        return tir.seq(alloc, parts, tir.loop(len(rows) + frame.zero, row, "r"))

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
