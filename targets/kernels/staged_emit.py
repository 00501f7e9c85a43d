"""Long code after a window's anchor runs over whole output rows: tiles leave their results in a row of scratch memory.

A chain like that of a sigmoid has some sixty cycles from end to end and fills the scheduler of a core by itself. So
several vectors go through it side by side; and the code stands once per row loop, not once per pixel of every tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgec.compiler.ir import Value
from edgec.compiler.op import is_const
from edgec.compiler.registry import Problem
from edgec.targets import tir
from edgec.targets.access import Place
from edgec.targets.addends import turning
from edgec.targets.body import Body
from edgec.targets.tir import Expr, Index, Stmt

from .common import after_anchor
from .common_emit import ABREAST, Frame


@dataclass(frozen=True)
class RowPlace(Place):
    """A value whose index ends in a position within one row of one block of channels: column and lane as one number."""

    def physical(self, index: Index) -> Index:
        image, block, *row, position = index
        return (image, block, *row, tir.i32(0), position)

    def load(self, index: Index) -> Expr:
        return tir.load(self.buffer, *self.physical(index))


class StagedRow:
    """The elementwise nodes after an anchor, over one row of results that lies in the frame's scratch memory."""

    def __init__(self, problem: Problem, frame: Frame, width: int, lanes: int) -> None:
        self.problem, self.frame, self.width, self.lanes = problem, frame, width, lanes
        self.anchor = problem.anchor.results[0]
        body = problem.body
        read = {a for n in after_anchor(problem) for a in n.args if a in body.inputs and not is_const(a)}
        self.flat = all(a.type == body.outputs[0].type for a in read)
        self.places: dict[Value, Place] = {a: RowPlace(a.type, frame.places[a].buffer) for a in read}

    def slot(self, row: int, column: Expr | int) -> Expr:
        """Where scratch memory holds the vector of a pixel; `row` counts the rows of the tile."""
        return (tir.expr(column) + row * self.width) * self.lanes

    def store(self, row: int, at: Any, image: Expr, block: Expr, true_lanes: int) -> Stmt:
        """Read row number `row` of scratch memory, and write it as output row `at` (none in one dimension)."""
        return self._wide(row, at, image, block) if self.flat else self._pixels(row, at, image, block, true_lanes)

    def _wide(self, row: int, at: Any, image: Expr, block: Expr) -> Stmt:
        """Whole vectors; what they hold beyond the true channels is never read."""
        out = RowPlace(self.frame.place.type, self.frame.place.buffer)
        body = Body(self.problem.body, self.places)

        def step(start: Expr, vectors: int) -> Stmt:
            def lane(v: Expr) -> Stmt:
                position = start + v
                index = (image, block, *at, position)
                value = tir.load(self.frame.scratch, row * self.width * self.lanes + position)
                body.bind(self.anchor, lambda _: value)
                return out.store(body.at(self.frame.out, index), index)

            return tir.vectorized(vectors * self.lanes, lane)

        turns, rest = divmod(self.width, ABREAST)
        size = ABREAST * self.lanes

        def chunk(k: Expr) -> Stmt:
            with turning(self.frame.zero * k):
                return step(k * size, ABREAST)

        return tir.seq(
            tir.loop(turns, chunk, "chunk") if turns else None,
            step(tir.i32(turns * size), rest) if rest else None,
        )

    def _pixels(self, row: int, at: Any, image: Expr, block: Expr, true_lanes: int) -> Stmt:
        """Pixel by pixel, where operands are broadcast over pixels."""

        def pixel(column: Expr) -> Stmt:
            def lane(v: Expr) -> Stmt:
                value = tir.load(self.frame.scratch, self.slot(row, column) + v)
                self.frame.body.bind(self.anchor, lambda _: value)
                return self.frame.store((image, block * self.lanes + v, *at, column))

            with turning(self.frame.zero * column):
                return tir.vectorized(true_lanes, lane)

        return tir.loop(self.width, pixel, "column")
