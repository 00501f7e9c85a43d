"""Sums of convolutions of one value become one: networks are trained with branches that inference has no need of.

Filters add up where one window lies within the other (RepVGG's 3x3 and 1x1, the several of MobileOne), and a value that
is scaled per channel (a normalization beside them) is a window's middle. Biases add up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.compiler.ir import Array, Value
from edgec.compiler.op import build, const, const_array, full_attrs, is_const
from edgec.compiler.rewrite import Sweep, python_rule


@python_rule("Add")
def sum_of_convolutions(value: Value, sweep: Sweep) -> Value | str | None:
    """In f32, with constant weights, where nothing else reads the branches."""
    a, b = value.node.args
    if value.type.dtype != "f32" or {a.type, b.type} != {value.type}:
        return None
    orders = ((conv, other) for conv, other in ((a, b), (b, a)) if conv.node.op == "Conv")
    return next((made for conv, other in orders if (made := _joined(value, conv, other, sweep))), None)


def _joined(value: Value, conv: Value, other: Value, sweep: Sweep) -> Value | None:
    """Both as one, if `conv` has the larger window."""
    x, w, b = conv.node.args
    if not (is_const(w) and is_const(b)) or any(sweep.uses(v) != 1 for v in (conv, other)):
        return None
    more = _of_convolution(conv, other) if other.node.op == "Conv" else _of_scale(conv, other, sweep)
    if more is None:
        return None
    origin = tuple(dict.fromkeys((*conv.node.origin, *other.node.origin, *value.node.origin)))
    sums = [np.add(const_array(v), extra, dtype=np.float64) for v, extra in zip((w, b), more, strict=True)]
    weights = (const(a.astype(np.float32), v.node.name, v.node.origin) for a, v in zip(sums, (w, b), strict=True))
    return build("Conv", x, *weights, **conv.node.attrs, origin=origin, label=value.node.name)


def _of_convolution(conv: Value, other: Value) -> tuple[Array, Array] | None:
    """What another convolution of the same value adds to filters and biases."""
    (x, w, _), (same, small, bias) = conv.node.args, other.node.args
    large: Any = full_attrs(conv.node)
    less: Any = full_attrs(other.node)
    if x != same or not (is_const(small) and is_const(bias)) or large["group"] != less["group"]:
        return None
    if _steps(large["strides"], x) != _steps(less["strides"], x):
        return None
    starts = [p - q for p, q in zip(_before(conv), _before(other), strict=True)]
    place: list[slice] = []
    for start, most, taps, dilation, same_dilation in zip(
        starts, w.shape[2:], small.shape[2:], _steps(large["dilations"], x), _steps(less["dilations"], x), strict=True
    ):
        if start % dilation or (taps > 1 and dilation != same_dilation):
            return None
        first = start // dilation
        if first < 0 or first + taps > most:
            return None
        place.append(slice(first, first + taps))
    extra: Array = np.zeros(w.shape)
    extra[(slice(None), slice(None), *place)] = const_array(small)
    return extra, const_array(bias)


def _of_scale(conv: Value, other: Value, sweep: Sweep) -> tuple[Array, Array] | None:
    """What the convolved value itself, times a constant and plus another per channel, adds to filters and biases."""
    x, w, _ = conv.node.args
    attrs: Any = full_attrs(conv.node)
    shift: Array = np.zeros(w.shape[0])
    if other.node.op == "Add":
        scaled, rest = _constant_last(other)
        found = _per_channel(rest, other)
        if found is None or sweep.uses(scaled) != 1:
            return None
        other, shift = scaled, found
    if other.node.op != "Mul":
        return None
    same, factor = _constant_last(other)
    scale, before, dilations = _per_channel(factor, other), _before(conv), _steps(attrs["dilations"], x)
    if same != x or scale is None or {*_steps(attrs["strides"], x)} != {1}:
        return None
    if any(p % d or not 0 <= p // d < k for p, d, k in zip(before, dilations, w.shape[2:], strict=True)):
        return None
    extra, channels = np.zeros(w.shape), np.arange(w.shape[0])
    middle: Any = tuple(p // d for p, d in zip(before, dilations, strict=True))
    extra[(channels, channels % w.shape[1], *middle)] = scale
    return extra, shift


def _steps(given: Any, x: Value) -> tuple[int, ...]:
    return tuple(given) or (1,) * (len(x.shape) - 2)


def _before(conv: Value) -> tuple[int, ...]:
    """Padding before the first element of each axis: how far the window begins before an output's place."""
    rank = len(conv.shape) - 2
    pads: Any = full_attrs(conv.node)["pads"]
    return tuple(pads[:rank]) or (0,) * rank


def _constant_last(value: Value) -> tuple[Value, Value]:
    a, b = value.node.args
    return (b, a) if is_const(a) else (a, b)


def _per_channel(v: Value, of: Value) -> Array | None:
    """One number per channel of `of`; None where it is no such constant."""
    if not is_const(v) or len(v.shape) > len(of.shape):
        return None
    array = const_array(v).reshape((1,) * (len(of.shape) - len(v.shape)) + v.shape)
    if any(n != 1 for axis, n in enumerate(array.shape) if axis != 1):
        return None
    return np.broadcast_to(array.reshape(-1), (of.shape[1],)).astype(np.float64)
