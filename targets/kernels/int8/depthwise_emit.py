"""TensorIR of depthwise convolutions of bytes in f32: filters are widened once per task, inputs as they are read."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common_emit import F32, Frame, emit_kernel, put, vector
from ..conv.planes import Planes, Spot
from ..conv.shape import Window, conv_operands
from .depthwise_rows import lanes_of


class Depthwise(Planes):
    def __init__(self, problem: Problem, choice: Choice, w: Window) -> None:
        x, self.weight, self.bias = conv_operands(problem.anchor)
        super().__init__(problem, choice, w, x)
        self.lanes = lanes_of(problem.target.cpu)
        self.zero: Any = full_attrs(problem.anchor)["zero"]

    def emit(self, symbol: str) -> Emitted:
        return emit_kernel(self.problem, self.choice, symbol, self.w.batch * self.blocks * self.bands, self.unit)

    def plane(self, frame: Frame, image: Expr, block: Expr, band: Expr, width: int) -> Stmt:
        filters = []
        for tap in range(self.w.taps):
            kh, kw = divmod(tap, self.w.width.kernel)
            spatial = (kh, kw) if self.rank == 4 else (kw,)
            taken = vector(frame.places[self.weight].buffer, self.lanes, block, 0, *spatial, 0)
            filters.append(put(frame.scratch, self.wide(taken), self.lanes, tap * self.lanes))
        return tir.seq(filters, super().plane(frame, image, block, band, width))

    def wide(self, x: Expr) -> Expr:
        return tirx.Cast(f"float32x{self.lanes}", tirx.Cast(f"int32x{self.lanes}", x))

    def operand(self, frame: Frame, block: Expr, kh: Expr | int, kw: Expr | int) -> Expr | None:
        return vector(frame.scratch, self.lanes, (tir.expr(kh) * self.w.width.kernel + kw) * self.lanes)

    def read(self, frame: Frame, s: Spot, spatial: tuple[Expr, ...]) -> Expr:
        within = 16 // self.lanes
        block, lane = (s.block, 0) if within == 1 else (s.block // within, s.block % within * self.lanes)
        x = self.wide(vector(frame.places[self.x].buffer, self.lanes, s.image, *spatial, block, lane))
        return x - tir.broadcast(tir.lit(self.zero, F32), self.lanes) if self.zero else x

    def start(self, frame: Frame, s: Spot) -> Expr:
        return tir.broadcast(tir.lit(0.0, F32), self.lanes)

    def join(self, old: Expr, x: Expr, operand: Expr | None) -> Expr:
        return old + x * operand

    def result(self, frame: Frame, s: Spot, value: Expr, channel: Expr, row: Any, column: Any) -> Expr:
        total = tirx.Cast("int32", value)
        return total if self.bias is None else total + frame.body.at(self.bias, (channel,))
