"""RoiAlign: regions of an image as small images, each element the mean or the maximum of samples of its part.

Samples are linear along either axis, so a mean is a sum over rows of sums over columns, whose weights `Axis` gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import REQUIRED, op
from .common import FLOATS, Tensor, equal_types, require, widened


@dataclass(frozen=True)
class Axis:
    """Samples of a region along an axis of `size` elements: `count` for each of `out` parts, 0: as many as elements."""

    size: int
    out: int
    count: int

    def samples(self, start: Any, extent: Any) -> tuple[list[Tensor], Any]:
        """The positions of each part's samples that lie within an element of the axis, and how many there are in all.

        A region may be of any size: those of its samples that lie elsewhere are not looked at.
        """
        kind = type(start)
        each = extent / kind(self.out)
        total = kind(self.count) if self.count else np.ceil(each)
        parts = []
        for part in range(self.out):
            first = start + kind(part) * each
            low, high = self.range(first, each, total)
            at = np.empty(0, kind)
            if high > low:
                at = first + (np.arange(low, high, dtype=kind) + kind(0.5)) * each / total
            parts.append(at[(at >= -1) & (at <= self.size)])
        return parts, total

    def range(self, first: Any, each: Any, total: Any) -> tuple[int, int]:
        """Numbers of the samples that may lie on the axis; of a fixed number all."""
        if self.count:
            return 0, self.count
        ends = (np.asarray([-1, self.size]) - first) * (total / each) - 0.5
        if not np.isfinite(ends).all() or not 0 < total < 2**24:
            return 0, 0
        low, high = max(int(np.floor(ends[0])) - 1, 0), min(int(np.ceil(ends[1])) + 2, int(total))
        return low, min(high, low + 2 * self.size + 8)

    def taps(self, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(lower neighbour, upper neighbour, weight of the upper one) of each sample."""
        at = np.maximum(at, 0)
        low = np.minimum(at.astype(np.int64), self.size - 1)
        high = np.minimum(low + 1, self.size - 1)
        return low, high, np.where(high > low, at - low, 0).astype(at.dtype)


def require_images(x: Type) -> None:
    """Refuse what regions cannot be taken of."""
    if len(x.shape) != 4 or 0 in x.shape[2:] or x.shape[0] < 1:
        raise IRError(f"{x} holds no images")


def _aligned(x: Type, rois: Type, images: Type, **attrs: Any) -> tuple[Type, ...]:
    require(x, FLOATS)
    equal_types(x, rois)
    require(images, frozenset({"i64"}), "batch_indices")
    require_images(x)
    if len(rois.shape) != 2 or rois.shape[1] != 4 or images.shape != rois.shape[:1]:
        raise IRError(f"regions {rois} and batch_indices {images} do not fit; expected [n, 4] and [n]")
    size, ratio = (attrs["output_height"], attrs["output_width"]), attrs["sampling_ratio"]
    if min(size) < 1 or ratio < 0:
        raise IRError(f"a result of {size[0]} x {size[1]}, sampled by {ratio}, makes no sense")
    if attrs["mode"] not in ("avg", "max"):
        raise IRError(f"mode {attrs['mode']!r} is unknown; expected avg or max")
    return (Type(x.dtype, (rois.shape[0], x.shape[1], *size)),)


def roi_align(x: Tensor, rois: Tensor, images: Tensor, **attrs: Any) -> Tensor:
    """Images out of range count as the first or last. Samples more than one element outside are zero."""
    y = np.zeros((len(rois), x.shape[1], attrs["output_height"], attrs["output_width"]), widened(x).dtype)
    axes = [Axis(n, out, attrs["sampling_ratio"]) for n, out in zip(x.shape[2:], y.shape[2:], strict=True)]
    kind = y.dtype.type
    shift = kind(0.5 if attrs["half_pixel"] else 0)
    corners = widened(rois) * kind(attrs["spatial_scale"]) - shift
    wide = widened(x)
    pool = _greatest if attrs["mode"] == "max" else _mean
    for k, (left, top, right, bottom) in enumerate(corners):
        extents = [bottom - top, right - left]
        if not attrs["half_pixel"]:
            extents = [max(e, kind(1)) for e in extents]
        found = [a.samples(start, e) for a, start, e in zip(axes, (top, left), extents, strict=True)]
        y[k] = pool(wide[np.clip(images[k], 0, x.shape[0] - 1)], axes, found)
    return y.astype(x.dtype)


def _mean(image: Tensor, axes: list[Axis], found: list[tuple[list[Tensor], Any]]) -> Tensor:
    """Weights of rows times weights of columns."""
    weights = [[_summed(a, at, total) for at in parts] for a, (parts, total) in zip(axes, found, strict=True)]
    y = np.zeros((len(image), axes[0].out, axes[1].out), image.dtype)
    for i, (rows, down) in enumerate(weights[0]):
        for j, (columns, along) in enumerate(weights[1]):
            y[:, i, j] = np.einsum("crs,r,s->c", image[:, rows][:, :, columns], down, along)
    return y


def _summed(axis: Axis, at: Tensor, total: Any) -> tuple[Tensor, Tensor]:
    """(elements, weights) of one part, each element once."""
    low, high, upper = axis.taps(at)
    dense = np.zeros(axis.size, at.dtype)
    np.add.at(dense, low, (1 - upper) / total)
    np.add.at(dense, high, upper / total)
    there = np.unique(np.concatenate([low, high]))
    return there, dense[there]


def _greatest(image: Tensor, axes: list[Axis], found: list[tuple[list[Tensor], Any]]) -> Tensor:
    """As ONNX's own cases have it, the greatest weighed neighbour of any sample, not the greatest sample."""
    (down, rows), (along, columns) = found
    y = np.zeros((len(image), axes[0].out, axes[1].out), image.dtype)
    for i, at_row in enumerate(down):
        for j, at_column in enumerate(along):
            products = [np.zeros((len(image), 1), image.dtype)]
            if len(at_row) >= rows and len(at_column) >= columns and len(at_row) and len(at_column):
                products = []  # every sample lies inside
            for r, wr in _pairs(axes[0], at_row):
                for s, ws in _pairs(axes[1], at_column):
                    values = image[:, r][:, :, s] * (wr[:, None] * ws)
                    products.append(values.reshape(len(image), prod(values.shape[1:])))
            y[:, i, j] = np.max(np.concatenate(products, 1), 1)
    return y


def _pairs(axis: Axis, at: Tensor) -> list[tuple[Tensor, Tensor]]:
    low, high, upper = axis.taps(at)
    return [(low, 1 - upper), (high, upper)]


op(
    "RoiAlign",
    3,
    _aligned,
    roi_align,
    kind="other",
    attrs={
        "output_height": REQUIRED,
        "output_width": REQUIRED,
        "mode": "avg",
        "sampling_ratio": 0,
        "spatial_scale": 1.0,
        "half_pixel": 1,
    },
    alone=True,
)
