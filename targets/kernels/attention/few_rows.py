"""attention_f32_few: attention of few queries, as decoders ask that read keys and values of the past.

Keys lie along the lanes of vectors: a score for each, a weight for each. Blocks of queries would leave most lanes
empty. A task is one query.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..common import ceil_div, spread
from ..cost import Traffic, by_lane, level_of, microseconds, tile_cycles
from .rows import WEIGHT_CYCLES, WIDE, shape_of
from .rows import match as match_blocked

NAME = "attention_f32_few"
CHAINS = 8  # sums of V that are under way at a time
MOST_COLUMNS = 4
FIXED_CYCLES = 60.0  # greatest score, sum and inverse of a query


def match(problem: Problem) -> Literal[True] | str:
    shape, attrs = shape_of(problem), full_attrs(problem.anchor)
    inner: Any = (attrs["q"], attrs["k"])
    cpu = problem.target.cpu
    lanes = cpu.lanes(32)
    if shape.s > lanes // 2:
        return f"{shape.s} queries fill more than half a vector"
    if lanes < WIDE and not by_lane(cpu):
        return "vectors are short"
    if (inner[0][-1], inner[1][-1]) != (1, 1) or shape.d < lanes:
        return "numbers of the query and of keys do not lie together, or do not fill a vector"
    return match_blocked(problem)


def choices(problem: Problem) -> Sequence[Choice]:
    cpu, shape, lanes = problem.target.cpu, shape_of(problem), problem.target.cpu.lanes(32)
    tiles = ceil_div(shape.t, lanes)
    columns = min(MOST_COLUMNS, ceil_div(shape.e, lanes))
    parts = max(1, CHAINS // columns)
    cycles = tiles * (tile_cycles(cpu, lanes, 1, shape.d // lanes, shape.d // lanes) + 2 * lanes + WEIGHT_CYCLES)
    cycles += ceil_div(shape.e, columns * lanes) * tile_cycles(
        cpu, parts, columns, ceil_div(shape.t, parts), ceil_div(shape.t, parts)
    )
    traffic = Traffic()
    held = 4.0 * shape.t * (shape.d + shape.e) * shape.heads
    traffic.add(level_of(cpu, held), held)
    total = shape.heads * shape.s
    us = microseconds(cpu, (cycles + FIXED_CYCLES) * total, traffic) * spread(total, problem.threads)
    layouts_in, layouts_out = ("",) * len(problem.body.inputs), ("",) * len(problem.body.outputs)
    return [Choice(NAME, layouts_in, layouts_out, (("ne", columns), ("parts", parts)), us, 4 * tiles * lanes)]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .few_emit import emitted

    return emitted(problem, choice, symbol)


kernel(Row(NAME, frozenset({"Edgec.Attention"}), match, choices, emit, "attention of few queries, keys along lanes"))
