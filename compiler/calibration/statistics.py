"""Numbers per channel over calibration data: how far channels reach, and how much energy they carry."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from ..cores import shared_out
from ..ir import Graph, Value
from ..ops.common import Tensor
from .data import Calibration
from .runner import running

Progress = Callable[[str, int, int], None]
CACHED = 1 << 14  # elements that are looked at at a time


@dataclass
class Channel:
    """Of each channel: the largest magnitude (of all, and the mean of the samples'), mean, and variance."""

    largest: Tensor
    usual: Tensor
    mean: Tensor
    square: Tensor
    count: int = 0

    @property
    def reach(self) -> Tensor:
        """A range that one odd sample does not decide alone."""
        return np.asarray((self.largest + self.usual / max(self.count, 1)) / 2)

    @property
    def bound(self) -> Tensor:
        """What further samples are not expected to exceed: as far beyond the largest as that is beyond the usual."""
        return np.asarray(np.square(self.largest) / np.maximum(self.usual / max(self.count, 1), 1e-30))

    @property
    def variance(self) -> Tensor:
        n = max(self.count, 1)
        return np.asarray(np.maximum(self.square / n - np.square(self.mean / n), 0.0))


def channel_statistics(
    graph: Graph,
    axes: Mapping[Value, int],
    data: Calibration,
    tell: Progress,
    threads: int,
    most: int = 64,
    beside: Collection[Value] = (),
) -> dict[Value, Channel]:
    """Statistics of each value along its axis, over at most `most` samples; `beside`: see `running`."""
    values = [v for v in axes if v.node.op != "Input"]
    found = {v: _nothing(v.shape[axes[v]]) for v in values}

    def see(seen: tuple[Value, Tensor]) -> tuple[Value, Channel]:
        value, array = seen
        finite = np.isfinite(array)
        known = array if finite.all() else np.where(finite, array, np.float32(0))
        return value, _and(found[value], np.moveaxis(known, axes[value], 0).reshape(value.shape[axes[value]], -1))

    with running(graph, values, beside=beside, threads=threads) as run, shared_out() as cores:
        for number, feed in enumerate(data.feeds()):
            if number == most:
                break
            found.update(cores.each(see, zip(values, run(feed), strict=True)))
            tell("channels", number + 1, min(most, data.count))
    return found


def _nothing(channels: int) -> Channel:
    zero = np.zeros(channels)
    return Channel(zero, zero, zero, zero)


def _and(old: Channel, rows: Tensor) -> Channel:
    """With one more sample, a row per channel."""
    largest, mean, square = (np.zeros(len(rows)) for _ in range(3))
    step = max(1, CACHED // max(rows.shape[1], 1))
    for at in range(0, len(rows), step):
        some = rows[at : at + step]
        largest[at : at + step] = np.abs(some).max(axis=1, initial=0.0)
        mean[at : at + step] = some.mean(axis=1, dtype=np.float64)
        square[at : at + step] = np.square(some, dtype=np.float64).mean(axis=1)
    return Channel(
        np.maximum(old.largest, largest), old.usual + largest, old.mean + mean, old.square + square, old.count + 1
    )
