"""Rules of values whose size depends on data: operators that move elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from ...ir import Value
from ...op import const_array, is_const
from ..context import Context
from ..table import CONVERTERS, Count, Result
from .rules import alike, keep, keeps, mask, number, only, padded, refuse, same, times
from .sizes import Size


@keeps("Transpose")
def transpose(c: Context) -> Result:
    count = only(c)
    perm = [int(a) for a in c.attr("perm") or reversed(range(c.rank))]
    return keep(c, count, perm.index(count.axis), zeros=True)


@keeps("Squeeze")
def squeeze(c: Context) -> Result:
    """Which axes have one entry must not depend on data."""
    count, given = only(c), c.ints(1, "axes")
    axes = None if given is None else {c.in_rank(a, c.rank) for a in given}
    if axes is None or count.axis in axes:
        refuse(c, "and it may have one entry or not: the axes to remove must be named")
    return keep(c, count, count.axis - sum(a < count.axis for a in axes), zeros=True)


@keeps("Unsqueeze")
def unsqueeze(c: Context) -> Result:
    count, given = only(c), c.ints(1, "axes") or ()
    rank = c.rank + len(given)
    rest = [k for k in range(rank) if k not in {c.in_rank(a, rank) for a in given}]
    return keep(c, count, rest[count.axis], zeros=True)


@keeps("Flatten")
def flatten(c: Context) -> Result:
    """What is there stays in one piece where all axes before it, in its part, have one entry."""
    count, axis = only(c), int(c.attr("axis", 1))
    axis = axis + c.rank if axis < 0 else axis
    start, end, at = (0, axis, 0) if count.axis < axis else (axis, c.rank, 1)
    if prod(c.shape[start : count.axis]) != 1:
        refuse(c, "and axes before it are merged with it")
    value = times(c, count, prod(c.shape[count.axis + 1 : end]))
    return keep(c, replace(count, value=value), at, zeros=True)


@keeps("Tile")
def tile(c: Context) -> Result:
    count, repeats = only(c), c.ints(1, "repeats") or ()
    if repeats[count.axis] != 1:
        refuse(c, "and it is repeated along that axis")
    return keep(c, count, zeros=True)


@keeps("Pad")
def pad(c: Context) -> Result:
    """Along the counted axis with a constant, which then also stands where nothing is there."""
    count, pads = only(c), c.ints(1, "pads") or ()
    given = c.ints(3, "axes") if c.has(3) else None
    axes = [c.in_rank(a, c.rank) for a in given] if given is not None else list(range(c.rank))
    along = [(pads[k], pads[k + len(axes)]) for k, axis in enumerate(axes) if axis == count.axis]
    if along and along[0] != (0, 0):
        if min(along[0]) < 0 or c.attr("mode", "constant") != "constant":
            refuse(c, "and it is cut or mirrored along that axis")
        padded(c, 0, c.array(2, "padding value").reshape(-1)[0] if c.has(2) else c.attr("value", 0.0))
        count = replace(count, value=number(c, "Add", count.value, sum(along[0])))
    return keep(c, count)


@keeps("Split")
def split(c: Context) -> Result:
    count = only(c)
    if c.axis() == count.axis:
        refuse(c, "and it is split along that axis")
    return keep(c, count, zeros=True)


@keeps("Slice")
def slices(c: Context) -> Result:
    """Along the counted axis: from a place that is counted from the front, to any end."""
    if _to_the_end(c):
        return c.sized(c.arg(), only(c))
    count, starts, ends = only(c), c.ints(1, "starts") or (), c.ints(2, "ends") or ()
    axes, steps = c.ints(3, "axes") or tuple(range(len(starts))), c.ints(4, "steps") or (1,) * len(starts)
    zeros = True
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if c.in_rank(axis, c.rank) != count.axis:
            continue
        if step != 1 or start < 0:
            refuse(c, f"and it is cut from {start} in steps of {step}; expected a start of 0 or more, and steps of 1")
        last, size = count.value, c.shape[count.axis]
        if end < 0:
            last, zeros = number(c, "Max", number(c, "Add", last, max(end, -size)), 0), False
        elif start == 0 and end <= _least(last):
            return CONVERTERS[c.op](c)
        elif end < size:
            last = number(c, "Min", last, end)
        if start > 0:
            last = number(c, "Max", number(c, "Sub", last, min(start, size)), 0)
        count = replace(count, value=last)
    return keep(c, count, zeros=zeros)


def _to_the_end(c: Context) -> bool:
    """Whether all is taken of what there is, by a computed end: as the parts of a batch of one image are."""
    if 2 not in c.sizes or c.sizes[2].size != 1 or not is_const(c.arg(1)) or not c.has(3):
        return False
    count, (end,), axes, steps = only(c), c.sizes[2].reshape(-1), c.ints(3, "axes"), c.ints(4, "steps") or (1,)
    whole = (c.ints(1, "starts"), axes, steps) == ((0,), (count.axis,), (1,))
    return whole and isinstance(end, Size) and same(end.count.value, count.value)


@keeps("Concat")
def concat(c: Context) -> Result:
    """Along another axis all parts have the same count. Along the counted one what is there is moved together."""
    axis, args = c.axis(1), [c.arg(i) for i in range(len(c.args))]
    first = next(iter(c.counts.values()))
    if len(args) == 1:
        return keep(c, first, zeros=True)
    if all(n.axis != axis for n in c.counts.values()):
        alike(c, range(len(args)))
        return keep(c, first, zeros=all(n.zeros for n in c.counts.values()))
    for index, n in c.counts.items():
        if n.axis != axis:
            refuse(c, "and so does another one along another axis", index)
    whole = CONVERTERS[c.op](c)
    assert isinstance(whole, Value)
    if list(c.counts) == [len(args) - 1]:
        before = sum(x.shape[axis] for x in args[:-1])
        return c.sized(whole, replace(first, value=number(c, "Add", first.value, before)))
    if list(c.counts) == [0] and first.zeros and all(_zeros(x) for x in args[1:]):
        after = sum(x.shape[axis] for x in args[1:])
        return c.sized(whole, replace(first, value=number(c, "Add", first.value, after)))
    masks = [
        c.emit("Edgec.Below", c.counts[i].value, size=x.shape[axis])
        if i in c.counts
        else c.const(np.ones(x.shape[axis], np.bool_))
        for i, x in enumerate(args)
    ]
    y = c.emit_all("Edgec.Compress", whole, c.emit("Concat", *masks, axis=0), axis=axis)[0]
    return c.sized(y, Count(axis, _total(c, args, axis), first.source, zeros=True))


def _total(c: Context, args: Sequence[Value], axis: int) -> Value:
    """The sum of what is there of all parts: seen to be that of other parts of these sizes."""
    parts = [c.reshape(n.value, (1,)) for n in c.counts.values()]
    total = c.emit("ReduceSum", c.emit("Concat", *parts, axis=0), axes=(0,), keepdims=0)
    known = sum(x.shape[axis] for i, x in enumerate(args) if i not in c.counts)
    return number(c, "Add", total, known) if known else total


def _zeros(x: Value) -> bool:
    return is_const(x) and not const_array(x).any()


def _least(count: Value) -> int:
    """What a count is at least."""
    added = [int(const_array(a)) for a in count.node.args if is_const(a)] if count.node.op == "Add" else []
    return max([0, *added])


@keeps("Gather")
def gather(c: Context) -> Result:
    """Positions along the counted axis are counted from its true end where they are negative."""
    axis, data, indices = c.axis(), c.counts.get(0), c.counts.get(1)
    rank = len(c.arg(1).shape)
    if data is not None and indices is not None and data.axis != axis:
        refuse(c, "and so do the indices: two axes of the result would")
    if indices is not None and not c.shape[axis]:
        refuse(c, "and there is nothing to gather", 1)
    if data is not None and data.axis == axis:
        _from_true_end(c, data.value)
    padded(c, 1, 0)
    if indices is not None:
        return keep(c, indices, axis + indices.axis)
    if data is not None and data.axis != axis:
        return keep(c, data, data.axis + (rank - 1 if data.axis > axis else 0), zeros=True)
    return CONVERTERS[c.op](c)


def _from_true_end(c: Context, count: Value) -> None:
    """Positions, the second argument, that are negative become those from the front of so many entries."""
    if _from_front(c.arg(1)):
        return
    places = c.cast(c.arg(1), "i64")
    below = c.emit("Less", places, c.const(np.int64(0)))
    c.args[1] = c.emit("Where", below, c.emit("Add", places, count), places)
    if 1 in c.counts:
        c.counts[1] = replace(c.counts[1], zeros=False)


def _from_front(indices: Value) -> bool:
    return is_const(indices) and not np.any(const_array(indices).astype(np.int64) < 0)


@keeps("GatherElements")
def gather_elements(c: Context) -> Result:
    """Other axes of the data may be longer than those of the indices."""
    axis, data, indices = c.axis(), c.counts.get(0), c.counts.get(1)
    if data is not None and (indices is None or data.axis != indices.axis or data.axis == axis):
        refuse(c)
    assert indices is not None
    short = [n for k, (n, m) in enumerate(zip(c.shape, c.arg(1).shape, strict=False)) if k != axis and n < m]
    if short:
        refuse(c, f"and {c.arg().name!r} has {short[0]} entries there", 1)
    padded(c, 1, 0)
    return keep(c, indices)


@keeps("GatherND")
def gather_nd(c: Context) -> Result:
    batch, data, indices = int(c.attr("batch_dims", 0)), c.counts.get(0), c.counts.get(1)
    rank, depth = len(c.arg(1).shape), c.arg(1).shape[-1]
    if indices is not None and (indices.axis == rank - 1 or 0 in c.shape[: batch + depth]):
        refuse(c, index=1)
    if data is not None and data.axis < batch:
        alike(c, range(2))
    elif data is not None and data.axis < batch + depth:
        chosen = np.arange(depth) == data.axis - batch
        _from_true_end(c, c.emit("Mul", data.value, c.const(chosen.astype(np.int64))))
    elif data is not None and indices is not None:
        refuse(c)
    elif indices is not None and indices.axis < batch:
        refuse(c, index=1)
    padded(c, 1, 0)
    if indices is not None:
        return keep(c, indices)
    assert data is not None
    if batch <= data.axis < batch + depth:
        return CONVERTERS[c.op](c)
    return keep(c, data, data.axis - batch - depth + rank - 1, zeros=True)


@keeps("OneHot")
def one_hot(c: Context) -> Result:
    count = only(c)
    at = int(c.attr("axis", -1)) % (c.rank + 1)
    return keep(c, count, count.axis + (count.axis >= at))


@keeps("NonZero")
def non_zero(c: Context) -> Result:
    """Padding that is zero is not found; positions do not depend on it."""
    only(c)
    padded(c, 0, 0)
    return CONVERTERS[c.op](c)


@keeps("Compress")
def compress(c: Context) -> Result:
    """Along the counted axis; nothing of the padding is selected."""
    x, axis = c.counts.get(0), c.attr("axis")
    if x is not None and axis is None and prod(c.shape[: x.axis]) == 1:
        x = replace(x, axis=0, value=times(c, x, prod(c.shape[x.axis + 1 :])))
        c.args[0] = c.reshape(c.arg(), (c.arg().type.size,))
    elif x is not None and (axis is None or c.in_rank(int(axis), c.rank) != x.axis):
        refuse(c, "and the number of those selected would too")
    if x is not None and 1 not in c.counts and len(c.arg(1).shape) == 1:
        c.args[1] = c.emit("And", c.arg(1), c.emit("Edgec.Below", x.value, size=c.arg(1).shape[0]))
    padded(c, 1, False)
    return CONVERTERS[c.op](c)


@keeps("Unique")
def unique(c: Context) -> Result:
    """The padding repeats the first slice: nothing is found in it, but it is counted."""
    x, axis = only(c), c.attr("axis")
    if (axis is None and prod(c.shape[: x.axis]) != 1) or (axis is not None and c.axis() != x.axis):
        refuse(c, "and it is not along that axis")
    if axis is None:
        x = replace(x, axis=0, value=times(c, x, prod(c.shape[x.axis + 1 :])))
        c.args[0] = c.reshape(c.arg(), (c.arg().type.size,))
    first = c.slice(c.arg(), x.axis, 0, 1)
    c.args[0] = c.emit("Where", mask(c, x, c.arg()), c.arg(), first)
    size = c.shape[x.axis]
    found = CONVERTERS[c.op](c)
    assert isinstance(found, tuple)
    y, places, which, counts = found
    assert all(isinstance(v, Value) for v in found)
    value = number(c, "Min", c.made[y].value, x.value)
    repeated = c.emit("Equal", c.const(np.arange(size)), c.slice(which, 0, 0, 1))
    extra = c.emit("Where", repeated, number(c, "Sub", size, x.value), c.const(np.int64(0)))
    rows = Count(0, value, c.made[y].source)
    times_there = c.emit("Sub", counts, extra)
    c.made.clear()
    along = replace(rows, axis=x.axis)
    return (
        c.sized(y, along),
        c.sized(places, rows),
        c.sized(which, replace(rows, value=x.value)),
        c.sized(times_there, rows),
    )


@keeps("NonMaxSuppression")
def non_max_suppression(c: Context) -> Result:
    """Boxes and their scores have one count. A score that is no number is never selected."""
    boxes, scores = c.counts.get(0), c.counts.get(1)
    if boxes is None or scores is None or (boxes.axis, scores.axis) != (1, 2) or not same(boxes.value, scores.value):
        refuse(c, "and boxes and scores may differ in number")
    padded(c, 1, np.nan)
    return CONVERTERS[c.op](c)
