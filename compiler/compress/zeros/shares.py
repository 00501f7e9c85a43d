"""How many weights of each layer become zero: those of all layers go that cost least for the multiplications that they
save, within limits per layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ops.common import Tensor

BELOW, ABOVE = 0.25, 0.2  # a layer's share may be so much of what the model keeps below that of the model, or above it


def counts(costs: Sequence[Tensor], macs: Sequence[float], share: float) -> list[int]:
    """Of each layer's units, how many go, the cheapest first, so that about `share` of all multiplications do.

    `costs` are those of each layer's units as shares of its results, `macs` what each unit of a layer multiplies.
    """
    limits = [
        (_within(share - BELOW * (1 - share), c.size), _within(share + ABOVE * (1 - share), c.size)) for c in costs
    ]
    total = sum(c.size * m for c, m in zip(costs, macs, strict=True))
    wanted = share * total - sum(n * m for (n, _), m in zip(limits, macs, strict=True))
    free = [np.sort(c, axis=None)[n:most] for c, (n, most) in zip(costs, limits, strict=True)]
    owner = np.concatenate([np.full(len(f), k) for k, f in enumerate(free)])
    prices = np.concatenate([f / m for f, m in zip(free, macs, strict=True)])
    order = np.argsort(prices, kind="stable")
    saved = np.cumsum(np.asarray(macs, float)[owner[order]])
    more = np.bincount(owner[order[: int(np.searchsorted(saved, wanted))]], minlength=len(costs))
    return [n + int(k) for (n, _), k in zip(limits, more, strict=True)]


def _within(share: float, size: int) -> int:
    return int(min(max(share, 0.0), 1.0) * size)
