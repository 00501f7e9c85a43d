"""The sums of the lanes of several vectors, side by side in vectors.

Two vectors become one, whose halves hold the sums of neighbours of one and of the other; and again, until each lane is
the sum of one of the first.
"""

from __future__ import annotations

from collections.abc import Iterator

from tvm import tirx

from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt


def lane_sums(vectors: list[Expr], lanes: int) -> tuple[list[Expr], list[Stmt]]:
    """The vectors of sums, and the statements that make them."""
    binds: list[Stmt] = []
    size = lanes
    while size > 1:
        merged = []
        for pair in _pairs(vectors):
            even, odd = (tirx.Shuffle(list(pair), [tir.i32(i) for i in range(k, 2 * lanes, 2)]) for k in (0, 1))
            name, bind = tir.let(even + odd, "sum")
            merged.append(name)
            binds.append(bind)
        vectors, size = merged, size // 2
    return vectors, binds


def _pairs(vectors: list[Expr]) -> Iterator[tuple[Expr, Expr]]:
    """Neighbours; the last one alone stands beside itself."""
    for i in range(0, len(vectors), 2):
        yield vectors[i], vectors[min(i + 1, len(vectors) - 1)]
