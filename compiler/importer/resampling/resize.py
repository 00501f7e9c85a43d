"""Converters of Resize and Upsample: sizes and scales of all axes resolved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, prod

import numpy as np

from ...dtypes import dtype
from ...errors import EdgecError
from ..context import Context
from ..table import Refused, Result, converts
from .filters import Resampling, resampled

LONGEST = 1 << 20  # axis
CHANNELS = 8  # many, for an image
CROP = "tf_crop_and_resize"
_ALIASES = {"bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}


@dataclass(frozen=True)
class _Extent:
    """The result's sizes, and the scales, of all axes."""

    sizes: tuple[int, ...]
    scales: tuple[float, ...]


@converts("Upsample")
def upsample(c: Context) -> Result:
    """Resize with positions i / scale, rounded down."""
    scales = c.attr("scales") if c.opset < 9 else tuple(c.array(1, "scales").reshape(-1).tolist())
    return _emit(c, _scaled(c, scales), coordinate_transformation_mode="asymmetric", nearest_mode="floor")


@converts("Resize")
def resize(c: Context) -> Result:
    """Opset 10 knows one way to place and round positions; later ones say it in attributes."""
    if c.opset < 11:
        extent = _scaled(c, c.array(1, "scales").reshape(-1).tolist())
        return _emit(c, extent, coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    place, mode = c.attr("coordinate_transformation_mode", "half_pixel"), _mode(c)
    roi = _roi(c) if place == CROP else None
    extent = _extent(c, roi)
    attrs = {
        "coordinate_transformation_mode": place,
        "nearest_mode": c.attr("nearest_mode", "round_prefer_floor"),
        "cubic_coeff_a": float(c.attr("cubic_coeff_a", -0.75)),
        "exclude_outside": int(c.attr("exclude_outside", 0)),
    }
    antialias = bool(c.attr("antialias", 0))
    if antialias and mode == "nearest":
        raise Refused("antialias is set with mode=nearest", "expected mode=linear or cubic")
    antialias = antialias and min(extent.scales, default=1) < 1
    if roi is None and not antialias and (mode == "nearest" or not _apart(c, extent)):
        return _emit(c, extent, **attrs)
    if prod(extent.sizes) == 0:
        return c.const(np.empty(extent.sizes), like=c.arg())
    _check_lengths(c, extent)
    outside = float(c.attr("extrapolation_value", 0.0))
    return resampled(c, Resampling(extent.sizes, extent.scales, mode, antialias, roi, outside, attrs))


def _apart(c: Context, extent: _Extent) -> bool:
    """Whether one axis after the other is the better way: everywhere but in f32 images of many channels, whose vectors
    lie along the channels."""
    if not dtype(c.dtype).is_float or (extent.sizes == c.shape and set(extent.scales) == {1.0}):
        return False
    images = c.dtype == "f32" and c.rank in (3, 4) and extent.sizes[:2] == c.shape[:2] and extent.scales[:2] == (1, 1)
    return not (images and c.shape[1] >= CHANNELS)


def _mode(c: Context) -> str:
    given = str(c.attr("mode", "nearest"))
    return _ALIASES.get(given, given)


def _roi(c: Context) -> list[tuple[float, float]]:
    """(start, end) of every axis, as parts of its length."""
    if not c.has(1) or c.arg(1).type.size == 0:
        raise EdgecError(f"{c.where}: {CROP} has no region of interest")
    axes, given = _axes(c), c.array(1, "region of interest").reshape(-1).tolist()
    if len(given) != 2 * len(axes) or not np.isfinite(given).all():
        raise EdgecError(f"{c.where}: a region of interest of {given} does not fit {len(axes)} axes")
    roi = [(0.0, 1.0)] * c.rank
    for k, axis in enumerate(axes):
        roi[axis] = (given[k], given[k + len(axes)])
    return roi


def _extent(c: Context, roi: list[tuple[float, float]] | None) -> _Extent:
    """From scales or sizes, whichever is given."""
    if c.has(2) and c.arg(2).shape != (0,):
        return _scaled(c, c.array(2, "scales").reshape(-1).tolist(), roi)
    if not c.has(3):
        raise EdgecError(f"{c.where}: has neither scales nor sizes")
    sizes, axes = [int(n) for n in c.array(3, "sizes").reshape(-1)], _axes(c)
    if len(axes) != len(sizes):
        raise EdgecError(f"{c.where}: {len(sizes)} sizes for {len(axes)} axes")
    before = [c.shape[a] for a in axes]
    if any(n < (0 if m == 0 else 1) or (m == 0) != (n == 0) for m, n in zip(before, sizes, strict=True)):
        raise EdgecError(f"{c.where}: {c.arg().type} cannot be resized to {sizes}")
    policy = c.attr("keep_aspect_ratio_policy", "stretch")
    ratios = [float(np.float32(n) / np.float32(m)) if m else 1.0 for m, n in zip(before, sizes, strict=True)]
    if policy != "stretch":
        exact = [n / m for m, n in zip(before, sizes, strict=True) if m] or [1.0]
        ratio = min(exact) if policy == "not_larger" else max(exact)
        sizes = [floor(ratio * m + 0.5) for m in before]
        ratios = [ratio] * len(axes)
    full = list(c.shape)
    for a, n in zip(axes, sizes, strict=True):
        full[a] = n
    return _Extent(tuple(full), tuple(_all_axes(c, ratios)))


def _scaled(c: Context, scales: Sequence[float], roi: Sequence[tuple[float, float]] | None = None) -> _Extent:
    """Sizes from scales, cut to whole numbers; of the region of interest only, where there is one."""
    full = _all_axes(c, scales)
    parts = [np.float32(end) - np.float32(start) for start, end in roi] if roi else [np.float32(1)] * c.rank
    sizes = (int(np.float32(n) * part * np.float32(s)) for n, part, s in zip(c.shape, parts, full, strict=True))
    return _Extent(tuple(max(n, 0) for n in sizes), tuple(full))


def _axes(c: Context) -> list[int]:
    given = c.attr("axes")
    axes = list(range(c.rank)) if given is None else [c.in_rank(int(a), c.rank) for a in given]
    if len(set(axes)) != len(axes):
        raise EdgecError(f"{c.where}: axes {list(given)} name one axis twice")
    return axes


def _all_axes(c: Context, values: Sequence[float]) -> list[float]:
    axes = _axes(c)
    if len(values) != len(axes) or not all(np.isfinite(v) and v > 0 for v in values):
        raise EdgecError(f"{c.where}: scales {list(values)} do not fit {c.arg().type}")
    full = [1.0] * c.rank
    for a, v in zip(axes, values, strict=True):
        full[a] = float(v)
    return full


def _check_lengths(c: Context, extent: _Extent) -> None:
    """Positions along an axis are worked out one by one while the model is compiled."""
    for n, out, scale in zip(c.shape, extent.sizes, extent.scales, strict=True):
        if (n != out or scale != 1) and max(n, out) > LONGEST:
            raise Refused(f"it resizes an axis of {n} elements to {out}", f"expected at most {LONGEST}")


def _emit(c: Context, extent: _Extent, **attrs: float | str) -> Result:
    if extent.sizes == c.shape and all(s == 1 for s in extent.scales):
        return c.arg()
    if prod(extent.sizes) == 0:
        return c.const(np.empty(extent.sizes), like=c.arg())
    _check_lengths(c, extent)
    return c.emit("Resize", c.arg(), sizes=extent.sizes, scales=extent.scales, mode=_mode(c), **attrs)
