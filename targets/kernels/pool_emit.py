"""TensorIR of pooling: a tap joins by maximum or by sum, and averages divide by the elements that count."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgec.compiler.op import full_attrs
from edgec.targets import tir
from edgec.targets.tir import Expr

from .common_emit import F32, Frame
from .conv_places import tap_bounds
from .conv_planes import Planes, Spot
from .conv_shape import Axis


class Maximum(Planes):
    def start(self, frame: Frame, s: Spot) -> Expr:
        return tir.broadcast(tir.lit(float("-inf"), F32), self.lanes)

    def join(self, old: Expr, x: Expr, operand: Expr | None) -> Expr:
        return tirx.max(old, x)


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
