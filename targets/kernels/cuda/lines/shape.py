"""Which threads take which numbers of a row: for kernels that fold rows whose numbers lie side by side.

A row belongs to one warp, or where it is long or rows are few to several of a block, which hold it in registers: each
thread some vectors of neighbouring numbers, a block's width apart. Rows that are too long for that are read anew at
every stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from edgec.compiler.registry import Choice, Problem
from edgec.compiler.target import Gpu

from ...common import ceil_div
from ..cost import streaming_us
from ..vectors import vector_of

HELD = 32  # numbers of a row that a thread keeps
MOST_WARPS = 16  # of one row
BLOCK_WARPS = 4  # of a block, where rows are short
FLOATS = frozenset({"f32", "f16"})


@dataclass(frozen=True)
class Lines:
    """`rows` rows of `count` numbers, in accesses of `vector`; `warps` for each row, `together` rows in a block."""

    rows: int
    count: int
    vector: int
    warps: int
    together: int

    @property
    def threads(self) -> int:
        """Threads of one row."""
        return 32 * self.warps

    @property
    def block(self) -> int:
        return self.threads * self.together

    @property
    def blocks(self) -> int:
        return ceil_div(self.rows, self.together)

    @property
    def stride(self) -> int:
        """From one access of a thread to its next."""
        return self.threads * self.vector

    @property
    def turns(self) -> int:
        """Accesses of a thread in one row."""
        return ceil_div(self.count, self.stride)

    @property
    def held(self) -> bool:
        return self.turns * self.vector <= HELD


def dealt(gpu: Gpu, rows: int, count: int, vector: int) -> Lines:
    accesses = ceil_div(count, vector)
    warps = 1
    while warps < MOST_WARPS and ceil_div(accesses, 32 * warps) * vector > HELD // 2:
        warps *= 2
    while warps < MOST_WARPS and rows * warps < 8 * gpu.multiprocessors and ceil_div(accesses, 32 * warps) > 1:
        warps *= 2
    together = max(1, BLOCK_WARPS // warps)
    while together > 1 and ceil_div(rows, together) < 2 * gpu.multiprocessors:
        together //= 2
    return Lines(rows, count, vector, warps, together)


def lines_of(problem: Problem, axes: Sequence[int]) -> Lines | None:
    """How rows along these axes of the anchor's argument are dealt; None where they do not lie side by side."""
    gpu, shape = problem.target.gpu, problem.anchor.args[0].shape
    assert gpu is not None
    first = len(shape) - len(axes)
    count = prod(shape[first:])
    if tuple(sorted(axes)) != tuple(range(first, len(shape))) or count < 2 or prod(shape) < 1:
        return None
    types = [v.type for v in (*problem.body.inputs, *problem.body.outputs) if v.type.size >= count]
    return dealt(gpu, prod(shape[:first]), count, vector_of(types, count))


def offer(row: str, problem: Problem, lines: Lines, stages: int) -> list[Choice]:
    """Row-major in and out; `stages` folds, of which each waits for a whole row."""
    gpu = problem.target.gpu
    assert gpu is not None
    threads = min(lines.blocks * lines.block, gpu.threads * gpu.multiprocessors)
    in_flight = threads * lines.vector * min(lines.turns, 4) * 2.0
    again = 1 if lines.held else stages + 1
    us = streaming_us(gpu, problem.bytes_moved * (again + 1) / 2, in_flight, 1.0 + 0.15 * stages * again)
    config = {"vector": lines.vector, "warps": lines.warps, "together": lines.together}
    return [Choice(row, layouts_in(problem), written, tuple(config.items()), us) for written in layouts_out(problem)]


def layouts_in(problem: Problem, layout: str = "") -> tuple[str | None, ...]:
    """The layout of what is read together with the anchor's argument, and may be read in vectors; others lie anyhow."""
    shape = problem.anchor.args[0].shape
    return tuple(layout if v.shape == shape else "" if len(v.shape) < 3 else None for v in problem.body.inputs)


def layouts_out(problem: Problem, layout: str = "") -> list[tuple[str, ...]]:
    """Row-major and, of values of as many axes, `layout`; or the layouts that the outputs have already."""
    outputs = problem.body.outputs
    if any(v.type.layout for v in outputs):
        return [tuple(v.type.layout for v in outputs)]
    offers = [("",) * len(outputs)]
    if layout and all(len(v.shape) == len(layout) for v in outputs):
        offers.append((layout,) * len(outputs))
    return offers


def chosen(problem: Problem, choice: Choice, axes: Sequence[int]) -> Lines:
    """The Lines that a choice stands for."""
    shape = problem.anchor.args[0].shape
    first = len(shape) - len(axes)
    rows, count = prod(shape[:first]), prod(shape[first:])
    return Lines(rows, count, choice.get("vector"), choice.get("warps"), choice.get("together"))
