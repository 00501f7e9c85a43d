"""The row of 3x3 f32 convolutions by Winograd's F(m x m, 3 x 3): which tiles it offers, and when it pays.

A unit is a block of output tiles times some of the output channels: its input tiles are transformed into scratch, each
of the (m + 2)^2 positions is a matrix product with transformed filters, and the products are transformed back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu
from edgec.compiler.winograd import POINTS, TAPS

from ..common import blocked_layout, ceil_div, epilogue_fits, layouts_in, operations, spread, vectors_fit
from ..cost import TILE, Traffic, by_lane, level_of, microseconds, most_pixels, step_cycles
from .shape import Window, conv_operands, conv_window, geometry

NAME = "conv_f32_winograd"
VECTORS = 2  # of output channels per register tile
MOST_TILES = 48  # output tiles per unit
PAD = 16  # floats between the matrices in scratch, so that they do not fall into one cache set
TRANSFORM_IN = {2: 48.0, 4: 150.0}  # cycles per tile and vector of channels, two vector operations a cycle
TRANSFORM_OUT = {2: 40.0, 4: 130.0}


@dataclass(frozen=True)
class Plan:
    """How a convolution is cut. `m` x `m` outputs per tile, `block` tiles per unit, `rows` of them per register tile,
    output channels in `parts` units."""

    m: int
    block: int
    rows: int
    parts: int

    @property
    def positions(self) -> int:
        return (self.m + TAPS - 1) ** 2

    def tiles(self, w: Window) -> int:
        """Output tiles of one image."""
        return ceil_div(w.height.out, self.m) * ceil_div(w.width.out, self.m)

    def blocks(self, w: Window) -> int:
        return ceil_div(self.tiles(w), self.block)

    def input_stride(self, w: Window, lanes: int) -> int:
        """Floats from one position's transformed input to the next: an odd number of cache lines."""
        return ceil_div(w.channels_in, lanes) * lanes * self.block + PAD

    def scratch(self, w: Window, lanes: int) -> tuple[int, int]:
        """Floats of transformed inputs and of products."""
        return self.positions * self.input_stride(w, lanes), self.block * (self.positions * VECTORS * lanes + PAD)


def match(problem: Problem) -> Literal[True] | str:
    node = problem.anchor
    x, weight, _ = conv_operands(node)
    if (fit := vectors_fit(problem, x, weight)) is not True:
        return fit
    shape = conv_window(node)
    if isinstance(shape, str):
        return shape
    if len(node.types[0].shape) != 4 or shape.group > 1:
        return "needs two spatial axes and one group"
    if any((a.kernel, a.stride, a.dilation) != (TAPS, 1, 1) for a in (shape.height, shape.width)):
        return "needs a 3x3 window of stride 1"
    if problem.target.microcontroller or problem.target.small:
        return "filters would take four times their room"
    if problem.body.inputs.index(weight) not in problem.constants:
        return "needs constant filters"
    return epilogue_fits(problem)


def choices(problem: Problem) -> Sequence[Choice]:
    w, cpu = geometry(problem), problem.target.cpu
    lanes = cpu.lanes(32)
    x, weight, _ = conv_operands(problem.anchor)
    blocked = blocked_layout(4, lanes)
    found = []
    for plan in dict.fromkeys(plans(w, cpu, problem.threads)):
        layouts = layouts_in(problem, {x: blocked, weight: f"F{plan.m}:OHWI{VECTORS * lanes}o"}, blocked)
        config = (("m", plan.m), ("tb", plan.block), ("mt", plan.rows), ("parts", plan.parts))
        tasks = plan.blocks(w) * w.batch * plan.parts
        us = cost(w, cpu, plan, operations(problem), problem.cold) * spread(tasks, problem.threads)
        found.append(Choice(NAME, layouts, (blocked,), config, us, 4 * sum(plan.scratch(w, lanes))))
    return sorted(found, key=lambda c: c.cost_us)[:3]


def plans(w: Window, cpu: Cpu, threads: int) -> Iterator[Plan]:
    lanes = cpu.lanes(32)
    most = most_pixels(cpu, VECTORS, by_lane(cpu))
    wide = ceil_div(w.channels_out, VECTORS * lanes)
    for m in POINTS:
        tiles = Plan(m, 1, 1, 1).tiles(w)
        least = ceil_div(tiles, MOST_TILES)
        for blocks in range(least, least + 3):
            block, rows = block_of(tiles, blocks, most)
            for parts in parts_of(wide, blocks * w.batch, threads):
                yield Plan(m, block, rows, parts)
            if tiles <= block:
                break


def block_of(tiles: int, blocks: int, most: int) -> tuple[int, int]:
    """Output tiles of a block, where so many `blocks` are wanted, and the equal height, `most` or less, of its register
    tiles."""
    each = ceil_div(tiles, blocks)
    rows = ceil_div(each, ceil_div(each, most))
    return min(tiles, ceil_div(each, rows) * rows), rows


def parts_of(wide: int, units: int, threads: int) -> Iterator[int]:
    """Numbers of parts that `wide` tiles of output channels may be cut into, none of them empty, so that each thread
    has one task, two or four at least."""
    for share in (1, 2, 4) if threads > 1 else (1,):
        parts = min(wide, ceil_div(share * threads, units)) if threads > 1 else 1
        yield ceil_div(wide, ceil_div(wide, parts))


def cost(w: Window, cpu: Cpu, plan: Plan, after: float, cold: bool) -> float:
    """Modelled time in us."""
    lanes, positions = cpu.lanes(32), plan.positions
    inputs, outputs = ceil_div(w.channels_in, lanes), ceil_div(w.channels_out, lanes)
    tiles, units = plan.tiles(w), plan.blocks(w) * w.batch
    whole, rest = divmod(outputs, VECTORS)
    cycles = 0.0
    for block, count in ((plan.block, tiles // plan.block), (tiles % plan.block, 1)):
        if not block or not count:
            continue
        for vectors, many in ((VECTORS, whole), (rest, 1)):
            if vectors and many:
                full, short = divmod(block, plan.rows)
                product = full * _product(cpu, plan.rows, vectors, w.channels_in)
                product += _product(cpu, short, vectors, w.channels_in) if short else 0.0
                cycles += count * many * positions * product
    cycles += tiles * inputs * TRANSFORM_IN[plan.m] * plan.parts
    cycles += tiles * outputs * (TRANSFORM_OUT[plan.m] + plan.m**2 * after)
    cycles *= w.batch
    weights = 4.0 * positions * w.channels_in * outputs * lanes
    data = 4.0 * w.batch * (w.channels_in * w.height.size * w.width.size + w.channels_out * w.pixels)
    held, products = (4.0 * n for n in plan.scratch(w, lanes))
    parts = ceil_div(outputs, VECTORS)
    traffic = Traffic(near=units * (held * (1 + parts) + 2 * products * parts))
    traffic.add("far" if cold else level_of(cpu, weights + data), weights)
    traffic.add(level_of(cpu, weights), weights * (units - 1))
    traffic.add(level_of(cpu, data), data)
    return microseconds(cpu, cycles, traffic)


def _product(cpu: Cpu, rows: int, vectors: int, steps: int) -> float:
    """Cycles of one register tile."""
    return steps * step_cycles(cpu, rows, vectors, quads=by_lane(cpu)) + TILE / 2 + rows * vectors / cpu.fma_per_cycle


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .winograd_emit import Winograd

    return Winograd(problem, choice, geometry(problem)).emit(symbol)


kernel(
    Row(
        NAME,
        frozenset({"Conv"}),
        match,
        choices,
        emit,
        "3x3 convolution of stride 1 by Winograd's F(2x2, 3x3) or F(4x4, 3x3)",
    )
)
