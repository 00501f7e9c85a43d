"""How channels pass operators that move elements: which of the results have them, and which of them go together."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from ...ir import Node, Value
from ...layers import constant
from ...op import full_attrs, int_attr, ints_attr
from ...ops.common import Tensor
from .flow_rules import Outcome, joined, param, rule, unknown
from .groups import Channels, Coupling, label


@rule("MaxPool", "AveragePool", "Edgec.Layout", "Resize", "Tile", "Expand")
def _kept(known: Coupling, node: Node) -> Outcome:
    """Operators that keep the channels' axis as it is."""
    x = known.of.get(node.args[0])
    if x is None:
        return None
    old, new = node.args[0].shape, node.types[0].shape
    axis, numbers = x.axis + len(new) - len(old), x.numbers
    if node.op == "Tile":
        return Channels(axis, np.tile(numbers, new[axis] // old[axis])) if new[axis] else unknown(known, node)
    spatial = node.op.endswith("Pool") and axis > 1
    if spatial or new[axis] != old[x.axis]:
        return f"{node.op} {label(node)!r} works along them"
    return Channels(axis, numbers)


@rule("Pad")
def _padded(known: Coupling, node: Node) -> Outcome:
    """Channels of a constant may go as others may."""
    x, pads = known.of.get(node.args[0]), ints_attr(node, "pads")
    if x is None:
        return None
    front, back = pads[x.axis], pads[x.axis + len(pads) // 2]
    if not (front or back):
        return x
    if full_attrs(node)["mode"] != "constant" or min(front, back) < 0:
        return f"Pad {label(node)!r} works along them"
    return Channels(x.axis, np.concatenate([known.make(front), x.numbers, known.make(back)]))


@rule("Transpose")
def _transposed(known: Coupling, node: Node) -> Outcome:
    x = known.of.get(node.args[0])
    return x and Channels(ints_attr(node, "perm").index(x.axis), x.numbers)


@rule("Concat")
def _concatenated(known: Coupling, node: Node) -> Outcome:
    parts = [known.of.get(a) for a in node.args]
    found = [p for p in parts if p is not None]
    if not found:
        return None
    axis = int_attr(node, "axis") % len(node.types[0].shape)
    if len({p.axis for p in found}) > 1:
        return f"{label(node)!r} joins them along several axes"
    if found[0].axis == axis:
        numbers = [p.numbers if p else _staying(known, a, axis) for p, a in zip(parts, node.args, strict=True)]
        return Channels(axis, np.concatenate(numbers))
    if any(p is None and constant(a) is None for p, a in zip(parts, node.args, strict=True)):
        return f"{label(node)!r} joins them to values whose channels stay"
    for place, (part, arg) in enumerate(zip(parts, node.args, strict=True)):
        if part is None:
            param(known, node, place, found[0].axis, found[0].numbers)
        elif arg != node.args[0]:
            known.join(found[0].numbers, part.numbers)
    return found[0]


def _staying(known: Coupling, value: Value, axis: int) -> Tensor:
    """Numbers for channels that nobody makes."""
    numbers = known.make(value.shape[axis])
    known.reasons.update(dict.fromkeys(map(int, numbers), "no layer makes them"))
    return numbers


@rule("Split")
def _split(known: Coupling, node: Node) -> Outcome:
    x = known.of.get(node.args[0])
    if x is None:
        return None
    rank, start = len(node.args[0].shape), 0
    along = int_attr(node, "axis") % rank == x.axis
    for value in node.results:
        size = value.shape[x.axis]
        if size:
            known.of[value] = Channels(x.axis, x.numbers[start : start + size] if along else x.numbers)
        start += size
    return known.of.get(Value(node))


@rule("Slice")
def _sliced(known: Coupling, node: Node) -> Outcome:
    x = known.of.get(node.args[0])
    if x is None:
        return None
    for axis, start, end, step in cuts(node):
        if axis != x.axis:
            continue
        chosen = np.arange(len(x.numbers))[start : None if end < 0 else end : step]
        if not len(chosen):
            return f"{label(node)!r} takes none of them"
        if abs(step) > 1:
            if len(x.numbers) % abs(step):
                return f"{label(node)!r} takes some of them"
            joined(known, x.numbers.reshape(-1, abs(step)), 0)
        return Channels(axis, x.numbers[chosen])
    return x


def cuts(node: Node) -> list[tuple[int, int, int, int]]:
    """Axis, start, end and step of each cut of a Slice."""
    rank = len(node.types[0].shape)
    axes, starts, ends, steps = (ints_attr(node, k) for k in ("axes", "starts", "ends", "steps"))
    return [(a % rank, s, e, t) for a, s, e, t in zip(axes, starts, ends, steps, strict=True)]


@rule("Gather")
def _gathered(known: Coupling, node: Node) -> Outcome:
    data, index = node.args
    x = known.of.get(data)
    if x is None or index in known.of:
        return unknown(known, node)
    axis, rank = int_attr(node, "axis") % len(data.shape), len(index.shape)
    if axis != x.axis:
        return Channels(x.axis if x.axis < axis else x.axis + rank - 1, x.numbers)
    places = constant(index)
    if places is None or rank != 1 or not places.size:
        return f"{label(node)!r} chooses among them"
    return Channels(axis, x.numbers[places])


@rule("DepthToSpace", "SpaceToDepth")
def _blocks(known: Coupling, node: Node) -> Outcome:
    x, block = known.of.get(node.args[0]), int_attr(node, "blocksize") ** 2
    if x is None or x.axis != 1:
        return unknown(known, node)
    if node.op == "SpaceToDepth":
        return Channels(1, np.tile(x.numbers, block))
    if full_attrs(node)["mode"] == "DCR":
        return Channels(1, joined(known, x.numbers.reshape(block, -1), 1))
    return Channels(1, joined(known, x.numbers.reshape(-1, block), 0))


@rule("Reshape")
def _reshaped(known: Coupling, node: Node) -> Outcome:
    x, old, new = known.of.get(node.args[0]), node.args[0].shape, node.types[0].shape
    if x is None or 0 in old:
        return unknown(known, node)
    if len(x.numbers) == 1:
        return None  # the only one, which never goes
    sizes = [n for n in new if n != 1]
    first, last = _block(old, sizes, x.axis)
    inside = old[first[0] : first[1]]
    numbers = x.numbers.reshape([-1 if k + first[0] == x.axis else 1 for k in range(len(inside))])
    table = np.broadcast_to(numbers, inside).reshape(sizes[last[0] : last[1]])
    classes = [len(np.unique(np.moveaxis(table, k, 0).reshape(n, -1)[:, 0])) for k, n in enumerate(table.shape)]
    best = int(np.argmax(classes))
    places = [k for k, n in enumerate(new) if n != 1]
    return Channels(places[last[0] + best], joined(known, table, best))


def _block(old: Sequence[int], sizes: Sequence[int], axis: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The smallest run of axes around one that a reshape turns into a run of axes; both runs."""
    starts = {prod(sizes[:k]): k for k in range(len(sizes) + 1)}
    begin = next(k for k in reversed(range(axis + 1)) if prod(old[:k]) in starts)
    end = next(k for k in range(axis + 1, len(old) + 1) if prod(old[:k]) in starts)
    return (begin, end), (starts[prod(old[:begin])], starts[prod(old[:end])])
