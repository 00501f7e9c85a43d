"""Numbers of each input over calibration data, and random inputs that are like that data in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..ports import Port, random_inputs

Array = npt.NDArray[Any]


@dataclass
class Likeness:
    """Of one input, over all samples so far: how many elements, least, largest, sum, and sum of squares."""

    count: int = 0
    least: float = np.inf
    largest: float = -np.inf
    total: float = 0.0
    square: float = 0.0

    def see(self, values: Array) -> None:
        """Count the elements of a sample."""
        wide = np.asarray(values).astype(np.float64)
        if not wide.size:
            return
        self.count += wide.size
        self.least, self.largest = min(self.least, float(wide.min())), max(self.largest, float(wide.max()))
        self.total, self.square = self.total + float(wide.sum()), self.square + float(np.square(wide).sum())

    def row(self, name: str) -> dict[str, Any]:
        """As plain data; sums, whose last digits vary with the machine, are rounded."""
        mean = self.total / self.count
        deviation = max(self.square / self.count - mean * mean, 0.0) ** 0.5
        made = {"name": name, "least": self.least, "largest": self.largest}
        return made | {key: float(f"{x:.6g}") for key, x in (("mean", mean), ("deviation", deviation))}


def inputs_like(ports: Iterable[Port], rows: Iterable[Mapping[str, Any]], seed: int = 0) -> dict[str, Array]:
    """Seeded inputs: reals normally distributed with the data's mean and deviation, integers evenly, all within its
    range; inputs of 8 bits, and those without a row, are `random_inputs`."""
    known, ports = {row["name"]: row for row in rows}, list(ports)
    found, rng = random_inputs(ports, seed), np.random.default_rng(seed)
    for port in ports:
        array, row = found[port.name], known.get(port.name)
        if row is None or array.dtype.itemsize == 1:
            continue
        if array.dtype.kind in "iu":
            drawn: Array = rng.integers(int(row["least"]), int(row["largest"]), array.shape, endpoint=True)
        else:
            drawn = rng.normal(row["mean"], row["deviation"], array.shape).clip(row["least"], row["largest"])
        found[port.name] = np.asarray(drawn).astype(array.dtype)
    return found
