"""Which register tiles a dense integer convolution may use, and what each would cost. Plain arithmetic: no TVM.

Some bytes of a pixel meet as many of each output channel in one step. How that is done is the `Dot` of a target.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from edgec.compiler.target import Cpu

from ..common import ceil_div
from ..conv.shape import Window, segments
from ..conv.tiles import TileChoice, flat, units
from ..cost import LOADS, LOOP, TILE, Traffic, level_of, microseconds

QUAD = 4  # channels of a pixel in memory, where there are no more
BLOCK = 16  # channels of a block in memory
SPILLED = 0.7  # of the registers hold sums: straight code needs more than there are
WIDEN = 1.5  # cycles per 16 bytes that are widened
ALIKE = 1.04  # times the least time: the model of time knows no difference
ROUND = 3.0  # instructions per vector of sums to make bytes of them


@dataclass(frozen=True)
class Dot:
    """An instruction set's way to multiply and add bytes: u8 of a pixel, broadcast, with i8 of output channels.

    `group` bytes make a step. Per vector of sums it takes `work` instructions, of which `rate` issue per cycle, and
    `line` more per vector of weights. `spare` registers hold neither sums nor weights. `wide`: a unit's input is
    widened to 16 bits first, for all its tiles of output channels.
    """

    group: int
    work: int
    rate: float
    line: int
    spare: int
    latency: int  # of a sum from step to step
    issue: float  # instructions per cycle of all kinds
    wide: bool


VNNI = Dot(4, 1, 2.0, 0, 1, 5, 5.0, wide=False)  # vpdpbusd
WORDS = Dot(2, 2, 3.0, 1, 2, 1, 4.0, wide=True)  # vpmaddwd


def dot_of(cpu: Cpu) -> Dot | None:
    """The fastest that is exact; vpmaddubsw is not: it saturates."""
    if "AVX512VNNI" in cpu.isa and cpu.vector_bits == 512:
        return VNNI
    return WORDS if "AVX2" in cpu.isa and cpu.vector_bits == 256 else None


def step_cycles(cpu: Cpu, dot: Dot, pixels: int, vectors: int) -> float:
    """One step over a tile: the slowest of arithmetic, loads, latency and issue."""
    work = pixels * vectors
    extra = vectors * dot.line
    rate = dot.rate / 2 if cpu.multiplies_halves else dot.rate
    return max(
        (dot.work * work + extra) / rate,
        (pixels + vectors) / (LOADS * cpu.load_per_cycle),
        1.25 * dot.latency,
        (dot.work * work + extra + pixels + vectors + 2) / dot.issue,
    )


def most_pixels(cpu: Cpu, dot: Dot, vectors: int) -> int:
    """The largest number of pixels whose sums, with a step's weights, fit the registers."""
    return max(1, (cpu.vector_registers - dot.spare - vectors) // vectors)


def tile_choices(w: Window, cpu: Cpu, dot: Dot, epilogue: float, sums: bool, cold: bool) -> Iterator[TileChoice]:
    """Every sensible tile; `sums`: sums of the weights are needed in each unit."""
    outputs, lanes = w.channels_out // w.group, cpu.lanes(32)
    for vectors in range(1, min(6, ceil_div(outputs, lanes)) + 1):
        if w.group > 1 and outputs % (vectors * lanes):
            continue
        most = most_pixels(cpu, dot, vectors)
        for columns in _widths(w.width.out, most):
            rows = min(most // columns, w.height.out) if columns == w.width.out else 1
            for height in sorted({1, rows}):
                tile = TileChoice(height, columns, vectors, lanes, dot.group, 1, 1, False)
                for ordered in _orders(w, cpu, tile):
                    yield replace(ordered, cost_us=cost(w, cpu, dot, ordered, epilogue, sums, cold))


def _widths(out: int, most: int) -> list[int]:
    """Tile widths that cut a row into equal parts, and the widest of all."""
    least = ceil_div(out, most)
    even = [ceil_div(out, parts) for parts in range(least, least + 3) if parts <= out]
    return list(dict.fromkeys([*even, min(most, out)]))


def _orders(w: Window, cpu: Cpu, t: TileChoice) -> Iterator[TileChoice]:
    """The tile with every sensible size of a unit and order of units."""
    inputs = w.channels_in // w.group
    if flat(w):
        tiles = ceil_div(w.width.out, t.columns)
        fit = max(1, (cpu.l1d // 2) // (t.columns * inputs))
        blocks = {min(tiles, n) for n in (1, fit, ceil_div(tiles, 4), tiles)}
    else:
        blocks = {1} if t.rows > 1 else {1, ceil_div(w.height.out, 4), w.height.out}
    for block in sorted(blocks):
        for channels_first in (False, True):
            yield replace(t, block=block, channels_first=channels_first)


def steps(w: Window, t: TileChoice) -> int:
    """Steps of the whole reduction of one pixel."""
    if w.by_columns:
        return w.height.kernel * ceil_div(w.width.kernel, t.inner)
    return ceil_div(w.channels_in // w.group, t.inner) * w.taps


def stored(w: Window, t: TileChoice) -> int:
    """Output channels of a tile whose weights are stored: of a single tile no more than there are, in whole quads;
    fewer where the last vector takes no more loads, one for each power of two that its size is the sum of."""
    outputs = w.channels_out // w.group
    quads = ceil_div(outputs, QUAD) * QUAD
    loads = (quads % t.lanes).bit_count() or 1
    least = next(n for n in range(outputs, quads + 1) if ((n % t.lanes).bit_count() or 1) <= loads)
    return min(t.vectors * t.lanes, least)


def weight_bytes(w: Window, t: TileChoice) -> int:
    """Of one tile of output channels."""
    return steps(w, t) * t.inner * stored(w, t)


def nearly_fastest(w: Window, tiles: Iterable[TileChoice], most: int) -> list[TileChoice]:
    """The fastest tiles, at most so many, without those whose weights take more bytes than weights of one that is
    hardly slower than the fastest."""
    ordered = sorted(tiles, key=lambda t: t.cost_us)
    size = {t: units(w, t)[1] * weight_bytes(w, t) for t in ordered}
    fewest = min(size[t] for t in ordered if t.cost_us <= ALIKE * ordered[0].cost_us)
    return [t for t in ordered if size[t] <= fewest][:most]


def tasks(w: Window, dot: Dot, t: TileChoice) -> int:
    """Units; or blocks of pixels, where one task does all tiles of channels of what it has widened."""
    batch, tiles, spaces = units(w, t)
    return batch * spaces * (1 if dot.wide and t.channels_first else tiles)


def widened(w: Window, t: TileChoice, pixel: int) -> int:
    """Input elements, `pixel` each, that the tiles of a block of pixels read."""
    if flat(w):
        return min(w.width.out, t.columns * t.block) * pixel
    rows = w.height.out if t.rows > 1 else min(t.block, w.height.out)
    reach = (rows - 1) * w.height.stride + (w.height.kernel - 1) * w.height.dilation + 1
    return min(reach, w.height.size) * w.width.size * pixel


def pixel_bytes(w: Window) -> int:
    """Of a pixel of a convolution's input."""
    if w.by_columns:
        return w.channels_in
    return ceil_div(w.channels_in, BLOCK) * BLOCK if w.channels_in > QUAD else QUAD


def cost(w: Window, cpu: Cpu, dot: Dot, t: TileChoice, epilogue: float, sums: bool, cold: bool) -> float:
    """Modelled time in us."""
    outputs = w.channels_out // w.group
    rows = [(s.length, s.count) for s in segments(w.height, t.rows)] if t.rows > 1 else [(1, w.height.out)]
    shapes = [(h * s.length, n * s.count, s.edge) for h, n in rows for s in segments(w.width, t.columns)]
    single = w.channels_in // w.group <= t.inner  # one step per tap: edges are straight code, short of registers
    full, rest = divmod(ceil_div(outputs, t.lanes), t.vectors)
    spaces = units(w, t)[2]
    cycles = 0.0
    for wide, many in ((t.vectors, full), (rest, 1)):
        if not wide or not many:
            continue
        for pixels, count, edge in shapes:
            ends = pixels * wide * (ROUND + epilogue) / cpu.fma_per_cycle + TILE
            loops = w.height.kernel * 2 * LOOP
            spilled = pixels * wide if edge and single and pixels * wide > SPILLED * cpu.vector_registers else 0
            each = step_cycles(cpu, dot, pixels, wide) + 0.4 * spilled
            cycles += many * count * (steps(w, t) * each + loops + ends)
        if sums:
            cycles += many * spaces * steps(w, t) * step_cycles(cpu, dot, 1, wide)
    cycles *= w.batch * w.group
    if dot.wide:
        times = w.batch * spaces * (1 if t.channels_first else full + bool(rest)) * w.group
        cycles += times * widened(w, t, pixel_bytes(w)) / BLOCK * WIDEN
    return microseconds(cpu, cycles, _traffic(w, cpu, t, sum(n for _, n, _ in shapes) * w.batch, cold))


def _traffic(w: Window, cpu: Cpu, t: TileChoice, tiles: int, cold: bool) -> Traffic:
    """`tiles` counts register tiles per tile of channels."""
    batch, channel_tiles, spaces = units(w, t)
    tile = float(weight_bytes(w, t))
    weights = tile * channel_tiles
    touched = min(1.0, w.height.kernel / w.height.stride)
    data = float(w.batch * pixel_bytes(w) * w.height.size * w.width.size) * touched
    out = float(w.batch * ceil_div(w.channels_out, BLOCK) * BLOCK * w.pixels)
    moved = Traffic()
    moved.add("far" if cold else level_of(cpu, weights + data + out), weights)
    # Weights again: for each block of pixels, and for each tile of pixels where they do not stay in L1.
    blocks = spaces * batch
    if t.channels_first:
        moved.add(level_of(cpu, weights + data / spaces), weights * (blocks - 1))
    if tile > cpu.l1d // 2:
        moved.add(level_of(cpu, tile), weights * max(0, tiles - (blocks if t.channels_first else 1)))
    each = (2 if t.inner == WORDS.group else 1) * data / max(1, spaces * batch) if t.channels_first else data
    moved.add(level_of(cpu, data + out), data + out)
    if each + tile > cpu.l1d // 2:
        moved.add(level_of(cpu, each + tile), data * (channel_tiles - 1))
    return moved
