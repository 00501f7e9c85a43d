"""TensorIR of depthwise int8 convolutions on AArch64: differences from the zero point and weights are of 16 bits."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.body import align
from edgec.targets.integer import rescale_once, unpacked_once
from edgec.targets.tir import Buffer, Expr, Stmt

from ..common import ceil_div, unblocked
from ..common_emit import Frame, vector
from ..conv.planes import Planes, Spot
from ..conv.shape import Window
from ..int8.multipliers import widened
from .bytes import DIRECT, added, held
from .depthwise_rows import LANES
from .tail import lifted, offset, unpacked


class Depthwise(Planes):
    kind = "int32"
    starts: Buffer
    offsets: Buffer

    def __init__(self, problem: Problem, choice: Choice, w: Window) -> None:
        x, self.weight, self.bias = problem.anchor.args
        super().__init__(problem, choice, w, x)
        self.lanes, self.blocks = LANES, ceil_div(w.channels_out, LANES)
        attrs: Any = full_attrs(problem.anchor)
        self.zero = int(attrs["zero"])
        kept = held(problem)
        self.added = added(problem, kept) if kept == DIRECT else None
        self.lifted = lifted(kept) if self.added else 0

    def view(self, value: Value) -> Type:
        return unblocked(value.type)

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

    def plane(self, frame: Frame, image: Expr, block: Expr, band: Expr, width: int) -> Stmt:
        """Biases, short multipliers and what products are reduced by are made ready for all pixels."""
        first, rescaling = block * LANES, self.added
        self.starts, alloc = tir.local((LANES,), "int32", "starts")
        self.offsets, alloc_offsets = tir.local((LANES,), "float32", "offsets")

        def start(lane: Expr) -> Stmt:
            channel = first + lane if self.bias.shape[0] > 1 else tir.i32(0)
            return tir.store(self.starts, frame.body.at(self.bias, (channel,)) + self.lifted, lane)

        parts: list[Stmt] = [alloc, tir.vectorized(width, start), *widened(frame, first, [width], LANES)]
        if rescaling is not None:

            def one(lane: Expr) -> Stmt:
                return tir.store(self.offsets, offset(frame, rescaling, first + lane), lane)

            parts += [alloc_offsets, tir.vectorized(width, one)]
        return tir.seq(parts, super().plane(frame, image, block, band, width))

    def result(self, frame: Frame, s: Spot, value: Expr, channel: Expr, row: Any, column: Any) -> Expr:
        lane = channel - s.block * LANES
        total = value + tir.load(self.starts, lane)
        node = self.added
        if node is not None:
            attrs: Any = full_attrs(node)
            index = (s.image, channel, row, column) if self.rank == 4 else (s.image, channel, column)
            factor = frame.body.at(node.args[1], align(index, node.args[1].shape))
            once = unpacked_once if unpacked(self.problem, node) else rescale_once
            made = once(total, factor, tir.load(self.offsets, lane), **attrs)
            frame.body.bind(node.results[0], lambda _: made)
        return total
