"""Which register tiles a dense convolution may use, and what each would cost. Plain arithmetic: no TVM here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from edgec.compiler.target import Cpu

from .common import ceil_div, power_of_two
from .conv_shape import Window, segments
from .cost import Traffic, fits_registers, microseconds, tile_cycles

MAX_VECTORS = 4


@dataclass(frozen=True)
class TileChoice:
    """`rows` x `columns` pixels by `vectors`; `block` tiles make one unit of a flattened pointwise convolution."""

    rows: int
    columns: int
    vectors: int
    block: int
    channels_first: bool  # all channel tiles of some pixels before the next pixels
    cost_us: float


def input_block(inputs: int, lanes: int) -> int:
    """Input channels per innermost loop: never across a block of the blocked layout, never a padded one."""
    return inputs if inputs < lanes else power_of_two(lanes, inputs)


def tile_choices(w: Window, cpu: Cpu, epilogue: int, stored: int) -> Iterator[TileChoice]:
    """Every sensible tile of a window; `stored` counts the input channels in memory, padding included."""
    lanes = cpu.lanes(32)
    outputs = w.channels_out // w.group
    most_vectors = MAX_VECTORS if w.pixels > 3 else 8
    for vectors in range(1, min(most_vectors, ceil_div(outputs, lanes)) + 1):
        if w.group > 1 and outputs % (vectors * lanes):
            continue
        most = max(m for m in range(1, 64) if m == 1 or fits_registers(cpu, m, vectors))
        for columns in _widths(w.width.out, most):
            rows = min(most // columns, w.height.out) if columns == w.width.out else 1
            for height in sorted({1, rows}):
                yield from _blocked(w, cpu, height, columns, vectors, epilogue, stored)


def _widths(out: int, most: int) -> list[int]:
    """Tile widths that cut a row into equal parts, the widest ones first; and the widest of all."""
    least = ceil_div(out, most)
    even = [ceil_div(out, parts) for parts in range(least, least + 3) if parts <= out]
    return list(dict.fromkeys([*even, min(most, out)]))


def _blocked(
    w: Window, cpu: Cpu, rows: int, columns: int, vectors: int, epilogue: int, stored: int
) -> Iterator[TileChoice]:
    flat = w.height.out == 1 and w.pointwise
    tiles = ceil_div(w.width.out, columns)
    inputs = w.channels_in // w.group
    fit = max(1, (cpu.l2 // 4) // (4 * columns * inputs))
    blocks = {1, min(tiles, fit)} if flat else {1}
    for block in sorted(blocks):
        for channels_first in (False, True):
            tile = TileChoice(rows, columns, vectors, block, channels_first, 0.0)
            yield replace(tile, cost_us=cost(w, cpu, tile, epilogue, stored))


def cost(w: Window, cpu: Cpu, t: TileChoice, epilogue: int, stored: int) -> float:
    """Modelled time in us."""
    lanes, inputs, outputs = cpu.lanes(32), w.channels_in // w.group, w.channels_out // w.group
    inner = input_block(inputs, lanes)
    steps = inputs * w.taps
    cycles = 0.0
    row_tiles = [(s.length, s.count) for s in segments(w.height, t.rows)] if t.rows > 1 else [(1, w.height.out)]
    shapes = [(h * s.length, n * s.count) for h, n in row_tiles for s in segments(w.width, t.columns)]
    full, rest = divmod(ceil_div(outputs, lanes), t.vectors)
    for wide, many in ((t.vectors, full), (rest, 1)):
        if wide and many:
            cycles += sum(
                many * count * tile_cycles(cpu, pixels, wide, steps, inner, epilogue) for pixels, count in shapes
            )
    cycles *= w.batch * w.group
    return microseconds(cpu, cycles, _traffic(w, cpu, t, sum(count for _, count in shapes) * w.batch, stored))


def _traffic(w: Window, cpu: Cpu, t: TileChoice, tiles: int, stored: int) -> Traffic:
    """`tiles` counts register tiles per tile of channels."""
    lanes = cpu.lanes(32)
    channel_tiles = ceil_div(w.channels_out // w.group, t.vectors * lanes) * w.group
    weights_tile = 4 * (w.channels_in // w.group) * w.taps * t.vectors * lanes
    weights = weights_tile * channel_tiles
    data = 4 * w.batch * stored * w.height.size * w.width.size
    out = 4 * w.batch * w.channels_out * w.pixels
    near = float(data * channel_tiles + out)
    again = tiles / t.block if t.channels_first else 1.0  # how often a tile of weights comes back into L1
    near += weights * (tiles if weights_tile > cpu.l1d // 2 else again)
    far = float(weights + data + out) if weights + data + out > cpu.l2 else 0.0
    if t.channels_first:
        far += weights * (tiles / t.block - 1) if weights > cpu.l2 else 0.0
    else:
        far += data * (channel_tiles - 1) if data + weights_tile > cpu.l2 else 0.0
    return Traffic(near, far)
