"""What follows the sums of a tile of pixels: vectors that become bytes, or any other elementwise tail pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from . import amx_tail
from .amx_rows import stored_channels
from .amx_shape import LANES
from .common_emit import Frame

if TYPE_CHECKING:
    from .amx_emit import Kernel

TOGETHER = 4  # vectors of sums for one of bytes


@dataclass(frozen=True)
class Segment:
    """Pixels of a line of the output: `count` from a column on, whose sums are rows of a tile from `slot` on.

    The first `done` belong to another tile as well, which ends them. `valid`: whether they are there, None for surely.
    """

    row: Expr
    column: Expr
    slot: int
    count: int
    done: Expr
    valid: Expr | None


class Finish:
    """The tail of panels of `channels` tiles; `limit` ends their true output channels."""

    def __init__(self, kernel: Kernel, frame: Frame, image: Expr, channels: int, limit: int) -> None:
        self.k, self.frame, self.image, self.channels = kernel, frame, image, channels
        self.wide = LANES * channels
        self.sums = frame.parts[0]
        shape = kernel.anchor.shape
        self.pitch = shape[-1] if kernel.matrix else stored_channels(shape[1])
        self.missing = -limit % LANES  # lanes of the last vector
        self.tail = kernel.tail if self.whole() else None
        self.out, declared = tir.flat(frame.place.buffer)
        self.declared: list[Stmt] = [declared]
        self.others: dict[Value, Any] = {}
        if self.tail:
            for value in (*self.tail.factors, *self.tail.bytes):
                self.others[value], declared = tir.flat(frame.places[value].buffer)
                self.declared.append(declared)

    def whole(self) -> bool:
        """Whether whole vectors may be stored: true channels, or padding behind them."""
        return self.k.padded or not self.missing and self.pitch % LANES == 0

    def pieces(self, segment: Segment, row: int, channel: Expr) -> list[Stmt]:
        """Statements that end a segment; sums of its tile begin at row `row`. `channel` is a tile of channels."""
        if self.tail is None:
            return [self.guarded(segment, self.plain(segment, row + segment.slot, channel))]
        base, bind = self.base(segment, channel)
        each = max(1, TOGETHER // self.channels)
        if isinstance(segment.done, tirx.IntImm):
            groups = [(j, min(each, segment.count - j)) for j in range(0, segment.count, each)]
            made = [self.guarded(segment, self.group(base, row + segment.slot, channel, tir.i32(j), n)) for j, n in groups]
            return [tir.seq(bind, made[0]), *made[1:]]
        return [self.guarded(segment, tir.seq(bind, self.dynamic(segment, base, row + segment.slot, channel, each)))]

    def guarded(self, segment: Segment, work: Stmt) -> Stmt:
        return work if segment.valid is None else tir.when(segment.valid, work)

    def base(self, segment: Segment, channel: Expr) -> tuple[Expr, Stmt]:
        w = self.k.left.w
        pixel = (self.image * w.height.out + segment.row) * w.width.out + segment.column
        return tir.let(pixel * self.pitch + channel * LANES, "base")

    def dynamic(self, segment: Segment, base: Expr, row: int, channel: Expr, each: int) -> Stmt:
        """Pixels from one on that is not known: groups of `each`, then one by one."""
        count = tir.i32(segment.count) - segment.done
        whole = tirx.floordiv(count, each)
        parts = [tir.loop(whole, lambda q: self.group(base, row, channel, segment.done + q * each, each), "pixels")]
        if each > 1:
            first = segment.done + whole * each
            parts.append(
                tir.loop(count - whole * each, lambda q: self.group(base, row, channel, first + q, 1), "pixel")
            )
        return tir.seq(parts)

    def group(self, base: Expr, row: int, channel: Expr, first: Expr, count: int) -> Stmt:
        """`count` pixels of a segment from number `first` on, packed together."""
        assert self.tail is not None
        binds: list[Stmt] = []
        found: list[Expr] = []
        for q in range(count):
            for v in range(self.channels):
                value, bind = tir.let(self.numbers(base, row, channel, first + q, v), "number")
                binds.append(bind)
                found.append(value)
        four = [*found, *[found[0]] * TOGETHER][:TOGETHER]
        whole, bind = tir.let(amx_tail.packed(self.tail, four), "bytes")
        stores = []
        for q in range(count):
            at, done = base + (first + q) * self.pitch, 0
            for lanes in (64, 32, 16):
                if self.wide - done >= lanes:
                    part = amx_tail.part(whole, str(self.out.dtype), lanes, q * self.wide + done)
                    stores.append(tir.store(self.out, part, tir.ramp(at + done, lanes)))
                    done += lanes
        return tir.seq(binds, bind, stores)

    def numbers(self, base: Expr, row: int, channel: Expr, j: Expr, v: int) -> Expr:
        """A vector of results of one pixel, before they are packed."""
        assert self.tail is not None

        def bytes_of(value: Value) -> Expr:
            return tir.load(self.others[value], tir.ramp(base + j * self.pitch + v * LANES, LANES))

        def factors(value: Value) -> Expr:
            if value.type.size == 1:
                return tir.broadcast(tir.load(self.others[value], 0), LANES)
            return tir.load(self.others[value], tir.ramp((channel + v) * LANES, LANES))

        sums = tir.load(self.sums, tir.ramp((row + j) * self.wide + v * LANES, LANES))
        return amx_tail.numbers(self.tail, amx_tail.Vectors(sums, bytes_of, factors))

    # -- any tail --------------------------------------------------------------------------------------------------

    def plain(self, segment: Segment, row: int, channel: Expr) -> Stmt:
        def pixel(j: Expr) -> Stmt:
            return tir.seq(
                tir.vectorized(
                    LANES - (self.missing if v == self.channels - 1 else 0),
                    self.writer(segment, j, (row + j) * self.wide + v * LANES, (channel + v) * LANES),
                )
                for v in range(self.channels)
            )

        return tir.loop(tir.i32(segment.count) - segment.done, pixel, "pixel", start=segment.done)

    def writer(self, segment: Segment, j: Expr, slot: Expr, channel: Expr) -> Callable[[Expr], Stmt]:
        body = self.frame.body

        def write(lane: Expr) -> Stmt:
            body.bind(self.k.anchor, lambda _: tir.load(self.sums, slot + lane))
            return self.frame.store(self.index(segment, segment.column + j, channel + lane))

        return write

    def index(self, segment: Segment, column: Expr, channel: Expr) -> tuple[Expr, ...]:
        if self.k.matrix:
            return (*tir.split(column, *self.k.anchor.shape[:-1]), channel)
        if len(self.k.anchor.shape) == 3:
            return self.image, channel, column
        return self.image, channel, segment.row, column
