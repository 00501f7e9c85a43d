"""TensorIR of what becomes of a tile's sums of bytes: what follows the anchor, and the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common_emit import Frame, put, store_tile
from ..conv.places import Tile
from .store import Pack, at_once, packs, part, stretches

if TYPE_CHECKING:
    from .conv_emit import Conv


def finish(conv: Conv, frame: Frame, t: Tile, acc: tir.Buffer) -> Stmt:
    """Store a tile with what follows the anchor."""
    if packs(frame, conv.lanes):
        return _packed(conv, frame, t, acc)

    def write(buffer: tir.Buffer, slot: Expr | int, v: int, row: Any, column: Any) -> Callable[[Expr], Stmt]:
        def lane(i: Expr) -> Stmt:
            frame.body.bind(conv.anchor, lambda _: tir.load(buffer, slot + i))
            return frame.store(conv.index(t, v, row, column, i))

        return lane

    return store_tile(frame, acc, t.rows, t.columns, t.widths, conv.lanes, write)


def _packed(conv: Conv, frame: Frame, t: Tile, acc: tir.Buffer) -> Stmt:
    """The same, where four vectors of sums become one of bytes."""
    vectors, lanes = len(t.widths), conv.lanes
    pixel = conv.pixel_out
    row = tir.expr(t.image) * conv.w.height.out + t.rows[0]
    base, bind = tir.let((row * conv.w.width.out + t.columns[0]) * pixel + t.channel, "at")
    slots = [(r, c, v) for r, c in t.pixels for v in range(vectors)]
    places = [(r * conv.w.width.out + c) * pixel + v * lanes for r, c, v in slots]
    parts = [bind]

    together = at_once(t.widths, lanes)

    def one(first: int) -> None:
        here = slots[first : first + together]

        def index(k: int, i: Expr) -> tuple[Expr, ...]:
            r, c, v = here[k]
            frame.body.bind(conv.anchor, lambda _: tir.load(acc, (first + k) * lanes + i))
            return conv.index(t, v, t.rows[r], t.columns[c], i)

        pack = Pack(frame, conv.cpu, lanes, [t.widths[v] for _, _, v in here], index, conv.rounds)
        result = pack.bytes_of(frame.out)
        parts.extend(pack.parts)
        for k, count in stretches(places[first : first + len(here)], lanes):
            many = lanes * (count - 1) + t.widths[here[k + count - 1][2]]
            parts.append(put(conv.out, part(result, k * lanes, many), many, base + places[first + k]))

    for first in range(0, len(slots), together):
        one(first)
    return tir.seq(parts)
