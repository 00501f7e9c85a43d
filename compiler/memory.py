"""The static memory plan: an offset in one arena for every buffer, near the least that any plan can need.

Placing intervals of time at offsets is two-dimensional packing (NP-hard). The planner places buffers one by one at the
lowest gap that is free over their whole life (greedy by size and relatives: Pisarchyk and Lee, "Efficient Memory
Management for Deep Neural Net Inference", 2020), tries several orders, and then improves the best order by moving
the buffers that touch the top to the front. What is then still above the bound is searched for below it, with both ends
of each gap as places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

VISITS = 4000  # places that the last search tries for each capacity
SEARCHED = 200  # buffers up to which it is worth while


@dataclass(frozen=True)
class Buffer:
    """`bytes` needed from step `first` to step `last`, both included."""

    name: str
    bytes: int
    first: int
    last: int


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
    live = best = 0
    for step in sorted(change):
        live += change[step]
        best = max(best, live)
    return best


def plan(buffers: Sequence[Buffer], align: int = 64, effort: int = 200) -> Layout:
    """Place all buffers. `effort` bounds how many orders are tried after the first few; the result is deterministic."""
    bound = lower_bound(buffers, align)
    meeting = _meeting(buffers)
    orders = [
        sorted(range(len(buffers)), key=lambda i: (-buffers[i].bytes, buffers[i].first)),
        sorted(range(len(buffers)), key=lambda i: (buffers[i].first, -buffers[i].bytes)),
        sorted(range(len(buffers)), key=lambda i: (-(buffers[i].last - buffers[i].first), -buffers[i].bytes)),
        sorted(range(len(buffers)), key=lambda i: -buffers[i].bytes * (buffers[i].last - buffers[i].first + 1)),
        _by_breadth(buffers),
    ]
    order = orders[0]
    offsets, total = _place(buffers, order, meeting, align)
    for trial in orders[1:]:
        if total <= bound:
            break
        new_offsets, new_total = _place(buffers, trial, meeting, align)
        if new_total < total:
            offsets, total, order = new_offsets, new_total, trial
    for turn in range(effort):
        if total <= bound:
            break
        top = [i for i in order if offsets[i] + _round_up(buffers[i].bytes, align) == total]
        pick = top[turn % len(top)]
        position = order.index(pick)
        trial = order[:position] + order[position + 1 :]
        trial.insert((position * (turn % 3)) // 3, pick)
        new_offsets, new_total = _place(buffers, trial, meeting, align)
        if new_total <= total:
            offsets, total, order = new_offsets, new_total, trial
    for part in (0, 1, 2, 3):
        capacity = bound + (total - bound) * part // 4
        if effort == 0 or total <= bound or len(buffers) > SEARCHED or capacity >= total:
            break
        if (found := _within(buffers, orders[0], meeting, align, capacity)) is not None:
            offsets = found
            total = max(at + _round_up(b.bytes, align) for at, b in zip(found, buffers, strict=True))
    return Layout(tuple(offsets), total, bound)


def _within(
    buffers: Sequence[Buffer], order: Sequence[int], meeting: list[list[int]], align: int, capacity: int
) -> list[int] | None:
    """Offsets below a capacity, by trying both ends of every gap and going back where a later buffer has none."""
    offsets = [-1] * len(buffers)
    sizes = [_round_up(b.bytes, align) for b in buffers]
    capacity = capacity // align * align
    stack: list[list[int]] = []  # places left to try, of each buffer of the order so far
    for _ in range(VISITS):
        depth = len(stack)
        if depth == len(order):
            return offsets
        stack.append(_ends(order[depth], offsets, sizes, meeting[order[depth]], capacity))
        while stack and not stack[-1]:
            stack.pop()
            offsets[order[len(stack)]] = -1
        if not stack:
            return None
        offsets[order[len(stack) - 1]] = stack[-1].pop()
    return None


def _ends(i: int, offsets: list[int], sizes: list[int], meets: Sequence[int], capacity: int) -> list[int]:
    """Both ends of each gap for a buffer, the lowest last."""
    taken = sorted((offsets[j], offsets[j] + sizes[j]) for j in meets if offsets[j] >= 0)
    found, at = [], 0
    for low, high in [*taken, (capacity, capacity)]:
        if low - at >= sizes[i]:
            found += [at, low - sizes[i]]
        at = max(at, high)
    return list(dict.fromkeys(reversed(found)))


def _meeting(buffers: Sequence[Buffer]) -> list[list[int]]:
    """For each buffer, those that are alive with it in some step."""
    meeting: list[list[int]] = [[] for _ in buffers]
    alive: list[int] = []
    for i in sorted(range(len(buffers)), key=lambda i: buffers[i].first):
        alive = [j for j in alive if buffers[j].last >= buffers[i].first]
        for j in alive:
            meeting[i].append(j)
            meeting[j].append(i)
        alive.append(i)
    return meeting


def _place(
    buffers: Sequence[Buffer], order: Sequence[int], meeting: list[list[int]], align: int
) -> tuple[list[int], int]:
    offsets = [-1] * len(buffers)
    total = 0
    for i in order:
        size = _round_up(buffers[i].bytes, align)
        taken = sorted(
            (offsets[j], offsets[j] + _round_up(buffers[j].bytes, align)) for j in meeting[i] if offsets[j] >= 0
        )
        at = 0
        for low, high in taken:
            if low - at >= size:
                break
            at = max(at, high)
        offsets[i] = at
        total = max(total, at + size)
    return offsets, total


def _by_breadth(buffers: Sequence[Buffer]) -> list[int]:
    """Steps with the most live bytes first; within a step the largest buffers first."""
    here: dict[int, list[int]] = {}
    for i in sorted(range(len(buffers)), key=lambda i: -buffers[i].bytes):
        for step in range(buffers[i].first, buffers[i].last + 1):
            here.setdefault(step, []).append(i)
    live = {step: sum(buffers[i].bytes for i in alive) for step, alive in here.items()}
    return list(dict.fromkeys(i for step in sorted(here, key=lambda s: (-live[s], s)) for i in here[step]))


def _round_up(n: int, to: int) -> int:
    return -(-n // to) * to
