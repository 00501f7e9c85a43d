"""TensorIR of products of many rows with weights of few bits: a panel of the weights is widened, then multiplied.

A panel is some blocks of a tile of columns; with all rows of x it stays in a near cache. Sums wait beside it.
"""

from __future__ import annotations

from functools import partial

from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from .common import ceil_div
from .common_emit import F32, Frame, chunked, emit_kernel, full_or_rest, put, vector
from .cost import by_lane
from .few_bits import FewBits
from .few_bits_emit import Codes
from .register_tile import QUAD, Tile


class Panel(Codes):
    """Tasks are some units, a tile of columns by all rows each."""

    def __init__(self, problem: Problem, choice: Choice, found: FewBits) -> None:
        super().__init__(problem, choice, found)
        self.rows, self.each = choice.get("rows"), choice.get("blocks")
        self.by_lane = by_lane(problem.target.cpu)

    def emit(self, symbol: str) -> Emitted:
        found, chunk = self.found, self.choice.get("chunk")
        units = ceil_div(found.columns, self.wide)

        def task(frame: Frame, number: Expr) -> Stmt:
            return chunked(units, chunk, number, lambda unit: self.unit(frame, unit))

        panel = self.each * found.block * self.wide
        parts = [("panel", F32, panel, 0), ("sums", F32, found.rows * self.wide, 4 * panel)]
        return emit_kernel(self.problem, self.choice, symbol, ceil_div(units, chunk), task, self.view, parts)

    def unit(self, frame: Frame, unit: Expr) -> Stmt:
        return full_or_rest(unit, self.found.columns, self.wide, partial(self.columns, frame, unit))

    def columns(self, frame: Frame, unit: Expr, count: int) -> Stmt:
        """A tile of columns, panel by panel."""
        found, sums = self.found, frame.parts[1]
        slices, left = divmod(found.inner, self.each * found.block)
        vectors = ceil_div(count, self.lanes)

        def zero(r: Expr) -> Stmt:
            return tir.seq(
                put(sums, self.all_zero(0.0), self.lanes, r * self.wide + v * self.lanes) for v in range(vectors)
            )

        def of_row(r: Expr) -> Stmt:
            held, alloc = tir.local((vectors * self.lanes,), F32, "held")
            keep = [
                put(held, vector(sums, self.lanes, r * self.wide + v * self.lanes), self.lanes, v * self.lanes)
                for v in range(vectors)
            ]
            return tir.seq(alloc, keep, self.store(frame, held, [r], unit, count))

        def panel(k: Expr, rows: int) -> Stmt:
            return tir.seq(
                self.widen(frame, unit, k * self.each, rows, vectors),
                self.multiply(frame, k * (self.each * found.block), rows, vectors),
            )

        return tir.seq(
            tir.loop(found.rows + frame.zero, zero, "row"),
            tir.loop(slices, lambda k: panel(k, self.each * found.block), "panel") if slices else None,
            panel(tir.i32(slices), left) if left else None,
            tir.loop(found.rows + frame.zero, of_row, "row"),
        )

    def widen(self, frame: Frame, unit: Expr, first: Expr, rows: int, vectors: int) -> Stmt:
        """The weights of some rows from block `first` on, as DequantizeLinear says."""
        found = self.found

        def block(b: Expr, count: int) -> Stmt:
            numbers = []
            parts: list[Stmt] = []
            for v in range(vectors):
                fixed = found.zero
                zero = self.of_block(frame, found.zeros, unit, first + b, v) if fixed is None else self.all_zero(fixed)
                pair = tir.let(self.of_block(frame, found.scales, unit, first + b, v), "scale"), tir.let(zero, "zero")
                numbers.append((pair[0][0], pair[1][0]))
                parts += [pair[0][1], pair[1][1]]

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

    def multiply(self, frame: Frame, first: Expr, steps: int, vectors: int) -> Stmt:
        """Add the products of all rows of x with the panel, whose first row of the weights is `first`."""
        found, (panel, sums) = self.found, frame.parts
        x = frame.places[found.x].buffer

        def tile(start: Expr, rows: int) -> Stmt:
            made = Tile(rows, (self.lanes,) * vectors, self.lanes)

            def line(k: Expr, v: int) -> Expr:
                return vector(panel, self.lanes, k * self.wide + v * self.lanes)

            def number(k: Expr, i: int) -> Expr:
                return tir.load(x, start + i, first + k)

            def four(k: Expr, i: int) -> Expr:
                return vector(x, QUAD, start + i, first + k)

            run = made.sums_along(steps, line, number, four) if self.by_lane else made.sums(steps, line, number)
            added = []
            for i, v in made.places:
                at = (start + i) * self.wide + v * self.lanes
                added.append(put(sums, vector(sums, self.lanes, at) + made.sum(i, v), self.lanes, at))
            return tir.seq(run, added)

        full, rest = divmod(found.rows, self.rows)
        return tir.seq(
            tir.loop(full, lambda t: tile(t * self.rows, self.rows), "tile") if full else None,
            tile(tir.i32(full * self.rows), rest) if rest else None,
        )
