"""TensorIR of depthwise convolutions: a tap multiplies by a vector of weights, one per channel."""

from __future__ import annotations

from typing import Any

from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.conversions import widened
from edgec.targets.tir import Expr

from ..common import in_memory
from ..common_emit import F32, Frame, vector
from .depthwise_rows import stretch, unrolls
from .planes import Planes, Spot
from .shape import Window, conv_operands


class Depthwise(Planes):
    def __init__(self, problem: Problem, choice: Choice, w: Window) -> None:
        x, weight, self.bias = conv_operands(problem.anchor)
        self.weight = in_memory(problem, weight)
        super().__init__(problem, choice, w, x)
        self.unrolls = unrolls(w, problem.target)
        self.together = stretch(w)

    def operand(self, frame: Frame, block: Expr, kh: Expr | int, kw: Expr | int) -> Expr | None:
        spatial = (kh, kw) if self.rank == 4 else (kw,)
        loaded = vector(frame.places[self.weight].buffer, self.lanes, block, 0, *spatial, 0)
        return widened(loaded, self.weight.type.dtype)

    def start(self, frame: Frame, s: Spot) -> Expr:
        return tir.broadcast(tir.lit(0.0, F32), self.lanes)

    def join(self, old: Expr, x: Expr, operand: Expr | None) -> Expr:
        return old + x * operand

    def result(self, frame: Frame, s: Spot, value: Expr, channel: Expr, row: Any, column: Any) -> Expr:
        return value if self.bias is None else value + frame.body.at(self.bias, (channel,))
