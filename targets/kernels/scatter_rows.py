"""scatter: ScatterElements and ScatterND. Data are copied unless they lie in the result already; updates follow.

What is written to is `outer` blocks of `rows` rows of `size` elements. Where an index addresses a whole row, updates
are vectors. A task has a block, or some rows of one, and skips updates of others: no two tasks write one element.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Node
from edgec.compiler.op import full_attrs
from edgec.compiler.ops.scatter import lines
from edgec.compiler.target import Cpu

from .plain import Tensors, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..tir import Expr, Stmt

FIND = 3.0  # cycles to load an index, and to see whether an update is a task's own
ELEMENT = 4.0  # cycles of an update of one element beside that


@dataclass(frozen=True)
class Rows:
    """How a scatter lies in memory: `count` updates for each block; `whole`: an index addresses a whole row."""

    outer: int
    rows: int
    size: int
    count: int
    whole: bool

    def cycles(self, element_bytes: int, cpu: Cpu) -> float:
        """Of all copies and updates, on one core."""
        lanes = max(1, cpu.lanes(8 * element_bytes))
        copies = self.outer * self.rows * self.size / lanes
        updates = self.outer * self.count * (self.size / lanes if self.whole else self.size * ELEMENT)
        return 2.0 * copies + 2.0 * updates + self.finding

    @property
    def finding(self) -> float:
        return FIND * self.outer * self.count * (1 if self.whole else self.size)

    def parts(self, element_bytes: int, cpu: Cpu, threads: int) -> int:
        """Parts of each block: no more than let tasks look for their updates in a quarter of their time."""
        if threads == 1 or self.outer >= 4 * threads:
            return 1
        worth = self.cycles(element_bytes, cpu) / (4 * max(self.finding, 1.0))
        limit = self.rows if self.whole else self.size
        return max(1, min(limit, 4 * threads // self.outer, int(worth) if self.whole else limit))


def rows_of(node: Node) -> Rows:
    """The blocks and rows of a node."""
    shape, indices, updates = node.types[0].shape, node.args[1].shape, node.args[2].shape
    if node.op == "ScatterND":
        depth = indices[-1]
        return Rows(1, prod(shape[:depth]), prod(shape[depth:]), prod(indices[:-1]), True)
    attrs: Any = full_attrs(node)
    axis = attrs["axis"] % len(shape)
    outer, rows, size = lines(shape, axis)
    same = updates[:axis] == shape[:axis] and updates[axis + 1 :] == shape[axis + 1 :]
    whole = same and (size == 1 or prod(indices[axis + 1 :]) == 1)
    return Rows(outer, rows, size, updates[axis], whole)


def _cycles(node: Node, cpu: Cpu) -> float:
    return rows_of(node).cycles(dtype(node.types[0].dtype).bytes, cpu)


def _code(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    from .scatter_emit import elements, whole_rows

    rows = rows_of(t.node)
    parts = rows.parts(dtype(t.node.types[0].dtype).bytes, t.problem.target.cpu, t.problem.threads)
    return (whole_rows if rows.whole else elements)(t, rows, parts)


plain("scatter", ["ScatterElements", "ScatterND"], _code, _cycles, "updates of elements or rows, in order", flat=True)
