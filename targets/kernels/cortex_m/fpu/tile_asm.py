"""A register tile on Cortex-M with an FPU by assembly: numbers times lines, for products of attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgec.targets.tir import Buffer, Expr, Stmt

from ..asm import at, called, from_zero, imported
from .gates import unrolled

FAR = 4095  # bytes that one instruction adds


@dataclass(frozen=True)
class Tile:
    """`rows` numbers by `width` elements of a line, `steps` times; bytes from one step to the next.

    Numbers lie side by side, `number_step` from those of the next step, or where `apart` each has a pointer.
    """

    rows: int
    width: int
    steps: int
    line_step: int
    number_step: int
    apart: bool

    @property
    def name(self) -> str:
        return f"m_tile_{self.rows}_{self.width}_{int(self.apart)}"

    @property
    def pointers(self) -> int:
        """Of numbers."""
        return self.rows if self.apart else 1


def fits(line_step: int, number_step: int) -> bool:
    """Whether pointers can be moved on by one instruction."""
    return 0 < line_step <= FAR and 0 < number_step <= FAR


def _load(pointer: str, registers: Sequence[int], step: int) -> list[str]:
    names = f"s{registers[0]}" if len(registers) == 1 else f"s{registers[0]}-s{registers[-1]}"
    if step == 4 * len(registers):
        return [f"vldmia {pointer}!, {{{names}}}"]
    return [f"vldmia {pointer}, {{{names}}}", f"addw {pointer}, {pointer}, #{step}"]


def tile_sums(tile: Tile, small: bool) -> str:
    """LLVM IR of `void name(sums, line, numbers ...)`: sums [row][element], from zero."""
    many, count = tile.rows * tile.width, 1 + tile.pointers
    line, numbers = [24 + k for k in range(tile.width)], [28 + k for k in range(tile.rows)]
    step = _load(f"${many}", line, tile.line_step)
    for k in range(tile.pointers):
        step += _load(f"${many + 1 + k}", [numbers[k]] if tile.apart else numbers, tile.number_step)
    step += [f"vfma.f32 ${i * tile.width + v}, s{n}, s{w}" for i, n in enumerate(numbers) for v, w in enumerate(line)]
    return from_zero(tile.name, many, count, tile.steps, step, unrolled(tile.steps, small), range(24, 32))


class Tiles:
    """The tiles of a kernel; each form is there once."""

    def __init__(self, small: bool) -> None:
        self.small = small
        self.made: dict[str, str] = {}

    def sums(self, tile: Tile, to: Buffer, line: Expr, numbers: Sequence[Expr]) -> Stmt:
        """All sums of a tile from addresses of the first line and numbers."""
        self.made[tile.name] = tile_sums(tile, self.small)
        return called(tile.name, at(to, 0), line, *numbers)

    def around(self, tasks: Stmt) -> Stmt:
        return imported("".join(self.made.values()), tasks) if self.made else tasks
