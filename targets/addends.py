"""Numbers that products are added to, read from memory each time: an fmla overwrites what it adds to, and to copy a
register takes a turn of the pipes that multiply, which a load does not.

LLVM must not know that it reads the same again, or it would keep one register and copy it: every place of a vector has
an element of its own, and the address of a turn of a loop is `turn` further, which is 0 when the kernel runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tvm import tirx

from . import tir
from .built_for import innermost, reads_addends, unscaled_loads
from .mathlib import f32
from .tir import Expr, Stmt

ROOM, WIDE = 16, 16  # numbers, and places of each
NEAR = 4  # numbers with an address of their own, from which offsets are short
REGISTER = 4


class Addends:
    """Those of a kernel. They are known when its code has been made: `filled` comes before it."""

    def __init__(self) -> None:
        self.buffer, self._alloc = tir.local((ROOM * WIDE,), "float32", "addends")
        self._numbers: dict[tuple[float, int], int] = {}
        self._turn: Expr | None = None
        self._next = 0

    @contextmanager
    def turning(self, turn: Expr) -> Iterator[None]:
        """Until it ends, what is made is in a loop that reads numbers from `turn` on."""
        self._turn = turn
        try:
            yield
        finally:
            self._turn = None

    def places(self) -> int | None:
        """Where the places of the vector that is being made begin; None where numbers are better left in the code."""
        lanes = innermost()
        if self._turn is None or lanes is None or lanes.count % REGISTER or lanes.count > WIDE or not reads_addends():
            return None
        at = self._next if self._next + lanes.count <= WIDE else 0
        self._next = at + lanes.count
        return at

    def load(self, number: float, at: int, use: int = 0) -> Expr:
        """A number, for the vector that is being made. What is read twice would be copied: a second `use` of a number
        has memory of its own."""
        slot = self._numbers.setdefault((number, use), len(self._numbers))
        lanes = innermost()
        if slot >= ROOM or lanes is None or self._turn is None:
            return f32(number)
        turn = self._turn * (1 + slot // NEAR) if unscaled_loads() else self._turn
        return tirx.BufferLoad(self.buffer, [turn + (slot * WIDE + at) + lanes.var])

    def filled(self, code: Stmt) -> Stmt:
        """`code` with the numbers that it reads."""
        known = list(self._numbers.items())[:ROOM]
        stores = [
            tir.store(self.buffer, tir.broadcast(f32(x), WIDE), tir.ramp(tir.i32(slot * WIDE), WIDE))
            for (x, _), slot in known
        ]
        return tir.seq(self._alloc, stores, code) if known else code


_kernels: list[Addends] = []


@contextmanager
def kernel_addends() -> Iterator[Addends]:
    """Until it ends, these are those of the kernel that is being made."""
    _kernels.append(Addends())
    try:
        yield _kernels[-1]
    finally:
        _kernels.pop()


@contextmanager
def turning(turn: Expr) -> Iterator[None]:
    """Until it ends, what is made is in a loop whose turn reads numbers from `turn` on: 0, which LLVM cannot know."""
    if not _kernels:
        yield
        return
    with _kernels[-1].turning(turn):
        yield


def addends() -> tuple[Addends, int] | None:
    """Those of the kernel that is being made, and the places of its vector; None where numbers stay in the code."""
    at = _kernels[-1].places() if _kernels else None
    return None if at is None else (_kernels[-1], at)
