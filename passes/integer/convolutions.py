"""Convolutions of bytes that a model spells in 32 bits: ConvInteger, as models with dynamic quantization have it.

As with products (products.py), the zero point comes off the sums: times the sum of each filter. Padding stands
for zero, which is the zero point in bytes: where that is known only when the model runs, bytes of it are put around the
image. What is taken off filters of u8 so that they fit i8 comes back times the sums of windows, by a filter of ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.compiler.ir import Value
from edgec.compiler.op import build, const, const_array, full_attrs, is_const
from edgec.compiler.ops.common import limits
from edgec.compiler.ops.integer import BYTES
from edgec.compiler.rewrite import PythonRule, Sweep, python_rule

from .products import bytes_less_zero, centred, held_as


def convolutions_of_bytes(hold: str) -> PythonRule:
    """The rule; `hold`: u8 or i8, which the target multiplies with weights, or neither."""

    @python_rule("Conv")
    def convolution_of_bytes(value: Value, sweep: Sweep) -> Value | str | None:
        x, w, bias = value.node.args
        if value.type.dtype != "i32":
            return None
        found = bytes_less_zero(x)
        if found is None or (found[1] is not None and found[1].type.size != 1):
            return "the input is no tensor of bytes less one zero point"
        if not is_const(w) or not is_const(bias) or not value.type.size:
            return "filters or bias are no constants"
        attrs: Any = full_attrs(value.node)
        group, filters = attrs["group"], const_array(w)
        by_filter = centred(filters.reshape(len(filters), -1).T)
        if by_filter is None:
            return "a filter reaches over more than 8 bits"
        weights, centres = by_filter[0].T.reshape(filters.shape), by_filter[1]
        if np.any(centres) and group not in (1, len(filters)):
            return "groups of several filters that do not fit 8 bits"
        held, zero = held_as(*found, hold)
        if zero is None or is_const(zero):
            point = 0 if zero is None else int(const_array(zero).item())
            if not limits(held.type.dtype)[0] <= point <= limits(held.type.dtype)[1]:
                return "the zero point is no byte"
            attrs = {**attrs, "zero": point}
        elif any(attrs["pads"] or ()):
            around = _padded(held, zero, attrs["pads"])
            if around is None:
                return "the zero point is no byte"
            held, attrs = around, {**attrs, "pads": ()}
        origin, label = value.node.origin, value.node.name

        def summed(by: Any, plus: Any) -> Value:
            return build("Edgec.ConvInteger", held, by, plus, origin=origin, label=label, **attrs)

        made = summed(const(weights, w.node.name, w.node.origin), bias)
        if np.any(centres):
            ones = const(np.ones((group, *filters.shape[1:]), np.int8))
            windows = summed(ones, const(np.zeros(group, np.int32)))
            made = build("Add", made, build("Mul", windows, const(_along_channels(centres, x)), origin=origin))
        if zero is None or is_const(zero):
            return made
        of_filters = filters.reshape(len(filters), -1).sum(1, dtype=np.int32)
        less = build("Mul", zero, const(_along_channels(of_filters, x)), origin=origin)
        return build("Sub", made, less, origin=origin, label=label)

    return convolution_of_bytes


def _along_channels(each: Any, x: Value) -> Any:
    return each.reshape(-1, *(1,) * (len(x.shape) - 2))


def _padded(x: Value, zero: Value, pads: tuple[int, ...]) -> Value | None:
    """An image with bytes of the zero point around it."""
    if (point := _byte(zero, x.type.dtype)) is None:
        return None
    rank = len(pads) // 2
    around = build("Pad", x, pads=(0, 0, *pads[:rank], 0, 0, *pads[rank:]))
    inside = np.pad(np.ones((1, 1, *x.shape[2:]), bool), ((0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)))
    return build("Where", const(inside), around, point, origin=x.node.origin)


def _byte(zero: Value, kind: str) -> Value | None:
    """A zero point in 32 bits as the byte that it was made from, perhaps moved by 128."""
    source = zero.node.args[0] if zero.node.op == "Add" and is_const(zero.node.args[1]) else zero
    while source.node.op == "Reshape":
        source = source.node.args[0]
    if source.node.op != "Cast" or source.node.args[0].type.dtype not in BYTES:
        return None
    return build("Cast", zero, to=kind)
