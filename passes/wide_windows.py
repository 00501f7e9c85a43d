"""Wide windows read a padded copy of their input, so that no code is written out for their edges.

Kernels of convolutions write the taps of a tile at an edge out one by one, since positions there are known. Of a window
of hundreds of taps (filters on sound, transforms as convolutions) that would be more code than can be compiled, while
a copy of the input costs less than one tap.
"""

from __future__ import annotations

from typing import Any

from edgec.compiler.ir import Value
from edgec.compiler.op import build, full_attrs
from edgec.compiler.rewrite import Sweep, python_rule

WIDEST = 15  # taps along an axis whose edges are written out
NARROW = 16  # columns of an image whose rows share a register tile: only then edges above and below are written out


@python_rule("Conv")
def padding_before_wide_windows(value: Value, sweep: Sweep) -> Value | str | None:
    """Along rows, and along columns where tiles have several rows; on a CPU."""
    node = value.node
    x, w, b = node.args
    attrs: Any = full_attrs(node)
    rank = len(x.shape) - 2
    pads = attrs["pads"] or (0,) * (2 * rank)
    depthwise = attrs["group"] == x.shape[1] != 1
    axes = range(rank - 1, rank) if depthwise or value.shape[-1] > NARROW else range(rank)
    wide = [k for k in axes if w.shape[2 + k] > WIDEST and (pads[k] or pads[rank + k])]
    if not wide:
        return None
    if (target := sweep.session.target) is None or target.gpu or target.microcontroller:
        return "no kernel of this target writes edges out"
    ends = [k for k in range(2 * rank) if k % rank in wide]
    taken = [pads[k] if k in ends else 0 for k in range(2 * rank)]
    copy = build(
        "Pad", x, pads=(0, 0, *taken[:rank], 0, 0, *taken[rank:]), origin=node.origin, label=f"{node.name}_padded"
    )
    rest = dict(attrs, pads=tuple(0 if k in ends else pads[k] for k in range(2 * rank)))
    return build("Conv", copy, w, b, origin=node.origin, label=node.name, **rest)
