"""Slices whose bounds are computed while the model runs: along one axis, in steps of one.

Where the end is a constant number of elements behind the start, as of a loop that reads one row a turn, so many are
read, and the start is taken to lie within: a slice that would leave the tensor, of which ONNX gives less, is moved
back. Otherwise what is read is as long as it may be at most, with a count.
"""

from __future__ import annotations

import numpy as np

from ..ir import Value
from ..op import const_array, is_const
from .context import Context
from .selection import source
from .table import Count, Refused, Result

_DEPTH = 8  # operators between the start and what both bounds are computed from


def is_cut(c: Context) -> bool:
    """Whether bounds are computed, and of the kind that `cut` takes."""
    bounds = [c.arg(k) for k in (1, 2) if c.has(k)]
    if all(map(is_const, bounds)) or any(b.type.size != 1 for b in bounds):
        return False
    return len(c.ints(3, "axes") or (0,)) == 1 and (c.ints(4, "steps") or (1,)) == (1,)


def cut(c: Context) -> Result:
    axes = c.ints(3, "axes") or (0,)
    at = c.in_rank(axes[0], c.rank)
    size = c.shape[at]
    start, end = (c.cast(c.reshape(c.arg(k), ()), "i64") for k in (1, 2))
    length = _distance(start, end)
    if length is not None:
        if not 0 < length <= size:
            raise Refused(f"it takes {length} of {size} elements", "expected one or more, and no more than there are")
        return _read(c, at, _within(c, start, size, size - length), length)
    first, last = _within(c, start, size, size), _within(c, end, size, size)
    if is_const(first):
        begin = int(const_array(first))
        y = c.slice(c.arg(), at, begin, size)
    else:
        y = _read(c, at, first, size)
    return c.sized(y, Count(at, c.emit("Max", c.emit("Sub", last, first), c.const(np.int64(0))), source(c)))


def _read(c: Context, axis: int, first: Value, length: int) -> Value:
    """So many elements from place `first` on; beyond the end, the last one again."""
    places = c.emit("Add", c.reshape(first, (1,)), c.const(np.arange(length)))
    last = c.const(np.int64(c.shape[axis] - 1))
    return c.emit("Gather", c.arg(), c.emit("Min", places, last) if length == c.shape[axis] else places, axis=axis)


def _within(c: Context, place: Value, size: int, most: int) -> Value:
    """A bound, counted from the front, and moved to 0 .. `most`."""
    if is_const(place):
        at = int(const_array(place))
        return c.const(np.int64(min(max(at + size if at < 0 else at, 0), most)))
    back = c.emit("Less", place, c.const(np.int64(0)))
    place = c.emit("Where", back, c.emit("Add", place, c.const(np.int64(size))), place)
    return c.emit("Max", c.emit("Min", place, c.const(np.int64(most))), c.const(np.int64(0)))


def _distance(start: Value, end: Value) -> int | None:
    """How far the end lies behind the start, where both are one number and constants."""
    (one, before), (other, after) = _root(start), _root(end)
    return after - before if one == other and not is_const(one) else None


def _root(value: Value) -> tuple[Value, int]:
    """What a number is computed from, and what is added to that."""
    added = 0
    for _ in range(_DEPTH):
        node = value.node
        if node.op in ("Reshape", "Cast") and node.args[0].type.size == 1 and node.args[0].type.dtype[0] == "i":
            value = node.args[0]
        elif node.op in ("Add", "Sub") and is_const(node.args[1]):
            value, sign = node.args[0], 1 if node.op == "Add" else -1
            added += sign * int(const_array(node.args[1]).item())
        elif node.op == "Add" and is_const(node.args[0]):
            value, added = node.args[1], added + int(const_array(node.args[0]).item())
        else:
            break
    return value, added
