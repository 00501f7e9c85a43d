"""TensorIR of attention with few queries: a task is one of them, its scores and weights a line of scratch memory."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import Any

from tvm import tirx

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import floats, fractions, tir
from edgec.targets.addends import turning
from edgec.targets.tir import Buffer, Expr, Stmt

from ..common import ceil_div
from ..common_emit import ABREAST, F32, Frame, emit_kernel, put, vector
from .dots import dot_scores
from .emit import flat, operands_of
from .rows import shape_of
from .scores import Operand


def emitted(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    shape = shape_of(problem)

    def task(frame: Frame, number: Expr) -> Stmt:
        head, query = tir.split(number, shape.heads, shape.s)
        operands, binds = operands_of(problem, shape, frame, head)
        return tir.seq(binds, Query(problem, choice, frame, operands, query).steps())

    return emit_kernel(problem, choice, symbol, shape.heads * shape.s, task, flat)


class Query:
    def __init__(
        self, problem: Problem, choice: Choice, frame: Frame, operands: dict[str, Operand], query: Expr
    ) -> None:
        self.query, self.zero, self.scratch = query, frame.zero, frame.scratch
        self.shape, self.choice, self.operands = shape_of(problem), choice, operands
        self.attrs: Any = full_attrs(problem.anchor)
        self.lanes = problem.target.cpu.lanes(32)
        self.held: list[Stmt] = []
        self.top = self.lanewise(-inf, "top")
        self.sum = self.lanewise(0.0, "sum")
        self.open = self.lanewise(0.0, "open") if self.attrs["zero_masked"] else None

    def lanewise(self, start: float, name: str) -> Buffer:
        """A vector of registers that begins as this number."""
        buffer, alloc = tir.local((self.lanes,), F32, name)
        self.held += [alloc, put(buffer, tir.broadcast(tir.lit(start, F32), self.lanes), self.lanes, 0)]
        return buffer

    def steps(self) -> Stmt:
        whole, rest = divmod(self.shape.t, self.lanes)
        tiles = tir.loop(whole, lambda k: self.scores(k * self.lanes, self.lanes), "t") if whole else None
        last = self.scores(tir.i32(whole * self.lanes), rest) if rest else None
        return tir.seq(self.held, tiles, last, self.weights(), self.products())

    def scores(self, first: Expr, keys: int) -> Stmt:
        """Scores of a vector of keys go to scratch; lanes without a key hold -inf."""
        q, k, mask, lanes = self.operands["q"], self.operands["k"], self.operands.get("mask"), self.lanes
        places = [k.at(first + i, 0) for i in range(keys)]
        scale = self.attrs["scale"]
        work, held = dot_scores((q.buffer, q.at(self.query, 0)), (k.buffer, places), self.shape.d, scale, lanes)

        def score(i: Expr) -> Stmt:
            x = tir.load(held, i)
            if self.attrs["cap"]:
                x = tir.lit(self.attrs["cap"], F32) * fractions.tanh(x)
            if mask is not None:
                x = x + tir.load(mask.buffer, mask.at(self.query, first + i))
            return tir.store(self.scratch, x, first + i)

        def higher(i: Expr) -> Stmt:
            return tir.store(self.top, floats.greater(tir.load(self.scratch, first + i), tir.load(self.top, i)), i)

        def seen(i: Expr) -> Stmt:
            assert mask is not None and self.open is not None
            hidden = tirx.EQ(tir.load(mask.buffer, mask.at(self.query, first + i)), floats.f32(-inf))
            return tir.store(self.open, tirx.Select(hidden, tir.load(self.open, i), floats.f32(1)), i)

        nothing = put(self.scratch, tir.broadcast(tir.lit(-inf, F32), lanes), lanes, first) if keys < lanes else None
        return tir.seq(
            work,
            nothing,
            tir.vectorized(keys, score),
            tir.vectorized(lanes, higher),
            tir.vectorized(keys, seen) if self.open is not None else None,
        )

    def weights(self) -> Stmt:
        """Scores become exponentials of their distance to the greatest, `sum` its inverse: 0 where nothing is seen."""
        lanes, count = self.lanes, ceil_div(self.shape.t, self.lanes)
        top, bind = tir.let(tir.load(self.top, 0), "greatest")

        def some(turn: Expr, number: int) -> Stmt:
            with turning(self.zero * turn):
                return tir.interleaved([one((turn * ABREAST + k) * lanes) for k in range(number)])

        def one(at: Expr) -> Stmt:
            weight, alloc = tir.local((lanes,), F32, "weight")

            def lane(i: Expr) -> Stmt:
                return tir.seq(
                    tir.store(weight, fractions.exp_below(tir.load(self.scratch, at + i) - top), i),
                    tir.store(self.scratch, tir.load(weight, i), at + i),
                    tir.store(self.sum, tir.load(self.sum, i) + tir.load(weight, i), i),
                )

            return tir.seq(alloc, tir.vectorized(lanes, lane))

        whole, rest = divmod(count, ABREAST)
        inverse = floats.f32(1) / tir.load(self.sum, 0)
        if self.open is not None:
            inverse = tirx.Select(tir.load(self.open, 0) < floats.f32(1), floats.f32(0), inverse)
        return tir.seq(
            self.gathered(self.top, floats.greater),
            self.gathered(self.open, tirx.max) if self.open is not None else None,
            bind,
            tir.loop(whole, lambda k: some(k, ABREAST), "t") if whole else None,
            some(tir.i32(whole), rest) if rest else None,
            self.gathered(self.sum, lambda x, y: x + y),
            tir.store(self.sum, inverse, 0),
        )

    def gathered(self, buffer: Buffer, joined: Any) -> Stmt:
        """One number of all lanes, in the first."""
        parts, half = [], self.lanes // 2
        while half:
            parts.append(tir.vectorized(half, partial(_halved, buffer, joined, half)))
            half //= 2
        return tir.seq(parts)

    def products(self) -> Stmt:
        e, columns, lanes = self.shape.e, self.choice.get("ne"), self.lanes
        whole, rest = divmod(e, columns * lanes)
        widths = [lanes] * (rest // lanes) + ([rest % lanes] if rest % lanes else [])
        loop = tir.loop(whole, lambda k: self.panel(k * columns * lanes, [lanes] * columns), "e") if whole else None
        return tir.seq(loop, self.panel(tir.i32(whole * columns * lanes), widths) if rest else None)

    def panel(self, first: Expr, widths: list[int]) -> Stmt:
        """Columns of the result: each part sums every so many rows of V, so that sums overlap."""
        values, out, lanes, parts = self.operands["v"], self.operands["out"], self.lanes, self.choice.get("parts")
        acc, alloc = tir.local((parts * len(widths) * lanes,), F32, "acc")
        place = [[(part * len(widths) + v) * lanes for v in range(len(widths))] for part in range(parts)]

        def rows(t: Expr, count: int) -> Stmt:
            done: list[Stmt] = []
            for part in range(count):
                weight, bind = tir.let(tir.load(self.scratch, t + part), "weight")
                done.append(bind)
                for v, n in enumerate(widths):
                    x = vector(values.buffer, n, values.at(t + part, first + v * lanes))
                    total = vector(acc, n, place[part][v]) + x * tir.broadcast(weight, n)
                    done.append(put(acc, total, n, place[part][v]))
            return tir.seq(done)

        whole, rest = divmod(self.shape.t, parts)
        zero = [put(acc, tir.broadcast(tir.lit(0.0, F32), n), n, row[v]) for row in place for v, n in enumerate(widths)]
        inverse, bind = tir.let(tir.load(self.sum, 0), "inverse")
        finish: list[Stmt] = []
        for v, n in enumerate(widths):
            total = vector(acc, n, place[0][v])
            for part in range(1, parts):
                total = total + vector(acc, n, place[part][v])
            result = total * tir.broadcast(inverse, n)
            if self.open is not None:
                none = tir.broadcast(tir.lit(0.0, F32), n)
                result = tirx.Select(tirx.EQ(tir.broadcast(inverse, n), none), none, result)
            finish.append(put(out.buffer, result, n, out.at(self.query, first + v * lanes)))
        return tir.seq(
            alloc,
            zero,
            tir.loop(whole, lambda k: rows(k * parts, parts), "t") if whole else None,
            rows(tir.i32(whole * parts), rest) if rest else None,
            bind,
            finish,
        )


def _halved(buffer: Buffer, joined: Any, half: int, i: Expr) -> Stmt:
    return tir.store(buffer, joined(tir.load(buffer, i), tir.load(buffer, i + half)), i)
