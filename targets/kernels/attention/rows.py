"""attention_f32_blocked: scaled dot-product attention, a block of queries at a time, the scores in per-worker scratch.

Queries of a block lie along the lanes of vectors: the block's Q is transposed into scratch (W x D numbers), after which
K and V are read as they lie, one number or one row at a time, and maximum, exponential and sum of the softmax need no
operation across lanes. The scores of a block (T x W numbers) stay in L1 or L2 and never reach memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from edgec.compiler.op import full_attrs, int_attr
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu, Target

from ..common import ceil_div, spread
from ..cortex_m.fpu.gates import SIZE, has_dots
from ..cost import Traffic, by_lane, fits_registers, level_of, microseconds, tile_cycles

NAME = "attention_f32_blocked"
KEPT = 3
ALIKE = 1.03  # costs that differ by less count as one: then the narrowest block, with the least scratch, is taken
MOST_VECTORS = 4
PACK_CYCLES = 0.75  # per number of Q that is transposed
WIDE = 8  # lanes of vectors that a single query would leave empty
FULL = 0.7  # share of the L1 cache that a block's scores and the columns of V can count on
WEIGHT_CYCLES = 8.0  # per vector of exponentials


@dataclass(frozen=True)
class Shape:
    """Sizes of one attention: `heads` independent products of S queries with T keys of D numbers, values of E."""

    batch: tuple[int, ...]
    s: int
    t: int
    d: int
    e: int

    @property
    def heads(self) -> int:
        return prod(self.batch)


def shape_of(problem: Problem) -> Shape:
    attrs: Any = full_attrs(problem.anchor)
    return Shape(tuple(attrs["batch"]), *attrs["sizes"])


def blocks(s: int, width: int, lanes: int) -> list[tuple[int, int]]:
    """(queries, vectors) of the blocks of all queries: whole ones, then what is left in as few vectors as will do."""
    rest = s % width
    return [(width, width // lanes)] * (s // width) + ([(rest, ceil_div(rest, lanes))] if rest else [])


def even_parts(total: int, most: int) -> list[int]:
    """`total` in as few parts of up to `most` as possible, of nearly equal size, the larger first."""
    count = ceil_div(total, most)
    return [total // count + (k < total % count) for k in range(count)]


def match(problem: Problem) -> Literal[True] | str:
    if problem.dtype != "f32":
        return "computes f32"
    return reads_operands(problem)


def reads_operands(problem: Problem) -> Literal[True] | str:
    """True where the node is alone, and its operands are in memory."""
    others = [n.op for n in problem.body.nodes() if n is not problem.anchor and n.op != "Input"]
    if others:
        return f"the body holds {others[0]} beside Edgec.Attention"
    if any(a not in problem.body.inputs for a in problem.anchor.args):
        return "reads an operand through a computation"
    return True


def choices(problem: Problem) -> Sequence[Choice]:
    target, shape = problem.target, shape_of(problem)
    lanes = max(1, target.cpu.lanes(32))
    attrs: Any = full_attrs(problem.anchor)
    dots = along_keys(target, 1, shape.d, (attrs["q"][-1], attrs["k"][-1]))
    found = []
    for vectors in range(1, min(MOST_VECTORS, ceil_div(shape.s, lanes)) + 1):
        columns = min(
            range(1, MOST_VECTORS + 1), key=lambda n: _product_cycles(target, shape, vectors * lanes, lanes, n)
        )
        found.append((_us(target, shape, vectors, columns, lanes, dots), vectors, columns))
    least = min(found)[0]
    found = [(max(cost, least * ALIKE), vectors, columns) for cost, vectors, columns in found]
    layouts_in, layouts_out = ("",) * len(problem.body.inputs), ("",) * len(problem.body.outputs)
    offers = []
    for cost, vectors, columns in sorted(found)[:KEPT]:
        width = vectors * lanes
        total = shape.heads * len(blocks(shape.s, width, lanes))
        config = {"nv": vectors, "ne": columns}
        scratch = 4 * width * (shape.d + shape.t + (3 if int_attr(problem.anchor, "zero_masked") else 2))
        us = cost * spread(total, problem.threads)
        offers.append(Choice(NAME, layouts_in, layouts_out, tuple(config.items()), us, scratch))
    return offers


def quads(target: Target) -> bool:
    """Whether four numbers are read at once, which multiply-adds take by their lanes."""
    return by_lane(target.cpu) and not target.small


def tile_rows(target: Target, vectors: int, along: bool = False) -> int:
    """Rows of a register tile that is so many vectors wide; `along`: whose numbers lie together."""
    cpu = target.cpu
    if has_dots(target):
        return SIZE
    fits = [rows for rows in range(1, 33) if fits_registers(cpu, rows, vectors, along and quads(target))]
    return min(max(fits, default=2), 14)


def along_keys(target: Target, queries: int, numbers: int, inner: tuple[int, int]) -> bool:
    """Whether scores are sums across lanes: of a single query, whose numbers and those of keys lie together and fill
    a vector. `inner`: strides between numbers of queries and of keys."""
    lanes = target.cpu.lanes(32)
    return queries == 1 and inner == (1, 1) and lanes >= WIDE and numbers >= lanes


def _scores_cycles(cpu: Cpu, shape: Shape, vectors: int, keys: int) -> float:
    whole, rest = divmod(shape.t, keys)
    cycles = whole * tile_cycles(cpu, keys, vectors, shape.d, shape.d)
    return cycles + (tile_cycles(cpu, rest, vectors, shape.d, shape.d) if rest else 0.0)


def _product_cycles(target: Target, shape: Shape, queries: int, lanes: int, columns: int) -> float:
    cpu, total = target.cpu, 0.0
    whole, rest = divmod(ceil_div(shape.e, lanes), columns)
    for rows in even_parts(queries, tile_rows(target, columns)):
        total += whole * tile_cycles(cpu, rows, columns, shape.t, shape.t)
        total += tile_cycles(cpu, rows, rest, shape.t, shape.t) if rest else 0.0
    return total


def _us(target: Target, shape: Shape, vectors: int, columns: int, lanes: int, dots: bool) -> float:
    cpu = target.cpu
    cycles, traffic = 0.0, Traffic()
    for queries, used in blocks(shape.s, vectors * lanes, lanes):
        cycles += PACK_CYCLES * queries * shape.d + WEIGHT_CYCLES * shape.t * used
        if dots and queries == 1:
            tiles = ceil_div(shape.t, lanes)
            cycles += tiles * (tile_cycles(cpu, lanes, 1, shape.d // lanes, shape.d // lanes) + 2 * lanes)
        else:
            cycles += _scores_cycles(cpu, shape, used, tile_rows(target, used))
        cycles += _product_cycles(target, shape, queries, lanes, columns)
        held = 4.0 * shape.t * (shape.d + shape.e)
        traffic.add(level_of(cpu, held), held)
        scores = 4.0 * used * lanes * shape.t
        if (
            scores + 4.0 * columns * lanes * shape.t > FULL * cpu.l1d
        ):  # beside the columns of V that they are multiplied with
            traffic.add(level_of(cpu, scores), scores * (3 + ceil_div(shape.e, columns * lanes)))
    traffic = Traffic(traffic.near * shape.heads, traffic.far * shape.heads, traffic.middle * shape.heads)
    return microseconds(cpu, cycles * shape.heads, traffic)


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .emit import Attention

    return Attention(problem, choice, shape_of(problem)).emitted(symbol)


kernel(
    Row(
        NAME,
        frozenset({"Edgec.Attention"}),
        match,
        choices,
        emit,
        "attention: blocks of queries, scores in scratch, operands read through strides",
    )
)
