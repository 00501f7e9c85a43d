"""When the tiles of an integer convolution ask for weights."""

from __future__ import annotations

from tvm import tirx

from edgec.compiler.target import Cpu
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common import ceil_div
from ..conv.places import Tile
from ..conv.shape import Window
from ..conv.tiles import TileChoice, unit_pixels, units

AHEAD = 16  # steps between asking for weights and using them
LINE = 64  # bytes of a cache line


class Ahead:
    """How tiles ask for weights before they need them.

    Those of a tile of channels, its slice, are used by all tiles of pixels in turn, which share the asking for the next
    slice. A slice that does not stay in L1 is asked for step by step as well.
    """

    def __init__(self, w: Window, plan: TileChoice, steps: int, width: int, cpu: Cpu) -> None:
        self.slice, self.width = steps * width, width
        self.far = self.slice > cpu.l1d // 2
        self.pixels = unit_pixels(w, plan) if plan.channels_first else w.pixels
        _, tiles, _ = units(w, plan)
        each = ceil_div(width * plan.rows * plan.columns, self.pixels)  # bytes of the next slice for each step
        self.each = each if tiles > 1 and self.slice * tiles > cpu.l1d // 2 and each <= LINE else 0

    def ask(self, weights: tir.Buffer, t: Tile, line: Expr) -> list[Stmt]:
        """Before the step whose weights begin at `line`."""
        asked = []
        if self.far:
            asked += [tir.prefetch(weights, line + AHEAD * self.width + b) for b in range(0, self.width, LINE)]
        if self.each:
            start = tir.expr(t.weights) * self.slice
            share = tirx.floordiv(tir.expr(t.done) * self.slice, self.pixels)
            step = tirx.floordiv(line - start, self.width)
            asked.append(tir.prefetch(weights, start + self.slice + share + step * self.each, near=not self.far))
        return asked
