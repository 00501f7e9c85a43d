"""TensorIR of resizing over blocked channels.

A task first writes down, per output column, the columns that it reads and their weights. Then, row by row, it blends
the rows of the input into scratch memory and the columns of that into the output. Nearest neighbours need no blending.
"""

from __future__ import annotations

from math import prod
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Node
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.conversions import put
from edgec.targets.maps_resize import axis_reads
from edgec.targets.tir import Expr, Stmt

from ..common import ceil_div
from ..common_emit import F32, Frame, chunked, emit_kernel, full_or_rest
from ..sparse.rows import PART
from ..turned import Turning
from .resize_rows import TAPS, resized, scratch_floats

AHEAD = 1  # added to positions in the table: TVM takes the bits of a constant zero for a pointer's


class Resize:
    """Units are blocks of channels of one image; a task is `chunk` of them."""

    def __init__(self, problem: Problem, choice: Choice, node: Node) -> None:
        self.problem, self.choice, self.node = problem, choice, node
        self.lanes = problem.target.cpu.lanes(32)
        self.shape, self.source = node.types[0].shape, node.args[0].shape
        self.attrs: Any = full_attrs(node)
        self.taps = TAPS[str(self.attrs["mode"])]
        self.axes = {axis: (n, out, scale) for axis, n, out, scale in resized(node)}
        self.table, self.blended = scratch_floats(node, self.lanes)
        self.last = len(self.shape) - 1
        self.plain = problem.body.outputs[0].node is node
        self.turns = choice.layouts_out == ("",)  # results leave as rows of pixels
        self.across = self.table + self.blended

    def emit(self, symbol: str) -> Emitted:
        blocks, chunk = ceil_div(self.shape[1], self.lanes), self.choice.get("chunk")
        total = self.shape[0] * blocks

        def task(frame: Frame, number: Expr) -> Stmt:
            units = chunked(total, chunk, number, lambda n: self.unit(frame, n))
            return tir.seq(self.columns(frame) if self.table else None, units)

        return emit_kernel(self.problem, self.choice, symbol, ceil_div(total, chunk), task)

    def columns(self, frame: Frame) -> Stmt:
        """Write down where each output column reads: positions in vectors of the row, and weights."""

        def column(i: Expr) -> Stmt:
            frame.body.limit(i, self.shape[-1])
            parts = []
            for k, (at, weight) in enumerate(axis_reads(frame.body, i, *self.axes[self.last], self.attrs)):
                position = tirx.Cast("int32", at * self.lanes) + AHEAD
                parts.append(tir.store(frame.scratch, tirx.reinterpret(F32, position), i * (2 * self.taps) + k))
                if weight is not None:
                    parts.append(tir.store(frame.scratch, tirx.Cast(F32, weight), i * (2 * self.taps) + self.taps + k))
            return tir.seq(parts)

        return tir.loop(self.shape[-1], column, "column")

    def unit(self, frame: Frame, number: Expr) -> Stmt:
        image, block = tir.split(number, self.shape[0], ceil_div(self.shape[1], self.lanes))
        if self.plain and not self.turns:  # whole vectors: nobody reads what lies beyond the true channels
            return self.plane(frame, image, block, self.lanes)
        return full_or_rest(block, self.shape[1], self.lanes, lambda width: self.plane(frame, image, block, width))

    def plane(self, frame: Frame, image: Expr, block: Expr, width: int) -> Stmt:
        buffer = frame.places[self.node.args[0]].buffer
        start = (image * ceil_div(self.shape[1], self.lanes) + block) * prod(self.source[2:]) * self.lanes
        first = [tir.i32(0)] * (len(buffer.shape) - 1)

        def at(row: Expr | int) -> Expr:
            return start + row * (self.source[-1] * self.lanes)

        def read(position: Expr, lanes: int) -> Expr:
            return tir.load(buffer, *first, tir.ramp(position, lanes))

        def line(y: Expr) -> Stmt:
            if len(self.shape) == 3 or 2 not in self.axes:
                return self.line(frame, image, block, width, y, lambda p: read(at(y) + p, self.lanes))
            frame.body.limit(y, self.shape[2])
            reads = axis_reads(frame.body, y, *self.axes[2], self.attrs)
            names, binds = [], []
            for position, weight in reads:
                row, bind = tir.let(at(position), "row")
                binds.append(bind)
                factor = None
                if weight is not None:
                    factor, bind = tir.let(tirx.Cast(F32, weight), "weight")
                    binds.append(bind)
                names.append((row, factor))
            if self.taps == 1:
                return tir.seq(
                    binds,
                    self.line(frame, image, block, width, y, lambda p: read(names[0][0] + p, self.lanes)),
                )
            blend = tir.loop(self.source[-1], lambda p: self.blend(frame, names, read, p * self.lanes), "pixel")
            after = self.line(
                frame,
                image,
                block,
                width,
                y,
                lambda p: tir.load(frame.scratch, tir.ramp(self.table + p, self.lanes)),
            )
            return tir.seq(binds, blend, after)

        return tir.loop(self.shape[2], line, "row") if len(self.shape) == 4 else line(tir.i32(0))

    def blend(self, frame: Frame, rows: list[Any], read: Any, p: Expr) -> Stmt:
        terms = [read(row + p, self.lanes) * tir.broadcast(weight, self.lanes) for row, weight in rows]
        return tir.store(frame.scratch, sum(terms[1:], terms[0]), tir.ramp(self.table + p, self.lanes))

    def line(self, frame: Frame, image: Expr, block: Expr, width: int, y: Expr, vector: Any) -> Stmt:
        """One output row; `vector(p)` is the vector at position p of the row that it reads."""

        def column(x: Expr) -> Stmt:
            parts: list[Stmt] = []
            if self.last not in self.axes:
                value = vector(x * self.lanes)
            else:
                entry = x * (2 * self.taps)
                terms = []
                for k in range(self.taps):
                    position = tirx.reinterpret("int32", tir.load(frame.scratch, entry + k))
                    at, bind = tir.let(position - AHEAD, "at")
                    parts.append(bind)
                    term = vector(at)
                    if self.taps > 1:
                        weight, bind = tir.let(tir.load(frame.scratch, entry + self.taps + k), "weight")
                        parts.append(bind)
                        term = term * tir.broadcast(weight, self.lanes)
                    terms.append(term)
                value = sum(terms[1:], terms[0])
            return tir.seq(parts, self.store(frame, image, block, width, y, x, value))

        columns = tir.loop(self.shape[-1], column, "column")
        return tir.seq(columns, self.turned(frame, image, block, width, y)) if self.turns else columns

    def turned(self, frame: Frame, image: Expr, block: Expr, width: int, y: Expr) -> Stmt:
        """Write a row of vectors of channels, which lies in scratch memory, as a row of pixels of each channel."""
        lanes, out = self.lanes, self.shape[-1]
        spatial = (y,) if len(self.shape) == 4 else ()

        def place(channel: int, x: Expr) -> tuple[Expr, ...]:
            return (image, block * lanes + channel, *spatial, x)

        def square(k: Expr) -> Stmt:
            x, turning = k * lanes, Turning()

            def part(row: int, p: int) -> Expr:
                return tir.load(frame.scratch, tir.ramp(self.across + (x + row) * lanes + p * PART, PART))

            found = turning.turned(part, lanes)
            stores = [tir.store(frame.place.buffer, found[c], *place(c, tir.ramp(x, lanes))) for c in range(width)]
            return tir.seq(turning.statements, stores)

        def single(x: Expr) -> Stmt:
            at = self.across + x * lanes
            every = [(place(c, x), tir.load(frame.scratch, at + c)) for c in range(width)]
            return tir.seq(tir.store(frame.place.buffer, value, *index) for index, value in every)

        full = out // lanes
        rest = tir.loop(out % lanes, single, "column", start=tir.i32(full * lanes)) if out % lanes else None
        return tir.seq(tir.loop(full, square, "square"), rest)

    def store(self, frame: Frame, image: Expr, block: Expr, width: int, y: Expr, x: Expr, value: Expr) -> Stmt:
        spatial = (y, x) if len(self.shape) == 4 else (x,)
        if self.turns:
            return tir.store(frame.scratch, value, tir.ramp(self.across + x * self.lanes, self.lanes))
        if self.plain:
            return tir.store(frame.place.buffer, value, image, block, *spatial, tir.ramp(0, self.lanes))
        held, alloc = tir.local((self.lanes,), F32, "held")
        first = (image, block * self.lanes, *spatial)
        *outer, inner = frame.place.physical(first)  # a block of lanes lies within a block of the layout
        kind = frame.place.type.dtype

        def lane(v: Expr) -> Stmt:
            frame.body.bind(self.node.results[0], lambda _: tir.load(held, v))
            element = frame.body.at(frame.out, (image, block * self.lanes + v, *spatial))
            return tir.store(frame.place.buffer, put(element, kind), *outer, inner + v)

        return tir.seq(alloc, tir.store(held, value, tir.ramp(0, self.lanes)), tir.vectorized(width, lane))
