"""Where a recurrence's numbers lie, and its states at both ends of sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgec.compiler.op import full_attrs
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common_emit import put, vector
from ..plain import Tensors
from .rows import Plan, Shape


@dataclass(frozen=True)
class Rows:
    """What a task works on: a direction, and `count` sequences from `first` on."""

    d: Expr
    first: Expr
    count: int


class States:
    """Arguments, results and scratch of a recurrence, whose states have two halves: one is read, one written."""

    def __init__(self, tensors: Tensors, shape: Shape, plan: Plan) -> None:
        self.shape, self.plan = shape, plan
        self.attrs: Any = full_attrs(tensors.node)
        self.kind = f"float{shape.bits}"
        states = 2 if shape.op == "Edgec.LSTM" else 1
        self.x, self.r, *more = tensors.args
        self.weights = tensors.node.args[1].type.dtype
        self.firsts = [more.pop(0)]
        self.bias = more.pop(0) if shape.op == "Edgec.GRU" else None
        self.firsts += [more.pop(0) for _ in range(states - 1)]
        self.peepholes = more.pop(0) if self.attrs.get("peepholes") else None
        self.lengths = more.pop(0) if more else None
        *every, self.lasts = [*tensors.results[:-states], tensors.results[-states:]]
        self.every = every[0] if every else None
        self.states, self.held = tensors.scratch[:states], tensors.scratch[states:]
        self.wide = plan.padded(shape.hidden)
        self.half = plan.each * self.wide
        self.small = tensors.problem.target.small

    def longest(self, rows: Rows) -> tuple[Expr, Stmt]:
        """The length of the longest sequence."""
        if self.lengths is None:
            return tir.i32(self.shape.steps), tir.seq()
        most, alloc = tir.local((1,), "int32", "longest")
        found = tir.load(most, 0)

        def one(i: Expr) -> Stmt:
            return tir.store(most, tirx.max(found, self.length(rows.first + i)), 0)

        return found, tir.seq(alloc, tir.store(most, tir.i32(0), 0), tir.loop(rows.count, one, "i"))

    def length(self, row: Expr) -> Expr:
        return tirx.max(tirx.min(tir.load(self.lengths, row), tir.i32(self.shape.steps)), tir.i32(0))

    def load(self, rows: Rows, i: Expr) -> Stmt:
        def columns(j: Expr, n: int) -> Stmt:
            parts = [
                put(state, vector(first, n, rows.d, rows.first + i, j), n, i * self.wide + j)
                for first, state in zip(self.firsts, self.states, strict=True)
            ]
            return tir.seq(parts)

        return self.across(columns)

    def save(self, rows: Rows, i: Expr, odd: Expr) -> Stmt:
        """The last states; zeros for a sequence without steps."""
        row = rows.first + i

        def columns(j: Expr, n: int) -> Stmt:
            parts = []
            for last, state in zip(self.lasts, self.states, strict=True):
                kept = put(last, vector(state, n, odd + i * self.wide + j), n, rows.d, row, j)
                if self.lengths is not None:
                    nothing = put(last, self.zeros(n), n, rows.d, row, j)
                    kept = tir.when(self.length(row) > 0, kept, nothing)
                parts.append(kept)
            return tir.seq(parts)

        return self.across(columns)

    def zeros(self, n: int) -> Expr:
        return tir.broadcast(tir.lit(0.0, self.kind), n)

    def across(self, make: Callable[[Expr, int], Stmt]) -> Stmt:
        """`make(j, n)` for the hidden axis: n units from j on."""
        lanes = self.plan.lanes
        whole, rest = divmod(self.shape.hidden, lanes)
        loop = tir.loop(whole, lambda k: make(k * lanes, lanes), "j") if whole else None
        return tir.seq(loop, make(tir.i32(whole * lanes), rest) if rest else None)
