"""How channels pass an operator: which of its results have them, which of them it joins, which it pins, and which
elements of its constants belong to them. What is not known here pins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from ..ir import Node, Value
from ..op import OPS, full_attrs, int_attr, ints_attr
from ..ops.common import Tensor
from ..quantize.placement import constant
from .groups import Channels, Coupling, Layer, label

Outcome = Channels | str | None  # channels of the only result; why those of the arguments are pinned; no channels
Rule = Callable[[Coupling, Node], Outcome]
RULES: dict[str, Rule] = {}


def visit(known: Coupling, node: Node) -> None:
    """Follow channels through one node."""
    if node.op in ("Input", "Const"):
        return
    usual = _elementwise if OPS[node.op].kind == "elementwise" else _unknown
    made = RULES.get(node.op, usual)(known, node)
    if isinstance(made, str):
        for arg in node.args:
            known.pin(arg, made)
    elif made is not None:
        known.of[Value(node)] = made


def _rule(*ops: str) -> Callable[[Rule], Rule]:
    def add(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops, rule))
        return rule

    return add


def _unknown(known: Coupling, node: Node) -> Outcome:
    return f"{node.op} {label(node)!r} needs them all" if any(a in known.of for a in node.args) else None


@_rule("QuantizeLinear", "DequantizeLinear")
def _quantized(known: Coupling, node: Node) -> Outcome:
    return f"{label(node)!r} is quantized"


def _param(known: Coupling, node: Node, place: int, axis: int, numbers: Tensor) -> None:
    known.params.setdefault(node, {}).setdefault(place, []).append((axis, numbers))


@_rule("Conv", "ConvTranspose")
def _convolution(known: Coupling, node: Node) -> Outcome:
    x = known.of.get(node.args[0])
    weights, bias = constant(node.args[1]), constant(node.args[2])
    if weights is None or bias is None:
        return f"the weights of {label(node)!r} are computed"
    if x is not None and x.axis != 1:
        return f"{label(node)!r} does not read them as channels"
    groups, channels = int_attr(node, "group"), node.args[0].shape[1]
    forward = node.op == "Conv"
    if groups > 1 and groups == channels:
        return _depthwise(known, node, x, len(bias) // channels, forward)
    made = Channels(1, known.make(len(bias)))
    for numbers in (made.numbers, *([x.numbers] if x else [])):
        _joined(known, numbers.reshape(groups, -1), 1)
    if x is not None:
        first = x.numbers[: channels // groups] if forward else x.numbers
        _param(known, node, 1, 1 if forward else 0, first)
    _param(known, node, 1, 0 if forward else 1, made.numbers if forward else made.numbers[: len(bias) // groups])
    _param(known, node, 2, 0, made.numbers)
    known.layers[node] = Layer(node, x, made)
    return made


def _depthwise(known: Coupling, node: Node, x: Channels | None, times: int, forward: bool) -> Outcome:
    if x is None:
        known.layers[node] = Layer(node, None, None, True)
        return None
    made = Channels(1, np.repeat(x.numbers, times))
    _param(known, node, 1, 0, made.numbers if forward else x.numbers)
    _param(known, node, 2, 0, made.numbers)
    known.layers[node] = Layer(node, x, made, True)
    return made


def _joined(known: Coupling, table: Tensor, axis: int) -> Tensor:
    """The numbers along one axis of a table of them; those along all other axes are joined."""
    lines = np.moveaxis(table, axis, -1).reshape(-1, table.shape[axis])
    for line in lines[1:]:
        known.join(lines[0], line)
    return np.asarray(lines[0])


@_rule("MatMul")
def _product(known: Coupling, node: Node) -> Outcome:
    a, b = node.args
    if constant(a) is not None:
        return f"{label(node)!r} multiplies them from the left"
    weights = constant(b)
    return _of_values(known, node) if weights is None else _by_constants(known, node, weights)


def _by_constants(known: Coupling, node: Node, weights: Tensor) -> Outcome:
    x, rank, last = known.of.get(node.args[0]), len(node.args[0].shape), len(node.types[0].shape) - 1
    if x is not None and x.axis != rank - 1:
        axis = x.axis + last + 1 - rank
        batch = weights.ndim - (last + 1 - axis)
        if batch >= 0 and axis < last - 1 and weights.shape[batch] != 1:
            return f"{label(node)!r} has weights for each of them"
        known.layers[node] = Layer(node, None, None)
        return Channels(axis, x.numbers)
    made = Channels(last, known.make(weights.shape[-1]))
    if x is not None:
        _param(known, node, 1, weights.ndim - 2, x.numbers)
    _param(known, node, 1, weights.ndim - 1, made.numbers)
    known.layers[node] = Layer(node, x, made)
    return made


def _of_values(known: Coupling, node: Node) -> Outcome:
    """A product of two computed matrices: what is summed over goes together."""
    a, b = (known.of.get(v) for v in node.args)
    if a is None and b is None:
        return None
    rank = len(node.types[0].shape)
    left = a.axis - len(node.args[0].shape) if a else 0  # axes from the end
    right = b.axis - len(node.args[1].shape) if b else 0
    if left == -1 or right == -2:
        if a is None or b is None or (left, right) != (-1, -2):
            return f"{label(node)!r} sums over them"
        known.join(a.numbers, b.numbers)
        return None
    if a is not None and b is not None:
        return f"{label(node)!r} multiplies them with each other"
    found, end = (a, left) if a is not None else (b, right)
    if found is None or end < -2:
        return f"{label(node)!r} has a product for each of them"
    return Channels(rank + end, found.numbers)


def _elementwise(known: Coupling, node: Node) -> Outcome:
    """Arguments are aligned at their last axes; what has the same size along the channels' axis is cut with them."""
    rank = len(node.types[0].shape)
    of = {k: known.of[a] for k, a in enumerate(node.args) if a in known.of}
    axes = {c.axis + rank - len(node.args[k].shape) for k, c in of.items()}
    if not of:
        return None
    if len(axes) > 1:
        return f"{label(node)!r} combines them along several axes"
    (axis,) = axes
    size = node.types[0].shape[axis]
    wide = [c for c in of.values() if len(c.numbers) == size]
    if not wide:
        return f"{label(node)!r} repeats them"
    for k, arg in enumerate(node.args):
        place = axis - rank + len(arg.shape)
        if place < 0 or arg.shape[place] != size or size == 1:
            continue
        if k in of:
            known.join(wide[0].numbers, of[k].numbers)
        elif constant(arg) is not None:
            _param(known, node, k, place, wide[0].numbers)
        else:
            return f"{label(node)!r} combines them with values whose channels stay"
    return Channels(axis, wide[0].numbers)


def _only(known: Coupling, node: Node) -> Channels | None:
    """The channels of the first argument, where the others have none."""
    if any(a in known.of for a in node.args[1:]):
        return None
    return known.of.get(node.args[0])


@_rule("MaxPool", "AveragePool", "Edgec.Layout", "Resize", "Tile", "Expand")
def _kept(known: Coupling, node: Node) -> Outcome:
    """Operators that keep the channels' axis as it is."""
    x = known.of.get(node.args[0])
    if x is None:
        return None
    old, new = node.args[0].shape, node.types[0].shape
    axis, numbers = x.axis + len(new) - len(old), x.numbers
    if node.op == "Tile":
        return Channels(axis, np.tile(numbers, new[axis] // old[axis])) if new[axis] else _unknown(known, node)
    spatial = node.op.endswith("Pool") and axis > 1
    if spatial or new[axis] != old[x.axis]:
        return f"{node.op} {label(node)!r} works along them"
    return Channels(axis, numbers)


@_rule("Pad")
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


@_rule("Transpose")
def _transposed(known: Coupling, node: Node) -> Outcome:
    x = known.of.get(node.args[0])
    return x and Channels(ints_attr(node, "perm").index(x.axis), x.numbers)


@_rule("InstanceNormalization", "LayerNormalization")
def _normalized(known: Coupling, node: Node) -> Outcome:
    x, rank = _only(known, node), len(node.types[0].shape)
    if x is None:
        return _unknown(known, node)
    instance = node.op == "InstanceNormalization"
    if any(constant(a) is None for a in node.args[1:]) or (instance and x.axis != 1):
        return _unknown(known, node)
    for place, arg in enumerate(node.args[1:], 1):
        axis = 0 if instance else x.axis - rank + len(arg.shape)
        if axis >= 0 and arg.shape[axis] == len(x.numbers) > 1:
            _param(known, node, place, axis, x.numbers)
    return x


@_rule("Softmax", "LogSoftmax", "LpNormalization", "CumSum", "CumProd", "ArgMax", "ArgMin")
def _along_axis(known: Coupling, node: Node) -> Outcome:
    x = known.of.get(node.args[0])
    axis = int_attr(node, "axis") % max(len(node.args[0].shape), 1)
    return _reduced_along(node, x, [axis])


@_rule(*(f"Reduce{kind}" for kind in "Sum Mean Max Min Prod SumSquare L1 L2 LogSum LogSumExp".split()))
def _reduced(known: Coupling, node: Node) -> Outcome:
    x, rank = known.of.get(node.args[0]), len(node.args[0].shape)
    return _reduced_along(node, x, [a % rank for a in ints_attr(node, "axes")])


def _reduced_along(node: Node, x: Channels | None, axes: Sequence[int]) -> Outcome:
    if x is None:
        return None
    if x.axis in axes:
        return f"{node.op} {label(node)!r} works along them"
    gone = len(node.types[0].shape) < len(node.args[0].shape)
    return Channels(x.axis - sum(a < x.axis for a in axes) if gone else x.axis, x.numbers)


@_rule("Concat")
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
            _param(known, node, place, found[0].axis, found[0].numbers)
        elif arg != node.args[0]:
            known.join(found[0].numbers, part.numbers)
    return found[0]


def _staying(known: Coupling, value: Value, axis: int) -> Tensor:
    """Numbers for channels that nobody makes."""
    numbers = known.make(value.shape[axis])
    known.reasons.update(dict.fromkeys(map(int, numbers), "no layer makes them"))
    return numbers


@_rule("Split")
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


@_rule("Slice")
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
            _joined(known, x.numbers.reshape(-1, abs(step)), 0)
        return Channels(axis, x.numbers[chosen])
    return x


def cuts(node: Node) -> list[tuple[int, int, int, int]]:
    """Axis, start, end and step of each cut of a Slice."""
    rank = len(node.types[0].shape)
    axes, starts, ends, steps = (ints_attr(node, k) for k in ("axes", "starts", "ends", "steps"))
    return [(a % rank, s, e, t) for a, s, e, t in zip(axes, starts, ends, steps, strict=True)]


@_rule("Gather")
def _gathered(known: Coupling, node: Node) -> Outcome:
    data, index = node.args
    x = known.of.get(data)
    if x is None or index in known.of:
        return _unknown(known, node)
    axis, rank = int_attr(node, "axis") % len(data.shape), len(index.shape)
    if axis != x.axis:
        return Channels(x.axis if x.axis < axis else x.axis + rank - 1, x.numbers)
    places = constant(index)
    if places is None or rank != 1 or not places.size:
        return f"{label(node)!r} chooses among them"
    return Channels(axis, x.numbers[places])


@_rule("DepthToSpace", "SpaceToDepth")
def _blocks(known: Coupling, node: Node) -> Outcome:
    x, block = known.of.get(node.args[0]), int_attr(node, "blocksize") ** 2
    if x is None or x.axis != 1:
        return _unknown(known, node)
    if node.op == "SpaceToDepth":
        return Channels(1, np.tile(x.numbers, block))
    if full_attrs(node)["mode"] == "DCR":
        return Channels(1, _joined(known, x.numbers.reshape(block, -1), 1))
    return Channels(1, _joined(known, x.numbers.reshape(-1, block), 0))


@_rule("Reshape")
def _reshaped(known: Coupling, node: Node) -> Outcome:
    x, old, new = known.of.get(node.args[0]), node.args[0].shape, node.types[0].shape
    if x is None or 0 in old:
        return _unknown(known, node)
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
    return Channels(places[last[0] + best], _joined(known, table, best))


def _block(old: Sequence[int], sizes: Sequence[int], axis: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The smallest run of axes around one that a reshape turns into a run of axes; both runs."""
    starts = {prod(sizes[:k]): k for k in range(len(sizes) + 1)}
    begin = next(k for k in reversed(range(axis + 1)) if prod(old[:k]) in starts)
    end = next(k for k in range(axis + 1, len(old) + 1) if prod(old[:k]) in starts)
    return (begin, end), (starts[prod(old[:begin])], starts[prod(old[:end])])
