"""TensorIR that lays the inputs of some pixels out as planes in scratch: all pixels of a channel side by side."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common import ceil_div
from ..common_emit import F32, Frame, put, vector
from ..turned import Turning
from .rows import PART


@dataclass(frozen=True)
class Gather:
    """Inputs of `count` pixels from `first` on (of an image, or rows of a matrix) as planes of `pitch` numbers.

    Convolutions read planes or blocks of `lanes` channels, products of matrices rows.
    """

    frame: Frame
    x: Value
    matrix: bool
    lanes: int
    pitch: int
    image: Expr
    first: Expr
    count: int

    def planes(self, start: Expr, inputs: int) -> Stmt:
        """Channels `start` to `start + inputs`; the last vector of pixels is filled up with something finite."""
        whole, rest = divmod(inputs, self.lanes)
        if not self.matrix and not self.x.type.layout:
            return tir.loop(inputs, lambda c: self.plane(start + c, c), "c")
        squares: list[Stmt] = []
        if whole:
            squares.append(tir.loop(whole, lambda b: self.band(start + b * self.lanes, b * self.lanes), "c"))
        if rest and (whole or not self.matrix):
            last = inputs - self.lanes if self.matrix else whole * self.lanes  # blocks are padded, rows are not
            squares.append(self.band(start + last, tir.i32(last)))
        elif rest:
            squares.append(tir.loop(inputs, lambda c: self.short(start + c, c), "c"))
        return tir.seq(squares)

    def plane(self, channel: Expr, c: Expr) -> Stmt:
        """One channel that is a plane already."""
        buffer, lanes = self.frame.places[self.x].buffer, self.lanes
        whole, rest = divmod(self.count, lanes)
        parts = []
        for v in range(whole):
            x = vector(buffer, lanes, self.image, channel, 0, self.first + v * lanes)
            parts.append(put(self.frame.scratch, x, lanes, c * self.pitch + v * lanes))
        if rest:
            at = c * self.pitch + whole * lanes
            parts.append(put(self.frame.scratch, tir.broadcast(tir.lit(0.0, F32), lanes), lanes, at))
            for p in range(rest):
                x = tir.load(buffer, self.image, channel, 0, self.first + (whole * lanes + p))
                parts.append(tir.store(self.frame.scratch, x, at + p))
        return tir.seq(parts)

    def short(self, channel: Expr, c: Expr) -> Stmt:
        """One channel of rows that are shorter than a vector."""
        place, last = self.frame.places[self.x], tir.i32(self.count - 1)

        def one(p: Expr) -> Stmt:
            x = place.load((self.first + tirx.min(p, last), channel))
            return tir.store(self.frame.scratch, x, c * self.pitch + p)

        return tir.loop(ceil_div(self.count, self.lanes) * self.lanes, one, "p")

    def band(self, channel: Expr, c: Expr) -> Stmt:
        """A vector of channels of all pixels; the last pixel stands for those that are missing."""
        lanes = self.lanes

        def square(v: Expr, count: int) -> Stmt:
            turning, at = Turning(), self.first + v * lanes
            columns = turning.turned(lambda p, k: self.part(at + min(p, count - 1), channel + k * PART), lanes)
            stores = [
                put(self.frame.scratch, x, lanes, (c + k) * self.pitch + v * lanes) for k, x in enumerate(columns)
            ]
            return tir.seq(turning.statements, stores)

        whole, rest = divmod(self.count, lanes)
        parts = [tir.loop(whole, lambda v: square(v, lanes), "v")] if whole else []
        return tir.seq(parts, square(tir.i32(whole), rest) if rest else None)

    def part(self, pixel: Expr, channel: Expr) -> Expr:
        """Some neighbouring channels of a pixel."""
        buffer = self.frame.places[self.x].buffer
        if self.matrix:
            return vector(buffer, PART, pixel, channel)
        block, lane = tirx.floordiv(channel, self.lanes), tirx.floormod(channel, self.lanes)
        return vector(buffer, PART, self.image, block, 0, pixel, lane)
