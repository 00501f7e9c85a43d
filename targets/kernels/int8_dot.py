"""TensorIR of one step of an integer sum: four bytes of a pixel, broadcast, times four bytes of each output channel."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from edgec.targets import tir
from edgec.targets.tir import Expr

from .int8_tiles import VNNI, Dot

EVEN = 0x00FF00FF


@dataclass(frozen=True)
class Step:
    """`parts` products make a step. Weights and numbers are prepared for each, then added to a sum."""

    dot: Dot
    lanes: int

    @property
    def parts(self) -> int:
        return 1 if self.dot is VNNI else 2

    def line(self, weights: Expr, part: int) -> Expr:
        """Weights, i8[4 * lanes], for a part: as they are, or their even or odd bytes as words."""
        if self.dot is VNNI:
            return weights
        words, eight = tirx.reinterpret(f"int16x{2 * self.lanes}", weights), self._words(8)
        return tirx.shift_right(words if part else tirx.shift_left(words, eight), eight)

    def number(self, x: Expr, part: int) -> Expr:
        """Four u8 as an i32, broadcast for a part."""
        if self.dot is VNNI:
            return tirx.reinterpret(f"int8x{4 * self.lanes}", tir.broadcast(x, self.lanes))
        wide = tir.broadcast(x, self.lanes)
        if part == 0:
            even = tirx.bitwise_and(wide, tir.broadcast(tir.i32(EVEN), self.lanes))
            return tirx.reinterpret(f"int16x{2 * self.lanes}", even)
        unsigned = tirx.reinterpret(f"uint16x{2 * self.lanes}", wide)
        odd = tirx.shift_right(unsigned, tir.broadcast(tir.lit(8, "uint16"), 2 * self.lanes))
        return tirx.reinterpret(f"int16x{2 * self.lanes}", odd)

    def add(self, total: Expr, number: Expr, line: Expr) -> Expr:
        if self.dot is VNNI:
            return tirx.call_llvm_pure_intrin(
                f"int32x{self.lanes}", "llvm.x86.avx512.vpdpbusd.512", total, number, line
            )
        return total + tirx.call_llvm_pure_intrin(f"int32x{self.lanes}", "llvm.x86.avx2.pmadd.wd", number, line)

    def _words(self, value: int) -> Expr:
        return tir.broadcast(tir.lit(value, "int16"), 2 * self.lanes)
