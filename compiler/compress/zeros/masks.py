"""Which weights become zero, given what each is worth: any, n of each m, or whole blocks of outputs times inputs.

Scores and masks are arrays [outputs, inputs]; a mask is True where a weight stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ...errors import EdgecError
from ...ops.common import Tensor

MOST = 256  # outputs or inputs of a block


@dataclass(frozen=True)
class Pattern:
    """`n` of each `m` neighbouring inputs of an output stay; or, where m is 0, blocks of `outputs` x `inputs` go."""

    n: int = 0
    m: int = 0
    outputs: int = 1
    inputs: int = 1

    def __str__(self) -> str:
        if self.m:
            return f"{self.n}:{self.m}"
        return "one by one" if self.outputs * self.inputs == 1 else f"in blocks of {self.outputs}x{self.inputs}"

    @property
    def step(self) -> int:
        """Inputs that are decided on together."""
        return self.m or self.inputs


def pattern_of(n: int, m: int, block: str) -> Pattern:
    """The pattern that options ask for; a line that says what is wrong with them."""
    if n or m:
        if not 0 < n < m:
            raise EdgecError(f"prune: n={n}, m={m}: expected n of m weights to stay, 0 < n < m")
        if block:
            raise EdgecError(f"prune: block={block} does not go with n={n}, m={m}; give one of them")
        return Pattern(n, m)
    match = re.fullmatch(r"(\d+)x(\d+)", block or "1x1")
    sizes = [int(text) for text in match.groups()] if match else []
    if not sizes or min(sizes) < 1 or max(sizes) > MOST:
        raise EdgecError(f"prune: block={block}: expected outputs x inputs, 16x1 say, each from 1 to {MOST}")
    return Pattern(0, 0, sizes[0], sizes[1])


def of_units(scores: Tensor, pattern: Pattern) -> Tensor:
    """Sums of scores over the units that go together [rows, columns]; those at the edges may be smaller."""
    rows, columns = pattern.outputs, pattern.inputs
    padded = np.pad(scores, [(0, -scores.shape[0] % rows), (0, -scores.shape[1] % columns)])
    return np.asarray(padded.reshape(padded.shape[0] // rows, rows, -1, columns).sum((1, 3)))


def spread(units: Tensor, pattern: Pattern, shape: tuple[int, ...]) -> Tensor:
    """The opposite: each element's unit's value."""
    whole = np.repeat(np.repeat(units, pattern.outputs, 0), pattern.inputs, 1)
    return whole[: shape[0], : shape[1]]


def without_lowest(scores: Tensor, count: int, pattern: Pattern) -> Tensor:
    """The mask without the `count` units that are worth least."""
    units = of_units(scores, pattern)
    keep = np.ones(units.size, bool)
    keep[np.argsort(units, axis=None, kind="stable")[:count]] = False
    return spread(keep.reshape(units.shape), pattern, scores.shape)


def best_of_groups(scores: Tensor, pattern: Pattern) -> Tensor:
    """The mask that keeps the best n of each m inputs; of a last, shorter group as large a share, rounded up."""
    keep = np.zeros(scores.shape, bool)
    for start in range(0, scores.shape[1], pattern.m):
        part = scores[:, start : start + pattern.m]
        kept = -(-pattern.n * part.shape[1] // pattern.m)
        best = np.argsort(-part, axis=1, kind="stable")[:, :kept]
        np.put_along_axis(keep[:, start : start + pattern.m], best, True, 1)
    return keep
