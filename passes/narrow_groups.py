"""Depthwise convolutions with several filters per channel become ones with one: channels are selected again and again.

A vector of the results of `m` filters per channel reads each channel `m` times, which no load does. A selection puts
the channels in that order once; the convolution is then depthwise, whose kernels are fast.
"""

from __future__ import annotations

from typing import Any

from edgec.compiler.ir import Value
from edgec.compiler.op import build, full_attrs
from edgec.compiler.rewrite import Sweep, python_rule


@python_rule("Conv")
def several_filters_per_channel(value: Value, sweep: Sweep) -> Value | str | None:
    """In f32, on a CPU with vectors, where the filters of a channel do not fill them."""
    node = value.node
    x, w, b = node.args
    attrs: Any = full_attrs(node)
    channels, outputs = x.shape[1], value.shape[1]
    if attrs["group"] != channels or channels == 1 or outputs == channels or len(x.shape) not in (3, 4):
        return None
    target = sweep.session.target
    if value.type.dtype != "f32" or target is None or target.gpu:
        return "the result is not f32, or the target has no kernels for vectors of channels"
    lanes, each = target.cpu.lanes(32), outputs // channels
    if each % lanes == 0:
        return "the filters of a channel fill vectors"
    made: dict[str, Any] = {"origin": node.origin, "label": node.name}
    often = build("Edgec.Select", x, index=tuple(c // each for c in range(outputs)), **made)
    return build("Conv", often, w, b, **dict(attrs, group=outputs), **made)
