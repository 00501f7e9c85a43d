"""What tiles of a dense convolution ask memory for before they need it: slices of weights, and rows of the input."""

from __future__ import annotations

from tvm import tirx

from edgec.compiler.target import Cpu
from edgec.targets import tir
from edgec.targets.tir import Expr

from ..common import ceil_div
from ..cost import level_of
from .places import Tile, source
from .shape import Window
from .tiles import F32, TileChoice, unit_pixels

LINE = 64  # bytes of a cache line
WIDE = 256  # bits of a vector
BURST = 4  # lines that are asked for at once, at most, before a short loop; before a longer one
BURST_STEPS = 7  # ... a line for so many of its steps


class Slices:
    """How tiles ask for the next slice of weights while they use the present one, so that memory works all the time.

    Slices follow each other in memory. `slice` is the size of one in cache lines, `blocks` in blocks of input channels;
    each tile asks for its share of the next, `lines` before each of its innermost loops. 0 lines: slices do not stay
    in L1, or few tiles use each, so that weights are asked for step by step.
    """

    def __init__(self, w: Window, plan: TileChoice, block_in: int, vector: int, l1d: int) -> None:
        """`vector`: bytes of a vector of weights."""
        self.blocks = ceil_div(ceil_div(w.channels_in // w.group, block_in), plan.passes)
        self.pixels = unit_pixels(w, plan)
        loops = self.blocks * w.taps
        self.slice = ceil_div(loops * block_in * plan.vectors * vector, LINE)
        share = ceil_div(self.slice * plan.rows * plan.columns, self.pixels)
        lines = ceil_div(share, loops)
        self.lines = lines if lines <= max(BURST, block_in // BURST_STEPS) and self.slice * LINE <= 3 * l1d // 4 else 0


class Rows:
    """How tiles ask for what the next one reads, where a strided window goes through an input that lies beyond L2.

    Such a tile takes a stretch of about a page from each of several rows, and little arithmetic goes with a line: the
    hardware has hardly found a stream when it ends. At stride 1 lines are used more often, and asking gained nothing;
    cores with vectors of 128 bits were not measured.
    """

    def __init__(self, w: Window, plan: TileChoice, cpu: Cpu) -> None:
        self.w = w
        moved = F32 * w.batch * (w.channels_in * w.height.size * w.width.size + w.channels_out * w.pixels)
        strided = w.height.kernel > 1 and w.width.stride > 1
        self.wanted = strided and plan.rows == 1 and cpu.vector_bits >= WIDE and level_of(cpu, moved) != "near"

    def pixels(self, block: int) -> int:
        """Pixels that a cache line holds, in blocks of channels."""
        return max(1, LINE // (F32 * block))

    def share(self, columns: int, block: int) -> int:
        """Lines that a tile of so many columns asks for with each tap of a row; 0: none."""
        each = self.pixels(block) * self.w.width.kernel
        return ceil_div(columns * self.w.width.stride, each) if self.wanted else 0

    def next(self, t: Tile) -> tuple[Expr, Expr]:
        """Output row of the tile behind `t`, and the first column of the input that it reads and `t` does not."""
        w = self.w.width
        new = max(0, (w.kernel - 1) * w.dilation + 1 - w.stride)
        behind = tir.expr(t.columns[0]) + len(t.columns)
        beyond = behind >= w.out
        row = tir.expr(t.rows[0])
        return row + tirx.Select(beyond, 1, 0), tirx.Select(beyond, 0, source(w, behind, 0) + new)
