"""Grouped convolutions of bytes whose groups fill no vectors get fewer, larger ones: weights between channels are zero.

Kernels multiply four bytes at a time into vectors of sums. Groups of 8 channels, say, are done two at a time as one of
16, in which half of the products are with zeros; the integers are the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.compiler.ir import Array, Value
from edgec.compiler.op import build, const, const_array, full_attrs, is_const
from edgec.compiler.rewrite import Sweep, python_rule

OUTPUTS, INPUTS = 16, 4  # multiples of which the channels of a group must be
MOST = 16  # times as many products; fewer than what no kernel is made for loses


@python_rule("Edgec.ConvInteger")
def groups_that_fill_vectors(value: Value, sweep: Sweep) -> Value | str | None:
    """With constant weights, on x86."""
    node = value.node
    x, w, b = node.args
    attrs: Any = full_attrs(node)
    group, target = attrs["group"], sweep.session.target
    inputs, outputs = w.shape[1], value.shape[1] // group
    if group == 1 or len(x.shape) not in (3, 4) or target is None or not target.triple.startswith("x86_64"):
        return None
    if not is_const(w) or (inputs == outputs == 1 and group > INPUTS):
        return "weights are computed, or filters have one channel each, for which there are kernels"
    many = joined(group, inputs, outputs)
    if many == 1 or many > MOST:
        return f"groups fill vectors, or would grow {many} times"
    made: dict[str, Any] = {"origin": node.origin, "label": node.name}
    attrs["group"] = group // many
    return build("Edgec.ConvInteger", x, const(spread(const_array(w), group, many)), b, **attrs, **made)


def joined(group: int, inputs: int, outputs: int) -> int:
    """How many groups are to be one: the fewest that fill vectors, or all of them."""
    if group * inputs < OUTPUTS:
        return group
    fits = (n for n in range(1, group) if not (group % n or n * outputs % OUTPUTS or n * inputs % INPUTS))
    return next(fits, group)


def spread(w: Array, group: int, many: int) -> Array:
    """Weights for so many groups in one: each output channel reads the inputs of its own group, times zero the rest."""
    each, inputs = w.shape[0] // group, w.shape[1]
    wide = np.zeros((w.shape[0], many, *w.shape[1:]), w.dtype)
    channel = np.arange(w.shape[0])
    wide[channel, channel // each % many] = w
    return wide.reshape(w.shape[0], many * inputs, *w.shape[2:])
