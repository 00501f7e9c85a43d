"""det: elimination with partial pivoting in a copy of each matrix; a task is a matrix, vectors lie along its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Node
from edgec.compiler.target import Cpu

from .plain import Part, Tensors, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..tir import Expr, Stmt


def _cycles(node: Node, cpu: Cpu) -> float:
    n, lanes = node.args[0].shape[-1], max(1, cpu.lanes(32))
    return node.types[0].size * (20.0 * n + n * n * (4.0 + 0.75 * n / lanes))


def _kind(node: Node) -> str:
    return "float64" if node.args[0].type.dtype == "f64" else "float32"


def _row(node: Node, cpu: Cpu) -> int:
    """Elements of a row of the copy: whole vectors, and zeros behind the matrix."""
    lanes = max(1, cpu.lanes(8 * (8 if _kind(node) == "float64" else 4)))
    return -(-node.args[0].shape[-1] // lanes) * lanes


def _scratch(node: Node, cpu: Cpu) -> Sequence[Part]:
    return [(_kind(node), node.args[0].shape[-1] * _row(node, cpu))]


def _code(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    from .. import tir
    from ..conversions import narrow, widen

    n, width, kind = t.node.args[0].shape[-1], _row(t.node, t.problem.target.cpu), _kind(t.node)
    held, x = t.scratch[0], t.line(0)
    lanes = width if width < 2 else max(1, t.problem.target.cpu.lanes(64 if kind == "float64" else 32))

    def task(matrix: Expr) -> Stmt:
        product, alloc = tir.local((1,), kind, "product")

        def copy(i: Expr, j: Expr) -> Stmt:
            return tir.store(held, narrow(widen(x.load((matrix * n + i) * n + j)), kind), i * width + j)

        def row(i: Expr) -> Stmt:
            return tir.seq(
                tir.loop(n, lambda j: copy(i, j), "j"),
                [tir.store(held, tir.lit(0, kind), i * width + j) for j in range(n, width)],
            )

        return tir.seq(
            alloc,
            tir.loop(n, row, "row"),
            tir.store(product, tir.lit(1, kind), 0),
            tir.loop(n, lambda k: _step(held, product, k, n, width, lanes), "k"),
            t.out().store(narrow(tir.load(product, 0), dtype(t.node.types[0].dtype).tvm), matrix),
        )

    return t.node.types[0].size, task


def _step(held: Any, product: Any, k: Expr, n: int, width: int, lanes: int) -> Stmt:
    """One column: its pivot into row k and into the product, multiples of that row off those below.

    Vectors begin at the one that holds the column; what they do to columns before it, nobody reads.
    """
    from tvm import tirx

    from .. import tir

    kind = str(held.dtype)
    best, alloc = tir.local((1,), "int32", "best")
    zero = tir.lit(0, kind)
    first = k // lanes

    def at(i: Expr, j: Expr) -> Expr:
        return tir.load(held, i * width + j)

    def consider(d: Expr) -> Stmt:
        i = k + 1 + d
        return tir.when(tirx.abs(at(tir.load(best, 0), k)) < tirx.abs(at(i, k)), tir.store(best, i, 0))

    def vectors(fn: Callable[[Expr], Stmt]) -> Stmt:
        return tir.loop(
            width // lanes - first, lambda c: tir.vectorized(lanes, lambda v: fn((first + c) * lanes + v)), "c"
        )

    def exchange(j: Expr) -> Stmt:
        ours, name = tir.let(at(k, j), "ours")
        return tir.seq(
            name,
            tir.store(held, at(tir.load(best, 0), j), k * width + j),
            tir.store(held, ours, tir.load(best, 0) * width + j),
        )

    def eliminate(d: Expr) -> Stmt:
        i = k + 1 + d
        factor, name = tir.let(at(i, k) / at(k, k), "factor")
        return tir.seq(name, vectors(lambda j: tir.store(held, at(i, j) - factor * at(k, j), i * width + j)))

    swapped = tir.seq(vectors(exchange), tir.store(product, zero - tir.load(product, 0), 0))
    below = n - 1 - k
    return tir.seq(
        alloc,
        tir.store(best, k, 0),
        tir.loop(below, consider, "i"),
        tir.when(tirx.NE(tir.load(best, 0), k), swapped),
        tir.store(product, tir.load(product, 0) * at(k, k), 0),
        tir.when(tirx.NE(at(k, k), zero), tir.loop(below, eliminate, "i")),
    )


plain("det", ["Det"], _code, _cycles, "determinants by elimination", _scratch, flat=True)
