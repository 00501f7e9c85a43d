"""Any elementwise code after sums of bytes: sums wait in memory for code that runs over whole pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.compiler.registry import Problem
from edgec.targets import tir
from edgec.targets.access import Place
from edgec.targets.body import Body
from edgec.targets.conversions import fetched, put
from edgec.targets.tir import Buffer, Expr, Index, Stmt

from .bytes_tail import of_channels
from .common_emit import Frame
from .common_emit import put as put_vector


@dataclass(frozen=True)
class Beside(Place):
    """A value whose channels lie side by side: bytes in blocks of 16, or an operand of the channels."""

    channels: int = 0  # with padding

    def address(self, index: Index) -> Expr:
        """Of the element at a logical index."""
        rank = len(self.type.shape)
        axis = rank - 3 if rank >= 3 else rank - 2 if rank == 2 else 0
        axis = min(axis, 1)
        place: Any = tir.i32(0)
        for k, (x, n) in enumerate(zip(index, self.type.shape, strict=True)):
            if k != axis and n > 1:
                place = place * n + x
        return place * self.channels + index[axis]

    def load(self, index: Index) -> Expr:
        return fetched(tir.load(self.buffer, self.address(index)), self.type.dtype)

    def store(self, value: Expr, index: Index) -> Stmt:
        return tir.store(self.buffer, put(value, self.type.dtype), self.address(index))


class Stage:
    """What follows the anchor of a body whose bytes lie in blocks of 16 channels; `flat` are views of buffers."""

    def __init__(self, problem: Problem, frame: Frame, flat: dict[Value, Buffer]) -> None:
        self.problem, self.frame = problem, frame
        shape = problem.anchor.types[0].shape
        self.rank, self.channels = len(shape), -(-shape[1] // 16) * 16
        beside = {
            v: Beside(v.type, flat[v], self.channels)
            for v in problem.body.inputs
            if (v.shape == shape or of_channels(v, shape)) and frame.body.places[v] is frame.places[v]
        }
        self.body = Body(problem.body, {**frame.body.places, **beside})
        self.out = Beside(frame.out.type, flat[frame.out], self.channels)

    def finish(
        self, sums: Sequence[Sequence[Expr]], rows: Sequence[Any], columns: Sequence[Any], image: Expr, block: Expr
    ) -> Stmt:
        """`sums`: per pixel of the tile, rows first, its four dealt vectors."""
        lanes = sums[0][0].ty.dtype.lanes
        width = 4 * lanes
        stage, alloc = tir.local((len(sums) * width,), "int32", "stage")
        parts: list[Stmt] = [alloc]
        for p, dealt in enumerate(sums):
            for n in range(lanes // 4):  # 16 channels: four lanes of each vector
                order = [tir.i32(k * lanes + 4 * n + j) for k in range(4) for j in range(4)]
                whole = tirx.Shuffle(list(dealt), order)
                parts.append(put_vector(stage, whole, 16, p * width + 16 * n))

        def pixel(r: Expr, c: Expr) -> Stmt:
            at = (r * len(columns) + c) * width
            row, column = tir.expr(rows[0]) + r, tir.expr(columns[0]) + c

            def lane(v: Expr) -> Stmt:
                self.body.bind(self.problem.anchor.results[0], lambda _: tir.load(stage, at + v))
                channel = block * 16 + v
                index = (image, channel, row, column) if self.rank == 4 else (image, channel, column)
                return self.out.store(self.body.at(self.frame.out, index), index)

            return tir.vectorized(width, lane)

        def line(r: Expr) -> Stmt:
            return tir.loop(len(columns) + self.frame.zero, lambda c: pixel(r, c), "c")

        return tir.seq(parts, tir.loop(len(rows) + self.frame.zero, line, "r"))
