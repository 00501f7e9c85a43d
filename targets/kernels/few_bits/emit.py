"""TensorIR of products of few rows with weights of few bits: codes become f32 in registers, and are never stored so.

A word of a column holds the codes of 8 (or 4) rows of the weights. Code j is `word & mask << bits * j` as f32, which is
the code times 2^(bits * j), exactly: no shift is needed where x[k] was divided by that before, exactly too. A task
first prepares x so, once for all columns, and minus the sum of x over each block, from which a block's sums start,
times the zero points. Sums of a block times its scales are added to the result's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.conversions import widened
from edgec.targets.tir import Buffer, Expr, Stmt

from ..common import ceil_div
from ..common_emit import F32, Frame, chunked, emit_kernel, full_or_rest, put, store_tile, vector
from ..conv.places import widths
from ..cost import QUAD, by_lane
from ..lane_sums import lane_sums
from .operands import FewBits


class Codes:
    """How a kernel of such weights reads them."""

    def __init__(self, problem: Problem, choice: Choice, found: FewBits) -> None:
        self.problem, self.choice, self.found = problem, choice, found
        self.lanes, self.vectors = problem.target.cpu.lanes(32), choice.get("vectors")
        self.wide = self.lanes * self.vectors
        self.result = problem.anchor.results[0]

    def view(self, value: Value) -> Type:
        """x has one axis of rows; codes are words."""
        found = self.found
        if value == found.x:
            return replace(value.type, shape=(found.rows, found.inner))
        if value == found.codes:
            units = ceil_div(found.columns, self.wide)
            return Type("i32", (units * found.words, self.wide))
        return value.type

    def word(self, frame: Frame, unit: Expr, word: Expr, v: int) -> Expr:
        """The words of a vector of columns; `word` counts the rows' words."""
        place = frame.places[self.found.codes]
        return vector(place.buffer, self.lanes, unit * self.found.words + word, v * self.lanes)

    def code(self, word: Expr, j: int, shifted: bool = False) -> Expr:
        """Code j of words as f32: times 2^(bits * j) unless `shifted`, or it is the last."""
        bits, kind = self.found.bits, f"uint32x{self.lanes}"
        first = j == self.found.steps - 1
        word = tirx.reinterpret(kind, word)

        def each(number: int) -> Expr:
            return tir.broadcast(tir.lit(number, "uint32"), self.lanes)

        if first or shifted:
            word = word >> each(bits * j) if j else word
        mask = (1 << bits) - 1 << (0 if shifted else bits * j)
        masked = word if first else word & each(mask)
        # less than 2^31: signed numbers take one instruction to convert
        return tirx.Cast(f"float32x{self.lanes}", tirx.reinterpret(f"int32x{self.lanes}", masked))

    def of_block(self, frame: Frame, value: Value, unit: Expr, block: Expr, v: int) -> Expr:
        """Scales or zero points of a vector of columns, in f32."""
        loaded = vector(frame.places[value].buffer, self.lanes, unit, block, v * self.lanes)
        if value == self.found.zeros:
            return tirx.Cast(f"float32x{self.lanes}", tirx.Cast(f"int32x{self.lanes}", loaded))
        return widened(loaded, value.type.dtype)

    def zero(self, frame: Frame, unit: Expr, block: Expr, v: int) -> Expr:
        """Zero points of a vector of columns, or the one of all."""
        fixed = self.found.zero
        return self.all_of(fixed) if fixed is not None else self.of_block(frame, self.found.zeros, unit, block, v)

    def all_of(self, number: float) -> Expr:
        return tir.broadcast(tir.lit(number, F32), self.lanes)

    def store(self, frame: Frame, sums: Buffer, rows: list[Any], unit: Expr, columns: int) -> Stmt:
        """Rows of the result with what follows the product."""
        leading = self.result.shape[:-1]

        def write(buffer: Buffer, slot: Expr | int, v: int, row: Expr | int, column: Any) -> Callable[[Expr], Stmt]:
            def lane(k: Expr) -> Stmt:
                frame.body.bind(self.result, lambda _: tir.load(buffer, slot + k))
                return frame.store((*tir.split(tir.expr(row), *leading), unit * self.wide + v * self.lanes + k))

            return lane

        return store_tile(frame, sums, rows, [tir.i32(0)], widths(columns, self.lanes), self.lanes, write)


class Few(Codes):
    """Tasks are some units, a tile of columns by all rows each."""

    def __init__(self, problem: Problem, choice: Choice, found: FewBits) -> None:
        super().__init__(problem, choice, found)
        self.rows, self.padded = choice.get("rows"), found.words * found.steps
        self.sums = ceil_div(found.blocks, self.lanes) * self.lanes
        self.by_lane = by_lane(problem.target.cpu)

    def emit(self, symbol: str) -> Emitted:
        found, chunk = self.found, self.choice.get("chunk")
        units = ceil_div(found.columns, self.wide)

        def task(frame: Frame, number: Expr) -> Stmt:
            return tir.seq(self.prepare(frame), chunked(units, chunk, number, partial(self.unit, frame)))

        scaled = found.rows * self.padded
        parts = [("scaled", F32, scaled, 0), ("sums", F32, found.rows * self.sums, 4 * scaled)]
        return emit_kernel(self.problem, self.choice, symbol, ceil_div(units, chunk), task, self.view, parts)

    def prepare(self, frame: Frame) -> Stmt:
        """x in scratch, divided as codes are multiplied, and minus its sums over blocks."""

        def row(r: Expr) -> Stmt:
            return tir.seq(self.divide(frame, r), self.negated_sums(frame, r))

        return tir.loop(self.found.rows + frame.zero, row, "row")

    def divide(self, frame: Frame, r: Expr) -> Stmt:
        found, (scaled, _) = self.found, frame.parts
        x = frame.places[found.x].buffer

        def some(k: Expr, count: int) -> Stmt:
            def one(v: Expr) -> Stmt:
                j = tirx.floormod(v, found.steps)
                shift = tirx.Select(j.equal(found.steps - 1), tir.i32(0), j * found.bits)
                power = tirx.reinterpret(F32, tirx.shift_left(127 - shift, tir.i32(23)))
                return tir.store(scaled, tir.load(x, r, k + v) * power, r * self.padded + k + v)

            return tir.vectorized(count, one)

        step = max(self.lanes, found.steps)
        whole, rest = divmod(found.inner, step)
        nothing = [tir.store(scaled, tir.lit(0.0, F32), r * self.padded + k) for k in range(found.inner, self.padded)]
        return tir.seq(
            tir.loop(whole, lambda k: some(k * step, step), "k") if whole else None,
            some(tir.i32(whole * step), rest) if rest else None,
            nothing,
        )

    def negated_sums(self, frame: Frame, r: Expr) -> Stmt:
        """Blocks of whole vectors side by side, as many as a vector has lanes; the last one may be shorter."""
        found, (_, sums), lanes = self.found, frame.parts, self.lanes
        x = frame.places[found.x].buffer
        whole = found.inner // found.block if found.block % lanes == 0 else 0

        def group(first: Expr, count: int) -> Stmt:
            totals = []
            binds: list[Stmt] = []
            for b in range(count):
                start = (first + b) * found.block
                acc, alloc = tir.local((lanes,), F32)
                turns = found.block // lanes

                def add(k: Expr, acc: Buffer = acc, start: Expr = start) -> Stmt:
                    return put(acc, vector(acc, lanes, 0) + vector(x, lanes, r, start + k * lanes), lanes, 0)

                binds += [alloc, put(acc, self.all_of(0.0), lanes, 0), tir.loop(turns, add, "k")]
                name, bind = tir.let(vector(acc, lanes, 0), "sum")
                binds.append(bind)
                totals.append(name)
            (total,), more = lane_sums(totals, lanes)
            return tir.seq(binds, more, put(sums, self.all_of(0.0) - total, lanes, r * self.sums + first))

        groups, left = divmod(whole, lanes)
        last = found.blocks - 1

        def single(b: Expr) -> Stmt:
            return self.summed(frame, r, b, found.block)

        return tir.seq(
            tir.loop(groups, lambda g: group(g * lanes, lanes), "group") if groups else None,
            group(tir.i32(groups * lanes), left) if left else None,
            tir.loop(last - whole, lambda b: self.summed(frame, r, b, found.block), "b", whole)
            if last > whole
            else None,
            self.summed(frame, r, tir.i32(last), found.inner - last * found.block) if last >= whole else None,
        )

    def summed(self, frame: Frame, r: Expr, block: Expr, count: int) -> Stmt:
        """Minus the sum of a block, element by element."""
        x, at, (_, sums) = frame.places[self.found.x].buffer, r * self.sums + block, frame.parts

        def less(k: Expr) -> Stmt:
            return tir.store(sums, tir.load(sums, at) - tir.load(x, r, block * self.found.block + k), at)

        return tir.seq(tir.store(sums, tir.lit(0.0, F32), at), tir.loop(count + frame.zero, less, "k"))

    def unit(self, frame: Frame, unit: Expr) -> Stmt:
        def columns(count: int) -> Stmt:
            full, rest = divmod(self.found.rows, self.rows)

            def tile(first: Expr, rows: int) -> Stmt:
                return self.tile(frame, unit, first, rows, count)

            return tir.seq(
                tir.loop(full, lambda k: tile(k * self.rows, self.rows), "tile") if full else None,
                tile(tir.i32(full * self.rows), rest) if rest else None,
            )

        return full_or_rest(unit, self.found.columns, self.wide, columns)

    def tile(self, frame: Frame, unit: Expr, first: Expr, rows: int, columns: int) -> Stmt:
        vectors = ceil_div(columns, self.lanes)
        places = [(r, v) for r in range(rows) for v in range(vectors)]
        size = len(places) * self.lanes
        (total, alloc), (acc, also) = tir.local((size,), F32, "total"), tir.local((size,), F32)
        slot = {place: k * self.lanes for k, place in enumerate(places)}
        found = self.found
        each = found.block // found.steps

        def block(b: Expr, words: int) -> Stmt:
            parts: list[Stmt] = [self.begin(frame, acc, unit, b, first, slot)]
            parts.append(
                tir.loop(words, lambda g: self.group(frame, acc, unit, b * each + g, first, rows, vectors), "word")
            )
            for v in range(vectors):
                scale, bind = tir.let(self.of_block(frame, found.scales, unit, b, v), "scale")
                parts.append(bind)
                for r in range(rows):
                    at = slot[r, v]
                    done = vector(total, self.lanes, at) + vector(acc, self.lanes, at) * scale
                    parts.append(put(total, done, self.lanes, at))
            return tir.seq(parts)

        whole, rest = divmod(found.words, each)
        return tir.seq(
            alloc,
            also,
            [put(total, self.all_of(0.0), self.lanes, at) for at in slot.values()],
            tir.loop(whole, lambda b: block(b, each), "block") if whole else None,
            block(tir.i32(whole), rest) if rest else None,
            self.store(frame, total, [first + r for r in range(rows)], unit, columns),
        )

    def begin(
        self, frame: Frame, acc: Buffer, unit: Expr, block: Expr, first: Expr, slot: dict[tuple[int, int], int]
    ) -> Stmt:
        """Sums of a block start from minus the sum of x times the zero points."""
        parts: list[Stmt] = []
        zeros: dict[int, Expr] = {}
        for (r, v), at in slot.items():
            if v not in zeros:
                zeros[v], bind = tir.let(self.zero(frame, unit, block, v), "zero")
                parts.append(bind)
            less = tir.load(frame.parts[1], (first + r) * self.sums + block)
            parts.append(put(acc, tir.broadcast(less, self.lanes) * zeros[v], self.lanes, at))
        return tir.seq(parts)

    def group(self, frame: Frame, acc: Buffer, unit: Expr, word: Expr, first: Expr, rows: int, vectors: int) -> Stmt:
        """All steps of one word of each column."""
        found, parts, words = self.found, list[Stmt](), []
        for v in range(vectors):
            name, bind = tir.let(self.word(frame, unit, word, v), "word")
            words.append(name)
            parts.append(bind)
        quads: list[Expr] = []
        for j in range(found.steps):
            codes = []
            for v in range(vectors):
                name, bind = tir.let(self.code(words[v], j), "code")
                codes.append(name)
                parts.append(bind)
            if self.by_lane and j % QUAD == 0:
                quads = []
                for r in range(rows):
                    at = (first + r) * self.padded + word * found.steps + j
                    name, bind = tir.let(vector(frame.parts[0], QUAD, at), "x")
                    quads.append(name)
                    parts.append(bind)
            for r in range(rows):
                if self.by_lane:
                    factor: Expr = tirx.Shuffle([quads[r]], [tir.i32(j % QUAD)])
                else:
                    factor = tir.load(frame.parts[0], (first + r) * self.padded + word * found.steps + j)
                for v in range(vectors):
                    at = (r * vectors + v) * self.lanes
                    done = vector(acc, self.lanes, at) + tir.broadcast(factor, self.lanes) * codes[v]
                    parts.append(put(acc, done, self.lanes, at))
        return tir.seq(parts)
