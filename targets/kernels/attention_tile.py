"""A register tile: numbers times vectors, summed over steps. Both products of attention are made of these."""

from __future__ import annotations

from collections.abc import Callable

from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from .common_emit import F32, put, vector


class Tile:
    """Accumulators in registers: `rows` of vectors with these true widths."""

    def __init__(self, rows: int, widths: tuple[int, ...], lanes: int) -> None:
        self.rows, self.widths, self.lanes = rows, widths, lanes
        self.acc, self.alloc = tir.local((rows * len(widths) * lanes,), F32)
        self.places = [(i, v) for i in range(rows) for v in range(len(widths))]

    def slot(self, i: int, v: int) -> int:
        return (i * len(self.widths) + v) * self.lanes

    def sum(self, i: int, v: int) -> Expr:
        return vector(self.acc, self.widths[v], self.slot(i, v))

    def sums(self, steps: int, line: Callable[[Expr, int], Expr], number: Callable[[Expr, int], Expr]) -> Stmt:
        """Row i, vector v: the sum over steps k of number(k, i) * line(k, v)."""

        def step(k: Expr) -> Stmt:
            parts: list[Stmt] = []
            lines = []
            for v in range(len(self.widths)):
                x, bind = tir.let(line(k, v), "line")
                parts.append(bind)
                lines.append(x)
            for i in range(self.rows):
                x, bind = tir.let(number(k, i), "number")
                parts.append(bind)
                for v, n in enumerate(self.widths):
                    parts.append(put(self.acc, self.sum(i, v) + tir.broadcast(x, n) * lines[v], n, self.slot(i, v)))
            return tir.seq(parts)

        zero = [self._zero(i, v) for i, v in self.places]
        return tir.seq(self.alloc, zero, tir.loop(steps, step, "k"))

    def _zero(self, i: int, v: int) -> Stmt:
        return put(self.acc, tir.broadcast(tir.lit(0.0, F32), self.widths[v]), self.widths[v], self.slot(i, v))
