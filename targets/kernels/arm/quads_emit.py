"""TensorIR of depthwise int8 convolutions by sdot: the tiles of int8/depthwise_dots_emit.py with AArch64's vectors.

A vector of 16 bytes is one block of channels, and what is dealt comes to lie in the order of the channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from ..common_emit import Frame, put, vector
from ..conv.shape import Window
from ..int8.depthwise_dots_emit import Dots
from ..int8.depthwise_dots_filters import Group
from ..int8.depthwise_dots_rows import QUADS
from ..int8.multipliers import widened
from .bytes import BLOCK, DIRECT, HELD, LANES, added
from .conv_emit import pieces
from .dots import dot, splat
from .quads_rows import groups
from .tail import Sums, Tail, lifted, offset


class Quads(Dots):
    offsets: Buffer

    def __init__(self, problem: Problem, choice: Choice, w: Window) -> None:
        super().__init__(problem, choice, w, QUADS.taps, 1)
        self.groups, self.held = groups(w), choice.get(HELD)
        self.staged = self.staged and self.held != DIRECT
        self.operands = []  # what follows reads them where they lie

    def _plane(self, frame: Frame, g: Group, band: Expr) -> Callable[[], Stmt]:
        whole = super()._plane(frame, g, band)
        return lambda: tir.seq(self.ready(frame, g), whole())

    def ready(self, frame: Frame, g: Group) -> list[Stmt]:
        """What products are reduced by, and short multipliers."""
        first, every = g.block * BLOCK, pieces(BLOCK if self.staged else self.width(g), LANES)
        parts = widened(frame, first, [width for _, width in every], LANES)
        rescaling = added(self.problem, self.held)
        if rescaling is None:
            return parts
        offsets, alloc = tir.local((BLOCK,), "float32", "offsets")
        for at, width in every:

            def one(lane: Expr, at: int = at) -> Stmt:
                return tir.store(offsets, offset(frame, rescaling, first + at + lane), at + lane)

            parts += [tir.vectorized(width, one)]
        self.offsets = offsets
        return [alloc, *parts]

    def width(self, g: Group) -> int:
        """Channels of a group."""
        whole, rest = divmod(self.w.channels_out, BLOCK)
        return rest if isinstance(g.block, tirx.IntImm) and int(g.block) == whole else BLOCK

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
        stage, alloc = tir.local((BLOCK,), "int32", "stage")
        copy = [put(stage, x, LANES, LANES * k) for k, x in enumerate(sums)]
        place = (row, column) if len(self.anchor.shape) == 4 else (column,)

        def index(lane: Expr) -> tuple[Expr, ...]:
            return (g.image, g.block * BLOCK + lane, *place)

        def own(lane: Expr) -> Expr:
            return tir.load(self.offsets, lane)

        sums_of = Sums(stage, 0, self.width(g), index, own)
        return tir.seq(alloc, copy, Tail(self.problem, self.choice).store(frame, [sums_of]))
