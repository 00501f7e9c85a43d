"""Positions and weights along one axis for what the Resize row does not know: stretched filters, regions of interest.

The filters are those of Resize: a triangle, or Keys' cubic. Antialiasing stretches them by the factor of shrinking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import ceil, floor, prod
from typing import Any

import numpy as np

from ...dtypes import dtype
from ...ir import Value
from ...ops.common import Tensor, limits, reach
from ...ops.resize import COORDINATES, NEAREST
from ..context import Context

# Costs in multiply-adds on numbers that lie side by side.
SINGLE = 10.0  # of one on a number that lies alone
TURN, FAR = 2.5, 8.0  # of turning a number; where more than NEAR of them fill the caches
NEAR = 1 << 18
ROWS = 16  # fewer are not turned in vectors


@dataclass(frozen=True)
class Filter:
    """`a`: the coefficient of the cubic; `stretch`: how much an axis shrinks, or 1; `exclude`: no weights outside."""

    mode: str
    a: float
    stretch: float
    exclude: bool

    def weight(self, distance: float) -> float:
        u = abs(distance) / self.stretch
        if self.mode == "linear":
            return max(1 - u, 0.0)
        if u < 1:
            return ((self.a + 2) * u - (self.a + 3)) * u * u + 1
        return ((self.a * u - 5 * self.a) * u + 8 * self.a) * u - 4 * self.a if u < 2 else 0.0

    def taps(self, at: float, size: int) -> dict[int, float]:
        """Weights by position within [0, size); those outside count for the nearest element, or not at all."""
        radius = (1 if self.mode == "linear" else 2) * self.stretch
        around = range(floor(at - radius) + 1, ceil(at + radius))
        weights = {p: self.weight(p - at) for p in around}
        kept = {p: w for p, w in weights.items() if w and not (self.exclude and not 0 <= p < size)}
        total = sum(kept.values())
        found: dict[int, float] = {}
        for p, w in kept.items():
            inside = min(max(p, 0), size - 1)
            found[inside] = found.get(inside, 0.0) + (w / total if total else w)
        return found or {min(max(floor(at), 0), size - 1): 0.0}


def axis_table(place: Callable[[int], float], size: int, out: int, filter: Filter) -> tuple[Tensor, Tensor]:
    """(positions i32[taps, out], weights f64[taps, out]). Every weight belongs to a position that counts: where an
    output has fewer taps than others, the last one is split among equal entries."""
    rows = [list(filter.taps(place(i), size).items()) for i in range(out)]
    most = max(map(len, rows), default=1)
    positions, weights = np.zeros((most, out), np.int32), np.zeros((most, out))
    for i, row in enumerate(rows):
        spare = most - len(row) + 1
        last, weight = row[-1]
        full = row[:-1] + [(last, weight / spare)] * spare
        positions[:, i], weights[:, i] = zip(*full, strict=True)
    return positions, weights


@dataclass(frozen=True)
class Resampling:
    """A Resize through tables. `roi`: (start, end) per axis of tf_crop_and_resize; `outside`: what lies beyond."""

    sizes: tuple[int, ...]
    scales: tuple[float, ...]
    mode: str
    antialias: bool
    roi: Sequence[tuple[float, float]] | None
    outside: float
    attrs: Mapping[str, Any]

    def place(self, axis: int, size: int) -> Callable[[int], float]:
        """The source position of an output position, as a real number."""
        out, scale = self.sizes[axis], self.scales[axis]
        if self.roi is None:
            coordinate = COORDINATES[self.attrs["coordinate_transformation_mode"]]
            return lambda i: coordinate(i, scale, size, out)
        start, end = (side * (size - 1) for side in self.roi[axis])
        # to the precision of the region's numbers: its end is the last element, not a hair behind it
        return lambda i: float(np.float32(start + i * (end - start) / (out - 1) if out > 1 else (start + end) / 2))

    def filter(self, axis: int) -> Filter:
        stretch = max(1.0, 1 / self.scales[axis]) if self.antialias else 1.0
        return Filter(self.mode, self.attrs["cubic_coeff_a"], stretch, bool(self.attrs["exclude_outside"]))


def resampled(c: Context, r: Resampling) -> Value:
    """The first argument, resampled one axis after the other."""
    x = c.arg()
    moved = [
        k
        for k, (n, out, scale) in enumerate(zip(c.shape, r.sizes, r.scales, strict=True))
        if n != out or scale != 1 or (r.roi and r.roi[k] != (0, 1))
    ]
    y = _picked(c, r, moved) if r.mode == "nearest" else _blended(c, r, moved)
    inside = _inside(c, r, moved)
    if not inside.all():
        low, high = limits(y.type.dtype)
        y = c.emit("Where", c.const(inside), y, c.const(min(max(r.outside, low), high), like=y))
    return y if r.mode == "nearest" else _returned(c, y, x.type.dtype, r)


def _picked(c: Context, r: Resampling, axes: Sequence[int]) -> Value:
    y, nearest = c.arg(), NEAREST[r.attrs["nearest_mode"]]
    for axis in axes:
        place, size = r.place(axis, c.shape[axis]), c.shape[axis]
        indices = [min(max(nearest(place(i)), 0), size - 1) for i in range(r.sizes[axis])]
        y = c.emit("Gather", y, c.const(np.asarray(indices, np.int64)), axis=axis)
    return y


def _blended(c: Context, r: Resampling, axes: Sequence[int]) -> Value:
    """Through f64 where the element type has more bits than f32 keeps, else through f32."""
    kind = c.dtype
    work = "f64" if kind == "f64" or (dtype(kind).is_int and dtype(kind).bytes > 1) else "f32"
    y = c.cast(c.arg(), "u8") if kind == "bool" else c.arg()
    tables = {k: axis_table(r.place(k, c.shape[k]), c.shape[k], r.sizes[k], r.filter(k)) for k in axes}
    for axis in cheapest(c.shape, {k: weights.shape for k, (_, weights) in tables.items()}):
        y = _blend(c, y, axis, tables[axis], work)
    return c.cast(y, work)


def _blend(c: Context, y: Value, axis: int, table: tuple[Tensor, Tensor], work: str) -> Value:
    """One axis. The rows of the last one may be turned, so that vectors lie along them, and turned back."""
    positions, weights = c.const(table[0]), c.const(table[1], like=work)
    if axis < len(y.shape) - 1 or work != "f32" or not turns(y.shape, *table[0].shape):
        return c.emit("Edgec.Blend", y, positions, weights, axis=axis)
    flat = c.reshape(c.cast(y, work), (y.type.size // y.shape[-1], y.shape[-1]))
    blended = c.emit("Edgec.Blend", c.transpose(flat, (1, 0)), positions, weights, axis=0)
    return c.reshape(c.transpose(blended, (1, 0)), (*y.shape[:-1], blended.shape[0]))


def turns(shape: Sequence[int], taps: int, after: int) -> bool:
    """Whether turning pays for the last axis."""
    rows, length = prod(shape[:-1]), shape[-1]
    return min(rows, length, after) >= ROWS and _turning(rows, length, after) < (SINGLE - 1) * taps * rows * after


def _turning(rows: int, length: int, after: int) -> float:
    """Cost of turning before and after."""
    return sum((FAR if rows * n > NEAR else TURN) * rows * n for n in (length, after))


def cheapest(shape: Sequence[int], tables: Mapping[int, tuple[int, ...]]) -> tuple[int, ...]:
    """The order of axes that moves and multiplies least; `tables` has (taps, size after) of each."""

    def cost(order: tuple[int, ...]) -> float:
        sizes, total = list(shape), 0.0
        for axis in order:
            taps, after = tables[axis]
            before, sizes[axis] = tuple(sizes), after
            each: float = 2 + taps
            if axis == len(sizes) - 1 and turns(before, taps, after):
                total += _turning(prod(before[:-1]), before[-1], after)
            elif axis == len(sizes) - 1:
                each = SINGLE * taps
            total += prod(sizes) * each
        return total

    return min(permutations(tables), key=cost) if len(tables) <= 4 else tuple(tables)


def _inside(c: Context, r: Resampling, axes: Sequence[int]) -> Tensor:
    """Whether all coordinates of an output lie within the input: broadcasts to the result."""
    inside = np.ones((1,) * c.rank, np.bool_)
    for axis in axes if r.roi else ():
        place, last = r.place(axis, c.shape[axis]), c.shape[axis] - 1
        here = np.asarray([0 <= place(i) <= last for i in range(r.sizes[axis])])
        if not here.all():
            inside = inside & here.reshape([-1 if k == axis else 1 for k in range(c.rank)])
    return inside


def _returned(c: Context, y: Value, kind: str, r: Resampling) -> Value:
    """In the element type of the argument. Integers are saturated: rounded, but for plain linear weights."""
    if not dtype(kind).is_int:
        return c.cast(y, kind)
    if r.antialias or r.mode == "cubic":
        y = c.emit("Round", y)
    low, high = reach(kind)
    return c.cast(c.emit("Clip", y, min=low, max=high), kind)
