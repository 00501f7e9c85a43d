"""TensorIR of int8 matrix products on Cortex-M: rows as pixels of a pointwise convolution."""

from __future__ import annotations

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from ..common_emit import Frame
from ..conv.shape import Window
from .asm import at, called, twice
from .conv_emit import Conv
from .matmul_rows import direct, halved, tile_of


class MatMul(Conv):
    """Emits one kernel."""

    def __init__(self, problem: Problem, choice: Choice, w: Window) -> None:
        super().__init__(problem, choice, w, tile_of(problem), int(str(full_attrs(problem.anchor)["a_zero"])))
        self.few, self.stored = False, w.channels_in
        self.direct, self.half = direct(problem), halved(problem)

    @property
    def out_pixel(self) -> int:
        return self.w.channels_out

    def all_channels(self, frame: Frame, image: Expr, t: Expr, data: Buffer, size: int) -> Stmt:
        if not self.direct:
            return super().all_channels(frame, image, t, data, size)
        assert self.plain is not None
        flat = [tir.flat(frame.places[v].buffer) for v in (self.x, self.bias, self.plain.factors) if v]
        (x, *rest), declared = [b for b, _ in flat], [d for _, d in flat]
        out, declared_out = tir.flat(frame.place.buffer)
        number = self.numbers
        weights_end, row = number("weights", size), number("row", self.w.channels_in)
        run = called(
            "m_blocks", at(data, 0), at(data, weights_end), at(x, 0), at(x, row), *(at(b, 0) for b in rest),
            at(out, 0), number("by", twice(-self.zero).value), *self.given(),
        )  # fmt: skip
        return tir.seq(declared, declared_out, run)

    def gather(self, frame: Frame, image: Expr, row: Expr, column: Expr, p: Expr) -> Stmt:
        return tir.seq() if self.direct else super().gather(frame, image, row, column, p)
