"""TensorIR of running totals: elements along the axis one after the other, some vectors of lines at a time.

Where lines are rows, vectors would gather and scatter: single elements of several rows are added in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Value
from edgec.compiler.layout import layout, physical_shape
from edgec.compiler.op import full_attrs, int_attr
from edgec.compiler.registry import Problem
from edgec.targets import tir
from edgec.targets.conversions import narrow, widen
from edgec.targets.tir import Expr, Stmt

from ..reduce_stages import computed_in
from .kernel import Kernel, logical
from .nest import Nest, Point, Region

ABREAST = 4  # vectors of lines that lie side by side: whole cache lines follow each other in every turn
ROWS = 4  # whose additions do not wait for each other; a cache set holds a line of each, read and written


class Totals:
    """`total`: of the lines of some vectors, so far."""

    def __init__(self, problem: Problem, io: Kernel) -> None:
        self.problem, self.io, self.anchor = problem, io, problem.anchor
        self.out, attrs = problem.body.outputs[0].type, full_attrs(problem.anchor)
        rank = len(self.out.shape)
        self.axis = int_attr(problem.anchor, "axis") % rank
        self.reverse, self.exclusive = bool(attrs["reverse"]), bool(attrs["exclusive"])
        self.multiplies = problem.anchor.op == "CumProd"
        lay = layout(self.out.layout, rank)
        along = [k for k, a in enumerate([*lay.order, *(a for a, _ in lay.blocks)]) if a == self.axis]
        self.space = io.space([(0, n) for n in physical_shape(self.out)], within=along)
        self.kind, self.lanes = computed_in(problem.anchor.types[0].dtype), problem.target.cpu.lanes(32)
        target, rows = problem.target, self.axis == rank - 1
        self.abreast = 1 if rows or target.small or target.gpu else ABREAST
        if rows and not (target.microcontroller or target.gpu):
            self.lanes, self.abreast = 1, ROWS
        self.total, self.alloc = tir.local((self.lanes * self.abreast,), self.kind)

    def region(self) -> Region:
        self.space.trace(lambda: self.step(0, tir.i32(0)), merge=False)
        order = [g for g in self.space.groups if not g.fold]
        nest = Nest(self.space, order, self.lanes, self.abreast)
        return nest.run(self.scan, self.problem.threads, self.out.shape[self.axis])

    def index(self) -> tuple[Expr, ...]:
        """Of the element whose turn it is."""
        index, k = tuple(logical(self.out, self.space.loops)), self.axis
        return (*index[:k], self.out.shape[k] - 1 - index[k], *index[k + 1 :]) if self.reverse else index

    def step(self, place: int, lane: Expr) -> Stmt:
        """An element joins the total at `place` + `lane`; what is stored is the total before or behind it."""
        index, body = self.index(), self.space.body
        x = narrow(widen(body.at(self.anchor.args[0], index)), self.kind)
        held = narrow(tir.load(self.total, place + lane), dtype(self.anchor.types[0].dtype).tvm)
        body.bind(Value(self.anchor), lambda _: held)
        outputs = dict.fromkeys(self.problem.body.outputs)
        write = [self.io.store(self.space, o, body.at(o, index), index) for o in outputs]
        old = tir.load(self.total, place + lane)
        fold = tir.store(self.total, old * x if self.multiplies else old + x, place + lane)
        return tir.seq(write, fold) if self.exclusive else tir.seq(fold, write)

    def scan(self, points: Sequence[Point]) -> Stmt:
        """All elements along the axis, for some vectors of lines."""
        folds = [g for g in self.space.groups if g.fold]
        first = tir.lit(1 if self.multiplies else 0, self.kind)
        begin = self.each(points, lambda place, v: tir.store(self.total, first, place + v))
        return tir.seq(self.alloc, begin, self.turns(folds, points))

    def each(self, points: Sequence[Point], make: Callable[[int, Expr], Stmt]) -> list[Stmt]:
        """`make(place, lane)` of every vector, whose totals lie from `place` on."""
        return [p(partial(make, k * self.lanes)) for k, p in enumerate(points)]

    def turns(self, groups: Sequence[Any], points: Sequence[Point]) -> Stmt:
        if not groups:
            return tir.seq(self.each(points, self.step))

        def turn(x: Expr) -> Stmt:
            if groups[0].extent > 1:
                self.space.body.limit(x, groups[0].extent)
            self.space.set(groups[0], x)
            return self.turns(groups[1:], points)

        return tir.loop(groups[0].extent, turn)
