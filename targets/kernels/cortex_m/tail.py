"""How kernels for Cortex-M see what follows sums of bytes: channels of a pixel side by side."""

from __future__ import annotations

from edgec.compiler.ir import Type
from edgec.compiler.layout import layout

from ..common import ceil_div


def dense(t: Type) -> Type:
    """Channels in blocks that lie innermost are channels in a row, padding included."""
    letters = t.layout.rstrip("c0123456789")
    if letters not in ("NHWC", "NWC") or t.layout == letters:
        return t
    block = layout(t.layout, len(t.shape)).block(1)
    shape = (t.shape[0], ceil_div(t.shape[1], block) * block, *t.shape[2:])
    return Type(t.dtype, shape, letters, t.q)
