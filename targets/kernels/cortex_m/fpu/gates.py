"""How f32 is multiplied on Cortex-M with an FPU beside layers: tiles of recurrences, and what they take."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.compiler.target import Target

MOST = 16  # sums
SIZE = 4  # numbers, and elements of a line, in a tile of attention, at most
WIDEST = 8  # hidden units of a tile


def has_dots(target: Target) -> bool:
    """Whether a core multiplies f32 one by one, by an FPU of Cortex-M."""
    return target.triple.startswith("thumb") and target.cpu.fpu and target.cpu.lanes(32) == 1


def widths(gates: int) -> Sequence[int]:
    """Hidden units of tiles that fit the registers."""
    return range(1, min(WIDEST, MOST // gates) + 1)


def unrolled(steps: int, small: bool) -> int:
    """How many steps are written out in a turn of the loop."""
    return 1 if small else next(n for n in (4, 3, 2, 1) if steps % n == 0)


def cycles(hidden: int, gates: int, width: int, small: bool) -> float:
    """Instructions of a tile."""
    return hidden * (1 + gates + gates * width + 2 / unrolled(hidden, small)) + 3 * gates * width + 20
