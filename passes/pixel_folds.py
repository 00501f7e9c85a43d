"""Convolutions over pixels that were first folded into channels read the image itself, with larger windows.

Folding patches of s x s pixels into channels (SpaceToDepth, or a Concat of slices with steps, the "focus" of some
detectors) and then convolving with k x k taps is one convolution with s k x s k taps and stride s: the same products.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.compiler.ir import Array, Node, Value
from edgec.compiler.op import build, const, const_array, full_attrs, int_attr, is_const
from edgec.compiler.rewrite import Sweep, python_rule

Corner = tuple[int, int]  # first row and column that a piece of the channels has


@python_rule("Conv")
def convolution_over_patches(value: Value, sweep: Sweep) -> Value | str | None:
    """With constant f32 weights, where the patches tile the image."""
    node = value.node
    x, w, b = node.args
    attrs: Any = full_attrs(node)
    if len(x.shape) != 4 or x.node.op not in ("Concat", "SpaceToDepth"):
        return None
    if not is_const(w) or value.type.dtype != "f32" or attrs["group"] != 1 or set(attrs["dilations"]) - {1}:
        return "the weights are not constant, or the window has groups or dilation"
    folded = _folded(x)
    if folded is None:
        return "the channels are no patches of one image"
    source, size, corners = folded
    if source.shape[2] % size or source.shape[3] % size or sorted(corners) != sorted(set(corners)):
        return f"patches of {size} x {size} do not tile {source}"
    if len(corners) != size * size:
        return "some pixels are not read"
    old, channels = const_array(w), source.shape[1]
    kernel = old.shape[2:]
    new: Array = np.zeros((old.shape[0], channels, kernel[0], size, kernel[1], size), old.dtype)
    for k, (row, column) in enumerate(corners):
        new[:, :, :, row, :, column] = old[:, k * channels : (k + 1) * channels]
    new = new.reshape(old.shape[0], channels, kernel[0] * size, kernel[1] * size)
    strides, pads = attrs["strides"] or (1, 1), attrs["pads"] or (0,) * 4
    filters = const(new, w.node.name, w.node.origin)
    origin = tuple(dict.fromkeys((*x.node.origin, *node.origin)))
    scaled = {"strides": tuple(s * size for s in strides), "pads": tuple(p * size for p in pads)}
    return build("Conv", source, filters, b, origin=origin, label=node.name, **scaled)


def _folded(x: Value) -> tuple[Value, int, list[Corner]] | None:
    """(image, size of a patch, corner of each piece of the channels in turn); None where `x` is something else."""
    if x.node.op == "SpaceToDepth":
        size = int_attr(x.node, "blocksize")
        return x.node.args[0], size, [(r, c) for r in range(size) for c in range(size)]
    if int_attr(x.node, "axis") % 4 != 1:
        return None
    pieces = [_piece(a) for a in x.node.args]
    source, steps, _ = pieces[0]
    if steps[0] != steps[1] or steps[0] < 2 or any((s, n) != (source, steps) for s, n, _ in pieces):
        return None
    return source, steps[0], [corner for _, _, corner in pieces]


def _piece(value: Value) -> tuple[Value, Corner, Corner]:
    """The image behind a chain of slices, its steps, and the first row and column; steps of 0 for other slices."""
    steps, starts = [1, 1], [0, 0]
    while value.node.op == "Slice":
        node: Node = value.node
        attrs: Any = full_attrs(node)
        for axis, start, step in zip(attrs["axes"], attrs["starts"], attrs["steps"], strict=True):
            if axis % 4 < 2 or step < 1:
                return value, (0, 0), (0, 0)
            starts[axis % 4 - 2] = start + step * starts[axis % 4 - 2]
            steps[axis % 4 - 2] *= step
        value = node.args[0]
    whole = all(0 <= s < max(n, 1) for s, n in zip(starts, steps, strict=True))
    return (value, (steps[0], steps[1]), (starts[0], starts[1])) if whole else (value, (0, 0), (0, 0))
