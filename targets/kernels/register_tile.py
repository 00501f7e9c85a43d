"""A register tile: numbers times vectors, summed over steps: products of attention, Winograd and recurrence."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tvm import tirx

from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from .common_emit import F32, put, vector
from .cost import QUAD

Numbers = Callable[[Expr, int], Expr]  # of a step, and of a row or a vector


class Tile:
    """Accumulators in registers: `rows` of vectors with these true widths."""

    def __init__(self, rows: int, widths: tuple[int, ...], lanes: int, kind: str = F32) -> None:
        self.rows, self.widths, self.lanes, self.kind = rows, widths, lanes, kind
        self.acc, self.alloc = tir.local((rows * len(widths) * lanes,), kind)
        self.places = [(i, v) for i in range(rows) for v in range(len(widths))]

    def slot(self, i: int, v: int) -> int:
        return (i * len(self.widths) + v) * self.lanes

    def sum(self, i: int, v: int) -> Expr:
        return vector(self.acc, self.widths[v], self.slot(i, v))

    def sums(self, steps: int, line: Numbers, number: Numbers) -> Stmt:
        """Row i, vector v: the sum over steps k of number(k, i) * line(k, v)."""
        loop = tir.steps(
            steps, lambda k: self.step(lambda v: line(k, v), lambda i: number(k, i)), "k", len(self.places)
        )
        return tir.seq(self.alloc, self.zeros(), loop)

    def sums_along(self, steps: int, line: Numbers, number: Numbers, four: Numbers) -> Stmt:
        """The same where the numbers of a row lie together: `four(k, i)` are those of four steps from k on, each of
        which multiplies by a lane."""

        def turn(q: Expr) -> Stmt:
            return self.four_steps(lambda k, v: line(q * QUAD + k, v), lambda i: four(q * QUAD, i))

        whole, rest = divmod(steps, QUAD)
        left = [tir.i32(whole * QUAD + k) for k in range(rest)]
        ends = [self.step(partial(line, k), partial(number, k)) for k in left]
        return tir.seq(self.alloc, self.zeros(), tir.loop(whole, turn, "k") if whole else None, ends)

    def four_steps(self, line: Callable[[int, int], Expr], four: Callable[[int], Expr]) -> Stmt:
        """Four steps, of which `four(i)` are the numbers of row i."""
        numbers = [tir.let(four(i), "numbers") for i in range(self.rows)]

        def one(k: int) -> Stmt:
            return self.step(partial(line, k), lambda i: _lane(numbers[i][0], k))

        return tir.seq([bind for _, bind in numbers], [one(k) for k in range(QUAD)])

    def sums_across(self, steps: int, line: Numbers, number: Numbers, four: Numbers) -> Stmt:
        """The same where the numbers of a step lie together: `four(k, i)` are those of four rows from i on."""

        def one(k: Expr) -> Stmt:
            numbers = [tir.let(four(k, i), "numbers") for i in range(0, self.rows // QUAD * QUAD, QUAD)]

            def of(i: int) -> Expr:
                return _lane(numbers[i // QUAD][0], i % QUAD) if i // QUAD < len(numbers) else number(k, i)

            return tir.seq([bind for _, bind in numbers], self.step(partial(line, k), of))

        return tir.seq(self.alloc, self.zeros(), tir.steps(steps, one, "k", len(self.places)))

    def zeros(self) -> list[Stmt]:
        """All sums at zero."""
        return [self._put(i, v, tir.broadcast(tir.lit(0.0, self.kind), self.widths[v])) for i, v in self.places]

    def step(self, line: Callable[[int], Expr], number: Callable[[int], Expr]) -> Stmt:
        """Add number(i) * line(v) to the sum of row i, vector v; each is read once."""
        parts: list[Stmt] = []
        lines = []
        for v in range(len(self.widths)):
            x, bind = tir.let(line(v), "line")
            parts.append(bind)
            lines.append(x)
        for i in range(self.rows):
            x, bind = tir.let(number(i), "number")
            parts.append(bind)
            parts += [
                self._put(i, v, self.sum(i, v) + tir.broadcast(x, n) * lines[v]) for v, n in enumerate(self.widths)
            ]
        return tir.seq(parts)

    def _put(self, i: int, v: int, value: Expr) -> Stmt:
        return put(self.acc, value, self.widths[v], self.slot(i, v))


def _lane(numbers: Expr, k: int) -> Expr:
    return tirx.Shuffle([numbers], [tir.i32(k)])
