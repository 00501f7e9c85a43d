"""Loop nests around a traced space: tasks, serial loops, the vector with its tail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx

from .. import tir
from ..tir import Expr, Stmt
from .generic_space import TASK_WORK, Group, Space

Region = tuple[int, Callable[[Expr], Stmt]]  # number of tasks, statements of one task


@dataclass
class Nest:
    """`order`: groups from the outermost loop to the innermost; the innermost is done `step` lanes at a time."""

    space: Space
    order: list[Group]
    lanes: int

    def run(self, build: Callable[[int], Stmt], threads: int, work: int = 1) -> Region:
        """`build(lanes)` makes the statements of that many lanes of the innermost group; `work`: cost of one element."""
        position, block = self._cut(threads, work)
        outer = [g.extent for g in self.order[:position]]
        here = self.order[position] if self.order else None
        blocks = -(-here.extent // block) if here else 1

        def task(number: Expr) -> Stmt:
            digits = tir.split(number, *outer, blocks)
            for group, x, n in zip(self.order, digits, outer, strict=False):
                self._limit(group, x, n)
            first = digits[-1] * block if blocks > 1 else None
            return self._level(position, build, first, block)

        return prod(outer) * blocks, task

    def _cut(self, threads: int, work: int) -> tuple[int, int]:
        total = prod(g.extent for g in self.order) * work
        target = min(TASK_WORK, max(1024, total // (4 * threads))) if threads > 1 else TASK_WORK
        inner = work
        for position in reversed(range(len(self.order))):
            extent = self.order[position].extent
            if inner * extent >= target or position == 0:
                block = max(1, min(extent, target // inner))
                if position == len(self.order) - 1:
                    block = min(extent, -(-block // self.lanes) * self.lanes)
                return position, block
            inner *= extent
        return 0, 1

    def _limit(self, group: Group, x: Expr, extent: int) -> None:
        """Name a position, so that its range is known to the body."""
        self.space.set(group, x)

    def _level(self, level: int, build: Callable[[int], Stmt], first: Expr | None, block: int) -> Stmt:
        if not self.order:
            return build(1)
        group = self.order[level]
        if level == len(self.order) - 1:
            return self._vectors(group, build, first, block)

        def turn(x: Expr) -> Stmt:
            self.space.body.limit(x, group.extent) if isinstance(x, tirx.Var) else None
            self.space.set(group, x)
            return self._level(level + 1, build, None, self.order[level + 1].extent)

        if first is None:
            return tir.loop(group.extent, turn)
        count = block if group.extent % block == 0 else tirx.min(tir.i32(block), group.extent - first)
        return tir.loop(count, turn, start=first)

    def _vectors(self, group: Group, build: Callable[[int], Stmt], first: Expr | None, block: int) -> Stmt:
        lanes, extent = self.lanes, group.extent
        whole, rest = extent // lanes, extent % lanes

        def lane(base: Callable[[Expr], Expr], n: int) -> Stmt:
            def one(v: Expr) -> Stmt:
                if isinstance(v, tirx.Var):
                    self.space.body.limit(v, n)
                self.space.set(group, base(v))
                return build(n)

            return tir.vectorized(n, one)

        def chunk(k: Expr) -> Stmt:
            if isinstance(k, tirx.Var):
                self.space.body.limit(k, whole)
            return lane(lambda v: k * lanes + v, lanes)

        tail = lane(lambda v: whole * lanes + v, rest) if rest else None
        if first is None:
            return tir.seq(tir.loop(whole, chunk) if whole else None, tail)
        start = tirx.floordiv(first, lanes)
        count = tirx.min(tir.i32(block // lanes), whole - start) if whole * lanes % block or rest else tir.i32(block // lanes)
        last = tir.when(first + block >= extent, tail) if tail is not None else None
        return tir.seq(tir.loop(count, chunk, start=start) if whole else None, last)


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
