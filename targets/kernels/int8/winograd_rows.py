"""The row of 3x3 convolutions of bytes by Winograd's F(4x4, 3x3) in integers, for AVX2: its blocks, and when it pays.

A unit is a block of output tiles times some of the output channels. Its input tiles are transformed into scratch; for
each tile of output channels filters are transformed there too, from the bytes that direct sums read, and each of the 36
positions is a matrix product. Long reductions are done in slices, so that outputs of each keep within MOST.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu

from ..bytes_tail import rounding
from ..common import byte_operations, ceil_div, spread
from ..conv.rows import config
from ..conv.shape import Window, conv_operands, geometry
from ..conv.tiles import TileChoice
from ..conv.winograd_rows import block_of, parts_of
from ..cost import TILE, Traffic, level_of, microseconds
from .conv_rows import bytes_layout, match, value_layout, weight_layout
from .tiles import BLOCK, QUAD, ROUND, Dot, dot_of, most_pixels, step_cycles
from .winograd_transform import MOST, OUT, POSITIONS, TAPS

NAME = "conv_int8_winograd"
VECTORS = 2  # of output channels per register tile
MOST_TILES = 48  # output tiles per unit
SLICE = MOST // (255 * 128 * TAPS * TAPS) // BLOCK * BLOCK  # input channels whose sums keep within MOST
PAD = 64  # bytes between matrices in scratch, so that they do not fall into one cache set
WIDTH = {"int16": 2, "int32": 4}  # bytes
TRANSFORM_IN = 110.0  # cycles per tile and 16 channels
TRANSFORM_FILTERS = 55.0  # cycles per pair of input channels and vector of output channels
TRANSFORM_OUT = 110.0  # cycles per tile and vector of output channels


@dataclass(frozen=True)
class Plan:
    """How a convolution is cut: `block` output tiles per unit, `rows` of them per register tile, output channels in
    `parts` units."""

    block: int
    rows: int
    parts: int

    def blocks(self, w: Window) -> int:
        return ceil_div(tiles(w), self.block)

    def inputs(self, w: Window) -> tuple[int, int]:
        """Elements of i16 of the transformed inputs: of a tile at one position, and from one position to the next."""
        tile = ceil_div(w.channels_in, BLOCK) * BLOCK
        return tile, tile * self.block + PAD // 2

    def filters(self, w: Window, lanes: int) -> int:
        """Elements of i16 from one position of a slice's transformed filters to the next."""
        return of_slice(w) * VECTORS * lanes + PAD // 2

    def products(self, lanes: int) -> int:
        """Sums from one tile to the next."""
        return POSITIONS * VECTORS * lanes + PAD // 4

    def sums(self, w: Window, lanes: int) -> int:
        """Outputs of all tiles, which wait where there are several slices."""
        return self.block * OUT * OUT * VECTORS * lanes if slices(w) > 1 else 0

    def scratch(self, w: Window, lanes: int) -> list[tuple[str, str, int, int]]:
        """Parts of scratch, as `abi.kernel` takes them: inputs, filters, products, and sums where these wait."""
        sizes = {
            "inputs": ("int16", POSITIONS * self.inputs(w)[1]),
            "filters": ("int16", POSITIONS * self.filters(w, lanes)),
            "products": ("int32", self.block * self.products(lanes)),
            "sums": ("int32", self.sums(w, lanes)),
        }
        parts, offset = [], 0
        for name, (dtype, count) in sizes.items():
            if count:
                parts.append((name, dtype, count, offset))
                offset += ceil_div(count * WIDTH[dtype], PAD) * PAD
        return parts


def tiles(w: Window) -> int:
    """Output tiles of one image."""
    return ceil_div(w.height.out, OUT) * ceil_div(w.width.out, OUT)


def slices(w: Window) -> int:
    """How many parts a reduction has."""
    return ceil_div(w.channels_in, of_slice(w))


def of_slice(w: Window) -> int:
    """Input channels of all slices but the last."""
    blocks = ceil_div(w.channels_in, BLOCK)
    return ceil_div(blocks, ceil_div(blocks * BLOCK, SLICE)) * BLOCK


def accepts(problem: Problem) -> Literal[True] | str:
    if (fit := match(problem)) is not True:
        return fit
    dot = dot_of(problem.target.cpu)
    assert dot is not None
    if not dot.wide:
        return "a direct sum takes four products of bytes at a time"
    w = geometry(problem)
    if len(problem.anchor.types[0].shape) != 4 or w.group > 1:
        return "needs two spatial axes and one group"
    if any((a.kernel, a.stride, a.dilation) != (TAPS, 1, 1) for a in (w.height, w.width)):
        return "needs a 3x3 window of stride 1"
    if problem.target.small:
        return "its code is longer than that of a direct sum"
    if w.channels_in <= QUAD or w.channels_out < BLOCK:
        return f"needs more than {QUAD} input channels and {BLOCK} output channels"
    return True


def choices(problem: Problem) -> Sequence[Choice]:
    w, cpu = geometry(problem), problem.target.cpu
    dot, lanes = dot_of(cpu), cpu.lanes(32)
    assert dot is not None
    x, weight, _ = conv_operands(problem.anchor)
    found = []
    for plan in plans(w, cpu, dot, problem.threads):
        tile = TileChoice(1, plan.rows, VECTORS, lanes, dot.group, 1, 1, False)
        fixed = {x: bytes_layout(4, w.channels_in), weight: weight_layout(4, w, tile)}
        layouts = tuple(fixed.get(v) or value_layout(problem, v) for v in problem.body.inputs)
        settings = *config(problem, w, tile)[0], ("tb", plan.block), ("parts", plan.parts), *rounding(problem)
        us = cost(w, cpu, dot, plan, byte_operations(problem), problem.cold)
        us *= spread(plan.blocks(w) * w.batch * plan.parts, problem.threads)
        _, dtype, count, offset = plan.scratch(w, lanes)[-1]
        size = offset + count * WIDTH[dtype]
        found.append(Choice(NAME, layouts, (value_layout(problem, problem.body.outputs[0]),), settings, us, size))
    return sorted(found, key=lambda c: c.cost_us)[:3]


def plan_of(choice: Choice) -> Plan:
    """The plan behind a configuration."""
    return Plan(choice.get("tb"), choice.get("mt"), choice.get("parts"))


def plans(w: Window, cpu: Cpu, dot: Dot, threads: int) -> Iterator[Plan]:
    total, most = tiles(w), most_pixels(cpu, dot, VECTORS)
    wide = ceil_div(w.channels_out, VECTORS * cpu.lanes(32))
    least = ceil_div(total, MOST_TILES)
    found = set[Plan]()
    for blocks in range(least, least + 3):
        block, rows = block_of(total, blocks, most)
        found.update(Plan(block, rows, parts) for parts in parts_of(wide, blocks * w.batch, threads))
    yield from sorted(found, key=lambda p: (p.block, p.parts))


def cost(w: Window, cpu: Cpu, dot: Dot, plan: Plan, epilogue: float, cold: bool) -> float:
    """Modelled time in us."""
    lanes, dot = cpu.lanes(32), replace(dot, line=0)
    inputs, outputs = ceil_div(w.channels_in, BLOCK), ceil_div(w.channels_out, lanes)
    units, pairs = plan.blocks(w) * w.batch, ceil_div(w.channels_in, dot.group)
    cycles = units * outputs * pairs * TRANSFORM_FILTERS
    whole, rest = divmod(outputs, VECTORS)
    for vectors, many in ((VECTORS, whole), (rest, 1)):
        if vectors and many:
            product = pairs * step_cycles(cpu, dot, plan.rows, vectors)
            product += slices(w) * (TILE / 2 + plan.rows * vectors / cpu.fma_per_cycle)
            cycles += units * many * POSITIONS * ceil_div(plan.block, plan.rows) * product
    each = slices(w) * TRANSFORM_OUT + OUT * OUT * (ROUND + epilogue) / cpu.fma_per_cycle
    cycles += w.batch * tiles(w) * (inputs * TRANSFORM_IN * plan.parts + outputs * each)
    weights = float(TAPS * TAPS * w.channels_in * outputs * lanes)
    data = float(w.batch * (w.channels_in * w.height.size * w.width.size + w.channels_out * w.pixels))
    sizes = {name: float(count * WIDTH[dtype]) for name, dtype, count, _ in plan.scratch(w, lanes)}
    tall = ceil_div(outputs, VECTORS)
    traffic = Traffic()
    moved = sizes["inputs"] * (plan.parts + tall) + 2 * tall * slices(w) * (sizes["filters"] + sizes["products"])
    traffic.add(level_of(cpu, sum(sizes.values())), units * moved)
    traffic.add("far" if cold else level_of(cpu, weights + data), weights)
    traffic.add(level_of(cpu, weights), weights * (units - 1))
    traffic.add(level_of(cpu, data), data)
    return microseconds(cpu, cycles, traffic)


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .winograd_emit import Winograd

    return Winograd(problem, choice, geometry(problem), conv_operands(problem.anchor)).emit(problem, choice, symbol)


kernel(
    Row(
        NAME,
        frozenset({"Edgec.ConvInteger"}),
        accepts,
        choices,
        emit,
        "3x3 convolution of bytes of stride 1 by Winograd's F(4x4, 3x3) in integers: exact",
    )
)
