"""Converters of sequences and optionals, of which nothing is left: their members are known when the model is compiled.

Positions and lengths must be constants. An optional that is there is its value; one that is not is `ABSENT`.
"""

from __future__ import annotations

import numpy as np

from ..errors import EdgecError
from .context import ABSENT, Absent, Context, Items
from .table import Refused, Result, converts


@converts("SequenceEmpty")
def empty(c: Context) -> Result:
    return Items(())


@converts("SequenceConstruct")
def construct(c: Context) -> Result:
    return Items(tuple(c.arg(k) for k in range(len(c.args))))


@converts("SequenceInsert")
def insert(c: Context) -> Result:
    """Before the position, which may be the length; at the end where none is given."""
    members, tensor = c.items(0), c.arg(1)
    at = _position(c, 2, len(members), len(members)) if c.has(2) else len(members)
    return Items((*members[:at], tensor, *members[at:]))


@converts("SequenceErase")
def erase(c: Context) -> Result:
    members = c.items(0)
    at = _position(c, 1, len(members), len(members) - 1) if c.has(1) else len(members) - 1
    return Items(members[:at] + members[at + 1 :])


@converts("SequenceAt")
def at(c: Context) -> Result:
    members = c.items(0)
    return members[_position(c, 1, len(members), len(members) - 1)]


@converts("SequenceLength")
def length(c: Context) -> Result:
    return c.const(np.int64(len(c.items(0))))


def _position(c: Context, argument: int, count: int, last: int) -> int:
    """A constant position up to `last`, counted from the back of `count` members where negative."""
    at = int(c.array(argument, "position").reshape(-1)[0])
    if not -count <= at <= last:
        raise EdgecError(f"{c.where}: position {at} is outside a sequence of {count}")
    return at + count if at < 0 else at


@converts("SplitToSequence")
def split(c: Context) -> Result:
    """Parts of the sizes given, the last one smaller where one size is given; single slices where none is."""
    axis, x = c.axis(), c.arg(0)
    total = x.shape[axis]
    if not c.has(1):
        sizes, keep = [1] * total, bool(c.attr("keepdims", 1))
    else:
        given, keep = c.array(1, "split"), True
        sizes = [int(n) for n in given.reshape(-1)]
        if not given.shape:
            sizes = [min(sizes[0], total - start) for start in range(0, total, max(sizes[0], 1))]
    if sum(sizes) != total or any(n < 0 for n in sizes):
        raise EdgecError(f"{c.where}: parts {sizes} do not add up to {total}")
    parts, start = [], 0
    for n in sizes:
        parts.append(c.slice(x, axis, start, start + n))
        start += n
    if not keep:
        parts = [c.reshape(p, (*p.shape[:axis], *p.shape[axis + 1 :])) for p in parts]
    return Items(tuple(parts))


@converts("ConcatFromSequence")
def concat(c: Context) -> Result:
    """Along an axis, or along a new one."""
    members = c.items(0)
    if not members:
        raise EdgecError(f"{c.where}: the sequence is empty")
    new = bool(c.attr("new_axis", 0))
    axis = c.in_rank(int(c.attr("axis")), len(members[0].shape) + new)
    if new:
        members = tuple(c.reshape(m, (*m.shape[:axis], 1, *m.shape[axis:])) for m in members)
    return members[0] if len(members) == 1 else c.emit("Concat", *members, axis=axis)


@converts("Optional")
def optional(c: Context) -> Result:
    return c.any(0) if c.args else ABSENT


@converts("OptionalGetElement")
def element(c: Context) -> Result:
    value = c.any(0)
    if isinstance(value, Absent):
        raise Refused("the optional that it reads holds nothing")
    return value


@converts("OptionalHasElement")
def has_element(c: Context) -> Result:
    return c.const(np.bool_(bool(c.args) and c.args[0] is not None and not isinstance(c.args[0], Absent)))
