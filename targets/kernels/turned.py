"""TensorIR that turns a square of numbers in registers: vectors along one axis become vectors along the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from .sparse.rows import PART


class Turning:
    """Collects the statements of squares that are turned."""

    def __init__(self) -> None:
        self.statements: list[Stmt] = []

    def turned(self, part: Callable[[int, int], Expr], lanes: int) -> list[Expr]:
        """The columns of a square of `lanes` rows, a multiple of PART; `part(row, k)` reads part k of a row.

        Parts of rows that lie PART apart are read into one vector, so that elements have only to move within parts.
        """
        columns: list[Expr] = []
        for k in range(lanes // PART):
            rows = [self._together([part(row, k) for row in range(j, lanes, PART)]) for j in range(PART)]
            pairs = [self._woven(rows[i], rows[i + 1], half, 1) for i in (0, 2) for half in (0, 1)]
            columns += [self._woven(pairs[i], pairs[i + 2], half, 2) for i in (0, 1) for half in (0, 1)]
        return columns

    def _together(self, parts: Sequence[Expr]) -> Expr:
        """Parts side by side."""
        whole = (
            parts[0] if len(parts) == 1 else tirx.Shuffle(list(parts), [tir.i32(k) for k in range(len(parts) * PART)])
        )
        return self._kept(whole)

    def _woven(self, a: Expr, b: Expr, half: int, run: int) -> Expr:
        """Runs of elements of two vectors in turn, from the first or the second half of each part."""
        lanes = a.ty.dtype.lanes
        order = [
            start + 2 * half + i + side + k
            for start in range(0, lanes, PART)
            for i in range(0, 2, run)
            for side in (0, lanes)
            for k in range(run)
        ]
        return self._kept(tirx.Shuffle([a, b], [tir.i32(k) for k in order]))

    def _kept(self, value: Expr) -> Expr:
        name, bind = tir.let(value, "turned")
        self.statements.append(bind)
        return name
