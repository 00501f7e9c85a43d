"""How the left operand of a convolution comes into shared memory: windows of the image, one stage of K at a time."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from tvm import tirx

from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from .shape import MASK_BITS, inside
from .stage import I32, U32, Side

if TYPE_CHECKING:
    from ...conv.shape import Axis, Window


class Windows(Side):
    """The left operand of a convolution: rows are output pixels, K is tap by tap all channels of an input pixel.

    A mask per row has a bit for each row of taps and one for each column of taps, set where it lies inside the image.
    """

    @property
    def padded(self) -> bool:
        return not all(inside(axis) for axis in (self._window.height, self._window.width))

    @property
    def _window(self) -> Window:
        assert self.product.window is not None
        return self.product.window

    @property
    def meant(self) -> int:
        return (self.product.channels - self.product.spare) * self.size if self.product.fours else 0

    @property
    def checked(self) -> bool:
        """Whether some pieces are not there."""
        return self.padded or self.ragged or (self.product.spare > 0 and not self.product.fours)

    def prepare(self) -> Stmt:
        w, p = self._window, self.product

        def one(turn: Expr, row: Expr) -> Stmt:
            at = self.first + row
            if p.m % self.tile.bm:
                at = tirx.floormod(at, tir.i32(p.m))
            image, y, x = tir.split(at, w.batch, w.height.out, w.width.out)
            top, left = y * w.height.stride - w.height.pad, x * w.width.stride - w.width.pad
            base = ((image * w.height.size + top) * w.width.size + left) * w.channels_in
            done = [tir.store(self.base, base, turn)]
            if self.padded:
                bits = [*_bits(w.height, top, 0), *_bits(w.width, left, w.height.kernel)]
                done.append(tir.store(self.mask, reduce(or_, bits), turn))
            return tir.seq(done)

        return tir.seq(self._alloc, self._alloc_mask if self.padded else None, self.share.each(one))

    def _place(self, step: Expr, offset: Expr) -> tuple[Expr, Expr]:
        """Of an element of K: elements from its row's base, and the bits of the mask that it needs."""
        w, c, none = self._window, self.product.channels, tir.lit(0, U32)
        if c % self.each_stage == 0:  # the tap is the same for all threads
            k, rest = step * self.each_stage, offset
        else:
            k, rest = step * self.each_stage + offset, tir.i32(0)
        tap, channel = tirx.floordiv(k, c), tirx.floormod(k, c) + rest
        y, x = tirx.floordiv(tap, w.width.kernel), tirx.floormod(tap, w.width.kernel)
        delta = (y * (w.height.dilation * w.width.size) + x * w.width.dilation) * w.channels_in + channel
        one, need = tir.lit(1, U32), none
        if self.padded:
            need = (one << tirx.Cast(U32, y)) | (one << tirx.Cast(U32, x + w.height.kernel))
        there = []
        if self.ragged:
            there.append(k < self.product.k)
        if self.product.spare and not self.product.fours:
            there.append(channel < c - self.product.spare)
        if there:
            need = need | tirx.Select(reduce(tirx.And, there), none, tir.lit(1 << MASK_BITS, U32))
        return delta, need

    def load(self, step: Expr, slot: Expr) -> Stmt:
        starts = {j: i for i, j in enumerate(self.starts)}
        deltas, alloc = tir.local((len(starts),), I32, "delta")
        needs, alloc_needs = tir.local((len(starts),), U32, "need")
        head: list[Stmt] = [alloc, alloc_needs if self.checked else None]
        for j, i in starts.items():
            delta, need = self._place(step, self.share.chunk * self.each_chunk + j)
            head.append(tir.store(deltas, delta, i))
            if self.checked:
                head.append(tir.store(needs, need, i))

        def valid(turn: Expr, i: int) -> Expr | None:
            if not self.checked:
                return None
            need = tir.load(needs, i)
            return tirx.EQ(tir.load(self.mask, turn) & need, need) if self.padded else tirx.EQ(need, tir.lit(0, U32))

        def one(turn: Expr, row: Expr) -> Stmt:
            base = tir.load(self.base, turn)
            return self.copy(slot, row, lambda j: (base + tir.load(deltas, starts[j]), valid(turn, starts[j])))

        return tir.seq(head, self.share.each(one))


def _bits(axis: Axis, begin: Expr, first: int) -> list[Expr]:
    found = []
    for tap in range(axis.kernel):
        at = begin + tap * axis.dilation
        there = tirx.And(at >= 0, at < axis.size)
        found.append(tirx.Cast(U32, there) << tir.lit(first + tap, U32))
    return found
