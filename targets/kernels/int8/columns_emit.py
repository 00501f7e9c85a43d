"""TensorIR of convolutions of bytes over one channel: a step multiplies neighbours in a row of the image.

Windows that leave a row, or whose last step does, are at constant columns. There a step that is outside in part reads
neighbours that lie inside, shifted to their places, and the zero point in place of the others.
"""

from __future__ import annotations

from tvm import tirx

from edgec.compiler.ir import Type
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common_emit import Frame
from ..conv.edge_taps import Inside
from ..conv.places import Tile
from .conv_emit import I32, Conv


class Columns(Conv):
    """`x` is row-major or has channels last: the one channel's rows are stretches of memory either way."""

    def pixel_bytes(self, t: Type) -> int:
        return 1 if t == self.x.type else super().pixel_bytes(t)

    def columns(
        self, frame: Frame, t: Tile, acc: tir.Buffer, base: Expr, kh: Expr | int, rows: Inside | None = None
    ) -> Stmt:
        h, w = self.w.height, self.w.width
        states = [True if rows is None else rows[r] for r, _ in t.pixels]
        if not t.edge_column:
            return tir.seq(self.quad_loop(t, acc, frame.zero, self.tap_at(t, base, kh, 0), states, self.row_steps))
        tap, line = self.tap_at(t, base, kh, 0)
        padding = self.step.same(self.zero) if self.zero else None
        parts: list[Stmt] = []
        for s in range(self.row_steps):
            numbers: list[Expr | None] = []
            for (r, c), inside in zip(t.pixels, states, strict=True):
                column = int(t.columns[c]) * w.stride - w.pad + s * self.group
                at = tap + ((r * h.stride * w.size + c * w.stride) + s * self.group)
                numbers.append(self.within(at, column) if inside else padding if inside is False else None)
            if any(n is not None for n in numbers):
                here = line + s * self.width
                parts += [*self.ahead.ask(self.weights, t, here), self.one_step(acc, len(t.widths), here, numbers)]
        return tir.seq(parts)

    def within(self, at: Expr, column: int) -> Expr | None:
        """The elements from `column` of a row on, which lie at `at`, as a number; None where they add nothing."""
        size, bits = self.w.width.size, 32 // self.group
        outside = [k for k in range(self.group) if not 0 <= column + k < size]
        if len(outside) == self.group:
            return self.step.same(self.zero) if self.zero else None
        if not outside:
            return self.some(at)
        first = min(max(column, 0), size - self.group)
        found, moved = self.some(at + (first - column)), (column - first) * bits
        unsigned = tirx.reinterpret("uint32", found)
        shifted = (
            tirx.shift_right(unsigned, tir.lit(moved, "uint32"))
            if moved > 0
            else tirx.shift_left(unsigned, tir.lit(-moved, "uint32"))
        )
        zeros = sum(self.zero << bits * k for k in outside)
        return tirx.reinterpret(I32, tirx.bitwise_or(shifted, tir.lit(zeros, "uint32")))
