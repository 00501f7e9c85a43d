"""Where a convolution's tiles lie: their pixels, the input that these read, and the loops over tiles of an axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tvm import tirx

from edgec.compiler.ir import Type
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common import ceil_div
from ..common_emit import stretch
from .shape import Axis, Segment, Window, segments


@dataclass
class Tile:
    """Register tile of one emission: `rows` x `columns` pixels times `vectors` of `lanes` channels.

    `widths` has the true lanes of each vector (the last one may be short). Positions are output coordinates; `edge_*`
    says that they are constants, so that taps outside are known while the tile is generated. `done` counts the unit's
    pixels before this tile, `begin` is the first block of input channels of its slice of the reduction.
    """

    image: Expr
    rows: list[Expr | int]
    columns: list[Expr | int]
    widths: tuple[int, ...]
    channel: Expr  # first output channel
    weights: Expr  # index of the block of packed weights
    source: Expr  # first input channel (of the group)
    edge_row: bool = False
    edge_column: bool = False
    done: Expr = 0
    begin: Expr = 0
    pixels: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pixels = [(r, c) for r in range(len(self.rows)) for c in range(len(self.columns))]


def source(axis: Axis, position: Expr | int, tap: Expr | int) -> Expr:
    """Input coordinate that an output position reads at a tap."""
    if isinstance(position, int) and isinstance(tap, int):
        return tir.i32(position * axis.stride - axis.pad + tap * axis.dilation)
    return tir.expr(position) * axis.stride - axis.pad + tir.expr(tap) * axis.dilation


def tap_bounds(axis: Axis, position: Expr | int, size: Expr | None = None) -> tuple[Expr, Expr]:
    """The taps from low to high (exclusive) that fall inside the input, for a dynamic position.

    `size`: the axis' size, where that is known when the kernel runs.
    """
    first = axis.pad - tir.expr(position) * axis.stride
    beyond = tir.expr(axis.size if size is None else size) + (axis.dilation - 1)
    low = tirx.max(tirx.floordiv(first + (axis.dilation - 1), axis.dilation), 0)
    high = tirx.min(
        tirx.floordiv(first + beyond, axis.dilation),
        axis.kernel,
    )
    return low, tirx.max(high, low)


def flat_type(t: Type, window: Window) -> Type:
    """The type with all pixels in one row, for operands that have pixels."""
    if len(t.shape) != 4 or t.shape[2] * t.shape[3] != window.pixels or window.pixels == 1:
        return t
    return Type(t.dtype, (*t.shape[:2], 1, window.pixels), t.layout, t.q)


def widths(channels: int, lanes: int) -> tuple[int, ...]:
    """True lanes of the vectors that hold `channels`."""
    return (lanes,) * (channels // lanes) + ((channels % lanes,) if channels % lanes else ())


def runs(
    axis: Axis, tile: int, make: Callable[[list[Expr | int], bool], Stmt], band: tuple[Expr, int] | None = None
) -> list[Stmt]:
    """`make(positions, edge)` for every tile of an axis: one loop per run of tiles that padding does not touch.

    `band`: (number, count) of the part that is wanted, the longest run being cut into so many.
    """
    number, bands = band or (tir.i32(0), 1)
    found = segments(axis, tile)
    cut = max(range(len(found)), key=lambda i: found[i].count)

    def one(i: int, s: Segment) -> Stmt:
        def at(k: Expr | int) -> list[Expr | int]:
            return [k * s.length + (s.start + j) for j in range(s.length)]

        if i == cut and bands > 1:
            first, count = stretch(number, ceil_div(s.count, bands), s.count)
            return tir.loop(count, lambda k: make(at(k), False), "tile", start=first)
        whole = (
            make(at(0), s.edge) if s.edge or s.count == 1 else tir.loop(s.count, lambda k: make(at(k), False), "tile")
        )
        return whole if bands == 1 else tir.when(number.equal(0 if i < cut else bands - 1), whole)

    return [one(i, s) for i, s in enumerate(found)]
