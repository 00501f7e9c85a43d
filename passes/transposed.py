"""Turns transposed convolutions into plain ones, whose kernels are fast: one output channel per phase of the stride.

The phases (phase_axes.py) lie side by side as channels, and are woven into the image.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import numpy as np

from edgec.compiler.ir import Array, Node, Value
from edgec.compiler.op import build, const, const_array, full_attrs, is_const
from edgec.compiler.rewrite import Sweep, python_rule

from .phase_axes import Axis, axes_of
from .phases_apart import apart, reaches, worth_it


@python_rule("ConvTranspose")
def transposed_into_phases(value: Value, sweep: Sweep) -> Value | str | None:
    """With constant weights, in f32."""
    node = value.node
    x, w, b = node.args
    attrs: Any = full_attrs(node)
    if not is_const(w) or not is_const(b) or value.type.dtype != "f32":
        return "weights or bias are not constant, or the result is not f32"
    axes = axes_of(node)
    if isinstance(axes, str):
        return axes
    made: dict[str, Any] = {"origin": node.origin, "label": node.name}
    grouped, many = attrs["group"] > 1, prod(a.stride for a in axes)
    weights = filters_of_phases(const_array(w), attrs["group"], axes)
    bias = np.repeat(const_array(b), many) if grouped else np.tile(const_array(b), many)
    taken = reaches(axes, x.shape[2:])
    if not grouped and worth_it(axes, taken, w.shape[1], x.shape[-1], sweep.session.target):
        y = apart(x, weights, bias, axes, taken, made)
    else:
        y = _side_by_side(x, (w, weights), (b, bias), axes, attrs["group"], made)
    return image_of_phases(y, node, axes, made)


def image_of_phases(y: Value, node: Node, axes: list[Axis], made: dict[str, Any]) -> Value:
    """The result of a transposed convolution, whose phases are channels of `y`."""
    value, grouped, strides = Value(node), full_attrs(node)["group"] != 1, tuple(a.stride for a in axes)
    size = tuple(a.positions(n) for a, n in zip(axes, node.args[0].shape[2:], strict=True))
    y = y if prod(strides) == 1 else _woven(y, strides, size, grouped, made)
    cut = [k for k in range(len(axes)) if axes[k].shift or y.shape[2 + k] != value.shape[2 + k]]
    if not cut:
        return y
    starts = tuple(axes[k].shift for k in cut)
    ends = tuple(axes[k].shift + value.shape[2 + k] for k in cut)
    places = tuple(2 + k for k in cut)
    return build("Slice", y, starts=starts, ends=ends, axes=places, steps=(1,) * len(cut), **made)


def _side_by_side(
    x: Value, w: tuple[Value, Array], b: tuple[Value, Array], axes: list[Axis], group: int, made: dict[str, Any]
) -> Value:
    """One convolution of all phases; `w` and `b` are the old constants and the new ones."""
    margins = margins_of(axes, x)
    filters, bias = (const(new, old.node.name, old.node.origin) for old, new in (w, b))
    return build("Conv", x, filters, bias, pads=margins, group=group, **made)


def margins_of(axes: list[Axis], x: Value) -> tuple[int, ...]:
    """Padding of the convolution of all phases."""
    return (*(a.before for a in axes), *(a.after(n) for a, n in zip(axes, x.shape[2:], strict=True)))


def filters_of_phases(w: Array, group: int, axes: list[Axis]) -> Array:
    """Filters [outputs and phases, inputs of a group, taps]; phases are the slow digit, or the fast one in groups."""
    inputs, outputs = w.shape[0] // group, w.shape[1]
    each = w.reshape(group, inputs, outputs, *w.shape[2:])
    new = np.zeros((group, outputs, *(a.stride for a in axes), inputs, *(a.kernel for a in axes)), w.dtype)
    for entry in product(*(a.taps.items() for a in axes)):
        phase, old = zip(*(key for key, _ in entry), strict=True)
        taps = tuple(to for _, to in entry)
        new[(slice(None), slice(None), *phase, slice(None), *taps)] = each[(..., *old)].swapaxes(1, 2)
    rank = len(axes)
    if group == 1:
        new = np.moveaxis(new, 1, 1 + rank)
    return np.ascontiguousarray(new.reshape(-1, inputs, *(a.kernel for a in axes)))


def _woven(y: Value, strides: tuple[int, ...], size: tuple[int, ...], grouped: bool, made: dict[str, Any]) -> Value:
    """Phases that are channels become pixels."""
    rank = len(size)
    if rank == 2 and strides[0] == strides[1]:
        return build("DepthToSpace", y, blocksize=strides[0], mode="CRD" if grouped else "DCR", **made)
    outputs = y.shape[1] // prod(strides)
    digits = (outputs, *strides) if grouped else (*strides, outputs)
    first, channel = (2, 1) if grouped else (1, 1 + rank)
    woven = [place for k in range(rank) for place in (2 + rank + k, first + k)]
    y = build("Reshape", y, shape=(y.shape[0], *digits, *size), **made)
    y = build("Transpose", y, perm=(0, channel, *woven), **made)
    return build(
        "Reshape", y, shape=(y.shape[0], outputs, *(n * s for n, s in zip(size, strides, strict=True))), **made
    )
