"""Scales and shifts of channels that convolutions made and a Concat joined: they go before it, into the weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgec.compiler.ir import Value
from edgec.compiler.op import build, const, const_array, int_attr, is_const, rebuild
from edgec.compiler.rewrite import Sweep, python_rule


@python_rule("Mul", "Add")
def channels_before_concat(value: Value, sweep: Sweep) -> Value | str | None:
    """A constant per channel of a Concat of convolutions."""
    node = value.node
    if value.type.dtype != "f32":
        return None
    for joined, factor in (node.args, node.args[::-1]):
        concat = joined.node
        if concat.op != "Concat" or not is_const(factor) or int_attr(concat, "axis") % len(joined.shape) != 1:
            continue
        if sweep.uses(joined) != 1 or any(not _folds(part, sweep) for part in concat.args):
            return "what is joined are not convolutions of constant weights that nothing else reads"
        full = (1,) * (len(joined.shape) - len(factor.shape)) + factor.shape
        if len(full) != len(joined.shape) or any(n != 1 for k, n in enumerate(full) if k != 1):
            return "the constant is none per channel"
        each = np.broadcast_to(const_array(factor).reshape(full), (1, joined.shape[1], *full[2:]))
        ends = np.cumsum([part.shape[1] for part in concat.args])[:-1]
        parts = zip(concat.args, np.split(each, ends, axis=1), strict=True)
        args = [build(node.op, part, const(c.copy()), origin=node.origin) for part, c in parts]
        origin = tuple(dict.fromkeys((*concat.origin, *node.origin)))
        return Value(replace(rebuild(concat, args), name=node.name, origin=origin))
    return None


def _folds(part: Value, sweep: Sweep) -> bool:
    """Whether a scale or shift of the part goes into its weights."""
    return part.node.op == "Conv" and all(map(is_const, part.node.args[1:])) and sweep.uses(part) == 1
