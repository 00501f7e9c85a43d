"""The products of a recurrence on Cortex-M with an FPU: all sums of a tile in registers, by assembly.

A step loads one number of h, and for each gate a line of weights from that gate's panel, with one instruction each.
"""

from __future__ import annotations

from ..asm import from_zero
from .gates import unrolled


def gate_dots(name: str, gates: int, width: int, hidden: int, small: bool) -> str:
    """LLVM IR of `void name(sums, h, panels ...)`: sums [gate][unit], from zero, of `hidden` numbers by lines."""
    many, unroll = gates * width, unrolled(hidden, small)
    first = 31 - width
    line = f"{{s{first}-s30}}" if width > 1 else "{s30}"
    pointers = [f"${many + k}" for k in range(1 + gates)]
    step = [f"vldmia {pointers[0]}!, {{s31}}"]
    for g, pointer in enumerate(pointers[1:]):
        step.append(f"vldmia {pointer}!, {line}")
        step += [f"vfma.f32 ${g * width + k}, s31, s{first + k}" for k in range(width)]
    return from_zero(name, many, 1 + gates, hidden, step, unroll, range(first, 32))
