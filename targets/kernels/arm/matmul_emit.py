"""TensorIR of int8 matrix products on AArch64: the tiles of a pointwise convolution over rows without padding."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from edgec.compiler.ir import Type, Value
from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.tir import Expr

from ..common_emit import vector
from ..conv.shape import Window
from .bytes import BLOCK, Method
from .conv_emit import Sums
from .dots import shuffled
from .tiles import Part


class Rows(Sums):
    """All leading axes of the left operand are rows, of K bytes each."""

    def __init__(self, method: Method, problem: Problem, choice: Choice, w: Window) -> None:
        super().__init__(method, problem, choice, w)
        self.few, self.inputs, self.stored = False, BLOCK, w.channels_in

    def view(self, value: Value) -> Type:
        if value == self.x:
            return replace(value.type, shape=(prod(value.shape[:-1]), value.shape[-1]))
        return value.type

    def index(self, image: Expr, channel: Expr, row: Expr | int, column: Expr | int) -> tuple[Expr, ...]:
        return (*tir.split(tir.expr(column), *self.anchor.shape[:-1]), channel)

    def block(self, part: Part, at: Expr, cb: Expr, groups: int) -> Expr:
        """The last block may be short: the row's last 16 bytes are read, and turned until it comes first."""
        k = self.w.channels_in
        if not self._last(cb):
            return vector(part.x, BLOCK, at + cb * BLOCK)
        turn = BLOCK - k % BLOCK
        return shuffled(
            vector(part.x, BLOCK, at + (k - BLOCK)), "int8x16", [(turn + i) % BLOCK for i in range(BLOCK)], "int8x16"
        )

    def _last(self, cb: Expr) -> bool:
        """Whether a block is the short one, whose number is known."""
        return self.w.channels_in % BLOCK != 0 and getattr(cb, "value", -1) == self.w.channels_in // BLOCK
