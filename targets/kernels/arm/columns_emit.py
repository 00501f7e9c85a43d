"""TensorIR of int8 convolutions over one channel on AArch64: sums take neighbours in a row of the image, four by four.

A register of 16 bytes from column x on holds the fours at x, x + 4, x + 8 and x + 12: it serves several pixels and
steps. Tiles of which fours leave the row are at constant columns; there what lies inside is shifted to its place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tvm import tirx

from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common import ceil_div
from ..common_emit import vector
from ..conv.places import source
from ..conv.shape import WRITTEN, Window
from .bytes import BLOCK, FEW, LANES, Method
from .conv_emit import Sums
from .dots import Act, Dots, splat
from .tiles import Acts, Part, given, repeated


class Columns(Sums):
    """`w` has whole fours in each row of the window; `columns` of them have weights."""

    def __init__(self, method: Method, problem: Problem, choice: Choice, w: Window, columns: int) -> None:
        super().__init__(method, problem, choice, w)
        self.stored = 1
        self.steps = ceil_div(columns, FEW)
        self.live = ceil_div(columns, method.each)  # groups of columns that have weights

    def each_tap(self, part: Part, one: Callable[[Expr | int], Stmt | None]) -> Stmt:
        if self.steps <= WRITTEN:
            return tir.seq(one(s) for s in range(self.steps))
        whole = self.live * self.method.each // FEW
        loop = tir.loop(whole + part.frame.zero, lambda s: tir.seq(one(s)), "s")
        return tir.seq(loop, one(whole) if whole < self.steps else None)

    def blocks(self, part: Part, dots: Dots, kh: Expr | int, kw: Expr | int, acts: Callable[[Expr, int], Acts]) -> Stmt:
        """Four columns, number `kw` of a row of the window."""
        groups, wide = FEW // self.method.each, self.wide(part) * self.method.each
        before = part.tile * (self.w.height.kernel * self.live * self.method.each * self.plan.channels)
        base = before + (tir.expr(kh) * self.live + tir.expr(kw) * groups) * wide
        many = min(groups, self.live - kw * groups) if isinstance(kw, int) else groups
        binds, found = acts(tir.i32(0), many)
        return tir.seq(binds, dots.step(found, many, lambda k, at: vector(part.weights, BLOCK, base + (k * wide + at))))

    def line(self, part: Part, dots: Dots, row: Expr, kh: Expr, columns: list[Expr | int], edge: bool) -> Stmt:
        if self.steps > WRITTEN:
            return self.each_tap(part, lambda s: self.blocks(part, dots, kh, s, self.loaded(part, row, s, columns)))
        axis = self.w.width
        first = 0 if edge else source(axis, columns[0], 0)
        left = [int(c) * axis.stride - axis.pad if edge else i * axis.stride for i, c in enumerate(columns)]
        needed = sorted({x + s * FEW for x in left for s in range(self.steps)})
        low, high = (0, axis.size) if edge else (needed[0], needed[-1] + FEW)
        binds, held = self.fours(part, self.pixel(part, row, first), needed, low, high)
        outside = Act(splat(self.zero)) if self.zero else None
        parts: list[Stmt] = []
        for s in range(self.steps):
            acts = [held.get(x + s * FEW, outside) for x in left]
            if any(a is not None for a in acts):
                parts.append(self.blocks(part, dots, kh, s, partial(given, acts)))
        return tir.seq(binds, parts)

    def loaded(self, part: Part, row: Expr, s: Expr | int, columns: list[Expr | int]) -> Callable[[Expr, int], Acts]:
        """Fours of a step, one by one."""
        at = [self.pixel(part, row, source(self.w.width, c, tir.expr(s) * FEW)) for c in columns]

        def acts(_: Expr, groups: int) -> Acts:
            bound = [tir.let(repeated(part.x, here), "a") for here in at]
            return [bind for _, bind in bound], [Act(value) for value, _ in bound]

        return acts

    def fours(
        self, part: Part, base: Expr, needed: list[int], low: int, high: int
    ) -> tuple[list[Stmt], dict[int, Act]]:
        """The fours that begin at the columns `needed`, of which low .. high - 1 may be read; none where all is
        outside."""
        each = FEW // self.method.each
        binds: list[Stmt] = []
        found: dict[int, Act] = {}
        for x in needed:
            if x in found or not low - FEW < x < high:
                continue
            start = x - max(0, ceil_div(x + BLOCK - high, FEW)) * FEW
            if not low <= x <= high - FEW:
                value, bind = tir.let(self.in_part(part, base, x, low, high), "a")
                found[x] = Act(value)
            elif start < low:
                value, bind = tir.let(repeated(part.x, base + x), "a")
                found[x] = Act(value)
            else:
                value, bind = tir.let(vector(part.x, BLOCK, base + start), "a")
                others = {start + i * FEW: Act(value, i * each) for i in range(LANES)}
                found = {**others, **found}
            binds.append(bind)
        return binds, found

    def in_part(self, part: Part, base: Expr, x: int, low: int, high: int) -> Expr:
        """The four at column x, repeated, some of which are outside: those are the zero point."""
        first = min(max(x, low), high - FEW)
        inside = tirx.reinterpret("uint32x4", repeated(part.x, base + first))
        by = tir.broadcast(tir.lit(8 * abs(x - first), "uint32"), LANES)
        moved = tirx.shift_right(inside, by) if x > first else tirx.shift_left(inside, by)
        zeros = sum((self.zero & 255) << 8 * k for k in range(FEW) if not low <= x + k < high)
        return tirx.reinterpret("int8x16", tirx.bitwise_or(moved, tir.broadcast(tir.lit(zeros, "uint32"), LANES)))
