"""Convolutions and poolings of volumes become those of images, whose kernels are fast: depth is batch or rows.

A pointwise one needs no more than another view of its volumes, and so does a window along depth alone; windows side by
side, as those of video transformers, are rows of a product. Otherwise each output plane is the convolution of an image
whose channels are the input's planes that its window reaches. Which they are is a selection of channels
(`Edgec.Select`; for bytes, on a GPU, and for many, an ordinary Gather), with one plane of zeros for those outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Value
from edgec.compiler.op import build, const, const_array, full_attrs, is_const
from edgec.compiler.rewrite import Sweep, python_rule

Ints = tuple[int, ...]
MOST_SELECTED = 128  # planes: a selection has code for each, and so many take long to compile


@python_rule("Conv")
def volumes_into_images(value: Value, sweep: Sweep) -> Value | str | None:
    """With constant weights, in f32."""
    return _images(value, sweep, "f32")


@python_rule("Edgec.ConvInteger")
def volumes_of_bytes_into_images(value: Value, sweep: Sweep) -> Value | str | None:
    """With constant weights; planes outside hold the zero point."""
    return _images(value, sweep, "i32")


def _images(value: Value, sweep: Sweep, kind: str) -> Value | str | None:
    node = value.node
    x, w, b = node.args
    if len(x.shape) != 5:
        return None
    if not is_const(w) or value.type.dtype != kind:
        return f"the weights are not constant, or the result is not {kind}"
    attrs: Any = full_attrs(node)
    made: dict[str, Any] = {"origin": node.origin, "label": node.name}
    same: dict[str, Any] = {k: v for k, v in attrs.items() if k not in ("strides", "dilations", "pads")}
    batch, channels, depth, *image = x.shape
    outputs, planes, *out_image = value.shape[1:]
    taps = w.shape[2]
    strides, dilations, pads = attrs["strides"] or (1, 1, 1), attrs["dilations"] or (1, 1, 1), attrs["pads"] or (0,) * 6
    if {*w.shape[2:], *strides} == {1} and not any(pads):
        flat = build("Reshape", x, shape=(batch, channels, depth * image[0], image[1]), **made)
        filters = const(const_array(w).reshape(*w.shape[:2], 1, 1), w.node.name, w.node.origin)
        return build("Reshape", build(node.op, flat, filters, b, **same, **made), shape=value.shape, **made)
    if {*w.shape[3:], *strides[1:]} == {1} and not any((*pads[1:3], *pads[4:])):
        flat = build("Reshape", x, shape=(batch, channels, depth, image[0] * image[1]), **made)
        filters = const(const_array(w).reshape(*w.shape[:3], 1), w.node.name, w.node.origin)
        along = _along_depth(strides, dilations, pads)
        return build("Reshape", build(node.op, flat, filters, b, **same, **along, **made), shape=value.shape, **made)
    if kind == "f32" and not any(pads) and _side_by_side(x.shape[2:], w.shape[2:], strides, dilations, attrs["group"]):
        return _patches(value, made)
    if w.shape[1] == 1:
        return "each output channel reads one input channel: copying its planes would cost more than the products"
    reached = [[d * strides[0] - pads[0] + t * dilations[0] for t in range(taps)] for d in range(planes)]
    seen = _seen(x, reached, sweep, made, attrs.get("zero", 0))
    images = build("Reshape", seen, shape=(batch * planes, channels * taps, *image), **made)
    filters = const(const_array(w).reshape(outputs, -1, *w.shape[3:]), w.node.name, w.node.origin)
    window: dict[str, Any] = {
        "strides": tuple(strides[1:]),
        "dilations": tuple(dilations[1:]),
        "pads": (*pads[1:3], *pads[4:6]),
    }
    y = build(node.op, images, filters, b, **same, **window, **made)
    if batch == 1:
        return build("Reshape", build("Transpose", y, perm=(1, 0, 2, 3), **made), shape=value.shape, **made)
    y = build("Reshape", y, shape=(batch, planes, outputs, *out_image), **made)
    return build("Transpose", y, perm=(0, 2, 1, 3, 4), **made)


def _side_by_side(size: Ints, kernel: Ints, strides: Ints, dilations: Ints, group: int) -> bool:
    """Whether each element of the volume lies in exactly one window."""
    whole = all(n % k == 0 and s == k for n, k, s in zip(size, kernel, strides, strict=True))
    return whole and group == 1 and {*dilations} == {1}


def _patches(value: Value, made: dict[str, Any]) -> Value:
    """A product of patches, each a row, with the filters: images of a patch per few pixels have too short rows."""
    x, w, b = value.node.args
    (batch, channels, *size), (outputs, _, *kernel) = x.shape, w.shape
    cut = [n for whole, k in zip(size, kernel, strict=True) for n in (whole // k, k)]
    apart = build("Reshape", x, shape=(batch, channels, *cut), **made)
    rows = build("Transpose", apart, perm=(0, 2, 4, 6, 1, 3, 5, 7), **made)
    rows = build("Reshape", rows, shape=(batch * prod(cut[::2]), channels * prod(kernel)), **made)
    filters = const(np.ascontiguousarray(const_array(w).reshape(outputs, -1).T), w.node.name, w.node.origin)
    y = build("Add", build("MatMul", rows, filters, **made), b, **made)
    y = build("Reshape", y, shape=(batch, *cut[::2], outputs), **made)
    return build("Transpose", y, perm=(0, 4, 1, 2, 3), **made)


def _seen(x: Value, reached: Sequence[Sequence[int]], sweep: Sweep, made: dict[str, Any], zero: int) -> Value:
    """The planes that each window reads, window by window, channel by channel; `zero` for those outside the volume."""
    batch, channels, depth, *image = x.shape
    outside = channels * depth
    index = [
        c * depth + z if 0 <= z < depth else outside for window in reached for c in range(channels) for z in window
    ]
    sources = [build("Reshape", x, shape=(batch, channels * depth, *image), **made)]
    if outside in index:
        outer = np.full((batch, 1, *image), zero, dtype(x.type.dtype).numpy)
        sources.append(const(outer, f"{made['label']}_outside", made["origin"]))
    target = sweep.session.target
    on_gpu = target is not None and target.gpu  # where planes are copied by any thread
    if len(index) > MOST_SELECTED or on_gpu or x.type.dtype != "f32":
        whole = build("Concat", *sources, axis=1, **made) if len(sources) > 1 else sources[0]
        return build("Gather", whole, const(np.array(index)), axis=1, **made)
    return build("Edgec.Select", *sources, index=tuple(index), **made)


def _along_depth(strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int]) -> dict[str, Any]:
    """The attributes of a window along the depth of volumes whose planes are rows of an image."""
    return {"strides": (strides[0], 1), "dilations": (dilations[0], 1), "pads": (pads[0], 0, pads[3], 0)}


@python_rule("Edgec.ConvInteger")
def rows_without_edges(value: Value, sweep: Sweep) -> Value | str | None:
    """On x86: generic code widens bytes one by one where rows have edges, and by vectors over a padded copy."""
    node = value.node
    x, w, b = node.args
    attrs: Any = full_attrs(node)
    pads = attrs["pads"] or (0,) * 6
    if len(x.shape) != 5 or not (pads[2] or pads[5]):
        return None
    target = sweep.session.target
    if target is None or not target.triple.startswith("x86_64") or target.gpu:
        return "the target is no CPU of x86"
    made: dict[str, Any] = {"origin": node.origin}
    around = (0, 0, 0, 0, pads[2], 0, 0, 0, 0, pads[5])
    copy = build("Pad", x, pads=around, value=float(attrs["zero"]), label=f"{node.name}_padded", **made)
    rest = dict(attrs, pads=(*pads[:2], 0, *pads[3:5], 0))
    return build("Edgec.ConvInteger", copy, w, b, label=node.name, **rest, **made)


@python_rule("MaxPool", "AveragePool")
def pooled_planes(value: Value, sweep: Sweep) -> Value | str | None:
    """In f32: first each plane for itself, then along depth. Both the greatest and the average of boxes are such."""
    node = value.node
    (x,) = node.args
    if len(x.shape) != 5 or len(node.types) != 1:
        return None
    if value.type.dtype != "f32":
        return "it is not of f32"
    attrs: Any = dict(node.attrs)
    made: dict[str, Any] = {"origin": node.origin, "label": node.name}
    (batch, channels, depth, *image), out = x.shape, value.shape
    kernel, pads = attrs["kernel_shape"], attrs.get("pads") or (0,) * 6
    strides, dilations = (attrs.get(key) or (1, 1, 1) for key in ("strides", "dilations"))
    kept = {key: attrs[key] for key in ("ceil_mode", "count_include_pad") if key in attrs}
    y = x
    if tuple(image) != out[3:] or {*kernel[1:]} != {1}:
        window: dict[str, Any] = {"strides": strides[1:], "dilations": dilations[1:], "pads": (*pads[1:3], *pads[4:])}
        y = build("Reshape", y, shape=(batch, channels * depth, *image), **made)
        y = build(node.op, y, kernel_shape=kernel[1:], **window, **kept, **made)
    if depth != out[2] or kernel[0] != 1:
        y = build("Reshape", y, shape=(batch, channels, depth, out[3] * out[4]), **made)
        along = _along_depth(strides, dilations, pads)
        y = build(node.op, y, kernel_shape=(kernel[0], 1), **along, **kept, **made)
    return build("Reshape", y, shape=out, **made)
