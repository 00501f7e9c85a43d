"""TensorIR of products of matrices of bytes: the tiles of a pointwise convolution with other addresses."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Problem
from edgec.targets import tir
from edgec.targets.body import align
from edgec.targets.tir import Expr, Stmt

from ..common_emit import Frame, full_or_rest, put, vector
from ..conv.places import Tile, widths
from ..conv.shape import Window
from .conv_emit import Conv
from .tiles import QUAD

ROWS = 4  # of the right operand that meet in one step


class Packed(Conv):
    """The right operand lies as [N/32][K/4][32][4]; all leading axes of the left one, which is row-major, are rows."""

    def __init__(
        self, problem: Problem, choice: Choice, w: Window, operands: tuple[Value, Value, Value | None]
    ) -> None:
        super().__init__(problem, choice, w, operands)
        self.rest = 0 if self.step.dot.wide else w.channels_in % QUAD

    def zero_of(self, attrs: Any) -> int:
        return int(attrs["a_zero"])

    def pixel_bytes(self, t: Type) -> int:
        return t.shape[-1]

    def widths(self, channels: int) -> tuple[int, ...]:
        return widths(channels, self.lanes)  # rows have no padding

    def view(self, value: Value) -> Type:
        if value == self.x:
            return replace(value.type, shape=(prod(value.shape[:-1]), value.shape[-1]))
        return value.type

    def index(self, t: Tile, v: int, row: Any, column: Any, lane: Expr) -> tuple[Expr, ...]:
        return (*tir.split(tir.expr(column), *self.anchor.shape[:-1]), t.channel + v * self.lanes + lane)


class Dynamic(Packed):
    """Both operands are row-major stacks of matrices. Each unit packs its columns of the right one in scratch.

    u8 there are moved to i8, and their zero point with them. What that zero point adds to a row of results is the sum
    of the row of the left operand, which a unit computes for all its rows.
    """

    def __init__(
        self, problem: Problem, choice: Choice, w: Window, operands: tuple[Value, Value, Value | None]
    ) -> None:
        super().__init__(problem, choice, w, operands)
        attrs: Any = full_attrs(problem.anchor)
        self.unsigned = self.weight.type.dtype == "u8"
        self.right_zero = int(attrs["b_zero"]) - (128 if self.unsigned else 0)
        self.ahead.each = 0

    def view(self, value: Value) -> Type:
        return value.type

    def index(self, t: Tile, v: int, row: Any, column: Any, lane: Expr) -> tuple[Expr, ...]:
        return (*self.digits(t.image), tir.expr(column), t.channel + v * self.lanes + lane)

    def digits(self, image: Expr) -> tuple[Expr, ...]:
        """Position of a product among the leading axes of the result."""
        leading = self.anchor.shape[:-2]
        return tir.split(image, *leading) if leading else ()

    def matrix(self, operand: Value, image: Expr) -> Expr:
        """Number of the matrix of an operand that a product reads."""
        number: Expr = tir.i32(0)
        leading = operand.shape[:-2]
        for size, digit in zip(leading, align(self.digits(image), leading), strict=True):
            number = number * size + digit
        return number

    def base(self, t: Tile) -> tuple[Expr, Stmt | None]:
        rows = self.matrix(self.x, t.image) * self.w.width.size + t.columns[0]
        return tir.let(rows * self.pixel, "base")

    def slice_of(self, tile: Expr) -> Expr:
        return tir.i32(0)

    def addend(self, t: Tile, pixel: int) -> Expr | None:
        return tir.load(self.sums, self.sums_at + t.columns[pixel]) if self.right_zero else None

    def unit(self, frame: Frame, image: Expr, tile: Expr, space: Expr) -> Stmt:
        data, size = frame.scratch.data, self.groups * self.width
        self.weights, right = tirx.decl_buffer((size,), "int8", "packed", data=data), self.weights
        rows, self.sums_at = self.w.width.size, size // 4
        self.sums = tirx.decl_buffer((self.sums_at + rows,), "int32", "sums", data=data)
        wide = self.vectors * self.lanes
        pack = full_or_rest(tile, self.w.channels_out, wide, lambda n: self.pack(right, image, tile * wide, n))
        parts = [tirx.DeclBuffer(self.weights, data=data), tirx.DeclBuffer(self.sums, data=data), pack]
        if self.right_zero:
            parts.append(tir.loop(rows, lambda r: self.sum_row(image, r), "r"))
        return tir.seq(parts, super().unit(frame, image, tile, space))

    def pack(self, right: tir.Buffer, image: Expr, column: Expr, columns: int) -> Stmt:
        """Some columns of a right operand, four rows dealt to the bytes of a group."""
        inner, n = self.w.channels_in, self.w.channels_out
        begin, bind = tir.let(self.matrix(self.weight, image) * (inner * n) + column, "begin")

        def group(k: Expr, rows: int) -> Stmt:
            parts: list[Stmt] = []
            for v, lanes in enumerate(widths(columns, self.lanes)):
                lines = [vector(right, lanes, begin + (k * ROWS + r) * n + v * self.lanes) for r in range(rows)]
                moved = [self.moved(line, lanes) for line in lines]
                moved += [tir.broadcast(tir.lit(0, "int8"), lanes)] * (ROWS - rows)
                dealt = [tir.i32(r * lanes + c) for c in range(lanes) for r in range(ROWS)]
                at = k * self.width + v * ROWS * self.lanes
                parts.append(put(self.weights, tirx.Shuffle(moved, dealt), ROWS * lanes, at))
            return tir.seq(parts)

        whole, rest = divmod(inner, ROWS)
        loop = tir.loop(whole, lambda k: group(k, ROWS), "k") if whole else None
        return tir.seq(bind, loop, group(tir.i32(whole), rest) if rest else None)

    def moved(self, line: Expr, lanes: int) -> Expr:
        if not self.unsigned:
            return line
        signed = tirx.reinterpret(f"int8x{lanes}" if lanes > 1 else "int8", line)
        return tirx.bitwise_xor(signed, tir.broadcast(tir.lit(-128, "int8"), lanes))

    def sum_row(self, image: Expr, row: Expr) -> Stmt:
        """What the zero point of the right operand adds to a row of results."""
        inner, rows = self.w.channels_in, self.w.width.size
        begin, bind = tir.let((self.matrix(self.x, image) * rows + row) * inner, "begin")
        total, alloc = tir.local((8,), "int64", "total")
        none = tir.broadcast(tir.lit(0, "int8"), 64)
        whole, rest = divmod(inner, 64)

        def add(k: Expr) -> Stmt:
            line = tirx.reinterpret("int8x64", vector(self.data, 64, begin + k * 64))
            sums = tirx.call_llvm_pure_intrin("int64x8", "llvm.x86.avx512.psad.bw.512", line, none)
            return put(total, vector(total, 8, 0) + sums, 8, 0)

        last = tir.Cell("int32")
        parts = [alloc, put(total, tir.broadcast(tir.lit(0, "int64"), 8), 8, 0), last.made]
        parts.append(tir.loop(whole, add, "k") if whole else None)
        parts.append(last.set(tirx.Cast("int32", tir.across("add", vector(total, 8, 0)))))
        if rest:
            one = tir.loop(
                rest, lambda i: last.add(tirx.Cast("int32", tir.load(self.data, begin + whole * 64 + i))), "i"
            )
            parts.append(one)
        constant = inner * self.zero * self.right_zero % (1 << 32)
        constant -= (constant >> 31) << 32
        value = tir.i32(constant) - last.now * tir.i32(self.right_zero)
        return tir.seq(bind, parts, tir.store(self.sums, value, self.sums_at + row))
