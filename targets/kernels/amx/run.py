"""The order of products on AMX: units of a few tiles of sums, one after the other.

What follows the sums of a unit is done between the products of the next one: vectors pass while tiles multiply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tvm import tirx

from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common import ceil_div
from . import tiles as amx
from .finish import Finish, Segment
from .shape import LANES

if TYPE_CHECKING:
    from .emit import Block

PEELED = 4  # steps of a unit between whose products the last unit ends
MOST_FETCHED = 16  # lines that are asked for in a step


@dataclass(frozen=True)
class Unit:
    """A few tiles of sums: where their pixels are read, what follows them, and the first tile of output channels."""

    number: Expr  # among those of a panel
    channel: Expr
    segments: list[list[Segment]]  # of each tile of pixels
    sources: list[Expr]


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
        """Every unit, each with the end of the one before it; then the end of the last. Where code is to be small, one
        unit as a whole before the next."""
        total = panels * self.units
        if self.k.problem.target.small:
            return tir.seq(self.finish.declared, tir.loop(total, self.whole, "unit"))

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

    def whole(self, v: Expr) -> Stmt:
        """A unit and what follows its sums."""
        now, binds = self.unit(v)
        return tir.seq(binds, self.products(now, None), [piece for pieces in self.ends(now, False) for piece in pieces])

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
        many, apart = rows // groups, 0 if self.k.problem.target.small else min(PEELED, rows // groups)

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
