"""Converters of operators that move elements: reshaping, cutting, joining, padding, reading at positions."""

from __future__ import annotations

from math import ceil, prod

import numpy as np

from ..errors import EdgecError
from ..op import const_array, is_const
from ..ops.common import broadcast
from .context import Context
from .cuts import cut, is_cut
from .positions import counted, from_front
from .table import Refused, Result, converts


@converts("Reshape")
def reshape(c: Context) -> Result:
    """0 keeps a size (unless allowzero), -1 takes the rest."""
    wanted = list(c.ints(1, "shape") or ())
    if not c.attr("allowzero", 0):
        if any(n == 0 and k >= c.rank for k, n in enumerate(wanted)):
            raise EdgecError(f"{c.where}: shape {wanted} keeps an axis that {c.arg().type} lacks")
        wanted = [c.shape[k] if n == 0 else n for k, n in enumerate(wanted)]
    if wanted.count(-1) == 1:
        rest = prod(n for n in wanted if n != -1)
        if rest == 0 or prod(c.shape) % rest:
            raise EdgecError(f"{c.where}: {c.arg().type} does not reshape to {wanted}")
        wanted[wanted.index(-1)] = prod(c.shape) // rest
    return c.reshape(c.arg(), wanted)


@converts("Flatten")
def flatten(c: Context) -> Result:
    axis = int(c.attr("axis", 1))
    axis = axis + c.rank if axis < 0 else axis
    return c.reshape(c.arg(), (prod(c.shape[:axis]), prod(c.shape[axis:])))


@converts("Squeeze")
def squeeze(c: Context) -> Result:
    given = c.ints(1, "axes")
    axes = {c.in_rank(a, c.rank) for a in given} if given is not None else {k for k, n in enumerate(c.shape) if n == 1}
    if any(c.shape[a] != 1 for a in axes):
        raise EdgecError(f"{c.where}: axes {sorted(axes)} of {c.arg().type} are not all of size 1")
    return c.reshape(c.arg(), [n for k, n in enumerate(c.shape) if k not in axes])


@converts("Unsqueeze")
def unsqueeze(c: Context) -> Result:
    given = c.ints(1, "axes") or ()
    rank = c.rank + len(given)
    axes = {c.in_rank(a, rank) for a in given}
    if len(axes) != len(given):
        raise EdgecError(f"{c.where}: axes {list(given)} name one axis twice")
    rest = iter(c.shape)
    return c.reshape(c.arg(), [1 if k in axes else next(rest) for k in range(rank)])


@converts("Transpose")
def transpose(c: Context) -> Result:
    return c.transpose(c.arg(), c.attr("perm") or tuple(reversed(range(c.rank))))


@converts("Expand")
def expand(c: Context) -> Result:
    """The wanted shape broadcasts with the argument's, in both directions."""
    shape = broadcast(c.shape, c.ints(1, "shape") or ())
    return c.arg() if shape == c.shape else c.emit("Expand", c.arg(), shape=shape)


@converts("Tile")
def tile(c: Context) -> Result:
    repeats = c.ints(1, "repeats") or ()
    return c.arg() if set(repeats) <= {1} else c.emit("Tile", c.arg(), repeats=repeats)


@converts("Concat")
def concat(c: Context) -> Result:
    args = [c.arg(i) for i in range(len(c.args))]
    return args[0] if len(args) == 1 else c.emit("Concat", *args, axis=c.axis(1))


@converts("Split")
def split(c: Context) -> Result:
    """Parts without elements are constants, and the others split as if they were not there."""
    axis = c.axis()
    sizes = c.ints(1, "split")
    if sizes is None:
        count, size = int(c.attr("num_outputs", len(c.outputs))), c.shape[axis]
        if count < 1:
            raise EdgecError(f"{c.where}: num_outputs is {count}; expected 1 or more")
        part = ceil(size / count)
        sizes = tuple(min(part, max(size - k * part, 0)) for k in range(count))
    kept = tuple(n for n in sizes if n) or sizes
    parts = list(c.emit_all("Split", c.arg(), axis=axis, split=kept))
    empty = (*c.shape[:axis], 0, *c.shape[axis + 1 :])
    return tuple(parts.pop(0) if n or kept is sizes else c.const(np.empty(empty), c.arg()) for n in sizes)


@converts("Slice")
def slices(c: Context) -> Result:
    """Bounds clamped and counted from the front; axes that stay whole left out."""
    if is_cut(c):
        return cut(c)
    starts, ends = c.ints(1, "starts") or (), c.ints(2, "ends") or ()
    axes = c.ints(3, "axes") or tuple(range(len(starts)))
    steps = c.ints(4, "steps") or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise EdgecError(f"{c.where}: starts, ends, axes and steps differ in length, or a step is 0")
    kept = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = c.in_rank(axis, c.rank)
        n = c.shape[at]
        bounds = slice(start, end, step).indices(n)
        if step < 0 and start < -n and n:
            bounds = (0, bounds[1], step)  # ONNX clamps such a start to the first element
        if bounds != (0, n, 1):
            first, last, _ = bounds
            kept.append((first, max(last, first) if step > 0 else last, at, step))
    if not kept:
        return c.arg()
    kept.sort(key=lambda k: k[2])
    columns = [tuple(column) for column in zip(*kept, strict=True)]
    return c.emit("Slice", c.arg(), starts=columns[0], ends=columns[1], axes=columns[2], steps=columns[3])


@converts("Pad")
def pad(c: Context) -> Result:
    """Pads of every axis; nothing where all are zero."""
    given = c.ints(1, "pads") or ()
    axes = c.ints(3, "axes") if c.has(3) else tuple(range(c.rank))
    assert axes is not None
    if len(given) != 2 * len(axes):
        raise EdgecError(f"{c.where}: {len(given)} pads for {len(axes)} axes")
    pads = [0] * (2 * c.rank)
    for k, axis in enumerate(axes):
        at = c.in_rank(axis, c.rank)
        pads[at], pads[at + c.rank] = given[k], given[k + len(axes)]
    value = c.attr("value", 0.0)
    if c.has(2):
        value = c.array(2, "padding value").reshape(-1)[0].item()
    if not any(pads):
        return c.arg()
    return c.emit("Pad", c.arg(), pads=tuple(pads), mode=c.attr("mode", "constant"), value=value)


@converts("Gather")
def gather(c: Context) -> Result:
    """Constant indices are counted from the front."""
    axis = c.axis()
    return c.emit("Gather", c.arg(), counted(c, c.arg(1), c.shape[axis] if c.rank else 0, axis), axis=axis)


@converts("GatherElements")
def gather_elements(c: Context) -> Result:
    axis = c.axis()
    return c.emit("GatherElements", c.arg(), counted(c, c.arg(1), c.shape[axis] if c.rank else 0, axis), axis=axis)


@converts("GatherND")
def gather_nd(c: Context) -> Result:
    """Each component of constant indices is counted along an axis of its own."""
    batch, indices = int(c.attr("batch_dims", 0)), c.arg(1)
    sizes = c.shape[batch:]
    if is_const(indices) and indices.shape and 1 <= indices.shape[-1] <= len(sizes):
        array, depth = const_array(indices), indices.shape[-1]
        columns = [from_front(c, array[..., k], sizes[k], batch + k) for k in range(depth)]
        indices = c.const(np.stack(columns, -1), like=indices)
    return c.emit("GatherND", c.arg(), indices, batch_dims=batch)


@converts("Trilu")
def trilu(c: Context) -> Result:
    k = int(c.array(1, "k").reshape(-1)[0]) if c.has(1) else 0
    if c.rank < 2:
        raise Refused(f"its argument {c.arg().type} has no matrices")
    k = max(-c.shape[-2] - 1, min(k, c.shape[-1] + 1))
    return c.emit("Trilu", c.arg(), upper=int(c.attr("upper", 1)), k=k)


@converts("CumSum", "CumProd")
def cumulated(c: Context) -> Result:
    axis = c.in_rank(int(c.array(1, "axis").reshape(-1)[0]), c.rank)
    exclusive, reverse = int(c.attr("exclusive", 0)), int(c.attr("reverse", 0))
    return c.emit(c.op, c.arg(), axis=axis, exclusive=exclusive, reverse=reverse)


@converts("ReverseSequence")
def reverse_sequence(c: Context) -> Result:
    axes = tuple(c.in_rank(int(c.attr(key, k)), c.rank) for k, key in enumerate(("time_axis", "batch_axis")))
    return c.emit("ReverseSequence", c.arg(0), c.arg(1), time_axis=axes[0], batch_axis=axes[1])


@converts("SpaceToDepth")
def space_to_depth(c: Context) -> Result:
    """Mode CRD puts the block index into the inner part of the channel."""
    size = int(c.attr("blocksize"))
    y = c.emit("SpaceToDepth", c.arg(), blocksize=size)
    if c.attr("mode", "DCR") != "CRD":
        return y
    n, channels, h, w = y.shape
    parts = c.reshape(y, (n, size * size, channels // size**2, h, w))
    return c.reshape(c.transpose(parts, (0, 2, 1, 3, 4)), y.shape)
