"""Loop nests around a traced space: tasks, serial loops, tiles of vectors with their remainders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx

from ... import built_for, tir
from ...tir import Expr, Stmt
from ..common_emit import chunked
from .space import TASK_WORK, Group, Space

Region = tuple[int, Callable[[Expr], Stmt]]  # number of tasks, statements of one task


@dataclass
class Point:
    """`lanes` neighbouring elements. Called with a function of the lane, it makes one vector operation of it."""

    space: Space
    lanes: int
    settings: tuple[Callable[[Expr], None], ...] = ()

    def __call__(self, fn: Callable[[Expr], Stmt]) -> Stmt:
        def one(v: Expr) -> Stmt:
            if isinstance(v, tirx.Var):
                self.space.body.limit(v, self.lanes)
            for setting in self.settings:
                setting(v)
            return fn(v)

        return tir.vectorized(self.lanes, one)


Build = Callable[[list[Point]], Stmt]


@dataclass
class Nest:
    """`order`: groups from the outermost loop to the innermost.

    The innermost is done in vectors of `lanes`, `unroll` of them at a time; the one around it `tile` turns at a time.
    `run`'s builder gets the points of one tile: (tile turns) x (vectors), fewer at the edges.
    """

    space: Space
    order: list[Group]
    lanes: int
    unroll: int = 1
    tile: int = 1

    def run(self, build: Build, threads: int, work: int = 1) -> Region:
        """`work`: how much dearer one element is than a copied one."""
        if not self.order:
            return 1, lambda number: build([Point(self.space, 1)])
        position, block = self._cut(threads, work)
        outer = [g.extent for g in self.order[:position]]
        blocks = -(-self.order[position].extent // block)

        def task(number: Expr) -> Stmt:
            *digits, last = tir.split(number, *outer, blocks)
            binds = self.space.place(self.order[:position], digits)
            first = last * block if blocks > 1 else None
            return tir.seq(binds, self._level(position, build, first, block, []))

        return prod(outer) * blocks, task

    def _step(self, level: int) -> int:
        last = len(self.order) - 1
        return self.lanes * self.unroll if level == last else self.tile if level == last - 1 else 1

    def _cut(self, threads: int, work: int) -> tuple[int, int]:
        """The group that is cut into blocks, one task each (with the turns around it), and the block's size."""
        if built_for.on_device():  # a thread has as little to do as can be
            return len(self.order) - 1, self._step(len(self.order) - 1)
        total = prod(g.extent for g in self.order) * work
        target = min(TASK_WORK, max(1024, total // (4 * threads))) if threads > 1 else TASK_WORK
        inner = work
        for position in reversed(range(len(self.order))):
            extent = self.order[position].extent
            if inner * extent >= target or position == 0:
                if self.tile > 1 and position == len(self.order) - 1 > 0:
                    position -= 1  # a task holds whole tiles
                    inner, extent = inner * extent, self.order[position].extent
                step = self._step(position)
                return position, min(extent, max(1, round(target / inner / step)) * step)
            inner *= extent
        raise AssertionError("a nest has a group")

    def _level(self, level: int, build: Build, first: Expr | None, block: int, tiles: list[Callable[[], None]]) -> Stmt:
        group, step = self.order[level], self._step(level)
        if level == len(self.order) - 1:
            return self._steps(group, step, first, block, lambda base, n: build(self._points(group, base, n, tiles)))

        def turn(base: Expr, n: int) -> Stmt:
            if step == 1:
                self.space.set(group, base)
                return self._level(level + 1, build, None, 0, tiles)
            here = [_setter(self.space, group, base + t) for t in range(n)]
            return self._level(level + 1, build, None, 0, here)

        return self._steps(group, step, first, block, turn)

    def _points(self, group: Group, base: Expr, n: int, tiles: list[Callable[[], None]]) -> list[Point]:
        points = []
        for tile in tiles or [lambda: None]:
            for start in range(0, n, self.lanes):
                lane = _lane(self.space, group, base + start if start else base)
                points.append(Point(self.space, min(self.lanes, n - start), (_ignoring(tile), lane)))
        return points

    def _steps(
        self, group: Group, step: int, first: Expr | None, block: int, turn: Callable[[Expr, int], Stmt]
    ) -> Stmt:
        """`turn(position, n)` for every step of a group or of the block from `first` on; n < step at the end."""
        whole, rest = divmod(group.extent, step)

        def one(k: Expr) -> Stmt:
            bind = None
            if not isinstance(k, (tirx.Var, tirx.IntImm)):  # a block of one step: its place gets a name with a range
                k, bind = tir.let(k, "k")
            self.space.body.limit(k, whole)
            return tir.seq(bind, turn(k * step if step > 1 else k, step))

        tail = turn(tir.i32(whole * step), rest) if rest else None
        if first is None:
            return tir.seq(tir.loop(whole, one) if whole else None, tail)
        start, count = tirx.floordiv(first, step), block // step
        turns = tir.i32(count) if group.extent % block == 0 else tirx.min(tir.i32(count), whole - start)
        last = tir.when(first + block >= group.extent, tail) if tail is not None else None
        return tir.seq(tir.loop(turns, one, start=start) if whole else None, last)


def _setter(space: Space, group: Group, value: Expr) -> Callable[[], None]:
    return lambda: space.set(group, value)


def _ignoring(fn: Callable[[], None]) -> Callable[[Expr], None]:
    return lambda v: fn()


def _lane(space: Space, group: Group, base: Expr) -> Callable[[Expr], None]:
    return lambda v: space.set(group, base + v)


def joined(regions: Sequence[Region]) -> Region:
    """Regions one after the other as one range of tasks."""
    total = sum(count for count, _ in regions)

    def task(number: Expr) -> Stmt:
        result: Any = None
        end = total
        for count, body in reversed(regions):
            end -= count
            here = body(number - end if end else number)
            result = here if result is None else tir.when(number < end + count, here, result)
        return result

    return total, task


def in_turns(spaces: Sequence[Space], regions: Sequence[Region], outer: int, unit: int, threads: int) -> Region:
    """Regions in turns, for each position of the `outer` dimensions that they share: what is next to each other is
    written one after the other. `unit`: elements of one turn."""
    extents = [loop.extent for loop in spaces[0].loops[:outer]]
    turns = prod(extents)

    def at(number: Expr) -> list[Stmt]:
        binds = []
        for k, digit in enumerate(tir.split(number, *extents)):
            var, bind = tir.let(digit, "d")
            binds.append(bind)
            for space in spaces:
                space.body.limit(var, extents[k])
                space.loops[k].value = var
        return binds

    if unit > TASK_WORK:
        each, task = joined(regions)
        return turns * each, lambda number: tir.seq(at(tirx.floordiv(number, each)), task(tirx.floormod(number, each)))
    work = max(1, TASK_WORK // unit)
    chunk = max(1, min(work, turns // (4 * threads))) if threads > 1 else work

    def one(number: Expr) -> Stmt:
        return tir.seq(at(number), [tir.loop(count, task) for count, task in regions])

    return -(-turns // chunk), lambda number: chunked(turns, chunk, number, one)


def stretches(
    space: Space, along: Group, across: Group, size: int, threads: int, build: Callable[[Expr], Stmt]
) -> Region:
    """`build(first)` for each stretch of `size` along one loop, which is all of another loop; the others around it."""
    outer = [g for g in space.groups if g not in (along, across)]
    blocks = -(-along.extent // size)
    units = prod(g.extent for g in outer) * blocks
    work = max(1, TASK_WORK // (across.extent * size))
    chunk = max(1, min(work, -(-units // (4 * threads)) if threads > 1 else work))

    def unit(number: Expr) -> Stmt:
        *digits, last = tir.split(number, *(g.extent for g in outer), blocks)
        binds = space.place(outer, digits)
        first, bind = tir.let(start(last, size, along.extent), "along")
        space.body.limit(first, along.extent - size + 1)
        return tir.seq(binds, bind, build(first))

    return -(-units // chunk), lambda number: chunked(units, chunk, number, unit)


def start(k: Expr, size: int, extent: int) -> Expr:
    """First position of step `k`; the last step ends at the end."""
    return k * size if extent % size == 0 else tirx.min(k * size, extent - size)
