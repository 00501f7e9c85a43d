"""What kernels of one node read and write: a row-major tensor as one line of elements, copied and filled by vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgec.compiler.dtypes import dtype
from edgec.compiler.target import Cpu

from .. import tir
from ..conversions import fetched, put
from ..tir import Buffer, Expr, Stmt

AT_ONCE = 4  # vectors in a turn of a loop that only moves elements


@dataclass(frozen=True)
class Line:
    """A buffer of one axis, and our name of its element type."""

    buffer: Buffer
    dtype: str

    def load(self, at: Expr | int) -> Expr:
        """An element in the type that holds it in a kernel (bf16 as f32)."""
        return fetched(tir.load(self.buffer, at), self.dtype)

    def store(self, value: Expr, at: Expr | int) -> Stmt:
        return tir.store(self.buffer, put(value, self.dtype), at)

    def lanes(self, cpu: Cpu) -> int:
        """Elements of one vector."""
        return max(1, cpu.lanes(8 * dtype(self.dtype).bytes))


def swept(count: Expr | int, lanes: int, fn: Callable[[Expr], Stmt], name: str = "j") -> Stmt:
    """`fn(position)` for 0 .. count - 1, by vectors of `lanes`; it is written for one lane. `count` may be computed."""

    def by(width: int, base: Expr | int) -> Stmt:
        return tir.vectorized(width, lambda v: fn(base + v))

    if not isinstance(count, int):
        whole = count // lanes
        first, start = tir.let(whole * lanes, "whole")
        return tir.seq(
            start,
            tir.loop(whole, lambda k: by(lanes, k * lanes), name),
            tir.loop(count - first, lambda k: fn(first + k), name),
        )
    wide = lanes * AT_ONCE
    parts, done = [], 0
    if count >= wide:
        parts.append(tir.loop(count // wide, lambda k: by(wide, k * wide), name))
        done = count // wide * wide
    while done < count:
        width = min(lanes, count - done)
        parts.append(by(width, tir.i32(done)))
        done += width
    return tir.seq(parts)


def copied(cpu: Cpu, to: Line, at: Expr | int, source: Line, start: Expr | int, count: Expr | int) -> Stmt:
    """Copy elements as they lie in memory."""
    return swept(
        count,
        to.lanes(cpu),
        lambda j: tir.store(to.buffer, tir.load(source.buffer, start + j), at + j),
        "copy",
    )


def filled(cpu: Cpu, to: Line, at: Expr | int, value: Expr, count: Expr | int) -> Stmt:
    """Store one value everywhere; it is computed once."""
    one, bind = tir.let(put(value, to.dtype), "fill")
    return tir.seq(bind, swept(count, to.lanes(cpu), lambda j: tir.store(to.buffer, one, at + j), "fill"))
