"""What follows the sums of a tile of pixels: four vectors become one of bytes, or any other tail pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from tvm import tirx

from edgec.compiler.layout import physical_shape
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common_emit import Frame, put
from ..int8.store import Pack, at_once, packs, part
from .shape import LANES

if TYPE_CHECKING:
    from .emit import Kernel


@dataclass(frozen=True)
class Segment:
    """Pixels of a line of the output: `count` from a column on, whose sums are rows of a tile from `slot` on.

    The first `done` belong to another tile as well, which ends them. `valid`: whether they are there, None for surely.
    """

    row: Expr
    column: Expr
    slot: int
    count: int
    done: Expr | int
    valid: Expr | None


class Finish:
    """The tail of panels of `channels` tiles; `limit` ends their true output channels."""

    def __init__(self, kernel: Kernel, frame: Frame, image: Expr, channels: int, limit: int) -> None:
        self.k, self.frame, self.image, self.channels = kernel, frame, image, channels
        self.sums = frame.parts[0]
        self.out, self.declared = tir.flat(frame.place.buffer)
        self.packs = packs(frame, LANES)
        rank = len(kernel.anchor.shape)
        self.pitch = prod(physical_shape(frame.place.type)[rank - 1 :])  # elements of a pixel
        last = LANES - -limit % LANES
        if self.packs and not kernel.matrix:  # padding may be computed and stored
            last = min(LANES, self.pitch)
        self.widths = [LANES] * (channels - 1) + [last]

    def pieces(self, segment: Segment, first: int, channel: Expr, many: bool) -> list[Stmt]:
        """Statements that end a segment of the tile whose sums begin in row `first`: `many`, where that can be, or one.

        `channel` is a tile of channels.
        """
        row = first + segment.slot
        if not self.packs:
            return [self.guarded(segment, self.plain(segment, row, channel))]
        base, bind = self.base(segment, channel)
        each = max(1, at_once(self.widths, LANES) // self.channels)
        if not many or not isinstance(segment.done, int):
            return [self.guarded(segment, tir.seq(bind, self.loop(segment, base, row, channel, each)))]
        made = [
            self.group(segment, base, row, channel, tir.i32(j), min(each, segment.count - j))
            for j in range(segment.done, segment.count, each)
        ]
        return [tir.seq(bind, self.guarded(segment, made[0])), *(self.guarded(segment, one) for one in made[1:])]

    def guarded(self, segment: Segment, work: Stmt) -> Stmt:
        return work if segment.valid is None else tir.when(segment.valid, work)

    def base(self, segment: Segment, channel: Expr) -> tuple[Expr, Stmt]:
        w = self.k.left.w
        pixel = (self.image * w.height.out + segment.row) * w.width.out + segment.column
        return tir.let(pixel * self.pitch + channel * LANES, "base")

    def loop(self, segment: Segment, base: Expr, row: int, channel: Expr, each: int) -> Stmt:
        """The pixels that no other tile ends: groups of `each`, then one by one."""

        def group(first: Expr, many: int) -> Stmt:
            return self.group(segment, base, row, channel, first, many)

        if isinstance(segment.done, int):
            first, (whole, rest) = segment.done, divmod(segment.count - segment.done, each)
            turns = tir.loop(whole + self.frame.zero, lambda q: group(q * each + first, each), "pixels")
            last = group(tir.i32(first + whole * each), rest) if rest else None
            return tir.seq(turns if whole else None, last)
        count = tir.i32(segment.count) - segment.done
        many = tirx.truncdiv(count, each)
        parts = [tir.loop(many, lambda q: group(segment.done + q * each, each), "pixels")]
        if each > 1:
            left = segment.done + many * each
            parts.append(tir.loop(count - many * each, lambda q: group(left + q, 1), "pixel"))
        return tir.seq(parts)

    def group(self, segment: Segment, base: Expr, row: int, channel: Expr, first: Expr, count: int) -> Stmt:
        """`count` pixels of a segment from number `first` on, packed together."""
        slots = [(q, v) for q in range(count) for v in range(self.channels)]

        def index(k: int, lane: Expr) -> tuple[Expr, ...]:
            q, v = slots[k]
            return self.at(segment, row, channel, first + q, v, lane)

        pack = Pack(self.frame, self.k.problem.target.cpu, LANES, [self.widths[v] for _, v in slots], index)
        whole = pack.bytes_of(self.frame.out)
        many = sum(self.widths)
        stores = [
            put(self.out, part(whole, q * LANES * self.channels, many), many, base + (first + q) * self.pitch)
            for q in range(count)
        ]
        return tir.seq(pack.parts, stores)

    def plain(self, segment: Segment, row: int, channel: Expr) -> Stmt:
        def write(j: Expr, v: int) -> Callable[[Expr], Stmt]:
            return lambda lane: self.frame.store(self.at(segment, row, channel, j, v, lane))

        def pixel(j: Expr) -> Stmt:
            return tir.seq(tir.vectorized(self.widths[v], write(j, v)) for v in range(self.channels))

        return tir.loop(tir.i32(segment.count) - segment.done, pixel, "pixel", start=tir.expr(segment.done))

    def at(self, segment: Segment, row: int, channel: Expr, j: Expr, v: int, lane: Expr) -> tuple[Expr, ...]:
        """The output's index in tile v of pixel j of a segment, where the anchor is the sum in scratch."""
        slot = ((row + j) * self.channels + v) * LANES
        self.frame.body.bind(self.k.anchor, lambda _: tir.load(self.sums, slot + lane))
        column, c = segment.column + j, (channel + v) * LANES + lane
        if self.k.matrix:
            return (*tir.split(column, *self.k.anchor.shape[:-1]), c)
        return (self.image, c, column) if len(self.k.anchor.shape) == 3 else (self.image, c, segment.row, column)
