"""What follows the sums of depthwise int8 convolutions by sdot that slide along rows: short code beside them, long code
in a loop over sums in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgec.compiler.registry import Problem
from edgec.targets import tir
from edgec.targets.addends import turning
from edgec.targets.tir import Buffer, Expr, Stmt

from ..common_emit import Frame, put, vector
from .slide_rows import HALF, ROWS
from .tail import Sums, Tail, at_once, short

# Where numbers begin that are the same for all columns, for an output row that has so many of them. LLVM must not know:
# moves cost more than loads.
Again = Callable[[int, int], Expr]


def of_copy(zero: Expr, copy: int) -> Again:
    """A turn of columns has copies, so that one address serves all: from turn to turn it is `zero` further, which is 0
    when the kernel runs."""
    return lambda r, size: zero + (copy * ROWS + r) * size


@dataclass(frozen=True)
class Output:
    """An output column: its number in a row, the code of its sums, and where those of each row are."""

    number: Any
    made: Stmt
    stages: Sequence[Buffer]
    again: Again


@dataclass(frozen=True)
class Ends:
    """Of two output rows of eight channels, which are the `last` ones and may be fewer. `offsets`: what their products
    are reduced by."""

    problem: Problem
    tail: Tail
    frame: Frame
    image: Expr
    group: Expr
    row: Expr
    offsets: Buffer
    last: bool

    def stored(self, outputs: Sequence[Output]) -> Stmt:
        """Neighbouring outputs."""
        made = [o.made for o in outputs]
        if short(self.problem) or len(outputs) < 2:
            every = [s for o in outputs for s in self._sums(o.stages, 0, o.number, o.again)]
            return tir.seq(made, self.tail.store(self.frame, every))
        stages, allocs = [], []
        for _ in range(ROWS):
            stage, alloc = tir.local((len(outputs) * HALF,), "int32", "stages")
            stages.append(stage)
            allocs.append(alloc)
        copies = [
            put(stage, vector(o.stages[r], HALF, 0), HALF, i * HALF)
            for i, o in enumerate(outputs)
            for r, stage in enumerate(stages)
        ]

        def output(i: Expr) -> Stmt:
            number = outputs[0].number + i

            def again(r: int, size: int) -> Expr:  # with one address for both rows LLVM takes a turn out of the loop
                return self.frame.zero * (number * ROWS + r)

            with turning(self.frame.zero * i):
                return self.tail.store(self.frame, self._sums(stages, i * HALF, number, again))

        return tir.seq(made, allocs, copies, tir.loop(len(outputs) + self.frame.zero, output, "output"))

    def _sums(self, stages: Sequence[Buffer], begin: Expr | int, number: Any, again: Again) -> list[Sums]:
        """Of an output column; each row's lie in its stage from `begin` on."""
        width = self.problem.anchor.results[0].shape[1] % HALF if self.last else HALF
        run = at_once(self.problem, HALF)
        every = []
        for r in range(ROWS):
            for at in range(0, width, run):

                def index(lane: Expr, r: int = r, at: int = at) -> tuple[Expr, ...]:
                    return (self.image, self.group * HALF + at + lane, self.row + r, tir.expr(number))

                def own(lane: Expr, r: int = r, at: int = at) -> Expr:
                    return tir.load(self.offsets, again(r, HALF) + at + lane)

                every.append(Sums(stages[r], begin + at, min(run, width - at), index, own))
        return every
