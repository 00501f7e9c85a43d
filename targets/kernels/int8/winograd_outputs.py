"""TensorIR of the end of Winograd convolutions of bytes: products of a tile back to pixels, and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm import tirx

from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common_emit import Frame, put, vector
from ..conv.places import Tile
from .conv_emit import I32
from .conv_finish import finish
from .starts import Starts
from .winograd_arithmetic import Wrapping
from .winograd_rows import VECTORS
from .winograd_transform import OUT, SIDE, outputs

if TYPE_CHECKING:
    from .winograd_emit import Winograd


@dataclass(frozen=True)
class Place:
    """A tile of pixels: its image, block of output channels, first row and column, and number in scratch."""

    image: Expr
    block: Expr
    row: Expr
    column: Expr
    number: Expr


def output_tile(conv: Winograd, frame: Frame, at: Place, starts: Starts, last: bool) -> Stmt:
    """A^T M A of one tile; after the last slice what follows the sums, for pixels that lie inside."""
    row, bind_row = tir.let(at.row, "row")
    column, bind_column = tir.let(at.column, "column")
    height, width, lanes = conv.w.height.out, conv.w.width.out, conv.lanes
    stage, alloc = tir.local((OUT * SIDE * starts.vectors * lanes,), I32, "stage")

    def slot(k: Expr | int, j: Expr | int, v: int) -> Expr:
        return ((k * SIDE + j) * starts.vectors + v) * lanes

    def columns(j: Expr) -> Stmt:
        on = Wrapping(lanes)
        for v in range(starts.vectors):
            first = at.number * conv.cut.products(lanes) + j * conv.wide + v * lanes
            m = [on.named(vector(conv.products, lanes, first + i * SIDE * conv.wide)) for i in range(SIDE)]
            for k, x in enumerate(outputs(on, m)):
                on.parts.append(put(stage, x, lanes, slot(k, j, v)))
        return tir.seq(on.parts)

    def line(k: Expr, pixels: int) -> Stmt:
        channel = at.block * conv.wide
        pixels_here = [column + c for c in range(pixels)]
        place = Tile(at.image, [row + k], pixels_here, tuple(starts.widths), channel, at.block, tir.i32(0))
        acc, alloc_acc = tir.local((pixels * starts.vectors * lanes,), I32)
        on = Wrapping(lanes)
        for v in range(starts.vectors):
            m = [on.named(vector(stage, lanes, slot(k, j, v))) for j in range(SIDE)]
            for c, x in enumerate(outputs(on, m)[:pixels]):
                before = ((at.number * OUT + k) * OUT + c) * conv.wide + v * lanes
                _add(conv, on, on.scaled(x), before, (acc, (c * starts.vectors + v) * lanes) if last else None)
        if not last:
            return tir.seq(on.parts)
        return tir.seq(alloc_acc, starts.fill(place, acc), on.parts, finish(conv, frame, place, acc))

    def lines(pixels: int) -> Stmt:
        inside = tir.i32(OUT) if height % OUT == 0 else tirx.min(tir.i32(OUT), height - row)
        return tir.loop(inside + frame.zero, lambda k: line(k, pixels), "k")

    rest = width % OUT
    done = tir.when(column + OUT <= width, lines(OUT), lines(rest)) if rest else lines(OUT)
    return tir.seq(bind_row, bind_column, alloc, tir.loop(SIDE + frame.zero, columns, "j"), done)


def _add(conv: Winograd, on: Wrapping, x: Expr, before: Expr, to: tuple[tir.Buffer, int] | None) -> None:
    """Add an output of a slice to those of the slices before it; after the last one to what the sum starts from."""
    if conv.waiting:
        x = on.named(x + vector(conv.waiting[0], conv.lanes, before))
        if to is None:
            on.parts.append(put(conv.waiting[0], x, conv.lanes, before))
    if to is not None:
        acc, slot = to
        on.parts.append(put(acc, vector(acc, conv.lanes, slot) + x, conv.lanes, slot))


def clear(conv: Winograd, count: Expr) -> Stmt | None:
    """No outputs of slices yet."""
    if not conv.waiting:
        return None
    zeros = tir.broadcast(tir.i32(0), conv.lanes)
    return tir.loop(
        count * (OUT * OUT * VECTORS), lambda i: put(conv.waiting[0], zeros, conv.lanes, i * conv.lanes), "i"
    )
