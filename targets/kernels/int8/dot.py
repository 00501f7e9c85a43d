"""TensorIR of one step of an integer sum: a few bytes of a pixel, broadcast, times as many of each output channel."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from edgec.targets import tir
from edgec.targets.tir import Expr

from .tiles import VNNI, Dot


@dataclass(frozen=True)
class Step:
    """How numbers (a group of a pixel's elements) and lines (vectors of weights) are prepared, and added to a sum.

    Elements of the input are u8, or i16 where it is widened first.
    """

    dot: Dot
    lanes: int

    @property
    def element(self) -> str:
        return "int16" if self.dot.wide else "uint8"

    def line(self, weights: Expr) -> Expr:
        """Weights i8[group * lanes] as the multiplication takes them."""
        return tirx.Cast(f"int16x{2 * self.lanes}", weights) if self.dot.wide else weights

    def same(self, value: int) -> Expr:
        """A number that is a group of equal elements."""
        bits = 16 if self.dot.wide else 8
        number = sum(value << bits * k for k in range(self.dot.group))
        return tir.i32(number - (1 << 32) if number >> 31 else number)

    def number(self, x: Expr) -> Expr:
        """A number, which fills an i32, broadcast."""
        kind = f"int16x{2 * self.lanes}" if self.dot.wide else f"int8x{4 * self.lanes}"
        return tirx.reinterpret(kind, tir.broadcast(x, self.lanes))

    def add(self, total: Expr, number: Expr, line: Expr) -> Expr:
        kind = f"int32x{self.lanes}"
        if self.dot is VNNI:
            return tirx.call_llvm_pure_intrin(kind, "llvm.x86.avx512.vpdpbusd.512", total, number, line)
        return total + self.product(number, line)

    def product(self, number: Expr, line: Expr) -> Expr:
        """What two words of each lane come to, multiplied with two others and added."""
        return tirx.call_llvm_pure_intrin(f"int32x{self.lanes}", "llvm.x86.avx2.pmadd.wd", number, line)
