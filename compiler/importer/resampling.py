"""Converters of Resize and Upsample: sizes and scales of all axes resolved."""

from __future__ import annotations

from math import floor

import numpy as np

from ..errors import EdgecError
from .context import Context
from .table import Refused, Result, converts


@converts("Upsample")
def upsample(c: Context) -> Result:
    """Resize with positions i / scale, rounded down."""
    scales = c.attr("scales") if c.opset < 9 else tuple(c.array(1, "scales").reshape(-1).tolist())
    return _emit(c, _all_axes(c, scales, 1.0), None, coordinate_transformation_mode="asymmetric", nearest_mode="floor")


@converts("Resize")
def resize(c: Context) -> Result:
    """Opset 10 knows one way to place and round positions; later ones say it in attributes."""
    if c.opset < 11:
        scales = _all_axes(c, c.array(1, "scales").reshape(-1).tolist(), 1.0)
        return _emit(c, scales, None, coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    place = c.attr("coordinate_transformation_mode", "half_pixel")
    if place == "tf_crop_and_resize":
        raise Refused(f"{place} reads a region of interest", "expected another coordinate_transformation_mode")
    if c.attr("antialias", 0):
        raise Refused("antialias is set", "expected antialias=0")
    attrs = {
        "coordinate_transformation_mode": place,
        "nearest_mode": c.attr("nearest_mode", "round_prefer_floor"),
        "cubic_coeff_a": float(c.attr("cubic_coeff_a", -0.75)),
        "exclude_outside": int(c.attr("exclude_outside", 0)),
    }
    if c.has(2) and c.arg(2).shape != (0,):
        return _emit(c, _all_axes(c, c.array(2, "scales").reshape(-1).tolist(), 1.0), None, **attrs)
    if not c.has(3):
        raise EdgecError(f"{c.where}: has neither scales nor sizes")
    sizes = [int(n) for n in c.array(3, "sizes").reshape(-1)]
    axes = _axes(c)
    if len(axes) != len(sizes):
        raise EdgecError(f"{c.where}: {len(sizes)} sizes for {len(axes)} axes")
    if 0 in c.shape or min(sizes, default=1) < 1:
        raise EdgecError(f"{c.where}: {c.arg().type} cannot be resized to {sizes}")
    policy = c.attr("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        ratios = [n / c.shape[a] for a, n in zip(axes, sizes, strict=True)]
        ratio = min(ratios) if policy == "not_larger" else max(ratios)
        sizes = [floor(ratio * c.shape[a] + 0.5) for a in axes]
        scales = _all_axes(c, [ratio] * len(axes), 1.0)
    else:
        ratios = [float(np.float32(n) / np.float32(c.shape[a])) for a, n in zip(axes, sizes, strict=True)]
        scales = _all_axes(c, ratios, 1.0)
    full = list(c.shape)
    for a, n in zip(axes, sizes, strict=True):
        full[a] = n
    return _emit(c, scales, tuple(full), **attrs)


def _axes(c: Context) -> list[int]:
    given = c.attr("axes")
    return list(range(c.rank)) if given is None else [c.in_rank(int(a), c.rank) for a in given]


def _all_axes(c: Context, values: list[float] | tuple[float, ...], default: float) -> list[float]:
    axes = _axes(c)
    if len(values) != len(axes) or not all(np.isfinite(v) and v > 0 for v in values):
        raise EdgecError(f"{c.where}: scales {list(values)} do not fit {c.arg().type}")
    full = [default] * c.rank
    for a, v in zip(axes, values, strict=True):
        full[a] = float(v)
    return full


def _emit(c: Context, scales: list[float], sizes: tuple[int, ...] | None, **attrs: float | str) -> Result:
    mode = {"bilinear": "linear", "trilinear": "linear"}.get(c.attr("mode", "nearest"), c.attr("mode", "nearest"))
    if sizes is None:
        sizes = tuple(int(np.float32(s) * np.float32(n)) for s, n in zip(scales, c.shape, strict=True))
    if sizes == c.shape and all(s == 1 for s in scales):
        return c.arg()
    return c.emit("Resize", c.arg(), sizes=sizes, scales=tuple(scales), mode=mode, **attrs)
