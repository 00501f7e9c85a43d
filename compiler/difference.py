"""A value of a bundle beside the reference: how far apart they are, and how far they may be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """One compared value. `where` is the step that made it, or "output"."""

    where: str
    value: str
    error: float
    tolerance: float
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance
