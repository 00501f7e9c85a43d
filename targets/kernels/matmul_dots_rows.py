"""The row of f32 products with few columns: `matmul_f32_dots`, which multiplies along the sums.

Vectors of columns would be mostly empty. Here a vector holds elements of a row of the left operand, and one of a column
of the right one, which lies by columns; the lanes of their products are added up at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu

from .common import ceil_div, epilogue_fits, operations, spread, task_split, vectors_fit
from .cost import LOOP, TILE, level_of, microseconds, step_cycles, streamed

NAME = "matmul_f32_dots"
MOST_ROWS = 8  # of a tile: rows that lie apart by a multiple of a cache's way displace each other
SUM = 3.0  # instructions to add up the lanes of a vector, where many are added up at once
STORED = 3.0  # cycles to store a row of results, epilogue apart: they pass through memory


def match(problem: Problem) -> Literal[True] | str:
    a, b = problem.anchor.args
    cpu = problem.target.cpu
    if (fit := vectors_fit(problem, a, b)) is not True:
        return fit
    if len(b.shape) != 2 or a == b:
        return "the right operand is a stack of matrices, or the left one"
    if a.shape[-1] < cpu.lanes(32) or 0 in a.shape:
        return "sums are shorter than a vector"
    if not 1 <= b.shape[-1] <= min(cpu.lanes(32), (cpu.vector_registers - 1) // 2):
        return "has more columns than fit the registers"
    return epilogue_fits(problem)


def rows_at_once(cpu: Cpu, rows: int, columns: int) -> int:
    """Rows of a tile, whose sums, the columns' elements and one row's fit the registers."""
    return max(1, min(rows, MOST_ROWS, (cpu.vector_registers - 1) // columns - 1))


def choices(problem: Problem) -> Sequence[Choice]:
    cpu, (a, b) = problem.target.cpu, problem.anchor.args
    rows, inner, columns = prod(a.shape[:-1]), a.shape[-1], b.shape[-1]
    tile = rows_at_once(cpu, rows, columns)
    tiles = ceil_div(rows, tile)
    steps = ceil_div(inner, cpu.lanes(32))
    ends = tile * columns * SUM / cpu.fma_per_cycle + tile * (STORED + operations(problem)) + TILE
    cycles = tiles * (steps * (step_cycles(cpu, tile, columns) + LOOP / 2) + ends)
    moved = streamed(cpu, 4.0 * (rows * inner + rows * columns))
    moved.add(level_of(cpu, 4.0 * columns * inner), 4.0 * columns * inner * (tiles if steps * columns > 512 else 1))
    us = microseconds(cpu, cycles, moved)
    chunk = task_split(tiles, us / tiles, problem.threads)
    us *= spread(ceil_div(tiles, chunk), problem.threads)
    layouts = tuple("JK" if v == b else "" for v in problem.body.inputs)
    return [Choice(NAME, layouts, ("",), (("rows", tile), ("chunk", chunk)), us)]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .matmul_dots_emit import Dots

    return Dots(problem, choice).emit(symbol)


kernel(
    Row(
        NAME,
        frozenset({"MatMul"}),
        match,
        choices,
        emit,
        "matrix product with few columns: vectors lie along the sums",
    )
)
