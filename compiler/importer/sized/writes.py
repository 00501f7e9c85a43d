"""Rules of values whose size depends on data: operators that write at positions; the padding goes to a slice more.

The data get one slice at the end, which takes the updates of the padding, and which is cut off afterwards.
"""

from __future__ import annotations

import numpy as np

from ...ir import Value
from ..context import Context
from ..table import CONVERTERS, Count, Result
from .rules import alike, keep, keeps, mask, padded, refuse


@keeps("ScatterElements", "Scatter")
def scatter_elements(c: Context) -> Result:
    axis = c.axis(0)
    if 0 in c.counts and c.counts[0].axis != axis:  # each entry is written into itself: those of the padding, too
        alike(c, range(3))
        padded(c, 1, 0)
        return keep(c, c.counts[0])
    if 0 in c.counts:
        return _into_counted(c, axis)
    count = _both(c)
    size, longest = c.shape[axis], c.arg(1).shape[count.axis]
    if count.axis != axis and c.shape[count.axis] < longest:
        refuse(c, f"and {c.arg().name!r} has {c.shape[count.axis]} entries there", 1)
    return _written(c, count, axis, np.asarray(size))


def _into_counted(c: Context, axis: int) -> Result:
    """Along the counted axis of the data, as what is pooled of the levels of a pyramid is put together."""
    data = c.counts.pop(0)
    if c.counts:
        alike(c, [1, 2])
        if c.counts[1].axis != axis:
            refuse(c, "and its positions are along another axis", 1)
    y = _written(c, c.counts.get(1), axis, np.asarray(c.shape[axis]), data.value)
    return c.sized(y, data)


@keeps("ScatterND")
def scatter_nd(c: Context) -> Result:
    count, rank = _both(c), len(c.arg(1).shape)
    if count.axis == rank - 1:
        refuse(c, index=1)
    last = np.zeros(c.arg(1).shape[-1], np.int64)
    last[:1] = c.shape[0]
    return _written(c, count, 0, last)


def _both(c: Context) -> Count:
    """The count of indices and updates, which is one; the data have none."""
    if 0 in c.counts:
        refuse(c, index=0)
    alike(c, [1, 2])
    return c.counts[1]


def _written(
    c: Context,
    count: Count | None,
    axis: int,
    last: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    there: Value | None = None,
) -> Value:
    """`last`: the position of the slice that is added. Negative positions are counted from it, or from `there`: so many
    slices the data have."""
    size, indices = c.shape[axis], c.arg(1)
    pads = [0] * (2 * c.rank)
    pads[c.rank + axis] = 1
    c.args[0] = c.emit("Pad", c.arg(), pads=tuple(pads))
    end = c.const(last, like=indices)
    below = c.emit("Less", indices, c.const(0, like=indices))
    from_end = end if there is None else c.cast(there, indices.type.dtype)
    places = c.emit("Where", below, c.emit("Add", indices, from_end), indices)
    c.args[1] = places if count is None else c.emit("Where", mask(c, count, indices), places, end)
    y = CONVERTERS[c.op](c)
    assert isinstance(y, Value)
    return c.slice(y, axis, 0, size)
