"""From a histogram to the range that 8 bits stand for, by several methods, and the best of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import EdgecError, nearest
from ..ops.common import Tensor
from .observe import Observer

Method = Literal["auto", "minmax", "percentile", "entropy", "mse"]
Shape = Callable[[Tensor], Tensor]
PERCENTILE = 99.99
LEVELS = 255


@dataclass(frozen=True)
class Scale:
    """real = (stored - zero) * scale, stored in 0 .. 255."""

    scale: float
    zero: int
    method: str = ""

    @property
    def low(self) -> float:
        return -self.zero * self.scale

    @property
    def high(self) -> float:
        return (LEVELS - self.zero) * self.scale


def scale_of(low: float, high: float, method: str = "") -> Scale:
    """The scale whose range is about `low` to `high`; zero is always one of its values."""
    low, high = min(low, 0.0), max(high, 0.0)
    if high == low:
        return Scale(1.0, 0, method)
    scale = max(float(np.float32((high - low) / LEVELS)), 1e-30)
    return Scale(scale, int(np.clip(np.rint(-low / scale), 0, LEVELS)), method)


def rounded(x: Tensor, s: Scale) -> Tensor:
    """What 8 bits leave of real numbers."""
    made = np.asarray(x / s.scale)
    np.rint(made, out=made)
    made += s.zero
    np.clip(made, 0, LEVELS, out=made)
    made -= s.zero
    made *= s.scale
    return made


def choose(observer: Observer, method: Method, shapes: Sequence[Shape] = (), percentile: float = PERCENTILE) -> Scale:
    """The scale of a value. `shapes` are the functions through which alone it is read: errors count behind them."""
    if method not in METHODS and method != "auto":
        raise EdgecError(f"calibration method {method!r}{nearest(method, ['auto', *METHODS])}")
    centres, counts = observer.histogram()
    low, high = min(observer.least, 0.0), max(observer.largest, 0.0)
    if method == "percentile":
        return _percentile(centres, counts, low, high, percentile)
    if method != "auto":
        return METHODS[method](centres, counts, low, high)
    found = [fn(centres, counts, low, high) for fn in METHODS.values()]
    if shapes:
        found.append(_least_error(centres, counts, low, high, shapes))
    errors = [error(centres, counts, s, shapes) for s in found]
    return found[int(np.argmin(errors))]


def error(centres: Tensor, counts: Tensor, s: Scale, shapes: Sequence[Shape] = ()) -> float:
    """Mean squared error of the elements, or of the functions of them."""
    got = rounded(centres, s)
    off = [f(got.astype(np.float32)) - f(centres.astype(np.float32)) for f in shapes] or [got - centres]
    return float(sum((np.square(o) * counts).sum() for o in off) / counts.sum())


def _minmax(centres: Tensor, counts: Tensor, low: float, high: float) -> Scale:
    return scale_of(low, high, "minmax")


def _percentile(centres: Tensor, counts: Tensor, low: float, high: float, percentile: float = PERCENTILE) -> Scale:
    """The range that holds so many percent of the elements; half of the others lie on either side of it."""
    total = np.cumsum(counts) / counts.sum()
    outside = (1 - percentile / 100) / 2
    first = centres[np.searchsorted(total, outside)]
    last = centres[min(int(np.searchsorted(total, 1 - outside)), len(centres) - 1)]
    return scale_of(max(float(first), low), min(float(last), high), "percentile")


def _entropy(centres: Tensor, counts: Tensor, low: float, high: float) -> Scale:
    """The range with the least Kullback-Leibler divergence of what 8 bits leave (Migacz, "8-bit inference with
    TensorRT", 2017)."""
    best, found = np.inf, scale_of(low, high, "entropy")
    share = counts / counts.sum()
    for part in np.linspace(1.0, 0.2, 81):
        s = scale_of(low * part, high * part, "entropy")
        steps = np.clip(np.rint(centres / s.scale) + s.zero, 0, LEVELS).astype(np.int64)
        inside = (centres >= s.low - s.scale / 2) & (centres <= s.high + s.scale / 2)
        if not inside.any():
            continue
        clipped = np.where(inside, share, 0.0)  # what is outside counts in the outermost bins
        index = np.flatnonzero(inside)
        clipped[index[0]] += share[: index[0]].sum()
        clipped[index[-1]] += share[index[-1] + 1 :].sum()
        kept = np.bincount(steps[inside], share[inside], LEVELS + 1)
        bins = np.bincount(steps[inside], minlength=LEVELS + 1)
        q = np.where(inside, kept[steps] / np.maximum(bins[steps], 1), 0.0)
        q /= q.sum()
        where = (clipped > 0) & (q > 0)
        divergence = float((clipped[where] * np.log(clipped[where] / q[where])).sum())
        if divergence < best - 1e-12:
            best, found = divergence, s
    return found


def _mse(centres: Tensor, counts: Tensor, low: float, high: float) -> Scale:
    """The range with the least mean squared error."""
    return _least_error(centres, counts, low, high, ())


def _least_error(centres: Tensor, counts: Tensor, low: float, high: float, shapes: Sequence[Shape]) -> Scale:
    """One end of the range after the other, in coarse steps and then in fine ones around the best."""
    parts, best, found = [1.0, 1.0], np.inf, scale_of(low, high, "mse")
    ends = [side for side, end in enumerate((low, high)) if end != 0.0]
    for steps in (np.linspace(0.1, 1.0, 19), np.linspace(-0.04, 0.04, 9)):
        for side in ends * len(ends):
            middle = 0.0 if steps[0] > 0 else parts[side]
            for part in np.clip(middle + steps, 0.0, 1.0):
                trial = [*parts[:side], float(part), *parts[side + 1 :]]
                s = scale_of(low * trial[0], high * trial[1], "mse")
                off = error(centres, counts, s, shapes)
                if off < best:
                    best, found, parts = off, s, trial
    return found


METHODS: dict[str, Callable[[Tensor, Tensor, float, float], Scale]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "entropy": _entropy,
    "mse": _mse,
}
