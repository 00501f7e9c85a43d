"""TensorIR of f32 matrix products of any leading axes: where rows, columns and batches of the operands lie."""

from __future__ import annotations

from math import prod
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Value
from edgec.compiler.layout import physical_shape
from edgec.compiler.registry import Choice, Emitted, Problem

from .... import tir
from ....cuda.block import pointer
from ....tir import Expr, Stmt
from ..epilogue import Finish, Run, finishing
from .emit import Simt, copied
from .matmul_rows import product_of
from .tile import PAD, Tile, tile_of


class MatMul(Simt):
    def __init__(self, problem: Problem, tile: Tile) -> None:
        super().__init__(problem, product_of(problem), tile)
        self.shape = problem.anchor.types[0].shape

    def prepare(self) -> Stmt:
        a, b = self.problem.anchor.args
        places = self.frame.places
        self.a, a_declared = tir.flat(places[a].buffer)
        self.b, b_declared = tir.flat(places[b].buffer)
        self.stride = prod(physical_shape(b.type)[1:]) if b.type.layout else b.shape[-1]
        self.wide = 4 if self.product.depth % 4 == 0 else 1
        lead = self.shape[:-2]
        self.digits = tir.split(self.batch, *lead) if self.product.batch > 1 else (tir.i32(0),) * len(lead)
        start_a = beginning(a.shape, self.digits) if self.product.batch > 1 else tir.i32(0)
        start_b = beginning(b.shape, self.digits) if self.product.batch > 1 else tir.i32(0)
        (self.start_a, bind_a), (self.start_b, bind_b) = tir.let(start_a, "start_a"), tir.let(start_b, "start_b")
        return tir.seq(a_declared, b_declared, bind_a, bind_b)

    @property
    def weights(self) -> Value:
        return self.problem.anchor.args[1]

    def right(self, stage: Expr, k: Expr) -> Stmt:
        return self.columns(self.b, stage, k, self.start_b, self.stride, 4 if self.stride % 4 == 0 else 1)

    def left(self, stage: Expr, k: Expr) -> Stmt:
        t, product, wide = self.tile, self.product, self.wide
        across = t.step // wide
        chunks = t.rows * across

        def one(r: Expr) -> Stmt:
            number = self.thread + r * t.threads
            row, within = tirx.floordiv(number, across), tirx.floormod(number, across) * wide
            at = k * t.step + within
            inside: list[Expr] = []
            if product.rows % t.rows:
                inside.append(self.row0 + row < product.rows)
            if product.depth % t.step:
                inside.append(at < product.depth)
            target = pointer(self.shared, stage + row * (t.step + PAD) + within)
            origin = pointer(self.a, self.start_a + (self.row0 + row) * product.depth + at)
            return self.guarded(number, chunks, copied(4 * wide, target, origin, inside))

        return tir.unrolled(self.shares(chunks), one, "r")

    def store(self, row: Expr, column: Expr, lanes: int, acc: Any) -> Finish:
        lead = self.shape[:-2]
        if self.product.batch > 1:
            index = (*self.digits, row, column)
            offset = (self.batch * self.product.rows + row) * self.product.columns + column
        else:
            index = (*tir.split(row, *lead, self.shape[-2]), column)
            index = tuple(0 if n == 1 else x for n, x in zip(self.shape[:-1], index, strict=False)) + (column,)
            offset = row * self.product.columns + column
        return finishing(self.frame, Run(index, lanes, offset), [(Value(self.problem.anchor), acc)])


def beginning(shape: tuple[int, ...], digits: tuple[Expr, ...]) -> Expr:
    """Where an operand's matrix begins, for the result's leading indices; axes of one are broadcast."""
    start: Expr = tir.i32(0)
    lead = shape[:-2]
    for n, digit in zip(lead, digits[len(digits) - len(lead) :], strict=True):
        start = start * n + (digit if n > 1 else 0)
    return start * (shape[-2] * shape[-1])


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    return MatMul(problem, tile_of(choice)).emit(symbol)
