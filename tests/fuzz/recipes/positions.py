"""Operators that write, order or sample at positions that are data."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from edgec.compiler.dtypes import DTYPES, dtype
from edgec.compiler.ir import Type, Value
from edgec.compiler.ops.common import FLOATS, NUMBERS, ORDERED

from ..draw import Draw, Unsuitable, is_float
from . import recipe
from .elementwise import argument, within
from .folds import real
from .maps import positions, tensor
from .windows import float_type, window


def _reduction(d: Draw, x: Value) -> str:
    return d.choice(("none", "none", "add", "mul", "max", "min")) if x.type.dtype in ORDERED else "none"


@recipe("ScatterElements")
def scatter_elements(d: Draw, op: str) -> None:
    x = tensor(d, 1)
    axis = d.axis(x, negative=True)
    at = axis % len(x.shape)
    shape = tuple(d.size(9) if k == at else d.integer(1, max(n, 1)) for k, n in enumerate(x.shape))
    updates = d.fresh(Type(x.type.dtype, shape))
    d.emit(op, x, positions(d, shape, x.shape[at]), updates, axis=axis, reduction=_reduction(d, x))


@recipe("ScatterND")
def scatter_nd(d: Draw, op: str) -> None:
    x = tensor(d, 1)
    depth = d.integer(1, len(x.shape))
    lead = d.shape(d.choice((0, 1, 1, 2)), most=6)
    if prod(x.shape) == 0:
        raise Unsuitable("nothing to write to")
    columns = [d.arrays.integers(-n if d.flag(0.2) else 0, n, lead) for n in x.shape[:depth]]
    indices = d.hold(np.stack(columns, -1).astype(np.int64), 0.6)
    updates = d.fresh(Type(x.type.dtype, (*lead, *x.shape[depth:])))
    d.emit(op, x, indices, updates, reduction=_reduction(d, x))


@recipe("TensorScatter")
def tensor_scatter(d: Draw, op: str) -> None:
    x = tensor(d, 2)
    axis = d.integer(1, len(x.shape) - 1)
    n = x.shape[axis]
    update = d.fresh(Type(x.type.dtype, (*x.shape[:axis], d.integer(1, max(n, 1)), *x.shape[axis + 1 :])))
    mode = d.choice(("linear", "circular"))
    write = d.hold(d.arrays.integers(0, max(n, 1), x.shape[:1]), 0.5)
    d.emit(op, x, update, write, axis=axis - (len(x.shape) if d.flag(0.3) else 0), mode=mode)


@recipe("TopK")
def top_k(d: Draw, op: str) -> None:
    x = d.pick(lambda t: bool(t.shape) and t.dtype in NUMBERS, lambda: Type(d.dtype(NUMBERS), d.shape(2)))
    d.emit_all(op, x, k=d.integer(1, max(x.shape[-1], 1)), largest=d.integer(0, 1))


@recipe("ReverseSequence")
def reverse_sequence(d: Draw, op: str) -> None:
    x = tensor(d, 2)
    time = d.integer(0, 1)
    lengths = d.hold(d.arrays.integers(0, x.shape[time] + 1, (x.shape[1 - time],)), 0.5)
    d.emit(op, x, lengths, time_axis=time, batch_axis=1 - time)


@recipe("CumProd")
def running_product(d: Draw, op: str) -> None:
    x = d.pick(lambda t: bool(t.shape) and t.dtype in NUMBERS, lambda: Type(d.dtype(NUMBERS), d.shape(2)))
    x = within(d, x, -1.3, 1.3) if is_float(x.type) else x
    d.emit(op, x, axis=d.axis(x, negative=True), exclusive=d.integer(0, 1), reverse=d.integer(0, 1))


@recipe("Det", weight=0.6)
def determinant(d: Draw, op: str) -> None:
    n = d.integer(1, 5)
    found = [v for v in d.values if is_float(v.type) and len(v.shape) > 1 and v.shape[-2:] == (n, n)]
    x = d.choice(found) if found and d.flag() else d.fresh(Type(float_type(d), (*d.shape(d.integer(0, 2), 8), n, n)))
    d.emit(op, x)


@recipe("Col2Im")
def columns(d: Draw, op: str) -> None:
    rank = d.choice((1, 2, 2, 2))
    image = tuple(d.integer(1, 8) for _ in range(rank))
    w = window(d, image, 3)
    block = w.pop("kernel")
    count = prod(
        (n + w["pads"][k] + w["pads"][k + rank] - w["dilations"][k] * (block[k] - 1) - 1) // w["strides"][k] + 1
        for k, n in enumerate(image)
    )
    if count < 1:
        raise Unsuitable("no windows")
    x = d.fresh(Type(d.dtype(NUMBERS), (d.integer(1, 2), d.integer(1, 5) * prod(block), count)), constant=0.1)
    d.emit(op, x, image_shape=image, block_shape=block, **w)


@recipe("GridSample")
def grid_sample(d: Draw, op: str) -> None:
    """Positions inside mostly, some beyond the border."""
    x = d.pick(
        lambda t: len(t.shape) in (3, 4, 5) and t.dtype in FLOATS and 0 not in t.shape,
        lambda: Type(float_type(d), d.shape(4, 1000)),
    )
    rank = len(x.shape) - 2
    kind = "f32" if x.type.dtype != "f64" else "f64"
    points = d.arrays.uniform(-1.3, 1.3, (x.shape[0], *d.shape(rank, 40), rank))
    mode = d.choice(("nearest", "linear", "linear", "cubic" if rank == 2 else "linear"))
    attrs: dict[str, Any] = {"mode": mode, "padding_mode": d.choice(("zeros", "border", "reflection"))}
    grid = d.hold(points.astype(dtype(kind if x.type.dtype in ("f32", "f64") else x.type.dtype).numpy), 0.3)
    d.emit(op, x, grid, align_corners=d.integer(0, 1), **attrs)


@recipe("RoiAlign")
def regions(d: Draw, op: str) -> None:
    x = d.pick(
        lambda t: len(t.shape) == 4 and t.dtype in FLOATS and 0 not in t.shape,
        lambda: Type(float_type(d), d.shape(4, 1000)),
    )
    if 0 in x.shape:
        raise Unsuitable("there is no image to find a region in")
    count, (height, width) = d.integer(1, 4), x.shape[2:]
    corners = d.arrays.uniform(-1, [width, height, width, height], (count, 4))
    rois = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    images = d.hold(d.arrays.integers(0, x.shape[0], (count,)), 0.5)
    attrs: dict[str, Any] = {"mode": d.choice(("avg", "avg", "max")), "sampling_ratio": d.integer(0, 2)}
    attrs |= {"output_height": d.integer(1, 4), "output_width": d.integer(1, 4), "half_pixel": d.integer(0, 1)}
    scale = d.choice((1.0, 0.5))
    d.emit(op, x, d.hold(rois.astype(dtype(x.type.dtype).numpy), 0.4), images, spatial_scale=scale, **attrs)


@recipe("MaxRoiPool")
def parts_of_regions(d: Draw, op: str) -> None:
    """Corners at quarters, of which halves are rounded; some regions reach out of the image."""
    x = d.pick(
        lambda t: len(t.shape) == 4 and t.dtype in FLOATS and 0 not in t.shape,
        lambda: Type(float_type(d), d.shape(4, 1000)),
    )
    if 0 in x.shape:
        raise Unsuitable("there is no image to find a region in")
    count, (height, width) = d.integer(1, 4), x.shape[2:]
    corners = (d.arrays.uniform(-2, [width + 2, height + 2] * 2, (count, 4)) * 4).round() / 4
    rois = np.concatenate([d.arrays.integers(0, x.shape[0], (count, 1)), corners], 1)
    size, scale = (d.integer(1, 4), d.integer(1, 4)), d.choice((1.0, 0.5))
    held = d.hold(rois.astype(dtype(x.type.dtype).numpy), 0.4)
    d.emit(op, x, held, pooled_shape=size, spatial_scale=scale)


@recipe("TfIdfVectorizer", weight=0.5)
def grams(d: Draw, op: str) -> None:
    """Runs of one, two and three tokens out of a few."""
    counts = tuple(d.integer(0, 3) for _ in range(d.integer(1, 3)))
    known = [sorted({tuple(d.integer(0, 3) for _ in range(n)) for _ in range(m)}) for n, m in enumerate(counts, 1)]
    sizes = tuple(len(rows) for rows in known)
    size = max(sum(sizes), 1)
    pool = d.constant(np.asarray([x for rows in known for row in rows for x in row], np.int64))
    places = d.constant(np.asarray(d.shuffled(range(sum(sizes))), np.int32))
    tokens = d.arrays.integers(0, 4, d.shape(d.integer(1, 2), 60)).astype(d.choice((np.int32, np.int64)))
    d.emit(op, d.hold(tokens, 0.1), pool, places, grams=sizes, skips=d.integer(0, 2), size=size)


@recipe("BitCast", family="elementwise", weight=0.6)
def bit_cast(d: Draw, op: str) -> None:
    x = argument(d, lambda t: True)
    same = [n for n, row in DTYPES.items() if row.bits == dtype(x.type.dtype).bits and not row.is_float]
    d.emit(op, x, to=d.choice(same))


@recipe("Edgec.MaxPoolPlace", weight=0.6)
def pool_place(d: Draw, op: str) -> None:
    """Where the largest elements of a pool lie."""
    x = real(d, 3)
    if len(x.shape) > 4:
        raise Unsuitable("too many axes")
    w = window(d, x.shape[2:], 3)
    kernel = w.pop("kernel")
    w["pads"] = tuple(min(p, k - 1) for p, k in zip(w["pads"], kernel * 2, strict=True))
    d.emit(op, x, kernel_shape=kernel, **w, ceil_mode=int(d.flag(0.2)), storage_order=int(d.flag(0.2)))


@recipe("Edgec.Blend", weight=0.6)
def blend(d: Draw, op: str) -> None:
    x = d.pick(lambda t: bool(t.shape) and is_float(t) and 0 not in t.shape, lambda: Type(float_type(d), d.shape(3)))
    axis = d.axis(x)
    taps, out = d.integer(1, 4), d.size(12)
    at = d.constant(d.arrays.integers(-1, x.shape[axis] + 1, (taps, out)), "i32")
    kind = "f64" if x.type.dtype == "f64" else "f32"
    d.emit(op, x, at, d.constant(d.arrays.uniform(-1, 1, (taps, out)), kind), axis=axis)


@recipe("Edgec.DeformColumns", weight=0.6)
def deformed(d: Draw, op: str) -> None:
    x = d.pick(
        lambda t: len(t.shape) == 4 and t.dtype in FLOATS and 0 not in t.shape,
        lambda: Type(float_type(d), (d.integer(1, 2), d.choice((2, 4, 8)), d.integer(2, 7), d.integer(2, 7))),
    )
    w = window(d, x.shape[2:], 3)
    kernel = w.pop("kernel")
    groups = [g for g in (1, 2, 4) if x.shape[1] % g == 0]
    attrs: dict[str, Any] = {"kernel_shape": kernel, **w, "group": d.choice(groups), "offset_group": d.choice(groups)}
    sizes = [
        (n + w["pads"][k] + w["pads"][k + 2] - (kernel[k] - 1) * w["dilations"][k] - 1) // w["strides"][k] + 1
        for k, n in enumerate(x.shape[2:])
    ]
    if min(sizes) < 1:
        raise Unsuitable("no windows")
    count, kind = attrs["offset_group"] * prod(kernel), x.type.dtype
    offset = d.hold(d.arrays.uniform(-1, 1, (x.shape[0], 2 * count, *sizes)).astype(dtype(kind).numpy), 0.3)
    mask = [d.fresh(Type(kind, (x.shape[0], count, *sizes)), "positive")] if d.flag() else []
    d.emit(op, x, offset, *mask, **attrs)
