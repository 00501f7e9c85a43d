"""Copies of an image in scratch: lines with zero points where windows reach outside, or the pixels of strides."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edgec.targets import tir
from edgec.targets.tir import Expr, Stmt

from .shape import Left

VECTOR = 64  # bytes


def copy_lines(left: Left, source: Any, image: Expr, lines: Any, first: Expr, rows: Expr, zero: int) -> Stmt:
    """The lines under `rows` rows of the output from row `first` on."""
    height, width, pixel = left.w.height, left.w.width, left.pixel
    pitch, inside = left.line * pixel, width.size * pixel
    before = width.pad * pixel
    count = (rows - 1) * height.stride + ((height.kernel - 1) * height.dilation + 1)

    def line(k: Expr) -> Stmt:
        at, row = k * pitch, first * height.stride + k - height.pad
        true = tir.seq(
            fill(lines, at, before, zero),
            copy(lines, at + before, source, (image * height.size + row) * inside, inside),
            fill(lines, at + before + inside, pitch - before - inside, zero),
        )
        if height.pad == 0 and left.lines(height.out) <= height.size:
            return true
        return tir.when(tirx.And(row >= 0, row < height.size), true, fill(lines, at, pitch, zero))

    return tir.loop(count, line, "line")


def copy_pairs(left: Left, source: Any, image: Expr, to: Any, first: Expr, rows: Expr, zero: int) -> Stmt:
    """As `copy_lines`, for lines in pairs: a pixel of the first line, then the one below it."""
    assert left.true is not None
    height, width, pixel = left.true.height, left.true.width, left.pixel
    pitch, inside, before = left.line * pixel, width.size * pixel // 2, width.pad * pixel
    kind = str(to.dtype)

    def pair(k: Expr) -> Stmt:
        at = k * pitch
        lines = [2 * (first + k) - height.pad + n for n in (0, 1)]

        def part(begin: Expr, n: int) -> Stmt:
            found, binds = [], []
            for row in lines:
                there = tirx.And(row >= 0, row < height.size)
                clamped = tirx.max(tirx.min(row, height.size - 1), 0)
                index = tir.ramp((image * height.size + clamped) * inside + begin, n)
                value, bind = tir.let(tir.load(source, index), "line")
                chosen = tirx.Select(tir.broadcast(there, n), value, tir.broadcast(tir.lit(zero, kind), n))
                found.append(tirx.reinterpret(f"int32x{n // 4}" if n > 4 else "int32", chosen))
                binds.append(bind)
            order = [tir.i32(i + n // 4 * k) for i in range(n // 4) for k in (0, 1)]
            both = tirx.reinterpret(f"{kind}x{2 * n}", tirx.Shuffle(found, order))
            return tir.seq(binds, tir.store(to, both, tir.ramp(at + before + 2 * begin, 2 * n)))

        return tir.seq(
            fill(to, at, before, zero),
            _pieces(inside, part),
            fill(to, at + before + 2 * inside, pitch - before - 2 * inside, zero),
        )

    return tir.loop(rows + (left.w.height.kernel - 1), pair, "pair")


def copy_pixels(left: Left, source: Any, image: Expr, to: Any) -> Stmt:
    """The pixels that the windows of an image read, one after the other."""
    assert left.true is not None
    height, width, pixel = left.true.height, left.true.width, left.pixel

    def one(row: Expr, column: Expr) -> Stmt:
        line = image * height.size + row * height.stride
        begin = (line * width.size + column * width.stride) * pixel
        return copy(to, (row * width.out + column) * pixel, source, begin, pixel)

    return tir.loop(height.out, lambda r: tir.loop(width.out, lambda c: one(r, c), "column"), "row")


def fill(to: Any, at: Expr, count: int, value: int) -> Stmt:
    kind = str(to.dtype)
    return _pieces(count, lambda k, n: tir.store(to, tir.broadcast(tir.lit(value, kind), n), tir.ramp(at + k, n)))


def copy(to: Any, at: Expr, source: Any, begin: Expr, count: int) -> Stmt:
    def piece(k: Expr, n: int) -> Stmt:
        return tir.store(to, tir.load(source, tir.ramp(begin + k, n)), tir.ramp(at + k, n))

    return _pieces(count, piece)


def _pieces(count: int, piece: Any) -> Stmt:
    """`piece(offset, size)` of a stretch: whole vectors in a loop, then what is left in powers of two."""
    parts: list[Stmt] = []
    whole = count // VECTOR
    if whole:
        parts.append(tir.loop(whole, lambda i: piece(i * VECTOR, VECTOR), "i"))
    done, size = whole * VECTOR, VECTOR // 2
    while done < count:
        if count - done >= size:
            parts.append(piece(tir.i32(done), size))
            done += size
        size //= 2
    return tir.seq(parts)
