"""Which register tiles and loop orders a dense convolution may use, and what each would cost. Plain arithmetic: no TVM.

A unit of work is one tile of output channels over a block of pixels. Where its weights outgrow the L1 cache, the
reduction is done in several passes: each keeps a slice of the weights in L1 while all pixels of the unit go by, and the
sums wait in scratch (the blocking of Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008,
with the convolution's window as part of the reduction).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from edgec.compiler.target import Cpu, Target

from ..common import WIDENING, ceil_div, computed_lanes, power_of_two
from ..cost import Traffic, fits_registers, level_of, microseconds, most_pixels, smallest, tile_cycles
from .shape import Axis, Window, segments

F32 = 4  # bytes
MAX_VECTORS = 4
UNIT_PIXELS = (48, 96, 192)  # of a unit whose reduction is split; the least pays for fetching its weights
WHOLE_PIXELS = 4096  # ... and at most: the sums of a unit stay in the L2 cache


@dataclass(frozen=True)
class TileChoice:
    """`rows` x `columns` pixels by `vectors` of `lanes` channels, `inner` input channels in the innermost loop.

    `block` tiles (of a flattened pointwise convolution) or rows of pixels make one unit, whose reduction is done in
    `passes`.
    """

    rows: int
    columns: int
    vectors: int
    lanes: int
    inner: int
    block: int
    passes: int
    channels_first: bool  # all channel tiles of some pixels before the next pixels
    cost_us: float = 0.0
    bands: int = 1  # of a single row of pixels, into which it is cut


def shortest(w: Window, tiles: Iterable[TileChoice], target: Target) -> TileChoice:
    """The tile to take where code is to be small."""
    return smallest(tiles, lambda t: t.cost_us, lambda t: code(w, t), target)


def code(w: Window, t: TileChoice) -> int:
    """How many vectors of results are written out, in tiles inside of the image, at its edges and at rests."""
    pixels = sum(s.length for s in segments(w.width, t.columns))
    if t.rows > 1:
        pixels *= sum(s.length for s in segments(w.height, t.rows))
    full, rest = divmod(ceil_div(w.channels_out // w.group, t.lanes), t.vectors)
    return pixels * ((t.vectors if full else 0) + rest) * t.passes


def input_block(inputs: int, lanes: int, group: int = 1, plain: bool = False) -> int:
    """Input channels per innermost loop: never across a block of the blocked layout, never a padded one.

    `plain`: channels are not blocked, so that a few of them need no common divisor with a block.
    """
    few = inputs < (2 * lanes if plain and inputs % lanes else lanes)
    return inputs if few and group == 1 else power_of_two(lanes, inputs)


def vector_lanes(w: Window, cpu: Cpu) -> int:
    """Channels per vector: those of a register, or fewer where a vector would reach into the next group."""
    return power_of_two(cpu.lanes(32), w.channels_out // w.group) if w.group > 1 else cpu.lanes(32)


def in_lines(axis: Axis, layout: str) -> bool:
    """Whether windows along a row of pixels can be read four pixels at a time."""
    return layout == "" and 1 < axis.kernel <= 7 and axis.dilation == 1 and axis.kernel >= axis.stride


def divisor(inputs: int, most: int) -> int:
    """Channels per innermost loop where none are blocked: the largest divisor up to `most`, if there is a fair one."""
    fair = [n for n in range(64, min(inputs, most) + 1) if inputs % n == 0]
    return inputs if inputs <= 3 * most // 2 or not fair else fair[-1]


def tile_choices(
    w: Window,
    cpu: Cpu,
    epilogue: float,
    stored: int,
    inner: Callable[[int], int],
    cold: bool = False,
    weight: int = F32,
    quads: bool = False,
    taps: int = 0,
    held: int = 0,
    cut: bool = False,
) -> Iterator[TileChoice]:
    """Every sensible tile of a window; `stored` counts the input channels in memory, padding included; `inner` gives
    those of the innermost loop for a number of vectors; `cold`: weights come from memory each time; `weight`: bytes of
    one in memory; `quads`: input channels are read four at a time, or `taps` of a row, whose weights stay in
    registers, from four pixels; `held`: tiles of at most so many pixels are offered too, whose inputs lie in the L1
    cache at once; `cut`: a long single row may be cut into bands."""
    outputs = w.channels_out // w.group
    lanes = vector_lanes(w, cpu)
    most_vectors = MAX_VECTORS if w.pixels > 3 else 8
    for vectors in range(1, min(most_vectors, ceil_div(outputs, lanes)) + 1):
        if w.group > 1 and outputs % (vectors * lanes):
            continue
        if vectors > 1 and cpu.vector_registers < 16 and not fits_registers(cpu, 1, vectors, quads):
            break
        most = most_pixels(cpu, vectors, quads) if not taps else (cpu.vector_registers - 2) // vectors - taps
        if most < 1:
            continue
        fewer = _widths(w.width.out, held) if 0 < held < most else []
        for columns in dict.fromkeys([*_widths(w.width.out, most), *fewer]):
            rows = min(most // columns, w.height.out) if columns == w.width.out else 1
            for height in sorted({1, rows}):
                for tile in _orders(
                    w, cpu, TileChoice(height, columns, vectors, lanes, inner(vectors), 1, 1, False), weight, cut
                ):
                    yield replace(tile, cost_us=cost(w, cpu, tile, epilogue, stored, cold, weight, quads))


def _widths(out: int, most: int) -> list[int]:
    """Tile widths that cut a row into equal parts, the widest ones first; and the widest of all."""
    least = ceil_div(out, most)
    even = [ceil_div(out, parts) for parts in range(least, least + 3) if parts <= out]
    return list(dict.fromkeys([*even, min(most, out)]))


def flat(w: Window) -> bool:
    return w.pointwise and w.height.out == 1


def units(w: Window, t: TileChoice) -> tuple[int, int, int]:
    """Images, channel tiles (over all groups) and blocks of pixels."""
    tiles = ceil_div(w.channels_out // w.group, t.vectors * t.lanes) * w.group
    if flat(w):
        return w.batch, tiles, ceil_div(w.width.out, t.columns * t.block)
    return w.batch, tiles, 1 if t.rows > 1 else ceil_div(w.height.out, t.block) * t.bands


def unit_pixels(w: Window, t: TileChoice) -> int:
    """Pixels of the largest unit."""
    if flat(w):
        return min(w.width.out, t.columns * t.block)
    return ceil_div(w.width.out, t.bands) * (w.height.out if t.rows > 1 else min(t.block, w.height.out))


def _orders(w: Window, cpu: Cpu, t: TileChoice, weight: int, cut: bool) -> Iterator[TileChoice]:
    """The tile with every sensible blocking and order of its loops."""
    inputs = w.channels_in // w.group
    slice_bytes = weight * t.inner * w.taps * t.vectors * t.lanes
    blocks = ceil_div(inputs, t.inner)
    per_pass = max(1, (cpu.l1d // 2) // slice_bytes)
    passes = ceil_div(blocks, per_pass)
    if flat(w):
        tiles = ceil_div(w.width.out, t.columns)
        fit = max(1, (cpu.l2 // 4) // (4 * t.columns * inputs))
        whole = {1: {1, min(tiles, fit)}, passes: _blocks(tiles, t.columns, fit)}
    else:
        rows = w.height.out
        whole = {1: {1}, passes: {1} if t.rows > 1 else _blocks(rows, w.width.out, rows)}
    for count, sizes in whole.items():
        for block in sorted(sizes):
            for channels_first in (False, True):
                yield replace(t, block=block, passes=count, channels_first=channels_first)
    if cut and not flat(w) and w.height.out == 1:
        for bands in sorted({_bands(w, t, share) for share in (cpu.l2 // 4, cpu.l2 // 2)} - {1}):
            yield replace(t, channels_first=True, bands=bands)


def _bands(w: Window, t: TileChoice, held: int) -> int:
    """Parts of a long row whose inputs and the weights of a tile of channels take `held` bytes: what each tile of
    channels reads again. 1 where the row is short, or nothing is left beside the weights."""
    inputs = w.channels_in // w.group
    left = held - F32 * inputs * w.taps * t.vectors * t.lanes
    pixel = F32 * inputs * w.height.kernel * w.width.stride
    each = left // (pixel * t.columns)
    count = max(s.count for s in segments(w.width, t.columns))
    if each < 1 or each >= count:
        return 1
    return ceil_div(count, ceil_div(count, ceil_div(count, each)))


def _blocks(total: int, pixels: int, fit: int) -> set[int]:
    """How many of `total` pieces of `pixels` each may make one unit of a split reduction: even shares of all."""
    least, most = ceil_div(UNIT_PIXELS[0], pixels), max(1, WHOLE_PIXELS // pixels)
    wanted = [ceil_div(n, pixels) for n in UNIT_PIXELS] + [fit, ceil_div(total, 2), total]
    sizes = {min(max(size, least), most, total) for size in wanted}
    return {ceil_div(total, max(1, round(total / size))) for size in sizes}


def cost(
    w: Window, cpu: Cpu, t: TileChoice, epilogue: float, stored: int, cold: bool, weight: int, quads: bool = False
) -> float:
    """Modelled time in us."""
    inputs, outputs = w.channels_in // w.group, w.channels_out // w.group
    steps = inputs * w.taps
    cycles, widening = 0.0, WIDENING if weight < F32 else 0.0
    row_tiles = [(s.length, s.count) for s in segments(w.height, t.rows)] if t.rows > 1 else [(1, w.height.out)]
    shapes = [(h * s.length, n * s.count) for h, n in row_tiles for s in segments(w.width, t.columns)]
    for wide, many in _across(cpu, outputs, t):
        if wide and many:
            for pixels, count in shapes:
                one = tile_cycles(cpu, pixels, wide, steps, t.inner, epilogue, widening, quads)
                cycles += many * count * (one + _waiting(cpu, pixels * wide, t))
    cycles *= w.batch * w.group
    tiles = sum(count for _, count in shapes) * w.batch
    return microseconds(cpu, cycles, _traffic(w, cpu, t, tiles, stored, cold, weight))


def _across(cpu: Cpu, outputs: int, t: TileChoice) -> list[tuple[float, int]]:
    """Vectors of each tile of channels, and how many such tiles there are; a half counts so where it is one step."""
    full, rest = divmod(ceil_div(outputs, t.lanes), t.vectors)
    if not cpu.multiplies_halves or computed_lanes(outputs % t.lanes or t.lanes, t.lanes) == t.lanes:
        return [(t.vectors, full), (rest, 1)]
    return [(t.vectors, full), (rest - 0.5, 1)] if rest else [(t.vectors, full - 1), (t.vectors - 0.5, 1)]


def _waiting(cpu: Cpu, vectors: float, t: TileChoice) -> float:
    """Cycles to keep the sums of a tile in scratch between passes, and to write and read them before and after: through
    the L2 cache, since a slice of the weights and the input go by in between."""
    if t.passes == 1:
        return 0.0
    each = 2 / cpu.load_per_cycle + 2 * F32 * t.lanes / cpu.l2_bytes_per_cycle
    return (t.passes + 1.0) * vectors * each + (t.passes - 1) * 8.0


def _touched(w: Window) -> float:
    """Share of the input's cache lines that are read: windows may step over whole rows."""
    return min(1.0, w.height.kernel / w.height.stride)


def _traffic(w: Window, cpu: Cpu, t: TileChoice, tiles: int, stored: int, cold: bool, weight: int) -> Traffic:
    """`tiles` counts register tiles per tile of channels."""
    batch, channel_tiles, spaces = units(w, t)
    weights_tile = float(weight) * (w.channels_in // w.group) * w.taps * t.vectors * t.lanes
    weights = weights_tile * channel_tiles
    data = 4.0 * w.batch * stored * w.height.size * w.width.size * _touched(w)
    out = 4.0 * w.batch * w.channels_out * w.pixels
    moved = Traffic()
    moved.add("far" if cold else level_of(cpu, weights + data + out), weights)
    # Weights again: a unit finds its own in L1 (a slice of them, where the reduction is split), or fetches them anew.
    again = level_of(cpu, weights + data / spaces if t.channels_first else weights_tile + data)
    if t.passes > 1 or weights_tile <= cpu.l1d // 2:
        kept = t.passes == 1 and not t.channels_first
        moved.add(again, 0.0 if kept else weights * (spaces * batch - 1))
    else:
        moved.add(level_of(cpu, weights_tile), weights * max(0, tiles - 1))
    # Data: once for each tile of channels.
    each = data / max(1, spaces * batch) if t.channels_first else data
    moved.add(level_of(cpu, data + out), data)
    moved.add(level_of(cpu, each + weights_tile), data * (channel_tiles - 1))
    moved.add(level_of(cpu, data + out), out)
    return moved
