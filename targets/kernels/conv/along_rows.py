"""The row `conv_f32_along`: dense f32 convolutions whose vectors are pixels of a row, of every second at stride 2.

Vectors of channels are as good as their channels fill them: 17 outputs take as long as 32, or as 24. Along a row of
pixels any number of outputs is a number of broadcast weights, and planes are written as they are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edgec.compiler.ir import Value
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu

from ..common import ceil_div, computed_lanes, in_memory, layouts_in, operations, spread
from ..cost import LOADS, Traffic, fits_registers, level_of, microseconds, tile_cycles
from .rows import flattens
from .rows import match as dense_match
from .shape import Window, conv_operands, geometry, segments

NAME = "conv_f32_along"
WIDE = 256  # bits of a vector: where multiply-adds take factors by lane, other rows have vectors of pixels already
MOST_VECTORS = 4
MOST_STRIDE = 2  # along a row
STRIDED = 1.2  # times as long there: rows of channels take less than their model says where a window has one channel
MOST_TAPS = 15  # of a row of the window, which are written out
HALVES = 1.35  # times as long where 512 bits may be multiplied in two steps: others are bound by more than that
CROSSED = 2.0  # loads of a vector that lies across two cache lines
KEPT = 2
STEPS = 16384  # of a sum, at most: a slice of weights stays near


@dataclass(frozen=True)
class Along:
    """A register tile: `channels` of the output times `vectors` of pixels.

    `rows_first`: a row of the output gets all of its channels before the next one begins.
    """

    channels: int
    vectors: int
    rows_first: bool = False
    cost_us: float = 0.0


def match(problem: Problem) -> Literal[True] | str:
    if (found := dense_match(problem)) is not True:
        return found
    shape, target = geometry(problem), problem.target
    if target.gpu or target.small or target.cpu.vector_bits < WIDE:
        return "needs wide vectors"
    if shape.group > 1 or shape.width.stride > MOST_STRIDE:
        return "has groups, or long strides along rows"
    if shape.width.kernel > MOST_TAPS or shape.channels_in * shape.taps > STEPS:
        return "has a large window"
    w = planes(problem)
    if min(w.width.size // w.width.stride, w.width.out) < target.cpu.lanes(32):
        return "rows are shorter than a vector"
    return True


def planes(problem: Problem) -> Window:
    """The window; over one row of all pixels, where that is possible."""
    shape = geometry(problem)
    return shape.flat() if flattens(problem) else shape


def vector_widths(pixels: int, lanes: int) -> tuple[int, ...]:
    """Lanes with which the vectors over some pixels are computed."""
    full, rest = divmod(pixels, lanes)
    return (lanes,) * full + ((computed_lanes(rest, lanes),) if rest else ())


def tiles(problem: Problem, w: Window) -> Iterator[Along]:
    cpu, lanes = problem.target.cpu, problem.target.cpu.lanes(32)
    for vectors in range(1, min(MOST_VECTORS, ceil_div(w.width.out, lanes)) + 1):
        most = max(n for n in range(1, 64) if n == 1 or fits_registers(cpu, n, vectors))
        least = ceil_div(w.channels_out, most)
        for parts in range(least, least + 2):
            for rows_first in {False, parts > 1}:
                tile = Along(ceil_div(w.channels_out, parts), vectors, rows_first)
                yield replace(tile, cost_us=cost(problem, w, tile))


def cost(problem: Problem, w: Window, t: Along) -> float:
    """Modelled time in us."""
    cpu, lanes = problem.target.cpu, problem.target.cpu.lanes(32)
    steps, after = w.channels_in * w.taps, operations(problem)
    full, rest = divmod(w.channels_out, t.channels)
    halves = HALVES if lanes == 16 and not cpu.multiplies_halves else 1.0  # which the cycles of a tile then hold
    cycles = 0.0
    for s in segments(w.width, t.vectors * lanes):
        vectors = sum(vector_widths(s.length, lanes)) / lanes
        for channels, many in ((t.channels, full), (rest, 1)):
            if channels and many:
                one = tile_cycles(cpu, channels, ceil_div(s.length, lanes), steps, w.width.kernel, after)
                loads = _loads(cpu, channels, vectors * w.width.stride) + (w.width.stride - 1) * vectors
                one = max(one * vectors / ceil_div(s.length, lanes), steps * loads)
                cycles += w.batch * w.height.out * s.count * many * one * halves
    us = microseconds(cpu, cycles * spread(tasks(w, t), problem.threads), _traffic(problem, w, t))
    return us * STRIDED if w.width.stride > 1 else us


def _traffic(problem: Problem, w: Window, t: Along) -> Traffic:
    """Tiles of channels go over the input one after the other, or over what one row of the output reads of it, and then
    weights come again for each row."""
    cpu, blocks = problem.target.cpu, ceil_div(w.channels_out, t.channels)
    data, out = 4.0 * w.batch * w.channels_in * w.height.size * w.width.size, 4.0 * w.batch * w.channels_out * w.pixels
    weights = 4.0 * w.channels_in * w.taps * w.channels_out
    row = 4.0 * w.channels_in * w.height.kernel * w.width.size
    moved = Traffic()
    moved.add("far" if problem.cold else level_of(cpu, weights + data + out), weights)
    moved.add(level_of(cpu, data + out), data + out)
    held = weights + row if t.rows_first else data
    moved.add(level_of(cpu, held), data * (blocks - 1.0))
    if t.rows_first:
        moved.add(level_of(cpu, held), weights * (w.batch * w.height.out - 1.0))
    return moved


def _loads(cpu: Cpu, channels: int, vectors: float) -> float:
    """Cycles to load what one step of a tile multiplies."""
    return (channels + CROSSED * vectors) / (LOADS * cpu.load_per_cycle)


def tasks(w: Window, t: Along) -> int:
    return w.batch * ceil_div(w.channels_out, t.channels) * w.height.out


def offers(problem: Problem) -> Sequence[Choice]:
    w, rank = planes(problem), len(problem.anchor.types[0].shape)
    x, weight, _ = conv_operands(problem.anchor)
    weight = in_memory(problem, weight)
    found = []
    for t in sorted(tiles(problem, w), key=lambda t: t.cost_us)[:KEPT]:
        fixed: dict[Value, str] = {x: "", weight: f"{'OIHW' if rank == 4 else 'OIW'}{t.channels}o"}
        settings = (("mt", t.channels), ("nv", t.vectors), *([("rf", 1)] if t.rows_first else []))
        found.append(Choice(NAME, layouts_in(problem, fixed), ("",), settings, t.cost_us))
    return found


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .along_emit import AlongRows

    return AlongRows(
        problem, planes(problem), Along(choice.get("mt"), choice.get("nv"), "rf" in dict(choice.config))
    ).emit(choice, symbol)


kernel(
    Row(
        NAME,
        frozenset({"Conv"}),
        match,
        offers,
        emit,
        "dense convolution, stride 1 or 2 in a row: a register tile of output channels x pixels of a row, any channels",
    )
)
