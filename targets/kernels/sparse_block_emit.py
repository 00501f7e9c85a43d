"""TensorIR of products whose weights are zero in blocks: the tiles of dense ones, steps of zeros left out."""

from __future__ import annotations

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.layout import layout
from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from .common_emit import Frame, put, vector
from .conv_emit import Conv, Tile, source
from .conv_shape import Window
from .matmul_emit import Packed


class Blocks(Conv):
    """A 1x1 convolution; a tile loops over the inputs for which its output channels have weights."""

    def __init__(
        self, problem: Problem, choice: Choice, w: Window, operands: tuple[Value, Value, Value | None]
    ) -> None:
        super().__init__(problem, choice, w, operands)
        shape = self.weight.type.shape
        sparse = layout(self.weight.type.layout, len(shape)).sparse
        assert sparse is not None
        self.sparse, self.blocks = sparse, sparse.rows(shape)
        self.index_at = sparse.index_at(shape)
        self.word = f"int{problem.target.pointer_bits}"
        self.short = False

    def reduce(self, frame: Frame, t: Tile, acc: Buffer, first: Expr, count: Expr) -> Stmt:
        """Over the stored blocks of the tile's row."""
        buffer = frame.places[self.weight].buffer
        starts, head = tir.section(buffer, "int32", self.blocks + 1, self.sparse.starts_at(), self.word)
        index, other = tir.section(buffer, "uint16", self.sparse.count, self.index_at, self.word)
        begin, low = tir.let(tir.load(starts, t.weights), "begin")
        end, high = tir.let(tir.load(starts, t.weights + 1), "end")
        h, w = self.w.height, self.w.width

        def step(k: Expr) -> Stmt:
            channel, parts = tir.let(tirx.Cast("int32", tir.load(index, k)), "channel")
            found: list[Stmt] = [parts]
            weights = []
            for v in range(len(t.widths)):
                at = (k * self.vectors + v) * self.lanes
                value, bind = tir.let(vector(buffer, self.lanes, at), "w")
                weights.append(value)
                found.append(bind)
            for p, (r, c) in enumerate(t.pixels):
                row, column = source(h, t.rows[r], 0), source(w, t.columns[c], 0)
                element = self.element(frame.places[self.x], t.image, channel, tir.i32(0), row, column)
                x, bind = tir.let(element, "x")
                found.append(bind)
                for v, value in enumerate(weights):
                    here = self.slot(t, p, v)
                    total = vector(acc, self.lanes, here) + tir.broadcast(x, self.lanes) * value
                    found.append(put(acc, total, self.lanes, here))
            return tir.seq(found)

        return tir.seq(head, other, low, high, tir.loop(end - begin, step, "k", start=begin))


class Rows(Blocks):
    """A matrix product; its rows are pixels."""

    leading = Packed.leading
    view = Packed.view  # type: ignore[assignment]
    index = Packed.index  # type: ignore[assignment]
    element = Packed.element  # type: ignore[assignment]


