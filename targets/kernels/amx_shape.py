"""How a convolution or matrix product falls into tiles of AMX, and what that costs. Plain arithmetic: no TVM.

A tile of the left operand is up to 16 output pixels of a line times up to 64 bytes that lie side by side: a pixel's
channels, or the channels of all taps of a row of the window. A tile of sums is those pixels times 16 output channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from edgec.compiler.target import Cpu

from .common import ceil_div
from .conv_shape import Window
from .cost import Traffic, level_of, microseconds

LANES = 16  # output channels of a tile, rows of a tile at most
LEAST_CYCLES = 9.25  # of a product, however few rows
SLACK = 1.1  # of the rate at which tiles are multiplied, reached
LOADED = 2.0  # rows that are loaded in a cycle
VECTOR_CYCLES = 2.7  # from sums to bytes, per vector
UNIT_CYCLES = 40.0  # to start a unit, and to wait for its last product
CALL_CYCLES = 200.0  # configuring tiles, releasing them
COPY_CYCLES = 2.5  # of a cache line


@dataclass(frozen=True)
class Left:
    """The left operand: `pixel` bytes for a pixel, of which `run` side by side meet as many weights.

    `w` is the window (of one line where pixels need not be told apart), `bordered` says that it is read from a copy
    with zero points around it.
    """

    w: Window
    pixel: int
    bordered: bool

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
    """`rows` pixels a tile, `pixels` x `channels` tiles of sums at a time, `groups` rows of weights in a product.

    `block` tiles of pixels (whole lines of them where lines count) stay in a cache while `panels` times `channels`
    tiles of output channels, all of a task, go by.
    """

    rows: int
    pixels: int
    channels: int
    groups: int
    block: int
    panels: int
    cost_us: float = 0.0


def across(left: Left, rows: int) -> int:
    """Tiles in a line."""
    return ceil_div(left.w.width.out, rows)


def tiles(left: Left, rows: int) -> int:
    """Tiles of pixels of an image."""
    return left.w.height.out * across(left, rows)


def product_groups(run: int) -> int:
    """Rows of weights in a product: the most, up to 16, that divide a run."""
    groups = run // 4
    return max(n for n in range(1, min(16, groups) + 1) if groups % n == 0)


def product_cycles(rows: int) -> float:
    return max(LEAST_CYCLES, rows)


def best_rows(left: Left) -> list[int]:
    """Rows of a tile that waste least, the largest first."""
    wide = left.w.width.out
    if wide <= LANES:
        return [wide]
    cost = {n: ceil_div(wide, n) * (product_cycles(n) + 2.0) for n in range(8, LANES + 1)}
    return sorted(cost, key=lambda n: (cost[n], -n))[:2]


def tilings(left: Left, cpu: Cpu, after: float, threads: int, cold: bool) -> Iterator[Tiling]:
    """Every sensible tiling, with its cost; `after` counts operations on vectors of sums."""
    panels = ceil_div(left.w.channels_out, LANES)
    for rows in best_rows(left):
        total = tiles(left, rows)
        shapes = {(min(2, total), min(2, panels))} | ({(1, min(4, panels))} if total == 1 else set())
        for pixels, channels in shapes:
            for block in _blocks(left, cpu, rows, pixels):
                every = ceil_div(panels, channels)
                shares = ceil_div(threads, left.w.batch * ceil_div(total, block)) if threads > 1 else 1
                each = ceil_div(every, min(every, shares))
                t = Tiling(rows, pixels, channels, product_groups(left.run), block, each)
                yield Tiling(*list(vars(t).values())[:-1], cost(left, cpu, t, after, threads, cold))


def _blocks(left: Left, cpu: Cpu, rows: int, pixels: int) -> set[int]:
    """Tiles of pixels for which weights go by: a unit, what fits half of L1, a quarter of L2, all."""
    total, wide = tiles(left, rows), across(left, rows)
    step = wide if left.w.height.out > 1 else pixels
    line = left.line * left.pixel * left.w.height.stride if left.w.height.out > 1 else rows * pixels * left.pixel
    found = {step, total}
    for room in (cpu.l1d // 2, cpu.l2 // 4):
        found.add(min(total, max(1, room // max(1, line)) * step))
    return {ceil_div(ceil_div(total, step), ceil_div(total, n)) * step if n < total else total for n in found}


def cost(left: Left, cpu: Cpu, t: Tiling, after: float, threads: int, cold: bool) -> float:
    """Modelled time in us."""
    w, total = left.w, tiles(left, t.rows)
    panels = ceil_div(w.channels_out, LANES)
    steps = left.groups / t.groups
    blocks, shares = ceil_div(total, t.block), ceil_div(ceil_div(panels, t.channels), t.panels)
    dot = steps * product_cycles(t.rows) * SLACK
    loads = steps * (16 * t.pixels + 16 * t.channels) / LOADED / (t.pixels * t.channels)
    cycles = total * panels * max(dot, loads) + total * panels * t.rows
    cycles += ceil_div(total, t.pixels) * ceil_div(panels, t.channels) * UNIT_CYCLES
    cycles += w.pixels * panels * (VECTOR_CYCLES + 0.5 * after)
    if left.bordered:
        lines = blocks * left.lines(ceil(t.block / across(left, t.rows)))
        cycles += lines * shares * (COPY_CYCLES * left.line * left.pixel / 64 + 20.0)
    cycles = cycles * w.batch + CALL_CYCLES
    return microseconds(cpu, cycles, _traffic(left, cpu, t, blocks, cold)) * _spread(w.batch * blocks * shares, threads)


def _spread(tasks: int, threads: int) -> float:
    return ceil_div(tasks, threads) * threads / tasks


def _traffic(left: Left, cpu: Cpu, t: Tiling, blocks: int, cold: bool) -> Traffic:
    w, moved = left.w, Traffic()
    panels = ceil_div(w.channels_out, LANES)
    weights = 64.0 * left.groups * panels
    data = float(w.batch * left.pixel * w.height.size * w.width.size)
    out = float(w.batch * w.pixels * LANES * panels)
    panel = 64.0 * left.groups * t.channels
    block = data / max(1, blocks * w.batch)
    moved.add("far" if cold else level_of(cpu, weights + data + out), weights + data)
    moved.add(level_of(cpu, data + out), out)
    if weights + block > cpu.l1d:
        moved.add(level_of(cpu, weights + block), weights * (blocks * w.batch - 1))
    if block + panel > cpu.l1d:
        moved.add(level_of(cpu, block + panel), data * (ceil_div(panels, t.channels) - 1))
    if panel > cpu.l1d // 2:
        units = ceil_div(tiles(left, t.rows), t.pixels)
        moved.add(level_of(cpu, panel), weights * (units * w.batch - blocks * w.batch))
    return moved
