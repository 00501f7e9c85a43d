"""Operations on vectors of integers for the transforms (winograd_transform.py), as statements in turn."""

from __future__ import annotations

from tvm import tirx

from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from ..common_emit import put, vector
from .winograd_transform import INVERSE, SHIFT


class Words:
    """Vectors of i16 of which none overflows. What is computed is put into a register by a statement in `parts`: TVM's
    simplifier would write a named expression out wherever it is used."""

    def __init__(self, lanes: int, element: str = "int16") -> None:
        self.lanes, self.element = lanes, element
        self.kind = f"{element}x{lanes}"
        self.parts: list[Stmt] = []

    def named(self, x: Expr) -> Expr:
        register, alloc = tir.local((x.ty.dtype.lanes,), str(x.ty.dtype).partition("x")[0], "x")
        self.parts += [alloc, put(register, x, x.ty.dtype.lanes, 0)]
        return vector(register, x.ty.dtype.lanes, 0)

    def same(self, value: int) -> Expr:
        return tir.broadcast(tir.lit(value, self.element), self.lanes)

    def add(self, a: Expr, b: Expr) -> Expr:
        return self.named(a + b)

    def subtract(self, a: Expr, b: Expr) -> Expr:
        return self.named(a - b)

    def shift(self, a: Expr, bits: int) -> Expr:
        return self.named(tirx.shift_left(a, self.same(bits)))


class Wrapping(Words):
    """Vectors of i32 that wrap around. TVM takes it that they do not, and tells LLVM so: nothing here overflows in the
    64 bits that it is computed in, of which LLVM makes 32 again (targets/whole.py does the same for single numbers)."""

    def __init__(self, lanes: int) -> None:
        super().__init__(lanes, "int32")

    def wide(self, a: Expr) -> Expr:
        return tirx.Cast(f"int64x{self.lanes}", a)

    def low(self, a: Expr) -> Expr:
        """The lowest 32 bits. LLVM drops the maximum with zero, of which TVM knows nothing."""
        kept = tirx.bitwise_and(a, tir.broadcast(tir.lit((1 << 32) - 1, "int64"), self.lanes))
        zero = tir.broadcast(tir.lit(0, "uint32"), self.lanes)
        return self.named(
            tirx.call_llvm_pure_intrin(self.kind, "llvm.umax", tirx.Cast(f"uint32x{self.lanes}", kept), zero)
        )

    def add(self, a: Expr, b: Expr) -> Expr:
        return self.low(self.wide(a) + self.wide(b))

    def subtract(self, a: Expr, b: Expr) -> Expr:
        return self.low(self.wide(a) - self.wide(b))

    def scaled(self, a: Expr) -> Expr:
        """An output of the transform, divided by SCALE."""
        inverse = tir.lit(INVERSE - (1 << 32 if INVERSE >> 31 else 0), "int64")
        return self.named(
            tirx.shift_right(self.low(self.wide(a) * tir.broadcast(inverse, self.lanes)), self.same(SHIFT))
        )
