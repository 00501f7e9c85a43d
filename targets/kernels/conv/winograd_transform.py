"""A small constant matrix times a column of vectors, in few operations: rows that differ in signs share halves."""

from __future__ import annotations

from edgec.compiler.ir import Array
from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common_emit import F32


def transformed(matrix: Array, values: list[Expr], lanes: int) -> tuple[list[Stmt], list[Expr]]:
    """`matrix` [rows, len(values)] times the vectors `values` of `lanes` each: (statements to put first, a
    vector per row).

    Two rows whose coefficients are equal in some columns and opposite in the others (points p and -p) are the sum and
    the difference of the two halves.
    """
    binds: list[Stmt] = []
    found: dict[int, Expr] = {}
    for r, row in enumerate(matrix):
        if r in found:
            continue
        for s in range(r + 1, len(matrix)):
            same = [k for k, (a, b) in enumerate(zip(row, matrix[s], strict=True)) if a == b != 0]
            opposite = [k for k, (a, b) in enumerate(zip(row, matrix[s], strict=True)) if a == -b != 0]
            if same and opposite and len(same) + len(opposite) == sum(a != 0 for a in row):
                even, first = tir.let(_weighted(row, values, same, lanes), "even")
                odd, second = tir.let(_weighted(row, values, opposite, lanes), "odd")
                binds += [first, second]
                found[r], found[s] = even + odd, even - odd
                break
        else:
            found[r] = _weighted(row, values, [k for k, a in enumerate(row) if a != 0], lanes)
    return binds, [found[r] for r in range(len(matrix))]


def _weighted(row: Array, values: list[Expr], columns: list[int], lanes: int) -> Expr:
    """The sum of row[k] * values[k]; factors of one come first, so that each other term is one multiply-add."""
    total: Expr | None = None
    for k in sorted(columns, key=lambda k: (abs(row[k]) != 1, k)):
        factor = float(row[k])
        if total is None:
            total = values[k] if factor == 1 else values[k] * tir.broadcast(tir.lit(factor, F32), lanes)
        elif abs(factor) == 1:
            total = total + values[k] if factor > 0 else total - values[k]
        else:
            total = total + values[k] * tir.broadcast(tir.lit(factor, F32), lanes)
    assert total is not None
    return total
