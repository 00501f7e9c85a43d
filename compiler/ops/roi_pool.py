"""MaxRoiPool: regions of an image as small images, each element the maximum of the elements of its part.

Fast R-CNN's pooling (Girshick, 2015): a region's corners are rounded to whole elements, both belong to it, and its
parts overlap where they do not divide it evenly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import REQUIRED, op
from .common import FLOATS, Tensor, equal_types, require, widened
from .roi import require_images

FAR = float(1 << 22)  # corners and images beyond count as lying there; a sum of two still fits i32


def _pooled(x: Type, rois: Type, **attrs: Any) -> tuple[Type, ...]:
    require(x, FLOATS)
    equal_types(x, rois)
    require_images(x)
    if len(rois.shape) != 2 or rois.shape[1] != 5:
        raise IRError(f"regions {rois} do not fit; expected [n, 5]: image, left, top, right, bottom")
    size = attrs["pooled_shape"]
    if len(size) != 2 or min(size) < 1:
        raise IRError(f"pooled_shape {list(size)} makes no sense; expected two sizes of 1 or more")
    return (Type(x.dtype, (rois.shape[0], x.shape[1], *size)),)


def max_roi_pool(x: Tensor, rois: Tensor, pooled_shape: tuple[int, ...], spatial_scale: float) -> Tensor:
    """Images out of range count as the first or last. A part that lies outside is 0; NaN is greater than nothing."""
    numbers, wide = widened(rois), widened(x)
    corners = nearest(numbers[:, 1:] * numbers.dtype.type(spatial_scale))
    images = np.clip(whole(numbers[:, 0]), 0, x.shape[0] - 1)
    y = np.zeros((len(rois), x.shape[1], *pooled_shape), wide.dtype)
    for k, (left, top, right, bottom) in enumerate(corners):
        rows = parts(top, bottom, pooled_shape[0], x.shape[2])
        columns = parts(left, right, pooled_shape[1], x.shape[3])
        for i, (r, r_end) in enumerate(rows):
            for j, (s, s_end) in enumerate(columns):
                if r < r_end and s < s_end:
                    y[k, :, i, j] = np.fmax.reduce(wide[images[k], :, r:r_end, s:s_end], (1, 2), initial=-np.inf)
    return y.astype(x.dtype)


def parts(first: int, last: int, count: int, size: int) -> list[tuple[int, int]]:
    """(begin, end) of each of `count` parts of the elements first to last, cut to an axis of `size` elements.

    Borders are computed in f32, as the frameworks do that train with it.
    """
    each = np.float32(max(last - first + 1, 1)) / np.float32(count)
    k = np.arange(count, dtype=np.float32)
    begins, ends = np.floor(k * each), np.ceil((k + np.float32(1)) * each)
    cut = [np.clip(border.astype(np.int64) + first, 0, size).tolist() for border in (begins, ends)]
    return list(zip(*cut, strict=True))


def nearest(x: Tensor) -> Tensor:
    """The nearest whole number, halves away from zero."""
    x = within(x)
    down = np.trunc(x)
    return (down + (x - down >= 0.5) - (x - down <= -0.5)).astype(np.int64)


def whole(x: Tensor) -> Tensor:
    return np.trunc(within(x)).astype(np.int64)


def within(x: Tensor) -> Tensor:
    """Numbers that are not too large; not a number counts as the least."""
    return np.where(x > -FAR, np.where(x < FAR, x, FAR), -FAR).astype(x.dtype)


op(
    "MaxRoiPool",
    2,
    _pooled,
    max_roi_pool,
    kind="other",
    attrs={"pooled_shape": REQUIRED, "spatial_scale": 1.0},
    alone=True,
)
