"""TensorIR of depthwise int8 convolutions on AArch64: differences from the zero point and weights are of 16 bits."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.tir import Expr

from .arm_depthwise_rows import LANES
from .arm_tail import dense
from .common import ceil_div
from .common_emit import Frame, vector
from .conv_planes import Planes, Spot
from .conv_shape import Window


class Depthwise(Planes):
    kind = "int32"

    def __init__(self, problem: Problem, choice: Choice, w: Window) -> None:
        x, self.weight, self.bias = problem.anchor.args
        super().__init__(problem, choice, w, x)
        self.lanes, self.blocks = LANES, ceil_div(w.channels_out, LANES)
        attrs: Any = full_attrs(problem.anchor)
        self.zero = int(attrs["zero"])

    def view(self, value: Value) -> Type:
        return dense(value.type)

    def operand(self, frame: Frame, block: Expr, kh: Expr | int, kw: Expr | int) -> Expr | None:
        spatial = (kh, kw) if self.rank == 4 else (kw,)
        return tirx.Cast("int16x8", vector(frame.places[self.weight].buffer, LANES, block, *spatial, 0, 0))

    def read(self, frame: Frame, s: Spot, spatial: tuple[Expr, ...]) -> Expr:
        """Less the zero point, which LLVM must not know: then both are widened by the subtraction."""
        wide = tirx.Cast("int16x8", vector(frame.places[self.x].buffer, LANES, s.image, *spatial, s.block * LANES))
        if not self.zero:
            return wide
        zero = tirx.Cast("int8", frame.zero + self.zero)
        return wide - tirx.Cast("int16x8", tir.broadcast(zero, LANES))

    def start(self, frame: Frame, s: Spot) -> Expr:
        return tir.broadcast(tir.lit(0, "int32"), LANES)

    def join(self, old: Expr, x: Expr, operand: Expr | None) -> Expr:
        return old + tirx.Cast("int32x8", x) * tirx.Cast("int32x8", operand)

    def result(self, frame: Frame, s: Spot, value: Expr, channel: Expr, row: Any, column: Any) -> Expr:
        return value + frame.body.at(self.bias, (channel if self.bias.shape[0] > 1 else tir.i32(0),))
