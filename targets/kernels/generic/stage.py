"""One fold of a kernel: where it starts, what a position adds, how partial results join; and where terms are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...tir import Expr, Stmt

Parts = tuple[Expr, ...]  # components of an accumulator
Prior = list[Expr]  # results of the stages before, at this point


@dataclass
class Stage:
    """One fold. `term` is built at the current positions; components are stored in order, each from the old ones.

    `keep`: where they can be kept, a row's terms follow the stages' results, for `write`. `in_order`: identity and
    combination that are simpler where terms come in the order of their positions.
    """

    dtypes: tuple[str, ...]
    identity: Parts
    term: Callable[[Prior], Parts]
    combine: Callable[[Parts, Parts], Parts]
    result: Callable[[Parts], Expr] = lambda parts: parts[-1]
    keep: bool = False
    in_order: tuple[Parts, Callable[[Parts, Parts], Parts]] | None = None

    @property
    def sequential(self) -> tuple[Parts, Callable[[Parts, Parts], Parts]]:
        """Identity and combination where each lane sees its terms in order."""
        return self.in_order or (self.identity, self.combine)


@dataclass(frozen=True)
class Kept:
    """Where the terms of a row are kept: `put` and `get` one at the current position."""

    put: Callable[[Expr], Stmt]
    get: Callable[[], Expr]
