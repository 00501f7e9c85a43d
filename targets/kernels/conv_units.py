"""Units of work of a dense convolution: which pixels and channels a task covers, and in which order."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from .common import ceil_div
from .common_emit import Frame, emit_kernel
from .conv_emit import Conv, Tile, runs, widths
from .conv_rows import unit_counts
from .conv_shape import Window, conv_operands

Make = Callable[[list[Expr | int], bool, list[Expr | int], bool], Stmt]


def emit(problem: Problem, choice: Choice, symbol: str, w: Window) -> Emitted:
    """A convolution."""
    return emit_units(Conv(problem, choice, w, conv_operands(problem.anchor)), problem, choice, symbol)


def emit_units(conv: Conv, problem: Problem, choice: Choice, symbol: str) -> Emitted:
    """The kernel: tasks of `chunk` units; a unit is one channel tile over one row (or block of pixels) of one image."""
    w = conv.w
    batch, tiles, spaces = unit_counts(
        w, choice.get("rt"), choice.get("mt"), conv.vectors, choice.get("pb"), conv.lanes
    )
    total, chunk = batch * tiles * spaces, choice.get("chunk")

    def unit(frame: Frame, number: Expr) -> Stmt:
        if choice.get("cf"):
            image, space, tile = tir.split(number, batch, spaces, tiles)
        else:
            image, tile, space = tir.split(number, batch, tiles, spaces)
        return channel_tiles(conv, frame, choice, image, tile, space)

    def task(frame: Frame, number: Expr) -> Stmt:
        if chunk == 1:
            return unit(frame, number)
        count = chunk if total % chunk == 0 else tirx.min(total - number * chunk, chunk)
        return tir.loop(count, lambda k: unit(frame, number * chunk + k), "unit")

    return emit_kernel(problem, choice, symbol, ceil_div(total, chunk), task, conv.view)


def channel_tiles(conv: Conv, frame: Frame, choice: Choice, image: Expr, tile: Expr, space: Expr) -> Stmt:
    """Full channel tiles, and a narrower one for the channels left over."""
    w, lanes = conv.w, conv.lanes
    outputs, inputs = w.channels_out // w.group, w.channels_in // w.group
    wide = conv.vectors * lanes
    full, rest = divmod(outputs, wide)
    first = tirx.floordiv(tile, ceil_div(outputs, wide)) * inputs if w.group > 1 else tir.i32(0)

    def make(true_widths: tuple[int, ...]) -> Stmt:
        def one(rows: list[Expr | int], edge_row: bool, columns: list[Expr | int], edge_column: bool) -> Stmt:
            return conv.tile(
                frame, Tile(image, rows, columns, true_widths, tile * wide, tile, first, edge_row, edge_column)
            )

        return pixels(conv, choice, space, one)

    if not rest:
        return make((lanes,) * conv.vectors)
    if not full:
        return make(widths(rest, lanes))
    return tir.when(tile < full, make((lanes,) * conv.vectors), make(widths(rest, lanes)))


def pixels(conv: Conv, choice: Choice, space: Expr, make: Make) -> Stmt:
    """All tiles of one unit of pixels."""
    w, columns, rows = conv.w, choice.get("mt"), choice.get("rt")
    if w.pointwise and w.height.out == 1:
        return _flat(w, columns, choice.get("pb"), space, make)
    if rows == 1:
        return tir.seq(runs(w.width, columns, lambda c, edge: make([space], False, c, edge)))

    def line(r: list[Expr | int], edge_row: bool) -> Stmt:
        return tir.seq(runs(w.width, columns, lambda c, edge: make(r, edge_row, c, edge)))

    return tir.seq(runs(w.height, rows, line))


def _flat(w: Window, columns: int, block: int, space: Expr, make: Make) -> Stmt:
    """A block of tiles in the one row of a pointwise convolution; the last tile of the row may be narrower."""
    full, rest = divmod(w.width.out, columns)

    def tile(start: Expr, length: int) -> Stmt:
        return make([tir.i32(0)], False, [start + i for i in range(length)], False)

    parts: list[Stmt] = []
    if full:
        count = block if full % block == 0 and not rest else tirx.min(full - space * block, block)
        parts.append(tir.loop(count, lambda k: tile((space * block + k) * columns, columns), "tile"))
    if rest:
        last = tile(tir.i32(full * columns), rest)
        parts.append(last if full < block or full == 0 else tir.when(space.equal(full // block), last))
    return tir.seq(parts)
