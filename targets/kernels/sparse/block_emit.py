"""TensorIR of f32 products whose weights are zero in blocks: the tiles of dense ones, steps of zeros left out."""

from __future__ import annotations

from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from ..common_emit import Frame, put, vector
from ..conv.emit import Conv
from ..conv.loops import Pixel
from ..conv.places import Tile, source
from ..matmul_emit import Packed
from .stored import StoredBlocks


class Blocks(Conv):
    """A 1x1 convolution; a tile loops over the inputs for which its output channels have weights."""

    def reduce(self, frame: Frame, t: Tile, acc: Buffer, first: Expr, count: Expr) -> Stmt:
        stored = StoredBlocks(self.weight, frame.places[self.weight].buffer, self.problem.target.pointer_bits)
        h, w, x = self.w.height, self.w.width, frame.places[self.x]

        def step(k: Expr) -> Stmt:
            channel, bind = tir.let(stored.place(k), "channel")
            parts = [bind]
            lines = []
            for v in range(len(t.widths)):
                at = (k * self.vectors + v) * self.lanes
                line, bind = tir.let(vector(stored.values, self.width_of(t, v), at), "w")
                lines.append(line)
                parts.append(bind)
            for p, (r, c) in enumerate(t.pixels):
                pixel = Pixel(p, source(h, t.rows[r], 0), source(w, t.columns[c], 0))
                number, bind = tir.let(self.element(x, t.image, channel, tir.i32(0), pixel), "x")
                parts.append(bind)
                for v, line in enumerate(lines):
                    here, lanes = self.slot(t, p, v), self.width_of(t, v)
                    total = vector(acc, lanes, here) + tir.broadcast(number, lanes) * line
                    parts.append(put(acc, total, lanes, here))
            return tir.seq(parts)

        return tir.seq(stored.heads, stored.each(t.weights, step))


class Rows(Blocks, Packed):
    """A matrix product; its rows are pixels."""
