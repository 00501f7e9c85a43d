"""TensorIR of products on AMX: units of a few tiles of sums, and the order in which they follow each other.

Sums start from the bias, less the zero point times the weights, and leave the tiles through scratch. What follows them
is left to the next unit, which does it between its own products: vectors pass while tiles multiply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from . import amx_tiles as amx
from .amx_border import copy_lines, copy_pairs, copy_pixels
from .amx_finish import Finish, Segment
from .amx_rows import left_of, prepared, scratch, tiling_of, zero_of
from .amx_shape import LANES, across, tiles
from .common import ceil_div
from .common_emit import Frame, emit_kernel, stretch
from .conv_emit import flat_type

ONES = 0x01010101
PEELED = 4  # steps of a unit between whose products the last unit ends
MOST_FETCHED = 16  # lines that are asked for in a step


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    return Kernel(problem, choice).emitted(symbol)


class Kernel:
    """One product under construction."""

    def __init__(self, problem: Problem, choice: Choice) -> None:
        self.problem, self.choice = problem, choice
        self.left, self.t = left_of(problem), tiling_of(choice)
        self.x, self.weight, self.bias = problem.anchor.args
        self.anchor = problem.anchor.results[0]
        self.matrix = problem.anchor.op == "Edgec.MatMulInteger"
        self.flat = not self.matrix and self.left.w.height.out == 1 and len(self.anchor.shape) == 4
        self.zero, self.signed = zero_of(problem.anchor), self.x.type.dtype == "i8"
        self.prepared = prepared(problem)
        self.across, self.total = across(self.left, self.t), tiles(self.left, self.t)
        self.blocks = ceil_div(self.total, self.t.block)
        self.tiles_out = ceil_div(self.left.w.channels_out, LANES)
        self.panels = ceil_div(self.tiles_out, self.t.channels)
        self.shares = ceil_div(self.panels, self.t.panels)

    def emitted(self, symbol: str) -> Emitted:
        size = scratch(self.problem, self.left, self.t)
        data = "int8" if self.signed else "uint8"
        parts = [
            ("sums", "int32", size.sums // 4, 0),
            ("starts", "int32", max(1, size.starts // 4), size.sums),
            ("copied", data, max(1, size.copied), size.sums + size.starts),
        ]
        count = self.left.w.batch * self.blocks * self.shares
        return emit_kernel(self.problem, self.choice, symbol, count, self.task, self.view, parts, self.around)

    def view(self, value: Value) -> Type:
        return flat_type(value.type, self.left.w) if self.flat else value.type

    def around(self, frame: Frame, tasks: Stmt) -> Stmt:
        """All tasks of a call."""
        starts = tir.loop(self.tiles_out, lambda v: self.starting(frame, v), "start") if self.prepared else None
        return tir.seq(starts, amx.configure(self.t.rows, self.t.groups), tasks, amx.release())

    def starting(self, frame: Frame, tile: Expr) -> Stmt:
        """What the sums of 16 output channels start from: the bias, less the zero point times all weights."""
        bias, declared = tir.flat(frame.places[self.bias].buffer)
        lanes = tir.ramp(tile * LANES, LANES)
        value = tir.load(bias, lanes) if self.bias.type.size > 1 else tir.broadcast(tir.load(bias, 0), LANES)
        if not self.zero:
            return tir.seq(declared, tir.store(frame.parts[1], value, lanes))
        groups = self.left.groups
        weights, also = tir.flat(frame.places[self.weight].buffer)
        total, alloc = tir.local((LANES,), "int32", "total")
        whole = tir.ramp(0, LANES)
        ones = tirx.reinterpret("int8x64", tir.broadcast(tir.i32(ONES), LANES))

        def add(g: Expr) -> Stmt:
            row = tir.load(weights, tir.ramp((tile * groups + g) * 64, 64))
            dot = "llvm.x86.avx512.vpdpbusd.512"
            return tir.store(
                total, tirx.call_llvm_pure_intrin("int32x16", dot, tir.load(total, whole), ones, row), whole
            )

        correct = value - tir.load(total, whole) * tir.broadcast(tir.i32(self.zero), LANES)
        clear = tir.store(total, tir.broadcast(tir.i32(0), LANES), whole)
        return tir.seq(
            declared, also, alloc, clear, tir.loop(groups, add, "g"), tir.store(frame.parts[1], correct, lanes)
        )

    def task(self, frame: Frame, number: Expr) -> Stmt:
        image, block, share = tir.split(number, self.left.w.batch, self.blocks, self.shares)
        first, count = stretch(block, self.t.block, self.total)
        return Block(self, frame, image, first, count).work(share)


@dataclass(frozen=True)
class Unit:
    """A few tiles of sums: where their pixels are read, what follows them, and the first tile of output channels."""

    number: Expr  # among those of a panel
    channel: Expr
    segments: list[list[Segment]]  # of each tile of pixels
    sources: list[Expr]


class Block:
    """The tiles of a task: `count` tiles of pixels from `first` on, with a share of the panels of channels."""

    def __init__(self, kernel: Kernel, frame: Frame, image: Expr, first: Expr, count: Expr) -> None:
        self.k, self.frame, self.image, self.first, self.count = kernel, frame, image, first, count
        self.sums, self.starts, self.copied = frame.parts
        places = frame.places
        self.source, one = tir.flat(places[kernel.x].buffer)
        self.weights, two = tir.flat(places[kernel.weight].buffer)
        self.declared = [one, two]
        if not kernel.prepared:
            self.starts, three = tir.flat(places[kernel.bias].buffer)
            self.declared.append(three)
        self.read = self.copied if kernel.left.copied else self.source
        t = kernel.t
        self.even = t.block % t.pixels == 0 and kernel.total % t.block % t.pixels == 0

    def work(self, share: Expr) -> Stmt:
        k, t = self.k, self.k.t
        full, rest = divmod(k.tiles_out, t.channels)
        if k.left.w.channels_out % LANES and not rest:
            full, rest = full - 1, t.channels  # the last panel has a narrower tile
        begin, many = stretch(share, t.panels, k.panels)
        end = begin + many
        parts: list[Stmt] = [*self.declared, self.copy()]
        if full:
            whole = (tirx.min(end, tir.i32(full)) if rest else end) - begin
            only = None if k.shares == 1 or not rest else whole > 0
            run = Run(self, begin, t.channels, full * t.channels * LANES).all(tir.i32(full) if k.shares == 1 else whole)
            parts.append(run if only is None else tir.when(only, run))
        if rest:
            run = Run(self, tir.i32(full), rest, k.left.w.channels_out).all(tir.i32(1))
            parts.append(run if k.shares == 1 else tir.when(end > full, run))
        return tir.seq(parts)

    def copy(self) -> Stmt | None:
        left, t = self.k.left, self.k.t
        if left.gathered:
            return copy_pixels(left, self.source, self.image, self.copied)
        if not left.bordered:
            return None
        first, rows = (tirx.floordiv(n, self.k.across) * t.lines for n in (self.first, self.count))
        if left.w.height.out % t.lines:
            rows = tirx.min(rows, left.w.height.out - first)
        copy = copy_pairs if left.folded else copy_lines
        return copy(left, self.source, self.image, self.copied, first, rows, self.k.zero)

    def pixels(self, tile: Expr) -> tuple[Expr, list[Segment]]:
        """Where a tile of pixels is read, and its stretches of the output."""
        k, left, t = self.k, self.k.left, self.k.t
        w, valid = left.w, None
        if not self.even:
            valid = tile < self.first + self.count
            tile = tirx.min(tile, self.first + self.count - 1)
        if k.across == 1:
            row, number = tile * t.lines, tir.i32(0)
        elif w.height.out == 1:
            row, number = tir.i32(0), tile
        else:
            row, number = tirx.floordiv(tile, k.across), tirx.floormod(tile, k.across)
        width = w.width.out if t.lines > 1 else t.rows
        column, done = number * width, tir.i32(0)
        if w.width.out % width:
            column = tirx.min(column, tir.i32(w.width.out - width))
            done = number * width - column
        if left.bordered:
            above = (row - tirx.floordiv(self.first, k.across) * t.lines) * w.height.stride
        else:
            above = (0 if left.gathered else self.image * w.height.size) + row * w.height.stride
        source = (above * left.line + column * w.width.stride) * left.pixel
        segments = []
        for line in range(t.lines):
            inside = valid
            if line and w.height.out % t.lines:
                there = row + line < w.height.out
                inside = there if valid is None else tirx.And(valid, there)
            known = int(done) if isinstance(done, tirx.IntImm) else done
            segments.append(Segment(row + line, column, line * left.line, width, known, inside))
        return source, segments


class Run:
    """The units of some panels of equal shape in turn: of panel `begin` first, each `channels` tiles wide.

    `limit` is the number of output channels that are there for these panels.
    """

    def __init__(self, block: Block, begin: Expr, channels: int, limit: int) -> None:
        self.b, self.k, self.begin, self.channels = block, block.k, begin, channels
        self.wide = LANES * channels
        self.finish = Finish(block.k, block.frame, block.image, channels, limit)
        units = tirx.floordiv(block.count + (self.k.t.pixels - 1), self.k.t.pixels)
        self.units = tir.i32(ceil_div(self.k.total, self.k.t.pixels)) if self.k.blocks == 1 else units

    def all(self, panels: Expr) -> Stmt:
        """Every unit, each with the end of the one before it; then the end of the last."""
        total = panels * self.units

        def next_(v: Expr) -> Stmt:
            before, binds = self.unit(v - 1)
            now, also = self.unit(v)
            return tir.seq(binds, also, self.products(now, before))

        first, binds = self.unit(tir.i32(0))
        last, also = self.unit(total - 1)
        return tir.seq(
            self.finish.declared,
            binds,
            self.products(first, None),
            tir.loop(total - 1, next_, "unit", start=1),
            also,
            [piece for pieces in self.ends(last, False) for piece in pieces],
        )

    def unit(self, v: Expr) -> tuple[Unit, list[Stmt]]:
        panel, number = tirx.truncdiv(v, self.units), tirx.truncmod(v, self.units)
        found = [self.b.pixels(self.b.first + number * self.k.t.pixels + i) for i in range(self.k.t.pixels)]
        binds: list[Stmt] = []

        def named(x: Expr) -> Expr:
            name, bind = tir.let(tir.expr(x), "at")
            binds.append(bind)
            return name

        number, channel = named(number), named((self.begin + panel) * self.k.t.channels)
        sources = [named(source) for source, _ in found]
        return Unit(number, channel, [segments for _, segments in found], sources), binds

    def ends(self, unit: Unit, many: bool) -> list[list[Stmt]]:
        """What follows the sums of each tile of pixels of a unit, in `many` pieces or as little code."""
        rows = self.k.t.rows
        return [
            [s for segment in segments for s in self.finish.pieces(segment, i * rows, unit.channel, many)]
            for i, segments in enumerate(unit.segments)
        ]

    def products(self, unit: Unit, before: Unit | None) -> Stmt:
        many, rows = self.channels, self.k.t.rows
        each = [(i, v) for i in range(self.k.t.pixels) for v in range(many)]
        at = [(unit.channel + v) * LANES for v in range(many)]
        begin = [amx.load(i * many + v, self.b.starts, at[v], 0) for i, v in each]
        leave = [amx.store(i * many + v, self.b.sums, i * rows * self.wide + v * LANES, 4 * self.wide) for i, v in each]
        loops, last = self.steps(unit)
        if before is None:
            return tir.seq(begin, loops, last, leave)
        return tir.seq(begin, loops, mixed(last, leave, self.ends(before, True), many))

    def steps(self, unit: Unit) -> tuple[Stmt, list[Stmt]]:
        """All steps of the reduction: lines of the window, runs in a line, products in a run. The last ones apart."""
        left, groups = self.k.left, self.k.t.groups
        w, rows = left.w, left.run // 4
        many, apart = rows // groups, min(PEELED, rows // groups)

        def step(kh: Expr | int, r: Expr | int, j: Expr | int) -> list[Stmt]:
            line = kh * (w.height.dilation * left.line * left.pixel) + r * (w.width.dilation * left.pixel)
            group = (kh * left.runs + r) * rows + j * groups
            lefts = [s + line + j * (4 * groups) for s in unit.sources]
            return [tir.seq(self.fetch(unit, group)), *self.step(unit, lefts, group)]

        def run(kh: Expr | int, r: Expr | int, count: int) -> Stmt:
            return tir.loop(count, lambda j: tir.seq(step(kh, r, j)), "step") if count else tir.seq()

        def line(kh: Expr | int, runs: int) -> Stmt:
            return tir.loop(runs, lambda r: run(kh, r, many), "run") if runs else tir.seq()

        end, final = w.height.kernel - 1, left.runs - 1
        loops = [tir.loop(end, lambda kh: line(kh, left.runs), "kh")] if end else []
        loops += [line(end, final), run(end, final, many - apart)]
        return tir.seq(loops), [s for j in range(many - apart, many) for s in step(end, final, j)]

    def step(self, unit: Unit, at: Sequence[Expr], group: Expr | int) -> list[Stmt]:
        """Loads and products of one step, in pieces of about one product."""
        left, pieces = self.k.left, []
        stride = left.w.width.stride * left.pixel
        outer = [amx.load(amx.LEFT + i % 2, self.b.read, a, stride) for i, a in enumerate(at)]
        for v in range(self.channels):
            right = amx.RIGHT + v % 2
            weights = ((unit.channel + v) * left.groups + group) * 64
            load: Stmt | None = amx.load(right, self.b.weights, weights, 64)
            for i in range(len(at)):
                product = amx.multiply(i * self.channels + v, amx.LEFT + i % 2, right, self.k.signed)
                pieces.append(tir.seq(load, outer[i] if v == 0 else None, product))
                load = None
        return pieces

    def fetch(self, unit: Unit, group: Expr | int) -> list[Stmt]:
        """Ask for a share of the next panel's weights, which lie behind those of this one."""
        t, left = self.k.t, self.k.left
        lines, steps = self.channels * left.groups, left.groups // t.groups
        share = ceil_div(lines, steps * ceil_div(t.block, t.pixels))
        if share > MOST_FETCHED and self.k.blocks > 1:
            return []
        first = (unit.number * steps + tirx.floordiv(tir.expr(group), t.groups)) * share
        begin = (unit.channel + self.channels) * left.groups
        return [tir.prefetch(self.b.weights, (begin + first + i) * 64, near=False) for i in range(share)]


def mixed(last: Sequence[Any], leave: Sequence[Any], ends: Sequence[Sequence[Any]], many: int) -> Stmt:
    """The last steps of a unit and its stores, with the pieces of the unit before between them.

    The pieces of a tile of pixels come before that tile's `many` stores.
    """
    works = [*last, *leave[: len(leave) - many]]
    pieces = [(i, piece) for i, end in enumerate(ends) for piece in end]
    after: list[list[Any]] = [[] for _ in works]
    for k, (i, piece) in enumerate(pieces):
        even = (k + 1) * len(works) // (len(pieces) + 1)
        latest = len(last) - 1 + i * many
        after[max(0, min(even, latest))].append(piece)
    parts: list[Any] = []
    for work, some in zip(works, after, strict=True):
        parts += [work, *some]
    return tir.seq(parts, leave[len(leave) - many :])
