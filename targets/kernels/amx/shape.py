"""How a convolution or matrix product falls into tiles of AMX, and what that costs. Plain arithmetic: no TVM.

A tile of the left operand is up to 16 output pixels that lie at equal steps in memory, times up to 64 bytes side by
side: a pixel's channels, or the channels of all taps of a row of the window. A tile of sums is those pixels times 16
output channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd

from edgec.compiler.target import Cpu

from ..common import ceil_div, spread
from ..conv.shape import Axis, Window
from ..cost import Traffic, level_of, microseconds

LANES = 16  # output channels of a tile, and rows of a tile at most
LEAST_CYCLES = 9.25  # of a product, however few rows
SLACK = 1.1  # of the rate at which tiles are multiplied, reached
LOADED = 2.0  # rows that are loaded in a cycle
VECTOR_CYCLES = 2.2  # from sums to bytes, per vector
HIDDEN = 0.4  # share of a unit's products during which the vectors of the last one pass
UNIT_CYCLES = 20.0  # to start a unit, and to wait for its last product
TASK_CYCLES = 100.0  # to find a task's place, to begin its first unit and to end its last
CALL_CYCLES = 200.0  # to configure tiles and to release them
COPY_CYCLES = 2.5  # of a cache line
NARROW = 12  # pixels of a line up to which pixels are gathered


@dataclass(frozen=True)
class Left:
    """The left operand: `pixel` bytes for a pixel, of which `run` side by side meet as many weights.

    `w` is the window (of one line where pixels need not be told apart); `bordered` says that it is read from a copy
    with zero points around it. `true` is the window of the operand itself where the copy has another shape: one line of
    the pixels that a 1x1 window reads (`gathered`), or lines in pairs, pixel by pixel (`folded`).
    """

    w: Window
    pixel: int
    bordered: bool
    true: Window | None = None

    @property
    def gathered(self) -> bool:
        return self.true is not None and not self.bordered

    @property
    def folded(self) -> bool:
        return self.true is not None and self.bordered

    @property
    def copied(self) -> bool:
        return self.bordered or self.gathered

    @property
    def joined(self) -> bool:
        """Whether all taps of a row of the window lie side by side."""
        return self.w.width.dilation == 1 or self.w.width.kernel == 1

    @property
    def run(self) -> int:
        return self.pixel * (self.w.width.kernel if self.joined else 1)

    @property
    def runs(self) -> int:
        """Runs in a row of the window."""
        return 1 if self.joined else self.w.width.kernel

    @property
    def groups(self) -> int:
        """Rows of weights for 16 output channels: four products each."""
        return self.w.height.kernel * self.w.width.kernel * self.pixel // 4

    @property
    def line(self) -> int:
        """Pixels of a line in memory."""
        axis = self.w.width
        if not self.bordered:
            return axis.size
        return max(axis.size + axis.pad, (axis.out - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1)

    def lines(self, rows: int) -> int:
        """Lines of the input under so many rows of the output."""
        axis = self.w.height
        return (rows - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1


@dataclass(frozen=True)
class Tiling:
    """`rows` rows of a tile, which covers `lines` lines of the output; `pixels` x `channels` tiles of sums at a time;
    `groups` rows of weights in a product.

    `block` tiles of pixels (whole lines of them where lines count) stay in a cache while `panels` times `channels`
    tiles of output channels, all of a task, go by.
    """

    rows: int
    lines: int
    pixels: int
    channels: int
    groups: int
    block: int
    panels: int
    cost_us: float = 0.0


def folded(w: Window) -> Left | None:
    """A window of stride 2 over few channels as one of stride 1 over pairs of lines: half as many, twice as deep."""
    h = w.height
    if w.channels_in > 4 or h.stride != 2 or h.kernel < 2 or h.dilation != 1 or w.width.dilation != 1:
        return None
    kernel = ceil_div(h.kernel, 2)
    return Left(replace(w, height=Axis(h.out + kernel - 1, h.out, kernel)), 8, True, w)


def across(left: Left, t: Tiling) -> int:
    """Tiles in a line."""
    return 1 if t.lines > 1 else ceil_div(left.w.width.out, t.rows)


def tiles(left: Left, t: Tiling) -> int:
    """Tiles of pixels of an image."""
    return ceil_div(left.w.height.out, t.lines) * across(left, t)


def product_groups(run: int) -> int:
    """Rows of weights in a product: the most, up to 16, that divide a run."""
    groups = run // 4
    return max(n for n in range(1, min(LANES, groups) + 1) if groups % n == 0)


def product_cycles(rows: int) -> float:
    return max(LEAST_CYCLES, rows)


def heights(left: Left) -> list[tuple[int, int]]:
    """Rows and lines of the tiles that waste least."""
    h, w = left.w.height, left.w.width
    if w.out <= LANES:
        lines = (LANES - w.out) // left.line + 1
        even = left.bordered and h.stride == w.stride == 1 and h.out > 1
        many = min(lines, h.out) if even else 1
        return [((many - 1) * left.line + w.out, many)]
    at_once = 2 if h.out == 1 else 1  # tiles that a line should be a multiple of

    def cycles(n: int) -> float:
        return ceil_div(ceil_div(w.out, n), at_once) * (product_cycles(n) + 2.0)

    return [(n, 1) for n in sorted(range(8, LANES + 1), key=lambda n: (cycles(n), -n))[:2]]


def tilings(left: Left, cpu: Cpu, after: float, threads: int, cold: bool, small: bool = False) -> Iterator[Tiling]:
    """Every sensible tiling, with its cost; `after` counts operations on vectors of sums; `small`: nothing passes while
    tiles multiply."""
    panels = ceil_div(left.w.channels_out, LANES)
    for rows, lines in heights(left):
        start = Tiling(rows, lines, 1, 1, product_groups(left.run), 1, 1)
        total = tiles(left, start)
        shapes = {(min(2, total), min(2, panels))}
        if total == 1:
            shapes.add((1, min(4, panels)))
        for pixels, channels in sorted(shapes):
            for block in sorted(_blocks(left, cpu, replace(start, pixels=pixels))):
                every = ceil_div(panels, channels)
                shares = ceil_div(threads, left.w.batch * ceil_div(total, block)) if threads > 1 else 1
                t = replace(start, pixels=pixels, channels=channels, block=block, panels=ceil_div(every, shares))
                yield replace(t, cost_us=cost(left, cpu, t, after, threads, cold, small))


def _blocks(left: Left, cpu: Cpu, t: Tiling) -> set[int]:
    """Tiles of pixels for which weights go by: a unit, what fits half of L1, a quarter of L2, all."""
    total, wide = tiles(left, t), across(left, t) if left.w.height.out > 1 else t.pixels
    step = wide * t.pixels // gcd(wide, t.pixels)
    if left.gathered:
        return {total}
    bytes_of = left.line * left.w.height.stride * t.lines * step // wide if left.w.height.out > 1 else t.rows * step
    found = {min(step, total), total}
    for room in (cpu.l1d // 2, cpu.l2 // 4):
        found.add(min(total, max(1, room // max(1, bytes_of * left.pixel)) * step))
    return {ceil_div(ceil_div(total, step), ceil_div(total, n)) * step if n < total else total for n in found}


def cost(left: Left, cpu: Cpu, t: Tiling, after: float, threads: int, cold: bool, small: bool = False) -> float:
    """Modelled time in us."""
    w, total = left.w, tiles(left, t)
    panels = ceil_div(w.channels_out, LANES)
    blocks, shares = ceil_div(total, t.block), ceil_div(ceil_div(panels, t.channels), t.panels)
    units = ceil_div(total, t.pixels) * ceil_div(panels, t.channels)
    steps, sums = left.groups / t.groups, t.pixels * t.channels
    loads = (t.rows * t.pixels + t.groups * t.channels) / LOADED
    products = steps * SLACK * max(sums * product_cycles(t.rows), loads)
    vectors = w.pixels * panels / units * (VECTOR_CYCLES + 0.5 * after)
    alone = max(0.0, vectors - (0.0 if small else HIDDEN) * products)
    cycles = units * (products + sums * (t.rows + LANES / LOADED) + alone + UNIT_CYCLES)
    cycles += blocks * shares * (vectors - alone + TASK_CYCLES)  # the first and the last unit stand alone
    if left.gathered:
        cycles += w.pixels * (COPY_CYCLES * left.pixel / 64 + 4.0)
    elif left.bordered:
        lines = blocks * left.lines(ceil_div(t.block, across(left, t)) * t.lines)
        cycles += lines * shares * (COPY_CYCLES * left.line * left.pixel / 64 + 20.0)
    us = microseconds(cpu, cycles * w.batch + CALL_CYCLES, _traffic(left, cpu, t, blocks, cold))
    return us * spread(w.batch * blocks * shares, threads)


def _traffic(left: Left, cpu: Cpu, t: Tiling, blocks: int, cold: bool) -> Traffic:
    w, moved = left.w, Traffic()
    panels = ceil_div(w.channels_out, LANES)
    weights = 64.0 * left.groups * panels
    true = left.true or w
    data = float(w.batch * left.pixel // (2 if left.folded else 1) * true.height.size * true.width.size)
    out = float(w.batch * w.pixels * LANES * panels)
    panel = 64.0 * left.groups * t.channels
    block = data / max(1, blocks * w.batch)
    moved.add("far" if cold else level_of(cpu, weights + data + out), weights)
    moved.add(level_of(cpu, data + out), data + out)
    if weights + block > cpu.l1d:
        moved.add(level_of(cpu, weights + block), weights * (blocks * w.batch - 1))
    if block + panel > cpu.l1d:
        moved.add(level_of(cpu, block + panel), data * (ceil_div(panels, t.channels) - 1))
    if panel > cpu.l1d // 2:
        units = ceil_div(tiles(left, t), t.pixels)
        moved.add(level_of(cpu, panel), weights * (units * w.batch - blocks * w.batch))
    return moved
