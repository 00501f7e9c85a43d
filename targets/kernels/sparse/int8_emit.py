"""TensorIR of integer products whose weights are zero in blocks: the tiles of dense ones, steps of zeros left out."""

from __future__ import annotations

from collections.abc import Callable

from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from ..common_emit import Frame
from ..conv.places import Tile
from ..int8.conv_emit import Conv
from ..int8.matmul_emit import Packed
from .stored import StoredBlocks


class Blocks(Conv):
    """A 1x1 convolution; a tile loops over the groups of inputs for which its output channels have weights."""

    stored: StoredBlocks
    pointer_bits = 64  # of every target with these instructions

    def buffers(self, frame: Frame) -> list[Stmt]:
        declared = super().buffers(frame)
        self.stored = StoredBlocks(self.weight, frame.places[self.weight].buffer, self.pointer_bits)
        return [*declared, *self.stored.heads]

    def kept(self) -> int:
        return self.vectors * self.lanes

    def taps(self, frame: Frame, t: Tile, acc: Buffer) -> Stmt:
        h, w = self.w.height, self.w.width
        base, bind = self.base(t)
        at = [r * h.stride * w.size * self.pixel + c * w.stride * self.pixel for r, c in t.pixels]

        def step(k: Expr) -> Stmt:
            group, place = tir.let(base + self.stored.place(k) * self.group, "group")
            numbers: list[Expr | None] = [self.some(group + offset) for offset in at]
            return tir.seq(place, self.one_step(acc, len(t.widths), k * self.width, numbers))

        return tir.seq(bind, self.stored.each(t.weights, step))

    def each_line(self, frame: Frame, tile: Expr, kh: Expr, step: Callable[[Expr], Stmt]) -> Stmt:
        return self.stored.each(self.slice_of(tile), lambda k: step(k * self.width))


class Rows(Blocks, Packed):
    """A matrix product; its rows are pixels."""
