"""TensorIR of pooling: a tap joins by maximum or by sum, and averages divide by the elements that count.

Greatest numbers of wide windows are taken down the columns that a tile reads first, then along these: neighbouring
windows share both. Sums are not, as other orders of additions round otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from tvm import tirx

from edgec.compiler.op import full_attrs
from edgec.targets import tir
from edgec.targets.built_for import has_limits
from edgec.targets.tir import Expr, Stmt

from .common_emit import F32, Frame, put, store_tile, vector
from .conv.places import source, tap_bounds
from .conv.planes import Planes, Spot
from .conv.shape import Axis
from .pool_rows import Windows, by_columns, seen


class Maximum(Planes):
    def start(self, frame: Frame, s: Spot) -> Expr:
        return tir.broadcast(tir.lit(float("-inf"), F32), self.lanes)

    def join(self, old: Expr, x: Expr, operand: Expr | None = None) -> Expr:
        if has_limits():
            return tirx.call_llvm_pure_intrin(f"{F32}x{self.lanes}", "llvm.maximum", old, x)
        return tirx.max(old, x)

    def tile(self, frame: Frame, s: Spot, operands: dict[tuple[int, int], Expr | None]) -> Stmt:
        windows = seen(self.w.width, len(s.columns), s.columns[0] if s.edge_column else None)
        if not by_columns(self.w, windows, self.problem.target.cpu):
            return super().tile(frame, s, operands)
        read = {j: k * self.lanes for k, j in enumerate(sorted({j for window in windows for j in window}))}
        greatest, made = tir.local((len(read) * self.lanes,), self.kind, "greatest")
        acc, alloc = tir.local((len(windows) * self.lanes,), self.kind)
        nothing = self.start(frame, s)
        first = source(self.w.width, s.columns[0], 0)

        def row(kh: Expr | int) -> Stmt:
            down = (source(self.w.height, s.rows[0], kh),) if self.rank == 4 else ()

            def column(j: int, at: int) -> Stmt:
                x = self.read(frame, s, (*down, first + j))
                return put(greatest, self.join(vector(greatest, self.lanes, at), x), self.lanes, at)

            return tir.seq([column(j, at) for j, at in read.items()])

        columns = {j: vector(greatest, self.lanes, at) for j, at in read.items()}
        along, found = self.along(windows, columns, nothing)
        short = partial(self.writer, frame, s)
        return tir.seq(
            made,
            [put(greatest, nothing, self.lanes, at) for at in read.values()],
            self.down(s, row),
            along,
            alloc,
            [put(acc, x, self.lanes, k * self.lanes) for k, x in enumerate(found)],
            store_tile(replace(frame, heavy=False), acc, s.rows, s.columns, (s.width,), self.lanes, short),
        )

    def down(self, s: Spot, row: Callable[[Expr | int], Stmt]) -> Stmt:
        """`row(tap)` for those rows of the window that lie inside."""
        height = self.w.height
        if self.unrolls:
            return tir.seq([row(kh) for kh in range(height.kernel) if not s.edge_row or height.inside(s.rows[0], kh)])
        low, high = tap_bounds(height, s.rows[0])
        return tir.loop(high - low, row, "kh", start=low)

    def along(self, windows: Windows, columns: dict[int, Expr], nothing: Expr) -> tuple[list[Stmt], list[Expr]]:
        """The greatest of each window: of its two halves, which may overlap, of 1, 2, 4 ... columns."""
        binds: list[Stmt] = []
        known: dict[tuple[int, int], Expr] = {}
        step = self.w.width.dilation

        def of(first: int, count: int) -> Expr:
            if (first, count) not in known:
                half = count // 2
                x = self.join(of(first, half), of(first + half * step, half)) if half else columns[first]
                known[first, count], bind = tir.let(x, "x")
                binds.append(bind)
            return known[first, count]

        def greatest(window: tuple[int, ...]) -> Expr:
            if not window:
                return nothing
            count = 1 << (len(window).bit_length() - 1)
            x = of(window[0], count)
            return x if count == len(window) else self.join(x, of(window[len(window) - count], count))

        return binds, [greatest(window) for window in windows]


class Average(Planes):
    def start(self, frame: Frame, s: Spot) -> Expr:
        return tir.broadcast(tir.lit(0.0, F32), self.lanes)

    def join(self, old: Expr, x: Expr, operand: Expr | None) -> Expr:
        return old + x

    def result(self, frame: Frame, s: Spot, value: Expr, channel: Expr, row: Any, column: Any) -> Expr:
        attrs: dict[str, Any] = full_attrs(self.problem.anchor)
        padded, pads = bool(attrs["count_include_pad"]), tuple(attrs["pads"]) or (0,) * 4
        after = pads[len(pads) // 2 :]
        down = count(self.w.height, row, after[0] if self.rank == 4 else 0, padded, s.edge_row or not self.unrolls)
        across = count(self.w.width, column, after[-1], padded, s.edge_column)
        if isinstance(down, int) and isinstance(across, int):
            return value * tir.lit(1.0 / max(down * across, 1), F32)
        return value / tirx.Cast(F32, tir.expr(down) * tir.expr(across))


def count(axis: Axis, position: Any, after: int, padded: bool, edge: bool) -> Expr | int:
    """How many taps of a window count: those on true elements and, if `padded`, on declared padding."""
    if not edge:
        return axis.kernel
    seen = Axis(axis.size + axis.pad + after, axis.out, axis.kernel, axis.stride, axis.dilation, 0) if padded else axis
    if isinstance(position, int):
        return sum(seen.inside(position, tap) for tap in range(seen.kernel))
    low, high = tap_bounds(seen, position)
    return high - low
