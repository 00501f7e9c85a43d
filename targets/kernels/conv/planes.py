"""TensorIR of windows that slide over one block of channels at a time: depthwise convolution and pooling.

A tile of output pixels stays in registers, one vector of channels each. Small windows are written out, so that an
input vector is loaded once for all outputs that it touches; large ones loop over their rows. Taps outside the input
are left out. Where long code follows, it runs over whole rows (staged_emit.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from edgec.compiler.ir import Type, Value
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from ..common import ceil_div
from ..common_emit import F32, Frame, emit_kernel, full_or_rest, put, store_tile, stretch, vector
from ..cost import by_lane
from ..staged_emit import StagedRow
from .places import runs, source, tap_bounds
from .shape import Window, unrolled


@dataclass
class Spot:
    """Where a tile lies. `rows` and `columns` are output coordinates, numbers where `edge_*` is set."""

    image: Expr
    block: Expr
    width: int  # true lanes
    rows: list[Any]
    columns: list[Any]
    edge_row: bool
    edge_column: bool

    def slot(self, r: int, c: int) -> int:
        return r * len(self.columns) + c

    def row_number(self, row: Any) -> int:
        """Which of the tile's rows an output row is."""
        return next(r for r, at in enumerate(self.rows) if at is row)


class Planes:
    """A task is a band of rows of one block of channels of one image."""

    kind = F32  # of the accumulators

    def __init__(self, problem: Problem, choice: Choice, w: Window, x: Value) -> None:
        self.problem, self.choice, self.w, self.x = problem, choice, w, x
        self.lanes = problem.target.cpu.lanes(32)
        self.anchor = problem.anchor.results[0]
        self.rank = len(problem.anchor.types[0].shape)
        self.blocks, self.bands = ceil_div(w.channels_out, self.lanes), choice.get("hb")
        self.staged: StagedRow | None = None
        self.unrolls = unrolled(w, problem.target)
        self.together = w.width.kernel  # taps of a row that are written out together, where rows are looped over
        # LLVM mixes tiles that follow each other, and runs out of registers: a loop of one turn keeps them apart.
        self.by_lane = by_lane(problem.target.cpu)

    # What a subclass decides: operands per tap, the first value, how a tap joins, and what is stored.

    def operand(self, frame: Frame, block: Expr, kh: Expr | int, kw: Expr | int) -> Expr | None:
        """The vector that belongs to a tap, if taps have one."""
        return None

    def read(self, frame: Frame, s: Spot, spatial: tuple[Expr, ...]) -> Expr:
        """The vector of the input at a pixel."""
        return vector(frame.places[self.x].buffer, self.lanes, s.image, s.block, *spatial, 0)

    def start(self, frame: Frame, s: Spot) -> Expr:
        raise NotImplementedError

    def join(self, old: Expr, x: Expr, operand: Expr | None) -> Expr:
        raise NotImplementedError

    def result(self, frame: Frame, s: Spot, value: Expr, channel: Expr, row: Any, column: Any) -> Expr:
        return value

    def view(self, value: Value) -> Type:
        """The type under which an operand is addressed."""
        return value.type

    # The frame around them.

    def emit(self, symbol: str) -> Emitted:
        def task(frame: Frame, number: Expr) -> Stmt:
            if self.choice.scratch_bytes:
                self.staged = StagedRow(self.problem, frame, self.w.width.out, self.lanes)
            return self.unit(frame, number)

        return emit_kernel(self.problem, self.choice, symbol, self.w.batch * self.blocks * self.bands, task, self.view)

    def unit(self, frame: Frame, number: Expr) -> Stmt:
        image, block, band = tir.split(number, self.w.batch, self.blocks, self.bands)
        return full_or_rest(
            block, self.w.channels_out, self.lanes, lambda width: self.plane(frame, image, block, band, width)
        )

    def plane(self, frame: Frame, image: Expr, block: Expr, band: Expr, width: int) -> Stmt:
        """All pixels of one band of one block of channels."""
        rows, columns = self.choice.get("rt"), self.choice.get("mt")
        operands: dict[tuple[int, int], Expr | None] = {}
        binds = self.operands(frame, block, range(self.w.height.kernel), operands) if self.unrolls else []

        def line(r: list[Any], edge_row: bool) -> Stmt:
            def tile(c: list[Any], edge: bool) -> Stmt:
                made = self.tile(frame, Spot(image, block, width, r, c, edge_row, edge), operands)
                return tir.loop(1 + frame.zero, lambda _: made, "once") if self.by_lane else made

            tiles = runs(self.w.width, columns, tile)
            return tir.seq(tiles, self.rest_of_rows(r, image, block, width))

        if self.unrolls:
            return tir.seq(binds, runs(self.w.height, rows, line, (band, self.bands)))
        first, count = stretch(band, ceil_div(self.w.height.out, self.bands), self.w.height.out)
        return tir.loop(count, lambda h: line([h], False), "row", start=first)

    def rest_of_rows(self, rows: list[Any], image: Expr, block: Expr, width: int) -> list[Stmt]:
        """What follows the anchor, where tiles have left their results in scratch memory."""
        if self.staged is None:
            return []
        one = [(r, (row,) if self.rank == 4 else ()) for r, row in enumerate(rows)]
        return [self.staged.store(r, at, image, block, width) for r, at in one]

    def operands(
        self,
        frame: Frame,
        block: Expr,
        rows: Any,
        found: dict[tuple[int, int], Expr | None],
        at: Expr | None = None,
        first: Expr | int = 0,
        taps: int = 0,
    ) -> list[Stmt]:
        """Bind the operands of `taps` columns (all, if 0) of the window's `rows` from column `first`.

        `at` is the row's number where it is a loop variable.
        """
        binds: list[Stmt] = []
        for kh in rows:
            for kw in range(taps or self.w.width.kernel):
                value = self.operand(frame, block, kh if at is None else at, first + kw)
                if value is not None:
                    value, bind = tir.let(value, "w")
                    binds.append(bind)
                found[kh, kw] = value
        return binds

    def tile(self, frame: Frame, s: Spot, operands: dict[tuple[int, int], Expr | None]) -> Stmt:
        pixels = [(r, c) for r in range(len(s.rows)) for c in range(len(s.columns))]
        acc, alloc = tir.local((len(pixels) * self.lanes,), self.kind)
        start, bind = tir.let(self.start(frame, s), "start")
        parts: list[Stmt] = [alloc, bind]
        parts += [put(acc, start, self.lanes, p * self.lanes) for p in range(len(pixels))]
        parts += self.unrolled(frame, s, acc, operands) if self.unrolls else self.looped(frame, s, acc)
        short = replace(frame, heavy=False)
        parts.append(store_tile(short, acc, s.rows, s.columns, (s.width,), self.lanes, partial(self.writer, frame, s)))
        return tir.seq(parts)

    def writer(
        self, frame: Frame, s: Spot, buffer: Buffer, slot: Expr | int, _: int, row: Expr | int, column: Expr | int
    ) -> Callable[[Expr], Stmt]:
        def write(v: Expr) -> Stmt:
            channel = s.block * self.lanes + v
            value = self.result(frame, s, tir.load(buffer, slot + v), channel, row, column)
            if self.staged is not None:
                return tir.store(frame.scratch, value, self.staged.slot(s.row_number(row), column) + v)
            frame.body.bind(self.anchor, lambda _: value)
            return frame.store((s.image, channel, row, column) if self.rank == 4 else (s.image, channel, column))

        return write

    def unrolled(self, frame: Frame, s: Spot, acc: Buffer, operands: dict[tuple[int, int], Expr | None]) -> list[Stmt]:
        """Every input row of the tile into every output row that it touches."""
        h = self.w.height
        lines: dict[int, list[tuple[int, int]]] = {}  # input row relative to the tile's first -> (output row, tap)
        for r in range(len(s.rows)):
            for kh in range(h.kernel):
                if not s.edge_row or h.inside(s.rows[r], kh):
                    lines.setdefault(r * h.stride + kh * h.dilation, []).append((r, kh))
        parts: list[Stmt] = []
        for _, users in sorted(lines.items()):
            r, kh = users[0]
            parts += self.line(frame, s, acc, source(h, s.rows[r], kh), users, operands)
        return parts

    def looped(self, frame: Frame, s: Spot, acc: Buffer) -> list[Stmt]:
        """A loop over those rows of the window that lie inside, and over the parts of wide ones."""
        low, high = tap_bounds(self.w.height, s.rows[0])

        def row(kh: Expr) -> Stmt:
            full, rest = divmod(self.w.width.kernel, self.together)
            if full == 1 and not rest:
                return self.part(frame, s, acc, kh, 0, self.together)
            wide = tir.loop(full, lambda k: self.part(frame, s, acc, kh, k * self.together, self.together), "part")
            return tir.seq(wide, self.part(frame, s, acc, kh, full * self.together, rest)) if rest else wide

        return [tir.loop(high - low, row, "kh", start=low)]

    def part(self, frame: Frame, s: Spot, acc: Buffer, kh: Expr, first: Expr | int, taps: int) -> Stmt:
        """Some taps of a row of the window."""
        operands: dict[tuple[int, int], Expr | None] = {}
        binds = self.operands(frame, s.block, range(1), operands, kh, first, taps)
        row = source(self.w.height, s.rows[0], kh)
        return tir.seq(binds, self.line(frame, s, acc, row, [(0, 0)], operands, first, taps))

    def line(
        self,
        frame: Frame,
        s: Spot,
        acc: Buffer,
        row: Expr,
        users: list[tuple[int, int]],
        operands: dict[tuple[int, int], Expr | None],
        first: Expr | int = 0,
        taps: int = 0,
    ) -> list[Stmt]:
        """One input row: `users` are the (output row of the tile, row of the window) that read it.

        `taps` columns of the window (all, if 0) from column `first`.
        """
        w = self.w.width
        spots: dict[int, list[tuple[int, int]]] = {}
        for c in range(len(s.columns)):
            for kw in range(taps or w.kernel):
                if not s.edge_column or not isinstance(first, int) or w.inside(s.columns[c], first + kw):
                    spots.setdefault(c * w.stride + kw * w.dilation, []).append((c, kw))
        parts: list[Stmt] = []
        for _, readers in sorted(spots.items()):
            c, kw = readers[0]
            column = source(w, s.columns[c], first + kw)
            spatial = (row, column) if self.rank == 4 else (column,)
            x, bind = tir.let(self.read(frame, s, spatial), "x")
            parts.append(bind)
            for r, kh in users:
                for c, kw in readers:
                    at = s.slot(r, c) * self.lanes
                    parts.append(put(acc, self.join(vector(acc, self.lanes, at), x, operands[kh, kw]), self.lanes, at))
        return parts
