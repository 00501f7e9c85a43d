"""The static memory plan: an offset in one arena for every buffer, near the least that any plan can need.

Placing intervals of time at offsets is two-dimensional packing (NP-hard). The planner places buffers one by one at the
lowest gap that is free over their whole life (greedy by size and relatives: Pisarchyk and Lee, "Efficient Memory
Management for Deep Neural Net Inference", 2020), tries several orders, and then improves the best order by moving
the buffers that touch the top to the front. What is then still above the bound is searched for below it, with both ends
of each gap as places.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

VISITS = 4000  # places that the last search tries for each capacity
SEARCHED = 200  # buffers up to which it is worth while
EFFORT = 200  # orders that are tried after the first few


@dataclass(frozen=True)
class Buffer:
    """`bytes` needed from step `first` to step `last`, both included; the first `kept` of them until step `until`."""

    name: str
    bytes: int
    first: int
    last: int
    kept: int = 0
    until: int = -1

    @property
    def end(self) -> int:
        """The last step in which anything of it is needed."""
        return max(self.last, self.until)

    def beside(self, other: Buffer) -> int:
        """Bytes of it while the other is there too."""
        return self.kept if other.first > self.last else self.bytes


@dataclass(frozen=True)
class Layout:
    """Offsets in the order of the buffers that were given, bytes in all, and the bound that no plan can beat."""

    offsets: tuple[int, ...]
    bytes: int
    lower_bound: int


def scratch_stride(scratch: int) -> int:
    """Bytes from one worker's scratch to the next: a multiple of 64, so that no two share a cache line."""
    return _round_up(scratch, 64)


def lower_bound(buffers: Iterable[Buffer], align: int = 1) -> int:
    """The largest sum of live bytes over all steps, each buffer rounded up to `align`."""
    change: dict[int, int] = {}
    for b in buffers:
        size = _round_up(b.bytes, align)
        change[b.first] = change.get(b.first, 0) + size
        change[b.last + 1] = change.get(b.last + 1, 0) - size
        if b.until > b.last:
            kept = _round_up(b.kept, align)
            change[b.last + 1] += kept
            change[b.until + 1] = change.get(b.until + 1, 0) - kept
    live = best = 0
    for step in sorted(change):
        live += change[step]
        best = max(best, live)
    return best


def plan(buffers: Sequence[Buffer], align: int = 64, effort: int = EFFORT) -> Layout:
    """Place all buffers. `effort` bounds how many orders are tried after the first few; the result is deterministic."""
    bound, packing = lower_bound(buffers, align), _Packing.of(buffers, align)
    orders = [
        sorted(range(len(buffers)), key=lambda i: (-buffers[i].bytes, buffers[i].first)),
        sorted(range(len(buffers)), key=lambda i: (buffers[i].first, -buffers[i].bytes)),
        sorted(range(len(buffers)), key=lambda i: (-(buffers[i].last - buffers[i].first), -buffers[i].bytes)),
        sorted(range(len(buffers)), key=lambda i: -buffers[i].bytes * (buffers[i].last - buffers[i].first + 1)),
        _by_breadth(buffers),
    ]
    order = orders[0]
    offsets, total = _place(packing, order)
    for trial in orders[1:]:
        if total <= bound:
            break
        new_offsets, new_total = _place(packing, trial, total - 1)
        if new_total < total:
            offsets, total, order = new_offsets, new_total, trial
    for turn in range(effort):
        if total <= bound:
            break
        top = [i for i in order if offsets[i] + packing.sizes[i] == total]
        pick = top[turn % len(top)]
        position = order.index(pick)
        trial = order[:position] + order[position + 1 :]
        trial.insert((position * (turn % 3)) // 3, pick)
        new_offsets, new_total = _place(packing, trial, total)
        if new_total <= total:
            offsets, total, order = new_offsets, new_total, trial
    for part in (0, 1, 2, 3):
        capacity = bound + (total - bound) * part // 4
        if effort == 0 or total <= bound or len(buffers) > SEARCHED or capacity >= total:
            break
        if (found := _within(packing, orders[0], capacity)) is not None:
            offsets = found
            total = max(at + size for at, size in zip(found, packing.sizes, strict=True))
    return Layout(tuple(offsets), total, bound)


@dataclass(frozen=True)
class _Packing:
    """Buffers, their sizes rounded up, and for each those that are alive with it in some step; `plain`: whether all
    are needed whole for as long as they live."""

    buffers: Sequence[Buffer]
    align: int
    sizes: Sequence[int]
    meeting: Sequence[Sequence[int]]
    plain: bool

    @staticmethod
    def of(buffers: Sequence[Buffer], align: int) -> _Packing:
        sizes = [_round_up(b.bytes, align) for b in buffers]
        return _Packing(buffers, align, sizes, _meeting(buffers), all(b.end == b.last for b in buffers))

    def taken(self, i: int, offsets: Sequence[int]) -> list[tuple[int, int]]:
        """For each buffer in the way the last offset in front of it and the first behind it, in order."""
        placed = [j for j in self.meeting[i] if offsets[j] >= 0]
        if self.plain:
            sizes, size = self.sizes, self.sizes[i]
            return sorted([(offsets[j] - size, offsets[j] + sizes[j]) for j in placed])
        one, buffers, align = self.buffers[i], self.buffers, self.align
        return sorted(
            (
                offsets[j] - _round_up(one.beside(buffers[j]), align),
                offsets[j] + _round_up(buffers[j].beside(one), align),
            )
            for j in placed
        )


def _within(packing: _Packing, order: Sequence[int], capacity: int) -> list[int] | None:
    """Offsets below a capacity, by trying both ends of every gap and going back where a later buffer has none."""
    offsets = [-1] * len(order)
    capacity = capacity // packing.align * packing.align
    stack: list[list[int]] = []  # places left to try, of each buffer of the order so far
    for _ in range(VISITS):
        depth = len(stack)
        if depth == len(order):
            return offsets
        stack.append(_ends(packing, order[depth], offsets, capacity))
        while stack and not stack[-1]:
            stack.pop()
            offsets[order[len(stack)]] = -1
        if not stack:
            return None
        offsets[order[len(stack) - 1]] = stack[-1].pop()
    return None


def _ends(packing: _Packing, i: int, offsets: Sequence[int], capacity: int) -> list[int]:
    """Both ends of each gap for a buffer, the lowest last."""
    taken = packing.taken(i, offsets)
    most = capacity - packing.sizes[i]
    blocks: list[tuple[int, int]] = []  # what is taken, without overlaps
    for low, high in taken:
        if blocks and low < blocks[-1][1]:
            blocks[-1] = blocks[-1][0], max(high, blocks[-1][1])
        elif low < high:
            blocks.append((low, high))
    lows = [low for low, _ in blocks]

    def free(at: int) -> bool:
        before = bisect_left(lows, at) - 1
        return 0 <= at <= most and (before < 0 or at >= blocks[before][1])

    return sorted(filter(free, {0, most, *(at for pair in taken for at in pair)}), reverse=True)


def _meeting(buffers: Sequence[Buffer]) -> list[list[int]]:
    """For each buffer, those that are alive with it in some step."""
    meeting: list[list[int]] = [[] for _ in buffers]
    alive: list[int] = []
    for i in sorted(range(len(buffers)), key=lambda i: buffers[i].first):
        alive = [j for j in alive if buffers[j].end >= buffers[i].first]
        for j in alive:
            meeting[i].append(j)
            meeting[j].append(i)
        alive.append(i)
    return meeting


def _place(packing: _Packing, order: Sequence[int], most: float = inf) -> tuple[list[int], int]:
    """Offsets and bytes in all; once these are more than `most`, buffers stay without a place."""
    offsets = [-1] * len(order)
    total = 0
    for i in order:
        at = 0
        for low, high in packing.taken(i, offsets):
            if at <= low:
                break
            at = max(at, high)
        offsets[i] = at
        total = max(total, at + packing.sizes[i])
        if total > most:
            break
    return offsets, total


def _by_breadth(buffers: Sequence[Buffer]) -> list[int]:
    """Steps with the most live bytes first; within a step the largest buffers first."""
    here: dict[int, list[int]] = {}
    for i in sorted(range(len(buffers)), key=lambda i: -buffers[i].bytes):
        for step in range(buffers[i].first, buffers[i].end + 1):
            here.setdefault(step, []).append(i)
    live = {step: sum(buffers[i].bytes for i in alive) for step, alive in here.items()}
    return list(dict.fromkeys(i for step in sorted(here, key=lambda s: (-live[s], s)) for i in here[step]))


def _round_up(n: int, to: int) -> int:
    return -(-n // to) * to
