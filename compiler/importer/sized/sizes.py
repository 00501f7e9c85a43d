"""Shapes that are computed because a size in them depends on data: what is known of their numbers, and who reads them.

Models ask for the shape of such a value, take it apart, and give it to Reshape or Expand. Beside the value that is
computed at run time, the walk keeps an array of what its elements are: integers, or a `Size`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...ir import Node, Value
from ...op import OPS, const_array, full_attrs, is_const
from ...ops.common import broadcast, limits
from ..context import Context
from ..table import CONVERTERS, Count, Refused, Result
from .arithmetic import elementwise, reduction
from .rules import keep, keeps, only, padded, refuse, same, times

Sizes: TypeAlias = npt.NDArray[Any]
_MOVES = frozenset({"Reshape", "Transpose", "Gather", "Concat", "Slice", "Split", "Expand", "Equal", "Where"})
_MOST = 64  # elements of a shape


@dataclass(frozen=True, eq=False)
class Size:
    """A number of entries that is known at run time only, at most `most`."""

    count: Count
    most: int


def known(node: Node, sizes: dict[Value, Sizes]) -> list[Sizes]:
    """What the elements of the results are; nothing where that is not known, or no argument holds a `Size`."""
    if not any(a in sizes for a in node.args) or max(t.size for t in node.types) > _MOST:
        return []
    if node.op == "Cast":
        return [sizes[node.args[0]]] if node.attrs["to"] in ("i64", "i32") else []
    if not all(a in sizes or is_const(a) for a in node.args):
        return []
    arrays = [sizes[a] if a in sizes else const_array(a) for a in node.args]
    if node.op == "Add":
        alike = [a for a, other in (arrays, arrays[::-1]) if is_fixed(other) and not other.any()]
        return [np.broadcast_to(a, node.types[0].shape) for a in alike[:1]]
    if node.op in ("Min", "ReduceMin"):
        return _least(node, [n for a in arrays for n in a.reshape(-1)])
    if node.op not in _MOVES:
        return []
    found = OPS[node.op].meaning(*arrays, **full_attrs(node))
    return [np.asarray(x) for x in (found if isinstance(found, tuple) else (found,))]


def _least(node: Node, parts: list[Any]) -> list[Sizes]:
    """The least of sizes and constants, which a node computes as a scalar: a size again."""
    sizes = [n for n in parts if isinstance(n, Size)]
    if not sizes or (node.types[0].dtype, node.types[0].shape) != ("i64", ()):
        return []
    most = min(n.most if isinstance(n, Size) else int(n) for n in parts)
    return [of_count(replace(sizes[0].count, value=Value(node)), most)]


def of_count(count: Count, most: int) -> Sizes:
    """The elements of a count: one `Size`."""
    return np.asarray(Size(count, most), object)


def most(sizes: Sizes) -> int | None:
    """The greatest that a number may be; None where that is not known."""
    (n,) = sizes.reshape(-1)
    return n.most if isinstance(n, Size) else None


def is_fixed(sizes: Sizes) -> bool:
    """Whether no element depends on data."""
    return not any(isinstance(n, Size) for n in sizes.reshape(-1))


def _target(c: Context, index: int, what: str) -> list[Any]:
    """A shape: constant, or with at most one size that depends on data."""
    if index not in c.sizes:
        return [int(n) for n in c.ints(index, what) or ()]
    wanted = list(c.sizes[index].reshape(-1))
    if sum(isinstance(n, Size) for n in wanted) > 1:
        raise Refused(f"several sizes of its shape {_shown(wanted)} depend on data", "at most one may")
    return wanted


def _shown(wanted: list[Any]) -> str:
    return "x".join("n" if isinstance(n, Size) else str(n) for n in wanted)


@keeps("Shape")
def shape(c: Context) -> Result:
    """The count among constants."""
    count = only(c)
    parts = [c.const(np.asarray([n], np.int64)) for n in c.shape]
    parts[count.axis] = c.reshape(count.value, (1,))
    end = c.attr("end")
    wanted = parts[slice(int(c.attr("start", 0)), None if end is None else int(end))]
    return c.emit("Concat", *wanted, axis=0) if wanted else CONVERTERS[c.op](c)


@keeps("Size")
def size(c: Context) -> Result:
    count = only(c)
    return times(c, count, prod(n for k, n in enumerate(c.shape) if k != count.axis))


@keeps("Min", shapes=(0, 1))
def least(c: Context) -> Result:
    """Of numbers of entries it is one, too."""
    if c.counts:
        return elementwise(c)
    args = [c.arg(k) for k in range(len(c.args))]
    if any(a.type.size != 1 for a in args):
        return CONVERTERS[c.op](c)
    return c.reshape(c.emit("Min", *(c.reshape(a, ()) for a in args)), max((a.shape for a in args), key=len))


@keeps("ReduceMin", shapes=(0,))
def least_element(c: Context) -> Result:
    """Of a shape; one that is asked for along no axis stays what it is."""
    if c.counts:
        return reduction(c)
    if len(c.shape) != 1 or (c.attr("noop_with_empty_axes", 0) and not c.ints(1, "axes")):
        return CONVERTERS[c.op](c)
    found = c.emit("ReduceMin", c.arg(), axes=(0,), keepdims=0)
    return c.reshape(found, (1,) if c.attr("keepdims", 1) else ())


@keeps("TopK", shapes=(1,))
def top(c: Context) -> Result:
    """As many as are wanted, of what is there. Where their number is a constant, there must be so many, or ONNX has no
    answer."""
    axis = c.axis(-1)
    if c.counts and only(c).axis == axis:
        padded(c, 0, limits(c.dtype)[not c.attr("largest", 1)])
    elif c.counts and 1 in c.sizes:
        refuse(c, "and so does the number of elements that it selects")
    elif c.counts:
        return keep(c, only(c))
    if 1 not in c.sizes:
        return CONVERTERS[c.op](c)
    (wanted,) = c.sizes[1].reshape(-1)
    c.args[1] = c.const(np.asarray([min(wanted.most, c.shape[axis])], np.int64))
    found = CONVERTERS[c.op](c)
    assert isinstance(found, Sequence)
    return [c.sized(v, replace(wanted.count, axis=axis, zeros=False)) for v in found if isinstance(v, Value)]


@keeps("Reshape", shapes=(1,))
def reshape(c: Context) -> Result:
    """The counted axis stays, or takes in axes after it; what is there stays in one piece."""
    wanted = _target(c, 1, "shape")
    if 0 not in c.counts:
        raise Refused(f"it is reshaped to {_shown(wanted)}, which depends on data", "what is reshaped does not")
    count, zero = only(c), not c.attr("allowzero", 0)
    at = _counted(wanted, count, zero)
    if at < 0:
        refuse(c, f"and its new shape is {_shown(wanted)}")
    before, after = prod(c.shape[: count.axis]), prod(c.shape[count.axis + 1 :])
    others = [1 if k == at else c.shape[k] if n == 0 and zero else n for k, n in enumerate(wanted)]
    if -1 in others:
        rest = prod(n for n in others if n != -1)
        others[others.index(-1)] = before * after // rest if rest and before * after % rest == 0 else -1
    each, left = divmod(after, max(prod(others[at + 1 :]), 1))
    if prod(others[:at]) != before or left or -1 in others or (each != 1 and wanted[at] != -1):
        refuse(c, f"and its new shape is {_shown(wanted)}")
    new = [c.shape[count.axis] * each if k == at else n for k, n in enumerate(others)]
    return c.sized(c.reshape(c.arg(), new), replace(count, axis=at, value=times(c, count, each)))


def _counted(wanted: list[Any], count: Count, zero: bool) -> int:
    """The axis of a new shape that holds what is counted, or -1; `zero`: 0 stands for the old size."""
    sizes = [k for k, n in enumerate(wanted) if isinstance(n, Size)]
    if sizes:
        return sizes[0] if same(wanted[sizes[0]].count.value, count.value) else -1
    if zero and count.axis < len(wanted) and wanted[count.axis] == 0:
        return count.axis
    return wanted.index(-1) if wanted.count(-1) == 1 else -1


@keeps("Expand", shapes=(1,))
def expand(c: Context) -> Result:
    """Where there is one entry it may be repeated as often as data say; a counted axis stays."""
    wanted = _target(c, 1, "shape")
    place = next((k - len(wanted) for k, n in enumerate(wanted) if isinstance(n, Size)), 0)
    new = [n.most if isinstance(n, Size) else n for n in wanted]
    if 0 in c.counts:
        count = only(c)
        back = count.axis - c.rank
        there = wanted[back] if -back <= len(wanted) else 1
        fits = same(there.count.value, count.value) if isinstance(there, Size) else there == 1
        if not fits or place not in (0, back):
            refuse(c, f"and it is expanded to {_shown(wanted)}")
    else:
        count, back = wanted[place].count, place
        if -place <= c.rank and c.shape[place] != 1:
            raise Refused(f"{c.arg().type} is expanded to {_shown(wanted)}, which depends on data")
    full = broadcast(c.shape, tuple(new))
    y = c.arg() if full == c.shape else c.emit("Expand", c.arg(), shape=full)
    return c.sized(y, replace(count, axis=len(full) + back, zeros=False))


@keeps("ConstantOfShape", shapes=(0,))
def constant_of_shape(c: Context) -> Result:
    """As many as data say, of a greatest number of them."""
    if c.counts:
        refuse(c)
    wanted = _target(c, 0, "shape")
    c.args[0] = c.const(np.asarray([n.most if isinstance(n, Size) else n for n in wanted], np.int64))
    axis = next(k for k, n in enumerate(wanted) if isinstance(n, Size))
    return keep(c, wanted[axis].count, axis)


@keeps("Range", shapes=(0, 1, 2))
def arange(c: Context) -> Result:
    """From 0 in steps of 1 to a number that depends on data."""
    start, limit, delta = (c.sizes[k].reshape(-1)[0] if k in c.sizes else c.array(k, "limits").item() for k in range(3))
    if c.counts or isinstance(start, Size) or isinstance(delta, Size) or (start, delta) != (0, 1):
        raise Refused("its limits depend on data", "expected a range from 0 in steps of 1")
    c.args[1] = c.const(limit.most, like=c.arg(1))
    return keep(c, limit.count, 0)
