"""Which RAM region each buffer of the arena lies in: those that are read most per byte in the cheapest that has room.

The buffers of one region are packed by arena.py. Offsets of all regions are counted on from one to the next, as if
they were one arena, so that a plan can be checked as a whole; `banks` says where each region begins in that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .arena import EFFORT, Buffer, Layout, lower_bound, plan
from .regions import Region


@dataclass(frozen=True)
class Bank:
    """A part of the arena in a region of its own ("" where there is but one, unnamed)."""

    region: str
    start: int
    bytes: int


@dataclass(frozen=True)
class Spread:
    """Offsets in the order of the buffers; bytes of all banks; the bound that no plan can beat; banks, the largest
    first. `missing`: bytes by which the regions are too small, `left`: buffers that have no place."""

    offsets: tuple[int, ...]
    bytes: int
    lower_bound: int
    banks: tuple[Bank, ...]
    missing: int = 0
    left: tuple[int, ...] = ()


def spread(
    buffers: Sequence[Buffer],
    reads: Sequence[float],
    rooms: Sequence[Region] = (),
    align: int = 64,
    effort: int = EFFORT,
) -> Spread:
    """Place all buffers; `reads`: how many bytes of each are read and written in one inference. `rooms`: the cheapest
    first; none: one of any size. `effort`: see arena.py."""
    bound = lower_bound(buffers, align)
    if len(rooms) < 2:
        whole = plan(buffers, align, effort)
        name, size = (rooms[0].name, rooms[0].size) if rooms else ("", whole.bytes)
        bank = Bank(name, 0, whole.bytes)
        return Spread(whole.offsets, whole.bytes, bound, (bank,), max(whole.bytes - size, 0))
    hot = sorted(range(len(buffers)), key=lambda i: (-reads[i] / max(buffers[i].bytes, 1), i))
    large = sorted(range(len(buffers)), key=lambda i: (-buffers[i].bytes, i))
    found = [_filled(buffers, order, rooms, align) for order in (hot, large)]
    members = min(found, key=lambda one: _missing(buffers, one[-1], align))
    return _banked(buffers, members, rooms, bound, align)


def _filled(buffers: Sequence[Buffer], order: Sequence[int], rooms: Sequence[Region], align: int) -> list[list[int]]:
    """The buffers of each region, and last those that have no place."""
    left, found = list(order), []
    for room in rooms:
        inside: list[int] = []
        for i in left:
            trial = [buffers[k] for k in (*inside, i)]
            if lower_bound(trial, align) <= room.size and plan(trial, align, effort=0).bytes <= room.size:
                inside.append(i)
        found.append(inside)
        left = [i for i in left if i not in inside]
    return [*found, left]


def _missing(buffers: Sequence[Buffer], left: Sequence[int], align: int) -> int:
    return plan([buffers[i] for i in left], align).bytes if left else 0


def _banked(
    buffers: Sequence[Buffer], members: list[list[int]], rooms: Sequence[Region], bound: int, align: int
) -> Spread:
    packed: list[tuple[str, list[int], Layout]] = []
    for room, inside in zip(rooms, members[:-1], strict=True):
        if inside:
            packed.append((room.name, inside, plan([buffers[i] for i in inside], align)))
    packed.sort(key=lambda row: -row[2].bytes)
    offsets, banks, start = [0] * len(buffers), [], 0
    for name, inside, layout in packed:
        banks.append(Bank(name, start, layout.bytes))
        for i, at in zip(inside, layout.offsets, strict=True):
            offsets[i] = start + at
        start += -(-layout.bytes // align) * align
    left = members[-1]
    return Spread(tuple(offsets), start, bound, tuple(banks), _missing(buffers, left, align), tuple(left))
