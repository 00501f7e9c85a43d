"""softmax_int8_rows: shares of bytes along rows in memory, where one instruction permutes whole vectors of bytes.

Exponentials are looked up byte by byte, 64 at a time, and each of their four bytes is summed by itself. What becomes of
the 256 possible differences is computed once per row; its elements are then looked up, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..common import ceil_div, permutes, task_split
from ..cost import microseconds, streamed

if TYPE_CHECKING:
    from ...tir import Buffer, Expr, Stmt

NAME = "softmax_int8_rows"
WIDE = 64  # bytes of a vector
LEAST = WIDE  # elements of a row, whose last vector ends with it
ROW_CYCLES, VECTOR_CYCLES = 110.0, 18.0


def match(problem: Problem) -> Literal[True] | str:
    attrs, t = full_attrs(problem.anchor), problem.anchor.types[0]
    assert isinstance(attrs["axis"], int)
    size = t.shape[attrs["axis"]]
    if not permutes(problem.target.cpu):
        return "needs an instruction that permutes vectors of bytes"
    if problem.target.small:
        return "takes more code"
    if prod(t.shape[attrs["axis"] % len(t.shape) + 1 :]) != 1:
        return "needs an axis whose elements lie side by side"
    return True if size >= LEAST else f"pays for rows of {LEAST} elements on"


def choices(problem: Problem) -> Sequence[Choice]:
    cpu, size = problem.target.cpu, _size(problem)
    rows = problem.anchor.types[0].size // size
    cycles = rows * (ROW_CYCLES + VECTOR_CYCLES * ceil_div(size, WIDE))
    us = microseconds(cpu, cycles, streamed(cpu, 2.0 * rows * size))
    chunk = task_split(rows, us / rows, problem.threads)
    return [Choice(NAME, ("", ""), ("",), (("chunk", chunk),), us)]


def _size(problem: Problem) -> int:
    """Elements of a row."""
    return problem.anchor.types[0].shape[-1]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from tvm import tirx

    from edgec.compiler.ops.common import limits

    from ... import abi, tir
    from ...integer import BYTE, multiple, quotient
    from ..common_emit import chunked, vector
    from .lookup import looked_up

    attrs: Any = full_attrs(problem.anchor)
    size, count, cpu = _size(problem), problem.anchor.types[0].size, problem.target.cpu
    chunk, rows = choice.get("chunk"), count // size
    signed, to = problem.body.inputs[0].type.dtype == "i8", BYTE[attrs["to"]]
    low, high = (int(limit) - attrs["zero"] for limit in limits(attrs["to"]))
    whole, rest = divmod(size, WIDE)

    def body(buffers: list[Buffer], begin: Expr, end: Expr) -> Stmt:
        x, table, out = buffers
        planes = [tir.local((256,), "uint8", "plane") for _ in range(4)]
        shares, alloc_shares = tir.local((256,), to, "shares")
        greatest, alloc_greatest = tir.local((WIDE,), "uint8", "greatest")
        sums = [tir.local((8,), "int64", "sum") for _ in range(4)]

        def byte(k: int, part: int) -> Stmt:
            shifted = tirx.shift_right(vector(table, 16, 16 * k), tir.broadcast(tir.i32(8 * part), 16))
            return tir.store(planes[part][0], tirx.Cast("uint8x16", shifted), tir.ramp(16 * k, 16))

        def read(at: Expr) -> Expr:
            """Bytes in an order without signs."""
            bytes_ = tirx.reinterpret("uint8x64", vector(x, WIDE, at)) if signed else vector(x, WIDE, at)
            return tirx.bitwise_xor(bytes_, tir.broadcast(tir.lit(128, "uint8"), WIDE)) if signed else bytes_

        def row(number: Expr) -> Stmt:
            first = number * size
            last = first + size - WIDE
            top, bind_top = tir.let(tir.across("umax", vector(greatest, WIDE, 0)), "top")
            zeros = tir.broadcast(tir.lit(0, "uint8"), WIDE)

            def most(at: Expr) -> Stmt:
                return tir.store(greatest, tirx.max(vector(greatest, WIDE, 0), read(at)), tir.ramp(0, WIDE))

            def away(at: Expr) -> tuple[Expr, Stmt]:
                """How far elements are below the greatest."""
                return tir.let(tir.broadcast(top, WIDE) - read(at), "away")

            def add(at: Expr, known: int = 0) -> Stmt:
                """To the sums; the first `known` lanes are in them."""
                d, bind = away(at)
                found: list[Stmt] = [bind]
                for (plane, _), (acc, _) in zip(planes, sums, strict=True):
                    e = looked_up(cpu, d, plane, False)
                    if known:
                        order = [tir.i32(k if k < known else WIDE + k) for k in range(WIDE)]
                        e = tirx.Shuffle([zeros, e], order)
                    eights = tirx.call_llvm_pure_intrin("int64x8", "llvm.x86.avx512.psad.bw.512", e, zeros)
                    found.append(tir.store(acc, vector(acc, 8, 0) + eights, tir.ramp(0, 8)))
                return tir.seq(found)

            def share(k: int, v: Expr) -> Stmt:
                value = multiple(tir.load(table, 16 * k + v), each, low, high) + tir.i32(attrs["zero"])
                return tir.store(shares, tirx.Cast(to, value), 16 * k + v)

            def put(at: Expr) -> Stmt:
                d, bind = away(at)
                return tir.seq(bind, tir.store(out, looked_up(cpu, d, shares, False), tir.ramp(at, WIDE)))

            def every(fn: Any, end: Stmt) -> Stmt:
                return tir.seq(tir.loop(whole, lambda k: fn(first + k * WIDE), "vector"), end if rest else None)

            parts = [
                tirx.shift_left(vector(acc, 8, 0), tir.broadcast(tir.lit(8 * k, "int64"), 8))
                for k, (acc, _) in enumerate(sums)
            ]
            total = tir.across("add", parts[0] + parts[1] + parts[2] + parts[3])
            each, bind_each = tir.let(quotient(attrs["multiplier"], tirx.Cast("int32", total)), "each")
            return tir.seq(
                tir.store(greatest, zeros, tir.ramp(0, WIDE)),
                every(most, most(last)),
                bind_top,
                [tir.store(acc, tir.broadcast(tir.lit(0, "int64"), 8), tir.ramp(0, 8)) for acc, _ in sums],
                every(add, add(last, WIDE - rest)),
                bind_each,
                [tir.vectorized(16, partial(share, k)) for k in range(16)],
                every(put, put(last)),
            )

        split = [byte(k, part) for k in range(16) for part in range(4)]
        allocated = [alloc for _, alloc in (*planes, *sums)]
        rows_of = tir.tasks(begin, end, lambda number: chunked(rows, chunk, number, row))
        return tir.seq(allocated, alloc_shares, alloc_greatest, split, rows_of)

    kinds = {"u8": "uint8", "i8": "int8"}
    given = kinds[problem.body.inputs[0].type.dtype]
    params = [("x", given, (count,)), ("table", "int32", (256,)), ("out", to, (count,))]
    return Emitted(abi.kernel(symbol, params, body, pointer_bits=problem.target.pointer_bits), ceil_div(rows, chunk))


kernel(
    Row(
        NAME,
        frozenset({"Edgec.SoftmaxInteger"}),
        match,
        choices,
        emit,
        "shares of bytes along rows, by permutations of tables",
        isa=frozenset({"AVX512VBMI"}),
    )
)
