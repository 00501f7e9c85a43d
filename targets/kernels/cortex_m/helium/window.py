"""TensorIR that copies a window of bytes into a row: what lies outside the input is its zero point."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from ...common_emit import put, vector
from ...conv.shape import Axis, Window
from .shape import BYTES, QUAD, Reach

MOST_PIECES = 24  # of a row of a window, which are written out


@dataclass
class Patch:
    """Windows of `x` (flat, channels of a pixel side by side) go to `room`. `none` is 0, which LLVM does not know."""

    w: Window
    reach: Reach
    zero: int
    x: Buffer
    room: Buffer
    none: Expr
    apart: int  # bytes from a pixel of x to the next
    read: Expr  # where in a pixel the channels of the window begin

    @property
    def joined(self) -> bool:
        """Whether the taps of a row lie side by side in the input as in the copy."""
        return self.w.width.dilation == 1 and self.reach.pitch == self.reach.stored == self.apart

    def copy(self, image: Expr, row: Expr, column: Expr, base: Expr | int) -> Stmt:
        """The window of an output pixel to `base`; all of the room's vectors are written."""
        h, v = self.w.height, self.w.width
        top, left = row * h.stride - h.pad, column * v.stride - v.pad
        low, high = bounds(h, top)
        first, last = bounds(v, left)
        whole = h.inside(0, 0) and h.inside(h.out - 1, h.kernel - 1)
        whole = whole and v.inside(0, 0) and v.inside(v.out - 1, v.kernel - 1)
        named = [tir.let(tir.expr(bound), "bound") for bound in (low, high, first, last)]
        low, high, first, last = (name for name, _ in named)
        binds = [bind for _, bind in named]

        def line(kh: Expr) -> Stmt:
            source = (image * h.size + (top + kh * h.dilation)) * v.size + left

            def tap(kw: Expr) -> Stmt:
                return self._bytes(
                    (source + kw * v.dilation) * self.apart + self.read,
                    (kh * v.kernel + kw) * self.reach.pitch + base,
                    self.reach.stored,
                )

            if self.joined:
                count = (last - first) * self.reach.stored
                return self._bytes(
                    (source + first) * self.reach.stored, (kh * v.kernel + first) * self.reach.pitch + base, count
                )
            return tir.loop(last - first, tap, "kw", start=first)

        inside = (high - low) * (last - first) >= h.kernel * v.kernel
        blank = tir.broadcast(tir.lit(self.zero, "int8"), BYTES)
        fill = tir.seq(put(self.room, blank, BYTES, base + k * BYTES) for k in range(self.reach.vectors))
        slow = tir.seq(fill, tir.loop(high - low, line, "kh", start=low))
        if self.reach.pitch != self.reach.stored or len(self.pieces) > MOST_PIECES:
            return tir.seq(binds, slow)
        fast = tir.loop(h.kernel + self.none, lambda kh: self._row(image, kh, top, left, base), "kh")
        return fast if whole else tir.seq(binds, tir.when(inside, fast, slow))

    @property
    def pieces(self) -> list[tuple[int, int, int]]:
        """What a row of the window inside of the image consists of, as (bytes from its first, the same in the copy,
        bytes): whole vectors, of which the last of a stretch may repeat some bytes."""
        v, each = self.w.width, self.reach.stored
        count, stretches = (v.kernel * each, 1) if self.joined else (each, v.kernel)
        size = BYTES if count >= BYTES else QUAD if count >= QUAD else 1
        places = [min(at, count - size) for at in range(0, count, size)]
        return [(k * v.dilation * self.apart + at, k * count + at, size) for k in range(stretches) for at in places]

    def _row(self, image: Expr, kh: Expr, top: Expr, left: Expr, base: Expr | int) -> Stmt:
        """A row of the window all of which lies inside."""
        h, v = self.w.height, self.w.width
        first = ((image * h.size + (top + kh * h.dilation)) * v.size + left) * self.apart + self.read
        source, bind = tir.let(first, "source")
        target, bind_target = tir.let(kh * (v.kernel * self.reach.stored) + base, "target")
        copies = [put(self.room, vector(self.x, n, source + a), n, target + b) for a, b, n in self.pieces]
        return tir.seq(bind, bind_target, copies)

    def _bytes(self, source: Expr, target: Expr, count: Expr | int) -> Stmt:
        """A stretch, byte by byte as far as TensorIR sees; LLVM makes vectors of it."""
        return tir.loop(tir.expr(count), lambda i: tir.store(self.room, tir.load(self.x, source + i), target + i), "i")


def bounds(axis: Axis, start: Expr) -> tuple[Expr | int, Expr | int]:
    """The taps from .. to (exclusive) that lie inside, for a window that begins at `start`."""
    low: Expr | int = 0
    high: Expr | int = axis.kernel
    if axis.pad:
        low = tirx.max(tirx.floordiv(axis.dilation - 1 - start, axis.dilation), 0)
    if not axis.inside(axis.out - 1, axis.kernel - 1):
        high = tirx.min(tirx.floordiv(axis.size - start + axis.dilation - 1, axis.dilation), axis.kernel)
        high = tirx.max(high, low)
    return low, high
