"""Converters of operators that sample at computed positions, and of the grids of such positions."""

from __future__ import annotations

from math import prod

import numpy as np

from ...errors import EdgecError
from ...ops.common import Tensor
from ..context import Context
from ..sized.rules import keep, keeps, refuse, same
from ..table import Refused, Result, converts

MOST_SAMPLES = 1 << 10  # along a part of a region


@converts("AffineGrid")
def affine_grid(c: Context) -> Result:
    """Matrices times the positions of an even grid, (x, y, 1) or (x, y, z, 1). f16 and bf16 are computed in f32."""
    sizes = c.ints(1, "size") or ()
    rank = len(sizes) - 2
    if rank not in (2, 3) or min(sizes) < 0 or c.shape != (sizes[0], rank, rank + 1):
        raise EdgecError(f"{c.where}: matrices {c.arg().type} and a size of {list(sizes)} do not fit")
    axes = [_even(n, bool(c.attr("align_corners", 0))) for n in sizes[2:]]
    grids = np.meshgrid(*axes, indexing="ij")[::-1]
    places = np.stack([*(g.reshape(-1) for g in grids), np.ones(prod(sizes[2:]))])
    theta = c.cast(c.arg(), "f64" if c.dtype == "f64" else "f32")
    y = c.transpose(c.emit("MatMul", theta, c.const(places[None], like=theta)), (0, 2, 1))
    return c.cast(c.reshape(y, (sizes[0], *sizes[2:], rank)), c.dtype)


@converts("GridSample")
def grid_sample(c: Context) -> Result:
    """Opset 20 calls the modes otherwise."""
    mode = str(c.attr("mode", "linear"))
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    padding, corners = str(c.attr("padding_mode", "zeros")), int(bool(c.attr("align_corners", 0)))
    if not 3 <= c.rank <= 5:
        raise Refused(f"it samples {c.arg().type}", "expected one, two or three spatial axes")
    return c.emit("GridSample", c.arg(0), c.arg(1), mode=mode, padding_mode=padding, align_corners=corners)


@keeps("RoiAlign")
def regions(c: Context) -> Result:
    """As many results as there are regions. Where nothing is there, regions of zeros are pooled."""
    rois, images = c.counts.get(1), c.counts.get(2)
    if rois is None or images is None or rois.axis or 0 in c.counts or not same(rois.value, images.value):
        refuse(c, "and that of its other arguments is not the same")
    return keep(c, rois)


@converts("DeformConv")
def deform_conv(c: Context) -> Result:
    """The moved elements under each window, then a convolution of single pixels. f16 and bf16 are computed in f32."""
    work = "f64" if c.dtype == "f64" else "f32"
    x, w, offset = (c.cast(c.arg(k), work) for k in range(3))
    kernel, rank, group = w.shape[2:], c.rank - 2, int(c.attr("group", 1))
    given = c.attr("kernel_shape")
    if not 1 <= rank <= 3:
        raise Refused(f"it convolves {c.arg().type}", "expected one, two or three spatial axes")
    if len(kernel) != rank or (given and tuple(given) != kernel) or c.shape[1] != w.shape[1] * group:
        raise EdgecError(f"{c.where}: weights {w.type} do not fit {c.arg().type} in {group} groups")
    if group < 1 or w.shape[0] % group:
        raise EdgecError(f"{c.where}: {w.shape[0]} results do not part into {group} groups")
    strides, dilations, pads = (
        tuple(c.attr(key) or (default,) * count)
        for key, default, count in (("strides", 1, rank), ("dilations", 1, rank), ("pads", 0, 2 * rank))
    )
    masks = [c.cast(c.arg(4), work)] if c.has(4) else []
    columns = c.emit(
        "Edgec.DeformColumns",
        x,
        offset,
        *masks,
        kernel_shape=kernel,
        strides=strides,
        pads=pads,
        dilations=dilations,
        group=group,
        offset_group=int(c.attr("offset_group", 1)),
    )
    bias = c.cast(c.arg(3), work) if c.has(3) else c.const(np.zeros(w.shape[0]), like=work)
    window, ones = prod(kernel), (1,) * rank
    filters = c.transpose(c.reshape(w, (w.shape[0], w.shape[1], window)), (0, 2, 1))
    filters = c.reshape(filters, (w.shape[0], w.shape[1] * window, *ones))
    y = c.emit("Conv", columns, filters, bias, strides=ones, pads=(0,) * 2 * rank, dilations=ones, group=group)
    return c.cast(y, c.dtype)


@converts("RoiAlign")
def roi_align(c: Context) -> Result:
    """Before opset 16 nothing is shifted by half a pixel."""
    place = str(c.attr("coordinate_transformation_mode", "output_half_pixel"))
    if place not in ("half_pixel", "output_half_pixel"):
        raise Refused(f"coordinate_transformation_mode is {place!r}", "expected half_pixel or output_half_pixel")
    ratio = int(c.attr("sampling_ratio", 0))
    if ratio > MOST_SAMPLES:
        raise Refused(f"its sampling_ratio is {ratio}", f"expected at most {MOST_SAMPLES}")
    return c.emit(
        "RoiAlign",
        *(c.arg(k) for k in range(3)),
        output_height=int(c.attr("output_height", 1)),
        output_width=int(c.attr("output_width", 1)),
        mode=str(c.attr("mode", "avg")).lower(),
        sampling_ratio=ratio,
        spatial_scale=float(c.attr("spatial_scale", 1.0)),
        half_pixel=int(place == "half_pixel"),
    )


@converts("MaxRoiPool")
def max_roi_pool(c: Context) -> Result:
    size = tuple(int(n) for n in c.attr("pooled_shape", ()))
    return c.emit(
        "MaxRoiPool", c.arg(0), c.arg(1), pooled_shape=size, spatial_scale=float(c.attr("spatial_scale", 1.0))
    )


def _even(n: int, corners: bool) -> Tensor:
    """Positions from -1 to 1: of the first and last pixel's centres, or of their outer edges.

    The centre of a single pixel is at -1, as ONNX's definition of the operator has it along the depth.
    """
    if corners:
        return np.linspace(-1, 1, n) if n > 1 else np.full(n, -1.0)
    return (2 * np.arange(n) + 1) / max(n, 1) - 1
