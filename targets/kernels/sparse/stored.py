"""TensorIR of constants without their zeros: which blocks a row of them has, and where along the inputs they stand."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.compiler.layout import layout
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt


class StoredBlocks:
    """The sections of a compressed constant that lies in `buffer`; `heads` must stand before their use."""

    def __init__(self, value: Value, buffer: Buffer, pointer_bits: int) -> None:
        shape, word = value.type.shape, f"int{pointer_bits}"
        sparse = layout(value.type.layout, len(shape)).sparse
        assert sparse is not None
        self.values = buffer
        self.starts, first = tir.section(buffer, "int32", sparse.rows(shape) + 1, sparse.starts_at(), word)
        self.index, second = tir.section(buffer, "uint16", sparse.count, sparse.index_at(shape), word)
        self.heads = [first, second]

    def place(self, k: Expr) -> Expr:
        """Which block of its slice of the inputs number `k` is."""
        return tirx.Cast("int32", tir.load(self.index, k))

    def each(self, row: Expr, step: Callable[[Expr], Stmt], abreast: int = 1) -> Stmt:
        """`step(k)` for the numbers of the blocks of a row, or for the first of each `abreast` of them."""
        begin, low = tir.let(tir.load(self.starts, row), "begin")
        end, high = tir.let(tir.load(self.starts, row + 1), "end")
        if abreast == 1:
            return tir.seq(low, high, tir.loop(end - begin, step, "k", start=begin))
        turns = tirx.floordiv(end - begin, abreast)
        return tir.seq(low, high, tir.loop(turns, lambda turn: step(begin + turn * abreast), "k"))
