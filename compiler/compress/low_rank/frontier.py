"""Chooses one form per layer such that an asked saving is had at the least total error: steps along each layer's
frontier of error over multiplications, the cheapest step of all layers first."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
F = TypeVar("F")


@dataclass(frozen=True)
class Offer(Generic[F]):
    """A form of a layer: what it saves of the layer as it is, and its error."""

    form: F
    saved: float
    error: float


def frontier(offers: Sequence[Offer[F]]) -> list[Offer[F]]:
    """The lower convex hull of errors over savings from (0, 0) on: where each step costs more than the one before."""
    found: list[Offer[F]] = []
    for offer in sorted((o for o in offers if o.saved > 0), key=lambda o: (o.saved, -o.error)):
        while found and found[-1].error >= offer.error:
            found.pop()
        while found and _slope(found[-1], offer) <= _slope(found[-2] if len(found) > 1 else None, found[-1]):
            found.pop()
        found.append(offer)
    return found


def _slope(a: Offer[F] | None, b: Offer[F]) -> float:
    saved, error = (a.saved, a.error) if a is not None else (0.0, 0.0)
    return (b.error - error) / (b.saved - saved)


def chosen(offers: Mapping[K, Sequence[Offer[F]]], goal: float) -> dict[K, Offer[F]]:
    """The forms that together save `goal`, or all that can be saved: layers that stay as they are have none.

    Steps are taken in the order of their error per saving, which is the least total error for what they save
    (the Lagrangian's solution); the last step is as short as the goal allows.
    """
    fronts = {key: frontier(some) for key, some in offers.items()}
    keys = list(fronts)
    heap = [(_slope(None, fronts[key][0]), k, 0) for k, key in enumerate(keys) if fronts[key]]
    heapq.heapify(heap)
    made: dict[K, Offer[F]] = {}
    saved = 0.0
    while heap and saved < goal:
        _, k, place = heapq.heappop(heap)
        key = keys[k]
        before = made.get(key)
        offer = fronts[key][place]
        saved += offer.saved - (before.saved if before is not None else 0.0)
        made[key] = offer
        if place + 1 < len(fronts[key]):
            heapq.heappush(heap, (_slope(offer, fronts[key][place + 1]), k, place + 1))
    if saved > goal:
        _shortened(made, offers, saved - goal)
    return made


def _shortened(made: dict[K, Offer[F]], offers: Mapping[K, Sequence[Offer[F]]], spare: float) -> None:
    """Where more is saved than asked for, forms that save less by no more than that, the best of them first."""
    while True:
        better: tuple[float, K, Offer[F] | None] | None = None
        for key, now in made.items():
            rest = [o for o in offers[key] if now.saved - spare <= o.saved < now.saved and o.error < now.error]
            options: list[Offer[F] | None] = [*rest, *([None] if now.saved <= spare else [])]
            for other in options:
                gain = now.error - (other.error if other is not None else 0.0)
                if gain > 0 and (better is None or gain > better[0]):
                    better = gain, key, other
        if better is None:
            return
        _, key, other = better
        spare -= made[key].saved - (other.saved if other is not None else 0.0)
        if other is None:
            del made[key]
        else:
            made[key] = other
