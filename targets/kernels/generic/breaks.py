"""Where an axis of a value changes its rule: borders of padding, seams of concatenation, edges of windows.

Between two breaks every condition of the index maps is decided by the loop ranges, so loops cut there need none.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod
from typing import Any

from edgec.compiler.ir import Type, Value
from edgec.compiler.layout import layout, physical_shape
from edgec.compiler.op import OPS, full_attrs

from ...built_for import on_device

Breaks = list[set[int]]
MOST_REGIONS = 27
LEAST_TURN = 256  # elements of all boxes between two turns of the loops around them


def breaks(value: Value, inputs: frozenset[Value], known: dict[Value, Breaks] | None = None) -> Breaks:
    """Positions strictly inside each axis at which a new rule begins; a thread of a device looks at its own."""
    if on_device():
        return [set() for _ in value.shape]
    known = {} if known is None else known
    if value not in known:
        found: Breaks = [set() for _ in value.shape]
        if value not in inputs:
            _collect(value, found, lambda v: breaks(v, inputs, known))
        known[value] = [{x for x in axis if 0 < x < n} for axis, n in zip(found, value.shape, strict=True)]
    return known[value]


def _collect(value: Value, found: Breaks, of: Callable[[Value], Breaks]) -> None:
    node = value.node
    if OPS[node.op].kind == "elementwise" or node.op in ("Edgec.Layout", "Expand"):
        for a in node.args:
            if a.type.size > 1:  # a scale is a vector even beside a scalar
                for axis, more in zip(found[-len(a.shape) :], of(a), strict=True):
                    axis |= more
    elif rule := _RULES.get(node.op):
        rule(value, found, of)


def _transpose(value: Value, found: Breaks, of: Callable[[Value], Breaks]) -> None:
    perm: Any = value.node.attrs["perm"]
    source = of(value.node.args[0])
    for k, axis in enumerate(perm):
        found[k] |= source[axis]


def _concat(value: Value, found: Breaks, of: Callable[[Value], Breaks]) -> None:
    axis: Any = value.node.attrs["axis"]
    at = 0
    for a in value.node.args:
        for k, more in enumerate(of(a)):
            found[k] |= {x + at for x in more} if k == axis % len(found) else more
        at += a.shape[axis]
        found[axis].add(at)


def _pad(value: Value, found: Breaks, of: Callable[[Value], Breaks]) -> None:
    pads: Any = value.node.attrs["pads"]
    source = value.node.args[0]
    for k, (n, more) in enumerate(zip(source.shape, of(source), strict=True)):
        found[k] |= {x + pads[k] for x in more}
        if pads[k] or pads[k + len(found)]:
            found[k] |= {pads[k], pads[k] + n}


def _slice(value: Value, found: Breaks, of: Callable[[Value], Breaks]) -> None:
    attrs: Any = value.node.attrs
    source = of(value.node.args[0])
    cut = {a: (start, step) for a, start, step in zip(attrs["axes"], attrs["starts"], attrs["steps"], strict=True)}
    for k, more in enumerate(source):
        start, step = cut.get(k, (0, 1))
        found[k] |= {x - start for x in more} if step == 1 else set()


def _window(value: Value, found: Breaks, of: Callable[[Value], Breaks]) -> None:
    attrs: Any = full_attrs(value.node)
    source = value.node.args[0].shape[2:]
    kernel = attrs["kernel_shape"] if "kernel_shape" in attrs else value.node.args[1].shape[2:]
    rank = len(source)
    for k, n in enumerate(source):
        stride, dilation = (attrs[key][k] if attrs[key] else 1 for key in ("strides", "dilations"))
        begin, end = (attrs["pads"][k], attrs["pads"][k + rank]) if attrs["pads"] else (0, 0)
        reach = (kernel[k] - 1) * dilation
        if begin or end or attrs.get("ceil_mode"):
            found[k + 2] |= {-(-begin // stride), (n - 1 + begin - reach) // stride + 1}


def _tile(value: Value, found: Breaks, of: Callable[[Value], Breaks]) -> None:
    """Every repetition begins anew; many are left to the rule of most regions."""
    source = value.node.args[0]
    for axis, n, size, more in zip(found, source.shape, value.shape, of(source), strict=True):
        starts = range(0, size if n > 1 else 0, max(n, 1))
        axis |= {start + x for start in starts for x in (0, *more)} if len(starts) <= MOST_REGIONS else set()


_RULES: dict[str, Callable[[Value, Breaks, Callable[[Value], Breaks]], None]] = {
    "Transpose": _transpose,
    "Concat": _concat,
    "Pad": _pad,
    "Slice": _slice,
    "Tile": _tile,
    "Conv": _window,
    "MaxPool": _window,
    "AveragePool": _window,
}


def boxes(t: Type, axes: Breaks) -> list[list[tuple[int, int]]]:
    """Physical index space of an output, cut at the breaks: per box (start, end) of every physical dimension."""
    lay = layout(t.layout, len(t.shape))
    whole = physical_shape(t) or (1,)
    cuts: list[set[int]] = [set() for _ in whole]
    for place, axis in enumerate(lay.order):
        block = lay.block(axis)
        for x in axes[axis]:
            cuts[place] |= {x // block, -(-x // block)}
    intervals = []
    for n, inside in zip(whole, cuts, strict=True):
        ends = [0, *sorted(x for x in inside if 0 < x < n), n]
        intervals.append(list(zip(ends, ends[1:], strict=False)))
    while _count(intervals) > MOST_REGIONS:
        worst = max(range(len(intervals)), key=lambda k: len(intervals[k]))
        intervals[worst] = [(0, whole[worst])]
    return [list(box) for box in product(*intervals)]


def true_boxes(t: Type, axes: Breaks) -> list[list[tuple[int, int]]]:
    """As `boxes`, without the padding of an incomplete last block: it forms boxes with fewer lanes."""
    lay = layout(t.layout, len(t.shape))
    found = boxes(t, axes)
    for lane, (axis, size) in enumerate(lay.blocks, len(lay.order)):
        full, rest = divmod(t.shape[axis], size)
        if not rest or lay.block(axis) != size:
            continue
        outer, split = lay.order.index(axis), []
        for box in found:
            start, end = box[outer]
            if start < min(end, full):
                split.append([*box[:outer], (start, min(end, full)), *box[outer + 1 :]])
            if end > full:
                last = [*box[:outer], (full, end), *box[outer + 1 :]]
                last[lane] = (0, rest)
                split.append(last)
        found = split
    return found


def shared(found: list[list[tuple[int, int]]], whole: tuple[int, ...]) -> int:
    """How many leading dimensions all boxes have as a whole, less those without which a turn would be too short."""
    if len(found) < 2:
        return 0
    count = next((k for k, n in enumerate(whole) if any(box[k] != (0, n) for box in found)), 0)
    while count and sum(prod(end - start for start, end in box[count:]) for box in found) < LEAST_TURN:
        count -= 1
    return count if prod(whole[:count]) > 1 else 0


def _count(intervals: list[list[tuple[int, int]]]) -> int:
    total = 1
    for x in intervals:
        total *= len(x)
    return total
