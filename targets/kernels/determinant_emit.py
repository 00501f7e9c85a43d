"""TensorIR of determinants: one elimination step for each column of a copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgec.compiler.dtypes import dtype

from .. import tir
from ..conversions import narrow, widen
from ..tir import Expr, Stmt
from .plain import Tensors


@dataclass(frozen=True)
class _Matrix:
    """The copy: `n` rows of `width` elements, which are whole vectors."""

    held: Any
    n: int
    width: int
    lanes: int

    def at(self, i: Expr, j: Expr) -> Expr:
        return tir.load(self.held, i * self.width + j)

    def put(self, value: Expr, i: Expr, j: Expr) -> Stmt:
        return tir.store(self.held, value, i * self.width + j)

    def row(self, first: Expr, fn: Callable[[Expr], Stmt]) -> Stmt:
        """`fn(column)` for vectors of a row from number `first` on."""

        def vector(c: Expr) -> Stmt:
            return tir.vectorized(self.lanes, lambda v: fn((first + c) * self.lanes + v))

        return tir.loop(self.width // self.lanes - first, vector, "c")


def code(t: Tensors, kind: str, width: int) -> tuple[int, Callable[[Expr], Stmt]]:
    n, x = t.node.args[0].shape[-1], t.line(0)
    lanes = min(width, max(1, t.problem.target.cpu.lanes(64 if kind == "float64" else 32)))
    m = _Matrix(t.scratch[0], n, width, lanes)

    def task(matrix: Expr) -> Stmt:
        product, alloc = tir.local((1,), kind, "product")

        def copy(i: Expr, j: Expr) -> Stmt:
            return m.put(narrow(widen(x.load((matrix * n + i) * n + j)), kind), i, j)

        def row(i: Expr) -> Stmt:
            ends = [m.put(tir.lit(0, kind), i, tir.i32(j)) for j in range(n, width)]
            return tir.seq(tir.loop(n, lambda j: copy(i, j), "j"), ends)

        return tir.seq(
            alloc,
            tir.loop(n, row, "row"),
            tir.store(product, tir.lit(1, kind), 0),
            tir.loop(n, lambda k: _step(m, product, k), "k"),
            t.out().store(narrow(tir.load(product, 0), dtype(t.node.types[0].dtype).tvm), matrix),
        )

    return t.node.types[0].size, task


def _step(m: _Matrix, product: Any, k: Expr) -> Stmt:
    """One column: its pivot into row k and into the product, multiples of that row off those below.

    Vectors begin at the one that holds the column; what they do to columns before it, nobody reads.
    """
    best, alloc = tir.local((1,), "int32", "best")
    zero, first, below = tir.lit(0, str(m.held.dtype)), k // m.lanes, m.n - 1 - k
    pivot = tir.load(best, 0)

    def consider(d: Expr) -> Stmt:
        i = k + 1 + d
        return tir.when(tirx.abs(m.at(pivot, k)) < tirx.abs(m.at(i, k)), tir.store(best, i, 0))

    def exchange(j: Expr) -> Stmt:
        ours, name = tir.let(m.at(k, j), "ours")
        return tir.seq(name, m.put(m.at(pivot, j), k, j), m.put(ours, pivot, j))

    def eliminate(d: Expr) -> Stmt:
        i = k + 1 + d
        factor, name = tir.let(m.at(i, k) / m.at(k, k), "factor")
        return tir.seq(name, m.row(first, lambda j: m.put(m.at(i, j) - factor * m.at(k, j), i, j)))

    swapped = tir.seq(m.row(first, exchange), tir.store(product, zero - tir.load(product, 0), 0))
    return tir.seq(
        alloc,
        tir.store(best, k, 0),
        tir.loop(below, consider, "i"),
        tir.when(tirx.NE(pivot, k), swapped),
        tir.store(product, tir.load(product, 0) * m.at(k, k), 0),
        tir.when(tirx.NE(m.at(k, k), zero), tir.loop(below, eliminate, "i")),
    )
