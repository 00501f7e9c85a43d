"""TensorIR of depthwise convolutions of bytes by dot products of four: filters are dealt once per task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from .bytes_tail import Tail, literal
from .bytes_vector import dealt, dot, joined, pair, quad
from .common import ceil_div
from .common_emit import Frame, chain, emit_kernel, put, vector
from .conv_emit import runs, source
from .conv_shape import Window, conv_operands
from .depthwise_quads_rows import Shift, channel_operands, groups, scratch_vectors, shift, shifts

Group = tuple[Expr, Expr, int]  # image, first block of 16 channels, number of blocks


class Quads:
    """A task is a band of rows of one group of channels of one image."""

    def __init__(self, problem: Problem, choice: Choice, w: Window) -> None:
        self.problem, self.choice, self.w = problem, choice, w
        self.x, self.weight, self.bias = conv_operands(problem.anchor)
        self.anchor = problem.anchor.results[0]
        self.zero: int = full_attrs(problem.anchor)["zero"]  # type: ignore[assignment]
        self.blocks = ceil_div(w.channels_out, 16)
        self.groups = groups(self.blocks)
        self.operands = channel_operands(problem)
        self.taken = ceil_div(w.width.kernel, 4)  # fours of a row of the filter
        self.shifts = {s.by: s for s in shifts(w.width)}
        self.flat: dict[Value, Buffer] = {}

    def emit(self, symbol: str) -> Emitted:
        units = sum(count for _, _, count in self.groups)
        bands = self.choice.get("hb")

        def task(frame: Frame, number: Expr) -> Stmt:
            image, unit, band = tir.split(number, self.w.batch, units, bands)
            decls = self.flatten(frame)
            cases: list[tuple[Expr | None, Callable[[], Stmt]]] = []
            before = 0
            for first, size, count in self.groups:
                at = first + (unit - before) * size if count > 1 else tir.i32(first)
                before += count
                last = before == units
                cases.append((None if last else unit < before, self._group(frame, (image, at, size), band)))
            return tir.seq(decls, chain(cases))

        return emit_kernel(self.problem, self.choice, symbol, self.w.batch * units * bands, task)

    def _group(self, frame: Frame, g: Group, band: Expr) -> Callable[[], Stmt]:
        return lambda: tir.seq(self.prepared(frame, g), self.plane(frame, g, band))

    def flatten(self, frame: Frame) -> list[Stmt]:
        """Flat views of all that is read in whole vectors, and of the result."""
        binds = []
        places = {v: frame.places[v].buffer for v in self.problem.body.inputs} | {frame.out: frame.place.buffer}
        for value, buffer in places.items():
            self.flat[value], bind = tir.flat(buffer)
            binds.append(bind)
        return binds

    # -- once per task -----------------------------------------------------------------------------------------------

    def slot(self, by: int, kh: int, i: int, k: int) -> int:
        """Where scratch memory holds vector k of four number i of a row of the filter, moved `by` bytes."""
        before = sum(self.shifts[b].count for b in sorted(self.shifts) if b < by) * self.w.height.kernel
        return 64 // 4 * (4 * (before + kh * self.shifts[by].count + i) + k)

    def other(self, number: int, k: int) -> int:
        """The same of what sums start from (0) and of operand number - 1."""
        return 64 // 4 * (scratch_vectors(self.w, 0) - 4 + 4 * number + k)

    def keep(self, frame: Frame, x: Expr, at: int) -> Stmt:
        lanes = x.ty.dtype.lanes
        return put(frame.scratch, tirx.reinterpret(f"float32x{lanes}", x), lanes, at)

    def kept(self, frame: Frame, at: int, lanes: int) -> Expr:
        return tirx.reinterpret(f"int32x{lanes}", vector(frame.scratch, lanes, at))

    def prepared(self, frame: Frame, g: Group) -> Stmt:
        _, block, size = g
        lanes = 4 * size
        parts: list[Stmt] = []
        zeros = tir.broadcast(tir.i32(self.zero * 0x01010101 - (self.zero >> 7 << 32)), lanes)
        for k in range(4):
            start: Expr = tir.broadcast(tir.i32(0), lanes)
            if self.bias is not None:
                start = dealt(self.flat[self.bias], block * 16, k, lanes)
            for kh in range(self.w.height.kernel):
                row = [self.filter(block, kh, i, k, lanes) for i in range(self.taken)]
                for i in range(self.taken):
                    row[i], bind = tir.let(row[i], "w")
                    parts.append(bind)
                for by, s in self.shifts.items():
                    for i in range(s.count):
                        parts.append(self.keep(frame, self.shifted(row, by, i, lanes), self.slot(by, kh, i, k)))
                if self.zero:
                    for x in row:
                        product, bind = tir.let(dot(tir.broadcast(tir.i32(0), lanes), zeros, x), "z")
                        parts.append(bind)
                        start = start - product
            parts.append(self.keep(frame, start, self.other(0, k)))
            for n, v in enumerate(self.operands):
                parts.append(put(frame.scratch, dealt(self.flat[v], block * 16, k, lanes), lanes, self.other(n + 1, k)))
        return tir.seq(parts)

    def filter(self, block: Expr, kh: int, i: int, k: int, lanes: int) -> Expr:
        """Vector k of four number i of row kh: the layout holds the fours of 16 channels side by side."""
        parts = []
        for lane in range(lanes // 4):
            first = (((block + lane) * self.w.height.kernel + kh) * self.taken + i) * 64 + 16 * k
            parts.append(tir.load(self.flat[self.weight], tir.ramp(first, 16)))
        return tirx.reinterpret(f"int32x{lanes}", joined(parts))

    def shifted(self, row: list[Expr], by: int, i: int, lanes: int) -> Expr:
        """Four number i of a row whose taps are moved `by` bytes."""
        if not by:
            return row[i]

        def moved(x: Expr, bits: int, left: bool) -> Expr:
            unsigned = tirx.reinterpret(f"uint32x{lanes}", x)
            number = tir.broadcast(tir.lit(bits, "uint32"), lanes)
            return tirx.reinterpret(f"int32x{lanes}", unsigned << number if left else unsigned >> number)

        own = moved(row[i], 8 * by, True) if i < self.taken else None
        before = moved(row[i - 1], 32 - 8 * by, False) if i else None
        if own is None or before is None:
            return before if own is None else own
        return tirx.bitwise_or(own, before)

    # -- tiles -------------------------------------------------------------------------------------------------------

    def plane(self, frame: Frame, g: Group, band: Expr) -> Stmt:
        rows, columns = self.choice.get("rt"), self.choice.get("mt")

        def line(r: list[Any], edge_row: bool) -> Stmt:
            return tir.seq(
                runs(self.w.width, columns, lambda c, edge: self.tile(frame, g, (r, edge_row), (c, edge)))
            )

        return tir.seq(runs(self.w.height, rows, line, (band, self.choice.get("hb"))))

    def tile(self, frame: Frame, g: Group, down: tuple[list[Any], bool], across: tuple[list[Any], bool]) -> Stmt:
        (rows, edge_row), (columns, edge_column) = down, across
        h, lanes, count = self.w.height, 4 * g[2], len(columns)
        acc, alloc = tir.local((len(rows) * count * 4 * lanes,), "int32")
        parts: list[Stmt] = [alloc]
        for k in range(4):
            start, bind = tir.let(self.kept(frame, self.other(0, k), lanes), "start")
            parts.append(bind)
            parts += [put(acc, start, lanes, (p * 4 + k) * lanes) for p in range(len(rows) * count)]
        lines: dict[int, list[tuple[int, int]]] = {}  # input row relative to the tile's first -> (output row, tap)
        for r in range(len(rows)):
            for kh in range(h.kernel):
                outside = edge_row and not h.inside(rows[r], kh)
                if not outside or self.zero:
                    lines.setdefault(10**6 if outside else r * h.stride + kh * h.dilation, []).append((r, kh))
        for at, users in sorted(lines.items()):
            r, kh = users[0]
            row = None if at == 10**6 else source(h, rows[r], kh)
            parts += self.line(frame, g, acc, row, users, columns, edge_column)
        parts += [
            self.finish(frame, g, acc, (r * count + c) * 4 * lanes, row, column)
            for r, row in enumerate(rows)
            for c, column in enumerate(columns)
        ]
        return tir.seq(parts)

    def line(
        self,
        frame: Frame,
        g: Group,
        acc: Buffer,
        row: Expr | None,
        users: list[tuple[int, int]],
        columns: list[Any],
        edge: bool,
    ) -> list[Stmt]:
        """One input row, or padding, into the output rows that it touches: (row of the tile, row of the window)."""
        w, lanes = self.w.width, 4 * g[2]
        parts: list[Stmt] = []

        def named(x: Expr) -> Expr:
            value, bind = tir.let(x, "q")
            parts.append(bind)
            return value

        placed = [shift(w, c) for c in range(len(columns))]
        live = {c * w.stride + tap for c in range(len(columns)) for tap in range(w.kernel)}
        known: dict[Any, Any] = {}

        def pixel(at: int) -> Expr:
            """The vector of the column `at` from the tile's first; of no other than taps read."""
            while at not in live:
                at -= 1
            if at not in known:
                known[at] = named(self.pixel(g, row, columns[0], at, edge))
            return known[at]

        def both(at: int) -> tuple[Expr, Expr]:
            if ("pair", at) not in known:
                known["pair", at] = tuple(named(x) for x in pair(pixel(at), pixel(at + 1)))
            found: tuple[Expr, Expr] = known["pair", at]
            return found

        for first in sorted({s.first + 4 * i for s in placed for i in range(s.count)}):
            for half in range(2):
                dealt_ = [named(x) for x in quad(both(first)[half], both(first + 2)[half])]
                for j, x in enumerate(dealt_):
                    parts += self.dots(frame, acc, x, (first, 2 * half + j), users, placed, lanes)
        return parts

    def dots(
        self,
        frame: Frame,
        acc: Buffer,
        x: Expr,
        at: tuple[int, int],
        users: list[tuple[int, int]],
        placed: list[Shift],
        lanes: int,
    ) -> list[Stmt]:
        first, k = at
        parts = []
        for r, kh in users:
            for c, s in enumerate(placed):
                i = (first - s.first) // 4
                if (first - s.first) % 4 == 0 and 0 <= i < s.count:
                    here = ((r * len(placed) + c) * 4 + k) * lanes
                    total = dot(vector(acc, lanes, here), x, self.kept(frame, self.slot(s.by, kh, i, k), lanes))
                    parts.append(put(acc, total, lanes, here))
        return parts

    def pixel(self, g: Group, row: Expr | None, column: Any, at: int, edge: bool) -> Expr:
        image, block, size = g
        w = self.w.width
        if row is None or (edge and not 0 <= column * w.stride - w.pad + at < w.size):
            return tir.broadcast(tir.lit(self.zero, "uint8"), 16 * size)
        place = (image * self.w.height.size + row) * w.size + (source(w, column, 0) + at)
        return tir.load(self.flat[self.x], tir.ramp((place * self.blocks + block) * 16, 16 * size))

    def finish(self, frame: Frame, g: Group, acc: Buffer, at: int, row: Any, column: Any) -> Stmt:
        image, block, size = g
        lanes = 4 * size
        place = (image * self.w.height.out + tir.expr(row)) * self.w.width.out + tir.expr(column)
        here = (place * self.blocks + block) * 16

        def multiplier(value: Value, k: int) -> Expr:
            number = literal(value)
            if number is not None:
                return tir.broadcast(tir.lit(number, "float32"), lanes)
            return vector(frame.scratch, lanes, self.other(1 + self.operands.index(value), k))

        def bytes_at(value: Value) -> Expr:
            return tir.load(self.flat[value], tir.ramp(here, 16 * size))

        sums = [vector(acc, lanes, at + k * lanes) for k in range(4)]
        tail = Tail(lanes, {self.anchor: sums}, multiplier, bytes_at)
        result = tail.result(frame.out)
        return tir.seq(tail.binds, tir.store(self.flat[frame.out], result, tir.ramp(here, 16 * size)))
