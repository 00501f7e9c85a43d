"""What a chain of views reads: an offset and strides into the value under it, axis by axis.

An axis is a list of pieces (elements, stride), outermost first: a reshape that merges axes joins their pieces, one that
splits an axis divides them. Transposes, slices, splits, expansions and reshapes stay within this form, so that a kernel
can read through any chain of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from .ir import Node, Value
from .op import int_attr, ints_attr

Piece = tuple[int, int]
Axis = tuple[Piece, ...]


@dataclass(frozen=True)
class View:
    """Element [i, j, ...] of a value is element offset + sum of digit * stride of row-major `source`."""

    source: Value
    offset: int
    axes: tuple[Axis, ...]


def whole(value: Value) -> View:
    """A value as it lies."""
    strides = [prod(value.shape[k + 1 :]) for k in range(len(value.shape))]
    return View(value, 0, tuple(_axis([(n, s)]) for n, s in zip(value.shape, strides, strict=True)))


def moved(view: View, node: Node, index: int = 0) -> View | None:
    """What a map gives whose argument is `view`; None where that is no view of the same source."""
    if node.op == "Transpose":
        return View(view.source, view.offset, tuple(view.axes[k] for k in ints_attr(node, "perm")))
    if node.op == "Reshape":
        axes = regrouped(view.axes, node.types[0].shape)
        return None if axes is None else View(view.source, view.offset, axes)
    if node.op == "Expand":
        return _expanded(view, node.args[0].shape, node.types[0].shape)
    if node.op == "Split":
        axis, sizes = int_attr(node, "axis") % len(view.axes), ints_attr(node, "split")
        return _sliced(view, axis, sum(sizes[:index]), 1, sizes[index])
    if node.op == "Slice":
        cuts = zip(ints_attr(node, "axes"), ints_attr(node, "starts"), ints_attr(node, "steps"), strict=True)
        result: View | None = view
        for axis, start, step in cuts:
            if (result is not None and node.types[0].shape[axis] != node.args[0].shape[axis]) or step != 1:
                result = result and _sliced(result, axis, start, step, node.types[0].shape[axis])
        return result
    return None


def regrouped(axes: Sequence[Axis], shape: Sequence[int]) -> tuple[Axis, ...] | None:
    """The same digits under another shape of as many elements; None where a piece would break unevenly."""
    pieces = [piece for axis in axes for piece in axis]
    pieces.reverse()  # the outermost is taken from the end
    found: list[Axis] = []
    for size in shape:
        here: list[Piece] = []
        while size > 1:
            n, stride = pieces.pop()
            if size % n == 0:
                here.append((n, stride))
                size //= n
            elif n % size == 0:
                here.append((size, stride * (n // size)))
                pieces.append((n // size, stride))
                size = 1
            else:
                return None
        found.append(_axis(here))
    return tuple(found)


def refined(groups: Sequence[Axis]) -> list[Axis] | None:
    """Axes of one length, cut into pieces of the same sizes; None where their cuts do not divide each other."""
    cuts = sorted({prod(n for n, _ in axis[k:]) for axis in groups for k in range(len(axis))} | {1})
    if any(b % a for a, b in zip(cuts, cuts[1:], strict=False)):
        return None
    return [_cut(axis, cuts) for axis in groups]


def _cut(axis: Axis, cuts: list[int]) -> Axis:
    pieces: list[Piece] = []
    inner = 1  # elements under the current piece
    for n, stride in reversed(axis):
        ends = [c for c in cuts if inner < c <= inner * n]
        for low, high in zip([inner, *ends], ends, strict=False):
            pieces.append((high // low, stride * (low // inner)))
        inner *= n
    return tuple(reversed(pieces))


def _axis(pieces: Sequence[Piece]) -> Axis:
    """Pieces without those of one element, neighbours that advance as one merged."""
    merged: list[Piece] = []
    for n, stride in pieces:
        if n == 1:
            continue
        if merged and merged[-1][1] == n * stride:
            merged[-1] = (merged[-1][0] * n, stride)
        else:
            merged.append((n, stride))
    return tuple(merged)


def _expanded(view: View, before: Sequence[int], after: Sequence[int]) -> View:
    added = len(after) - len(before)
    old = (1,) * added + tuple(before)
    axes = ((),) * added + view.axes
    return View(
        view.source,
        view.offset,
        tuple(a if m == n else _axis([(n, 0)]) for a, m, n in zip(axes, old, after, strict=True)),
    )


def _sliced(view: View, axis: int, start: int, step: int, size: int) -> View | None:
    """Some positions of one axis: whole inner pieces of it, or positions of its only one."""
    pieces = view.axes[axis]
    inner = prod(n for n, _ in pieces[1:])
    if step < 0 or (len(pieces) > 1 and (step != 1 or start % inner or size % inner)):
        return None
    stride = pieces[0][1] if pieces else 0
    first = _axis([(size // inner, stride * step), *pieces[1:]])
    return View(view.source, view.offset + start // inner * stride, (*view.axes[:axis], first, *view.axes[axis + 1 :]))
