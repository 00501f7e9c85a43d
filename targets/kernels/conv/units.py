"""Units of work of a dense convolution: which pixels and channels a task covers, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Protocol

from tvm import tirx

from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common import ceil_div, in_memory
from ..common_emit import Frame, emit_kernel, full_or_rest, put, stretch
from .emit import Conv
from .places import Tile, runs, widths
from .rows import tile_of
from .shape import Window, conv_operands
from .tiles import TileChoice, flat, units


class Windowed(Protocol):
    """What makes tiles of a window."""

    w: Window


Make = Callable[[list[Expr | int], bool, list[Expr | int], bool], Stmt]


def emit(problem: Problem, choice: Choice, symbol: str, w: Window) -> Emitted:
    """A convolution."""
    x, weight, bias = conv_operands(problem.anchor)
    return emit_units(Conv(problem, choice, w, (x, in_memory(problem, weight), bias)), problem, choice, symbol)


def emit_units(conv: Conv, problem: Problem, choice: Choice, symbol: str) -> Emitted:
    """The kernel: a task is one unit, a channel tile over one block of pixels of one image."""
    plan = tile_of(choice)
    batch, tiles, spaces = units(conv.w, plan)

    def unit(frame: Frame, number: Expr) -> Stmt:
        if plan.channels_first:
            image, space, tile = tir.split(number, batch, spaces, tiles)
        else:
            image, tile, space = tir.split(number, batch, tiles, spaces)
        return channel_tiles(conv, frame, plan, image, tile, space)

    return emit_kernel(problem, choice, symbol, prod((batch, tiles, spaces)), unit, conv.view)


def channel_tiles(conv: Conv, frame: Frame, plan: TileChoice, image: Expr, tile: Expr, space: Expr) -> Stmt:
    """Full channel tiles, and a narrower one for the channels left over."""
    w, lanes = conv.w, conv.lanes
    outputs, inputs = w.channels_out // w.group, w.channels_in // w.group
    wide = conv.vectors * lanes
    first = tirx.floordiv(tile, ceil_div(outputs, wide)) * inputs if w.group > 1 else tir.i32(0)

    def make(channels: int) -> Stmt:
        true_widths = widths(channels, lanes)

        def at(rows: list[Expr | int], edge_row: bool, columns: list[Expr | int], edge_column: bool) -> Tile:
            done = place(w, plan, space, rows[0], columns[0])
            return Tile(image, rows, columns, true_widths, tile * wide, tile, first, edge_row, edge_column, done)

        whole = at([tir.i32(0)], False, [tir.i32(0)], False)
        if plan.passes == 1:
            work = pixels(conv, plan, space, lambda *where: conv.tile(frame, at(*where)))
        else:
            work = in_passes(conv, frame, plan, space, at)
        return tir.seq(conv.prepare(frame, whole), work)

    return full_or_rest(tile, outputs, wide, make)


def in_passes(conv: Conv, frame: Frame, plan: TileChoice, space: Expr, at: Callable[..., Tile]) -> Stmt:
    """One unit whose reduction is split: its sums stay in scratch while slices of the weights go by."""
    w = conv.w
    wide = conv.vectors * conv.lanes
    blocks = ceil_div(w.channels_in // w.group, conv.block_in)
    each = ceil_div(blocks, plan.passes)
    passes = ceil_div(blocks, each)
    first, count = extent(w, plan, space)

    def sums(row: Expr | int, column: Expr | int) -> Expr:
        return place(w, plan, space, row, column) * wide

    def every(one: Callable[[Expr, Expr], Stmt]) -> Stmt:
        """`one(row, column)` of all pixels of the unit."""
        if flat(w):
            return tir.loop(count, lambda c: one(tir.i32(0), c), "c", start=first)
        return tir.loop(count, lambda r: tir.loop(w.width.out + frame.zero, lambda c: one(r, c), "c"), "r", start=first)

    whole = at([tir.i32(0)], False, [tir.i32(0)], False)

    def start(row: Expr, column: Expr) -> Stmt:
        base = sums(row, column)
        return tir.seq(
            put(frame.scratch, conv.first(frame, whole, v), conv.width_of(whole, v), base + v * conv.lanes)
            for v in range(len(whole.widths))
        )

    def slice_of(k: Expr) -> Stmt:
        first, many = stretch(k, each, blocks)

        def add(*where: object) -> Stmt:
            t = at(*where)
            return conv.add(frame, t, first, many, lambda p: sums(t.rows[t.pixels[p][0]], t.columns[t.pixels[p][1]]))

        return pixels(conv, plan, space, add)

    def finish(row: Expr, column: Expr) -> Stmt:
        base = sums(row, column)
        return tir.seq(
            tir.vectorized(width, conv.writer(frame, whole, frame.scratch, base + v * conv.lanes, v, row, column))
            for v, width in enumerate(whole.widths)
        )

    return tir.seq(every(start), tir.loop(passes, slice_of, "pass"), every(finish))


def extent(w: Window, plan: TileChoice, space: Expr) -> tuple[Expr, Expr]:
    """The first of a unit's pixels (flat) or rows, and how many it has."""
    total = w.width.out if flat(w) else w.height.out
    each = plan.columns * plan.block if flat(w) else total if plan.rows > 1 else plan.block
    return stretch(space, each, total) if each < total else (tir.i32(0), tir.i32(total))


def place(w: Window, plan: TileChoice, space: Expr, row: Expr | int, column: Expr | int) -> Expr:
    """The number of a pixel within its unit."""
    first, _ = extent(w, plan, space)
    return tir.expr(column) - first if flat(w) else (tir.expr(row) - first) * w.width.out + column


def pixels(conv: Windowed, plan: TileChoice, space: Expr, make: Make) -> Stmt:
    """All tiles of one unit of pixels."""
    w, columns, rows = conv.w, plan.columns, plan.rows
    if flat(w):
        return _flat(w, columns, plan.block, space, make)

    def line(r: list[Expr | int], edge_row: bool, band: tuple[Expr, int] | None = None) -> Stmt:
        return tir.seq(runs(w.width, columns, lambda c, edge: make(r, edge_row, c, edge), band))

    if plan.bands > 1:
        return line([tir.i32(0)], False, (space, plan.bands))
    if rows == 1:
        first, count = extent(w, plan, space)
        return (
            line([space], False) if plan.block == 1 else tir.loop(count, lambda r: line([r], False), "r", start=first)
        )
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
