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
from .floats import f32
from .tir import Buffer, Expr, Stmt

ROOM, WIDE = 16, 16  # numbers, and places of each
NEAR = 4  # numbers with an address of their own, from which offsets are short
REGISTER = 4  # places of a register


class Addends:
    """Those of a kernel. They are known when its code has been made: `filled` comes before it."""

    def __init__(self) -> None:
        self._overwritten = _Numbers(WIDE, NEAR if unscaled_loads() else ROOM)
        self._same = _Numbers(REGISTER, ROOM)
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
        lanes, place = innermost(), self._overwritten.place(number, use)
        if place is None or lanes is None or self._turn is None:
            return f32(number)
        buffer, start = place
        return tirx.BufferLoad(buffer, [self._turn + (start + at) + lanes.var])

    def same(self, number: float) -> Expr:
        """A number that is not overwritten: one register of it serves the whole vector that is being made."""
        lanes, place = innermost(), self._same.place(number, 0)
        if place is None or lanes is None or self._turn is None:
            return f32(number)
        buffer, start = place
        if lanes.count == REGISTER:
            return tirx.BufferLoad(buffer, [self._turn + start + lanes.var])
        register, alloc = tir.local((lanes.count,), "float32", "same")
        one = tirx.BufferLoad(buffer, [tir.ramp(self._turn + start, REGISTER)])
        places = range(0, lanes.count, REGISTER)
        lanes.registers += [alloc, *(tirx.BufferStore(register, one, [tir.ramp(at, REGISTER)]) for at in places)]
        return tirx.BufferLoad(register, [lanes.var])

    def filled(self, code: Stmt) -> Stmt:
        """`code` with the numbers that it reads."""
        return tir.seq(self._overwritten.filled(), self._same.filled(), code)


class _Numbers:
    """Memory that holds each number `wide` times. Of `near` numbers each part has an address of its own, from which
    offsets are short."""

    def __init__(self, wide: int, near: int) -> None:
        self.wide, self.near = wide, near
        self._slots: dict[tuple[float, int], int] = {}
        self._parts: list[tuple[Buffer, Stmt]] = []

    def place(self, number: float, use: int) -> tuple[Buffer, int] | None:
        """The buffer of a number, and where it begins there; None where there is no room."""
        slot = self._slots.setdefault((number, use), len(self._slots))
        if slot >= ROOM:
            return None
        if slot // self.near == len(self._parts):
            self._parts.append(tir.local((self.near * self.wide,), "float32", "addends"))
        return self._parts[slot // self.near][0], slot % self.near * self.wide

    def filled(self) -> list[Stmt]:
        made = [alloc for _, alloc in self._parts]
        for (number, use), _ in list(self._slots.items())[:ROOM]:
            place = self.place(number, use)
            assert place is not None
            buffer, start = place
            made.append(tir.store(buffer, tir.broadcast(f32(number), self.wide), tir.ramp(start, self.wide)))
        return made


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
