"""Where a thread stands in the row that it folds with others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgec.compiler.registry import Problem

from .... import tir
from ....cuda.block import Block
from ....tir import Expr, Index
from .shape import Lines


@dataclass
class Row:
    """A thread's view of its row; what a generic row's Context is to the stages.

    `turn` and `lane` say where it stands: which access, and which number of it.
    """

    problem: Problem
    frame: Block
    lines: Lines
    inner: int
    outer: Index  # the row's digits
    thread: Expr  # among those of the row
    turn: Expr | int = 0
    lane: Expr | int = 0

    @property
    def body(self) -> Any:
        return self.frame.body

    def place(self) -> Expr:
        """The current position in the row."""
        return self.first() + self.lane

    def first(self) -> Expr:
        """Position of the first number of the current access."""
        return tir.expr(self.turn) * self.lines.stride + self.thread * self.lines.vector

    def index(self) -> Index:
        shape = self.problem.anchor.args[0].shape
        return (*self.outer, *tir.split(self.place(), *shape[len(shape) - self.inner :]))

    def positions(self) -> tuple[Expr, ...]:
        """Of a reduction: positions in the folded axes."""
        return self.index()[len(self.outer) :]

    def guard(self, x: Expr, identity: Expr) -> Expr:
        return x
