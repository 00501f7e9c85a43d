"""The least sum of tables over discrete variables, by elimination of one variable after another.

Eliminating a variable adds up the tables that it is in and keeps, for every setting of its neighbours, the best of its
own: dynamic programming, which is exact for any graph and fast where the graph is nearly a tree, as networks are
(Bertele and Brioschi, "Nonserial Dynamic Programming", 1972). Where a table would grow beyond `LARGEST`, the variable
with the most neighbours is settled by itself first: only then may the sum be more than the least.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from edgec.compiler.ir import Array

LARGEST = 1 << 20  # elements of a table


@dataclass(frozen=True)
class Table:
    """`cost[i, j, ...]`: what it costs that the variables have values i, j, ..."""

    variables: tuple[int, ...]
    cost: Array

    def over(self, variables: Sequence[int]) -> Array:
        """The costs with an axis for each of some variables, of length one for those that do not matter."""
        order = sorted(range(len(self.variables)), key=lambda k: variables.index(self.variables[k]))
        sizes = dict(zip(self.variables, self.cost.shape, strict=True))
        return self.cost.transpose(order).reshape([sizes.get(v, 1) for v in variables])

    def given(self, variable: int, value: int) -> Table:
        axis = self.variables.index(variable)
        left = self.variables[:axis] + self.variables[axis + 1 :]
        return Table(left, np.take(self.cost, value, axis=axis))


def least(sizes: Sequence[int], tables: Iterable[Table]) -> list[int]:
    """A value below its size for each variable, such that the sum of the tables is least; the first of equal ones."""
    rest = list(tables)
    near: dict[int, set[int]] = {v: set() for v in range(len(sizes))}
    for table in rest:
        for v in table.variables:
            near[v].update(set(table.variables) - {v})
    done: list[tuple[int, tuple[int, ...], Array]] = []  # a variable, its neighbours, its best value for each of theirs
    while near:
        grown = {v: sizes[v] * prod(sizes[n] for n in around) for v, around in near.items()}
        v = min(grown, key=lambda v: (grown[v], v))
        if grown[v] <= LARGEST:
            around = tuple(sorted(near.pop(v)))
            total = sum(
                (t.over((*around, v)) for t in rest if v in t.variables), np.zeros([sizes[n] for n in (*around, v)])
            )
            rest = [t for t in rest if v not in t.variables]
            rest.append(Table(around, total.min(axis=-1)))
            done.append((v, around, total.argmin(axis=-1)))
            for n in around:
                near[n] |= set(around) - {n}
                near[n].discard(v)
        else:
            v = max(near, key=lambda v: (len(near[v]), -v))
            value = _alone(v, sizes[v], rest)
            rest = [t.given(v, value) if v in t.variables else t for t in rest]
            done.append((v, (), np.array(value)))
            for n in near.pop(v):
                near[n].discard(v)
    found = [0] * len(sizes)
    for v, around, best in reversed(done):
        found[v] = int(best[tuple(found[n] for n in around)])
    return found


def _alone(variable: int, size: int, tables: Sequence[Table]) -> int:
    """The best value of a variable if each of its tables were at its best."""
    own = [
        t.cost.min(axis=tuple(k for k, v in enumerate(t.variables) if v != variable))
        for t in tables
        if variable in t.variables
    ]
    return int(sum(own, np.zeros(size)).argmin())
