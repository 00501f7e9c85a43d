"""Groups of a few channels read a padded copy of their input, so that loops along rows have no edges.

Where the channels of a group fill no vector, a vector is a stretch of an image row. At the edges of the image it would
be a column of it, whose elements lie apart: those few took more time than all others. The copy costs less than a tap.
"""

from __future__ import annotations

from typing import Any

from edgec.compiler.ir import Value
from edgec.compiler.op import build, full_attrs
from edgec.compiler.rewrite import Sweep, python_rule

LEAST = 4  # channels of a group's results from which on vectors of them are made, and their multiples


@python_rule("Conv")
def padding_before_narrow_groups(value: Value, sweep: Sweep) -> Value | str | None:
    """In f32, on a CPU, where a row of the result fills a vector."""
    node = value.node
    x, w, b = node.args
    attrs: Any = full_attrs(node)
    rank, group = len(x.shape) - 2, attrs["group"]
    if group == 1 or group == x.shape[1] or not any(attrs["pads"] or ()) or (value.shape[1] // group) % LEAST == 0:
        return None
    target = sweep.session.target
    if value.type.dtype != "f32" or target is None or target.gpu or target.microcontroller:
        return "the result is not f32, or the target writes no edges out"
    if value.shape[-1] < target.cpu.lanes(32) or target.cpu.lanes(32) == 1:
        return "a row of the result fills no vector"
    pads: Any = attrs["pads"]
    made: dict[str, Any] = {"origin": node.origin, "label": f"{node.name}_padded"}
    copy = build("Pad", x, pads=(0, 0, *pads[:rank], 0, 0, *pads[rank:]), **made)
    rest = dict(attrs, pads=(0,) * (2 * rank))
    return build("Conv", copy, w, b, origin=node.origin, label=node.name, **rest)
