"""TensorIR of products with few columns: a tile of rows, each with one vector of partial sums per column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from .common import ceil_div
from .common_emit import F32, Frame, chunked, emit_kernel, full_or_rest, put, vector
from .lane_sums import lane_sums


class Dots:
    """Tasks are some tiles of `rows` rows by all columns."""

    def __init__(self, problem: Problem, choice: Choice) -> None:
        self.problem, self.choice = problem, choice
        self.left, self.right = problem.anchor.args
        self.lanes = problem.target.cpu.lanes(32)
        self.leading, self.inner = self.left.shape[:-1], self.left.shape[-1]
        self.columns, self.rows = self.right.shape[-1], choice.get("rows")

    def emit(self, symbol: str) -> Emitted:
        total = prod(self.leading)
        tiles, chunk = ceil_div(total, self.rows), self.choice.get("chunk")

        def tile(frame: Frame, number: Expr) -> Stmt:
            return full_or_rest(number, total, self.rows, lambda rows: self.tile(frame, number * self.rows, rows))

        def task(frame: Frame, number: Expr) -> Stmt:
            return chunked(tiles, chunk, number, lambda n: tile(frame, n))

        return emit_kernel(self.problem, self.choice, symbol, ceil_div(tiles, chunk), task, self.view)

    def view(self, value: Value) -> Type:
        """All leading axes of the left operand are rows."""
        return replace(value.type, shape=(prod(self.leading), self.inner)) if value == self.left else value.type

    def tile(self, frame: Frame, first: Expr, rows: int) -> Stmt:
        places = [(r * self.columns + c) * self.lanes for r in range(rows) for c in range(self.columns)]
        acc, alloc = tir.local((len(places) * self.lanes,), F32)
        zero = tir.broadcast(tir.lit(0.0, F32), self.lanes)
        whole, rest = divmod(self.inner, self.lanes)
        parts = [alloc, *(put(acc, zero, self.lanes, at) for at in places)]
        parts.append(tir.loop(whole, lambda k: self.step(frame, acc, first, rows, k * self.lanes), "k"))
        if rest:  # the last vector begins in the one before it, whose lanes count no more
            parts.append(self.step(frame, acc, first, rows, tir.i32(self.inner - self.lanes), self.lanes - rest))
        return tir.seq(parts, self.finish(frame, acc, places, first, rows))

    def step(self, frame: Frame, acc: Buffer, first: Expr, rows: int, k: Expr, done: int = 0) -> Stmt:
        """Add the products of one vector of each row and column, but for the lanes that are `done`."""
        left, right = (frame.places[v].buffer for v in (self.left, self.right))
        parts: list[Stmt] = []
        elements = []
        for c in range(self.columns):
            element = vector(right, self.lanes, c, k)
            if done:
                counts = tir.ramp(0, self.lanes) >= tir.broadcast(tir.i32(done), self.lanes)
                element = tirx.Select(counts, element, tir.broadcast(tir.lit(0.0, F32), self.lanes))
            name, bind = tir.let(element, "column")
            elements.append(name)
            parts.append(bind)
        for r in range(rows):
            row, bind = tir.let(vector(left, self.lanes, first + r, k), "row")
            parts.append(bind)
            for c, element in enumerate(elements):
                at = (r * self.columns + c) * self.lanes
                parts.append(put(acc, vector(acc, self.lanes, at) + row * element, self.lanes, at))
        return tir.seq(parts)

    def finish(self, frame: Frame, acc: Buffer, places: list[int], first: Expr, rows: int) -> Stmt:
        """Add up the lanes, and store with what follows the product."""
        sums, binds = lane_sums([vector(acc, self.lanes, at) for at in places], self.lanes)
        held, alloc = tir.local((len(sums) * self.lanes,), F32, "held")
        keep = [put(held, total, self.lanes, i * self.lanes) for i, total in enumerate(sums)]
        lines = [tir.vectorized(self.columns, self.writer(frame, held, first + r, r)) for r in range(rows)]
        return tir.seq(binds, alloc, keep, lines)

    def writer(self, frame: Frame, held: Buffer, row: Expr, r: int) -> Callable[[Expr], Stmt]:
        def write(column: Expr) -> Stmt:
            frame.body.bind(self.problem.anchor.results[0], lambda _: tir.load(held, r * self.columns + column))
            return frame.store((*tir.split(row, *self.leading), column))

        return write
