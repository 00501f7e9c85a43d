"""TensorIR of products of matrices of bytes: the tiles of a pointwise convolution with other addresses."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from edgec.compiler.ir import Type, Value
from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.tir import Expr

from .conv_emit import Tile, widths
from .conv_int8_emit import Conv
from .conv_shape import Window
from .int8_tiles import QUAD


class Packed(Conv):
    """The right operand lies as [N/32][K/4][32][4]; all leading axes of the left one, which is row-major, are rows."""

    def __init__(
        self, problem: Problem, choice: Choice, w: Window, operands: tuple[Value, Value, Value | None]
    ) -> None:
        super().__init__(problem, choice, w, operands)
        self.rest = 0 if self.step.dot.wide else w.channels_in % QUAD

    def zero_of(self, attrs: Any) -> int:
        return int(attrs["a_zero"])

    def pixel_bytes(self, t: Type) -> int:
        return t.shape[-1]

    def widths(self, channels: int) -> tuple[int, ...]:
        return widths(channels, self.lanes)  # rows have no padding

    def view(self, value: Value) -> Type:
        if value == self.x:
            return replace(value.type, shape=(prod(value.shape[:-1]), value.shape[-1]))
        return value.type

    def index(self, t: Tile, v: int, row: Any, column: Any, lane: Expr) -> tuple[Expr, ...]:
        return (*tir.split(tir.expr(column), *self.anchor.shape[:-1]), t.channel + v * self.lanes + lane)
