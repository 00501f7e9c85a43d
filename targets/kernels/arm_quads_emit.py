"""TensorIR of depthwise int8 convolutions by sdot: the tiles of depthwise_dots_emit.py with AArch64's vectors.

A vector of 16 bytes is one block of channels, and what is dealt comes to lie in the order of the channels.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from .arm_bytes import BLOCK, HELD, LANES, added
from .arm_dots import dot, splat
from .arm_quads_rows import groups
from .arm_tail import Sums, Tail, lifted, offset
from .common_emit import Frame, put, vector
from .conv_shape import Window
from .depthwise_dots_emit import Dots
from .depthwise_dots_filters import Group
from .depthwise_dots_rows import QUADS


class Quads(Dots):
    def __init__(self, problem: Problem, choice: Choice, w: Window) -> None:
        super().__init__(problem, choice, w, QUADS.taps, 1)
        self.groups, self.held = groups(w), choice.get(HELD)
        self.operands = []  # what follows reads them where they lie

    def begins(self, start: Expr) -> Expr:
        return start + tir.broadcast(tir.i32(lifted(self.held)), LANES)

    def repeated(self, lanes: int) -> Expr:
        return tirx.reinterpret(f"int32x{lanes}", splat(self.zero))

    def dot(self, total: Expr, x: Expr, w: Expr) -> Expr:
        return dot(total, *(tirx.reinterpret("int8x16", v) for v in (x, w)))

    def load(self, g: Group, row: Expr, column: Expr) -> Expr:
        place = (g.image * self.w.height.size + row) * self.w.width.size + column
        return vector(self.flat[self.x], BLOCK, (place * self.blocks + g.block) * BLOCK)

    def nothing(self, g: Group) -> Expr:
        return splat(self.zero)

    def finish(self, frame: Frame, g: Group, sums: list[Expr], row: Any, column: Any) -> Stmt:
        whole, rest = divmod(self.w.channels_out, BLOCK)
        last = isinstance(g.block, tirx.IntImm) and int(g.block) == whole
        stage, alloc = tir.local((BLOCK,), "int32", "stage")
        copy = [put(stage, x, LANES, LANES * k) for k, x in enumerate(sums)]
        place = (row, column) if len(self.anchor.shape) == 4 else (column,)

        def index(lane: Expr) -> tuple[Expr, ...]:
            return (g.image, g.block * BLOCK + lane, *place)

        rescaling = added(self.problem, self.held)

        def own(lane: Expr) -> Expr:
            assert rescaling is not None
            return offset(frame, rescaling, g.block * BLOCK + lane)

        sums_of = Sums(stage, 0, rest if last else BLOCK, index, own)
        return tir.seq(alloc, copy, Tail(self.problem, self.choice).store(frame, [sums_of]))
