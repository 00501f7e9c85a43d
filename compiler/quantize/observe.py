"""What a value's elements look like over all calibration data: a histogram of bounded size, filled sample by sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd

import numpy as np

from ..ops.common import Tensor

HALF = 8192  # bins on each side of zero
MOST = 1 << 16  # elements of one sample that are counted; least and largest are of all


@dataclass
class Observer:
    """Bins have a width that is a power of two and lie about zero: when the range doubles, pairs of them merge."""

    counts: Tensor = field(default_factory=lambda: np.zeros(2 * HALF))
    width: float = 0.0
    least: float = np.inf
    largest: float = -np.inf
    samples: int = 0

    def see(self, values: Tensor) -> None:
        """Count the elements of an array."""
        flat = np.asarray(values, np.float32).reshape(-1)
        if not flat.size:
            return
        self.samples += 1
        least, largest = float(flat.min()), float(flat.max())
        self.least, self.largest = min(self.least, least), max(self.largest, largest)
        most = max(-least, largest)
        if most == 0.0:
            self.counts[HALF] += min(flat.size, MOST)
            return
        self._fit(most)
        flat = flat[:: thinning(flat.size)]
        bins = np.floor(flat * np.float32(1 / self.width)).astype(np.int64) + HALF
        np.clip(bins, 0, 2 * HALF - 1, out=bins)
        self.counts += np.bincount(bins, minlength=2 * HALF)

    def joined(self, other: Observer) -> Observer:
        """What both have seen."""
        made = Observer(self.counts, self.width, self.least, self.largest, self.samples + other.samples)
        theirs = Observer(other.counts, other.width, other.least, other.largest)
        for one, two in ((made, theirs), (theirs, made)):
            if two.width:
                one._fit(two.width * HALF * (1 - 1e-5))
        made.counts = made.counts + theirs.counts
        made.least, made.largest = min(self.least, other.least), max(self.largest, other.largest)
        return made

    def _fit(self, most: float) -> None:
        needed = float(2.0 ** np.ceil(np.log2(most / HALF * (1 + 1e-6))))
        if self.width == 0.0:
            self.width = needed
        while self.width < needed:
            self.width *= 2
            merged = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.concatenate([np.zeros(HALF // 2), merged, np.zeros(HALF // 2)])

    def histogram(self, most: int = 2048) -> tuple[Tensor, Tensor]:
        """Centres of bins that hold elements, and counts; no more than about `most`."""
        width = self.width or 1.0
        kept = np.flatnonzero(self.counts)
        if not kept.size:
            return np.zeros(1), np.ones(1)
        counts, start = self.counts[kept[0] : kept[-1] + 1], int(kept[0])
        step = max(1, -(-len(counts) // most))
        lead = (start - HALF) % step  # zero stays on an edge
        padded = np.pad(counts, (lead, (-len(counts) - lead) % step)).reshape(-1, step)
        sums = padded.sum(1)
        middle = (np.arange(step) + 0.5) * width
        offset = (start - lead - HALF + np.arange(len(sums)) * step) * width
        mean = (padded * middle).sum(1) / np.maximum(sums, 1e-30) + offset
        filled = sums > 0
        centres = np.clip(mean[filled], self.least, self.largest)
        if self.width == 0.0:
            centres = np.zeros(1)
        return centres, sums[filled]


def thinning(size: int) -> int:
    """The stride that leaves at most MOST of so many elements, coprime to their number: one that divides the number of
    channels would see the same few of them in every row."""
    stride = max(1, -(-size // MOST))
    while gcd(stride, size) > 1:
        stride += 1
    return stride
