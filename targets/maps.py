"""Map operators as index arithmetic: where each element of the result comes from.

Each row takes (body, value, index) and returns the element of `value` at a logical index, through `body.at` on the
node's arguments. Indices are Python integers or int32 expressions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from tvm import tirx

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Value

from .conversions import literal
from .maps_resize import resize
from .tir import Expr, Index, expr, lit


class Reader(Protocol):
    """What rows need of a body (see `body.Body`)."""

    def at(self, value: Value, index: Index) -> Expr: ...
    def pin(self, x: Expr | int) -> None: ...
    def choose(self, condition: Expr, then: Expr, otherwise: Expr) -> Expr: ...
    def within(self, x: Expr | int, low: int, high: int) -> Expr | int: ...


def div(x: Expr | int, n: int) -> Expr | int:
    """x // n, rounded down."""
    return x if n == 1 else x // n if isinstance(x, int) else tirx.floordiv(x, n)


def mod(x: Expr | int, n: int) -> Expr | int:
    """x modulo n, never negative."""
    return 0 if n == 1 else x % n if isinstance(x, int) else tirx.floormod(x, n)


def replaced(index: Index, axis: int, x: Expr | int) -> Index:
    return (*index[:axis], x, *index[axis + 1 :])


def zero(value: Value, number: float = 0) -> Expr:
    """A literal of the element type of `value`: the number as numpy casts it."""
    row = dtype(value.type.dtype)
    exact = row.is_float or row.is_storage
    return literal(number if exact else np.asarray(number).astype(row.numpy).item(), row.name)


def regroup(index: Index, out: Sequence[int], source: Sequence[int]) -> Index:
    """Index into row-major shape `source` of what lies at `index` of row-major shape `out`, group by group of axes."""
    result: list[Expr | int] = [0] * len(source)
    i = j = 0
    while i < len(out) or j < len(source):
        first_i, first_j = i, j
        a = b = 1
        if i < len(out):
            a, i = out[i], i + 1
        if j < len(source):
            b, j = source[j], j + 1
        while a != b:
            if a < b:
                a, i = a * out[i], i + 1
            else:
                b, j = b * source[j], j + 1
        _group(result, index[first_i:i], out[first_i:i], source[first_j:j], first_j)
    return tuple(result)


def _group(result: list[Any], index: Index, out: Sequence[int], source: Sequence[int], first: int) -> None:
    flat: Any = 0
    for x, n in zip(index, out, strict=True):
        if n != 1:
            flat = x if isinstance(flat, int) and flat == 0 else flat * n + x
    live = [k for k, n in enumerate(source) if n != 1]
    for k in reversed(live):
        last = k == live[0]
        result[first + k] = flat if last else mod(flat, source[k])
        flat = flat if last else div(flat, source[k])


def reshape(body: Reader, value: Value, index: Index) -> Expr:
    argument = value.node.args[0]
    return body.at(argument, regroup(index, value.shape, argument.shape))


def transpose(body: Reader, value: Value, index: Index) -> Expr:
    perm: Any = value.node.attrs["perm"]
    source: list[Any] = [0] * len(index)
    for k, axis in enumerate(perm):
        source[axis] = index[k]
    return body.at(value.node.args[0], tuple(source))


def concat(body: Reader, value: Value, index: Index) -> Expr:
    axis: Any = value.node.attrs["axis"]
    axis %= len(index)
    parts = [a for a in value.node.args if a.shape[axis]]
    ends = [sum(a.shape[axis] for a in parts[: k + 1]) for k in range(len(parts))]
    at = index[axis]

    def part(k: int) -> Expr:
        n = parts[k].shape[axis]
        return body.at(parts[k], replaced(index, axis, body.within(at - (ends[k] - n), 0, n - 1)))

    result = part(len(parts) - 1)
    for k in reversed(range(len(parts) - 1)):
        result = body.choose(at < ends[k], part(k), result)
    return result


def split(body: Reader, value: Value, index: Index) -> Expr:
    node = value.node
    sizes: Any = node.attrs["split"]
    axis: Any = node.attrs.get("axis", 0)
    axis %= len(index)
    return body.at(node.args[0], replaced(index, axis, index[axis] + sum(sizes[: value.index])))


def slice_(body: Reader, value: Value, index: Index) -> Expr:
    attrs: Any = value.node.attrs
    for start, axis, step in zip(attrs["starts"], attrs["axes"], attrs["steps"], strict=True):
        index = replaced(index, axis, index[axis] * step + start)
    return body.at(value.node.args[0], index)


def pad(body: Reader, value: Value, index: Index) -> Expr:
    attrs: Any = value.node.attrs
    argument = value.node.args[0]
    rank, mode = len(index), attrs.get("mode", "constant")
    source: list[Any] = list(index)
    inside: list[Expr] = []
    for k, n in enumerate(argument.shape):
        begin, end = attrs["pads"][k], attrs["pads"][k + rank]
        if not begin and not end:
            continue
        size, cut = n + min(begin, 0) + min(end, 0), max(-begin, 0)
        t = index[k] - max(begin, 0)
        if mode == "constant":
            inside += [t >= 0, t < size]
            source[k] = body.within(t, 0, max(size, 1) - 1) + cut
        else:
            body.pin(t)
            source[k] = _folded(body, t, size, mode) + cut
    if 0 in argument.shape:
        return zero(value, attrs.get("value", 0.0))
    result = body.at(argument, tuple(source))
    for condition in inside:
        result = body.choose(condition, result, zero(value, attrs.get("value", 0.0)))
    return result


def _folded(body: Reader, t: Expr, size: int, mode: str) -> Expr | int:
    if mode == "edge" or size == 1:
        return body.within(t, 0, size - 1)
    if mode == "wrap":
        return mod(t, size)
    period = 2 * (size - 1)
    turn = mod(t, period)
    return min(turn, period - turn) if isinstance(turn, int) else tirx.min(turn, period - turn)


def _position(body: Reader, indices: Value, index: Index, n: int) -> Expr | int:
    """An element of an index tensor, from the back where negative, within 0 .. n - 1."""
    at = tirx.Cast("int32", body.at(indices, index))
    return body.within(tirx.Select(at < 0, at + n, at), 0, n - 1)


def gather(body: Reader, value: Value, index: Index) -> Expr:
    data, indices = value.node.args
    axis: Any = value.node.attrs.get("axis", 0)
    axis %= len(data.shape)
    rank = len(indices.shape)
    at = _position(body, indices, index[axis : axis + rank], data.shape[axis])
    return body.at(data, (*index[:axis], at, *index[axis + rank :]))


def gather_elements(body: Reader, value: Value, index: Index) -> Expr:
    data, indices = value.node.args
    axis: Any = value.node.attrs.get("axis", 0)
    axis %= len(data.shape)
    return body.at(data, replaced(index, axis, _position(body, indices, index, data.shape[axis])))


def gather_nd(body: Reader, value: Value, index: Index) -> Expr:
    data, indices = value.node.args
    batch: Any = value.node.attrs.get("batch_dims", 0)
    lead, depth = len(indices.shape) - 1, indices.shape[-1]
    at = tuple(_position(body, indices, (*index[:lead], k), data.shape[batch + k]) for k in range(depth))
    return body.at(data, (*index[:batch], *at, *index[lead:]))


def reverse_sequence(body: Reader, value: Value, index: Index) -> Expr:
    data, lengths = value.node.args
    attrs: Any = value.node.attrs
    time, batch = (attrs.get(key, k) % len(index) for k, key in enumerate(("time_axis", "batch_axis")))
    size, t = data.shape[time], index[time]
    body.pin(t)
    given = body.at(lengths, (index[batch],))
    wide = str(given.ty.dtype)
    length = tirx.Cast("int32", tirx.max(tirx.min(given, lit(size, wide)), lit(0, wide)))
    place = tirx.Select(t < length, length - 1 - t, t)
    return body.at(data, replaced(index, time, body.within(place, 0, size - 1)))


def expand(body: Reader, value: Value, index: Index) -> Expr:
    shape = value.node.args[0].shape
    tail = index[len(index) - len(shape) :]
    return body.at(value.node.args[0], tuple(0 if n == 1 else x for n, x in zip(shape, tail, strict=True)))


def tile(body: Reader, value: Value, index: Index) -> Expr:
    source = zip(index, value.node.args[0].shape, value.shape, strict=True)
    return body.at(value.node.args[0], tuple(x if n == m else mod(x, n) for x, n, m in source))


def depth_to_space(body: Reader, value: Value, index: Index) -> Expr:
    attrs: Any = value.node.attrs
    b = attrs["blocksize"]
    n, c, h, w = index
    block = mod(h, b) * b + mod(w, b)
    depth = value.shape[1]
    at = block * depth + c if attrs.get("mode", "DCR") == "DCR" else c * (b * b) + block
    return body.at(value.node.args[0], (n, at, div(h, b), div(w, b)))


def space_to_depth(body: Reader, value: Value, index: Index) -> Expr:
    b: Any = value.node.attrs["blocksize"]
    n, c, h, w = index
    depth = value.node.args[0].shape[1]
    block = div(c, depth)
    return body.at(value.node.args[0], (n, mod(c, depth), h * b + div(block, b), w * b + mod(block, b)))


def trilu(body: Reader, value: Value, index: Index) -> Expr:
    attrs: Any = value.node.attrs
    row, column = index[-2:]
    upper, k = attrs.get("upper", 1), attrs.get("k", 0)
    kept = column >= row + k if upper else column <= row + k
    return body.choose(kept, body.at(value.node.args[0], index), zero(value))


def below(body: Reader, value: Value, index: Index) -> Expr:
    size, count = value.shape[0], body.at(value.node.args[0], ())
    body.pin(index[0])
    return expr(index[0]) < tirx.Cast("int32", tirx.max(tirx.min(count, lit(size, "int64")), lit(0, "int64")))


def identity(body: Reader, value: Value, index: Index) -> Expr:
    return body.at(value.node.args[0], index)


MAPS: dict[str, Callable[[Any, Value, Index], Expr]] = {
    "Reshape": reshape,
    "Transpose": transpose,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Pad": pad,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "ReverseSequence": reverse_sequence,
    "Expand": expand,
    "Tile": tile,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Trilu": trilu,
    "Resize": resize,
    "Edgec.Below": below,
    "Edgec.Layout": identity,
}
