"""TensorIR of products of many rows with weights of few bits: a panel of the weights is widened, then multiplied.

A panel is some blocks of weights of a tile of columns; it stays in a near cache while the tiles of a block of rows are
multiplied with it, whose sums wait beside it.
"""

from __future__ import annotations

from functools import partial

from tvm import tirx

from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common import ceil_div
from ..common_emit import F32, Frame, chunked, emit_kernel, full_or_rest, put, vector
from ..cost import QUAD, by_lane
from ..register_tile import Tile
from .emit import Codes
from .operands import FewBits


class Panel(Codes):
    """Tasks are some units, a tile of columns each, by a block of rows.

    Where rows of x displace each other in the L1 cache (`apart`), a task first copies its block of them, further apart.
    """

    def __init__(self, problem: Problem, choice: Choice, found: FewBits) -> None:
        super().__init__(problem, choice, found)
        self.rows, self.each, self.tiles = choice.get("rows"), choice.get("blocks"), choice.get("tiles")
        self.apart = choice.get("apart")
        self.by_lane = by_lane(problem.target.cpu)
        self.full, self.rest = divmod(found.rows, self.rows)  # tiles of all rows, and the rows left

    def emit(self, symbol: str) -> Emitted:
        found, chunk = self.found, self.choice.get("chunk")
        units = ceil_div(found.columns, self.wide)
        tasks, blocks = ceil_div(units, chunk), ceil_div(found.rows, self.rows * self.tiles)

        def task(frame: Frame, number: Expr) -> Stmt:
            block, part = tir.split(number, blocks, tasks)
            copied = self.copied(frame, block) if self.apart else None
            return tir.seq(copied, chunked(units, chunk, part, lambda unit: self.unit(frame, block, unit)))

        panel, held = self.each * found.block * self.wide, min(self.rows * self.tiles, found.rows)
        parts = [("panel", F32, panel, 0), ("sums", F32, held * self.wide, 4 * panel)]
        parts += [("x", F32, held * self.apart, 4 * (panel + held * self.wide))] if self.apart else []
        return emit_kernel(self.problem, self.choice, symbol, blocks * tasks, task, self.view, parts)

    def of_block_of_rows(self, block: Expr) -> tuple[Expr, Expr]:
        """The first row of a block, and how many it has."""
        first = block * (self.rows * self.tiles)
        return first, tirx.min(tir.i32(self.rows * self.tiles), self.found.rows - first)

    def copied(self, frame: Frame, block: Expr) -> Stmt:
        x, here = frame.places[self.found.x].buffer, frame.parts[2]
        first, count = self.of_block_of_rows(block)
        whole, rest = divmod(self.found.inner, self.lanes)

        def row(r: Expr) -> Stmt:
            def some(k: Expr, lanes: int) -> Stmt:
                return put(here, vector(x, lanes, first + r, k), lanes, r * self.apart + k)

            return tir.seq(
                tir.loop(whole, lambda k: some(k * self.lanes, self.lanes), "k") if whole else None,
                some(tir.i32(whole * self.lanes), rest) if rest else None,
            )

        return tir.loop(count, row, "row")

    def numbers(self, frame: Frame, block: Expr, row: Expr, k: Expr, lanes: int = 1) -> Expr:
        """Elements of x from place k of a row of the block on."""
        if self.apart:
            return vector(frame.parts[2], lanes, row * self.apart + k)
        return vector(frame.places[self.found.x].buffer, lanes, self.of_block_of_rows(block)[0] + row, k)

    def unit(self, frame: Frame, block: Expr, unit: Expr) -> Stmt:
        return full_or_rest(unit, self.found.columns, self.wide, partial(self.columns, frame, block, unit))

    def columns(self, frame: Frame, block: Expr, unit: Expr, columns: int) -> Stmt:
        """A tile of columns, panel by panel."""
        found, sums = self.found, frame.parts[1]
        slices, left = divmod(found.inner, self.each * found.block)
        vectors = ceil_div(columns, self.lanes)
        first, count = self.of_block_of_rows(block)

        def zero(r: Expr) -> Stmt:
            return tir.seq(
                put(sums, self.all_of(0.0), self.lanes, r * self.wide + v * self.lanes) for v in range(vectors)
            )

        def of_row(r: Expr) -> Stmt:
            held, alloc = tir.local((vectors * self.lanes,), F32, "held")
            keep = [
                put(held, vector(sums, self.lanes, r * self.wide + v * self.lanes), self.lanes, v * self.lanes)
                for v in range(vectors)
            ]
            return tir.seq(alloc, keep, self.store(frame, held, [first + r], unit, columns))

        def panel(k: Expr, rows: int) -> Stmt:
            return tir.seq(
                self.widen(frame, unit, k * self.each, rows, vectors),
                self.multiply(frame, block, k * (self.each * found.block), rows, vectors),
            )

        return tir.seq(
            tir.loop(count, zero, "row"),
            tir.loop(slices, lambda k: panel(k, self.each * found.block), "panel") if slices else None,
            panel(tir.i32(slices), left) if left else None,
            tir.loop(count, of_row, "row"),
        )

    def widen(self, frame: Frame, unit: Expr, first: Expr, rows: int, vectors: int) -> Stmt:
        """The weights of some rows from block `first` on, as DequantizeLinear says."""
        found = self.found

        def block(b: Expr, count: int) -> Stmt:
            numbers = []
            parts: list[Stmt] = []
            for v in range(vectors):
                scale, bind_scale = tir.let(self.of_block(frame, found.scales, unit, first + b, v), "scale")
                zero, bind_zero = tir.let(self.zero(frame, unit, first + b, v), "zero")
                numbers.append((scale, zero))
                parts += [bind_scale, bind_zero]

            def word(g: Expr, steps: int) -> Stmt:
                done: list[Stmt] = []
                for v, (scale, zero) in enumerate(numbers):
                    at = (first + b) * (found.block // found.steps) + g
                    name, bind = tir.let(self.word(frame, unit, at, v), "word")
                    done.append(bind)
                    for j in range(steps):
                        real = (self.code(name, j, shifted=True) - zero) * scale
                        to = (b * found.block + g * found.steps + j) * self.wide + v * self.lanes
                        done.append(put(frame.parts[0], real, self.lanes, to))
                return tir.seq(done)

            whole, rest = divmod(count, found.steps)
            parts.append(tir.loop(whole + frame.zero, lambda g: word(g, found.steps), "word"))
            return tir.seq(parts, word(tir.i32(whole), rest) if rest else None)

        whole, rest = divmod(rows, found.block)
        return tir.seq(
            tir.loop(whole, lambda b: block(b, found.block), "block") if whole else None,
            block(tir.i32(whole), rest) if rest else None,
        )

    def multiply(self, frame: Frame, block: Expr, first: Expr, steps: int, vectors: int) -> Stmt:
        """Add the products of a block of rows with the panel, whose first row of the weights is `first`."""
        panel, sums = frame.parts[:2]

        def tile(start: Expr, rows: int) -> Stmt:
            made = Tile(rows, (self.lanes,) * vectors, self.lanes)

            def line(k: Expr, v: int) -> Expr:
                return vector(panel, self.lanes, k * self.wide + v * self.lanes)

            def number(k: Expr, i: int) -> Expr:
                return self.numbers(frame, block, start + i, first + k)

            def four(k: Expr, i: int) -> Expr:
                return self.numbers(frame, block, start + i, first + k, QUAD)

            run = made.sums_along(steps, line, number, four) if self.by_lane else made.sums(steps, line, number)
            added = []
            for i, v in made.places:
                at = (start + i) * self.wide + v * self.lanes
                added.append(put(sums, vector(sums, self.lanes, at) + made.sum(i, v), self.lanes, at))
            return tir.seq(run, added)

        many = tirx.min(tir.i32(self.tiles), self.full - block * self.tiles)
        last, place = divmod(self.full, self.tiles)
        return tir.seq(
            tir.loop(many, lambda t: tile(t * self.rows, self.rows), "tile") if self.full else None,
            tir.when(block.equal(last), tile(tir.i32(place * self.rows), self.rest)) if self.rest else None,
        )
