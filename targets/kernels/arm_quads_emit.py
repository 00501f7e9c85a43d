"""TensorIR of depthwise int8 convolutions by sdot: the tiles of depthwise_quads_emit.py with AArch64's vectors.

A vector of 16 bytes is one block of channels, and what is dealt comes to lie in the order of the channels.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from .arm_bytes import BLOCK, LANES
from .arm_dots import dot, splat
from .arm_quads_rows import groups
from .arm_tail import store
from .common_emit import Frame, put, vector
from .conv_emit import source
from .conv_shape import Window
from .depthwise_quads_emit import Group
from .depthwise_quads_emit import Quads as Fours
from .depthwise_quads_rows import Shift


class Quads(Fours):
    def __init__(self, problem: Problem, choice: Choice, w: Window) -> None:
        super().__init__(problem, choice, w)
        self.groups = groups(w)
        self.operands = []

    def prepared(self, frame: Frame, g: Group) -> Stmt:
        """Filters for each shift, and what sums start from: the bias less zero point * sum of the weights."""
        block, bias = g[1], self.problem.anchor.args[2]
        parts: list[Stmt] = []
        for k in range(4):
            sums: Expr = tir.broadcast(tir.i32(0), LANES)
            for kh in range(self.w.height.kernel):
                bound = [tir.let(self.filter(block, kh, i, k, LANES), "w") for i in range(self.taken)]
                row = [name for name, _ in bound]
                parts += [bind for _, bind in bound]
                for by, s in self.shifts.items():
                    for i in range(s.count):
                        parts.append(self.keep(frame, self.shifted(row, by, i, LANES), self.slot(by, kh, i, k)))
                for x in row if self.zero else []:
                    sums = dot(sums, splat(1), tirx.reinterpret("int8x16", x))
            start = vector(self.flat[bias], LANES, block * BLOCK + LANES * k)
            if self.zero:
                start = start - sums * tir.broadcast(tir.i32(self.zero), LANES)
            parts.append(self.keep(frame, start, self.other(0, k)))
        return tir.seq(parts)

    def slot(self, by: int, kh: int, i: int, k: int) -> int:
        return super().slot(by, kh, i, k) // 4

    def other(self, number: int, k: int) -> int:
        return super().other(number, k) // 4

    def dots(
        self,
        frame: Frame,
        acc: Buffer,
        x: Expr,
        at: tuple[int, int],
        users: list[tuple[int, int]],
        placed: list[Shift],
        lanes: int,
    ) -> list[Stmt]:
        first, k = at
        parts = []
        for r, kh in users:
            for c, s in enumerate(placed):
                i = (first - s.first) // 4
                if (first - s.first) % 4 == 0 and 0 <= i < s.count:
                    here = ((r * len(placed) + c) * 4 + k) * lanes
                    filters = self.kept(frame, self.slot(s.by, kh, i, k), lanes)
                    x8, w8 = (tirx.reinterpret("int8x16", v) for v in (x, filters))
                    parts.append(put(acc, dot(vector(acc, lanes, here), x8, w8), lanes, here))
        return parts

    def pixel(self, g: Group, row: Expr | None, column: Any, at: int, edge: bool) -> Expr:
        image, block, _ = g
        w = self.w.width
        if row is None or (edge and not 0 <= column * w.stride - w.pad + at < w.size):
            return splat(self.zero)
        place = (image * self.w.height.size + row) * w.size + (source(w, column, 0) + at)
        return vector(self.flat[self.x], BLOCK, (place * self.blocks + block) * BLOCK)

    def finish(self, frame: Frame, g: Group, acc: Buffer, at: int, row: Any, column: Any) -> Stmt:
        image, block, _ = g
        whole = self.w.channels_out // BLOCK
        last = isinstance(block, tirx.IntImm) and int(block) == whole
        stage, alloc = tir.local((BLOCK,), "int32", "stage")
        copy = [put(stage, vector(acc, LANES, at + LANES * k), LANES, LANES * k) for k in range(4)]
        spatial = (row, column) if len(self.anchor.shape) == 4 else (column,)
        width = self.w.channels_out % BLOCK if last else BLOCK
        end = store(frame, self.anchor, stage, 0, width, lambda v: (image, block * BLOCK + v, *spatial))
        return tir.seq(alloc, copy, end)
