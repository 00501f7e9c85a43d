"""Sums to bytes: `Edgec.Rescale` at the end of a body, for four vectors of sums that become one of bytes.

The upper limit holds before rounding, since a float too large for an integer would become the least one. Packing
saturates and so sets the lower limit; a higher one is one more instruction per vector of bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx

from edgec.compiler.op import full_attrs
from edgec.compiler.ops.common import limits
from edgec.targets import tir
from edgec.targets.body import align
from edgec.targets.integer import total
from edgec.targets.mathlib import at_most
from edgec.targets.tir import Expr, Stmt

from .common_emit import F32, Frame, vector

TOGETHER = 4  # vectors of sums per vector of bytes
_NAMES = {16: "llvm.x86.avx512.pack{}.512", 8: "llvm.x86.avx2.pack{}"}


def packs(frame: Frame, lanes: int) -> bool:
    """Whether the body ends in bytes that can be packed here."""
    return lanes in _NAMES and frame.out.node.op == "Edgec.Rescale"


def packed(
    frame: Frame, lanes: int, widths: Sequence[int], index: Callable[[int, Expr], tuple[Expr, ...]]
) -> tuple[Expr, Stmt]:
    """Bytes of up to four vectors of sums, one after the other: (u8 or i8[4 * lanes], statements before its use).

    `widths` are the lanes of each that count. `index(k, lane)` is the output's index in vector k; it binds the body's anchor to the sum there.
    """
    stage, alloc = tir.local((TOGETHER * lanes,), F32, "total")
    node, body = frame.out.node, frame.body
    zeros: Any = full_attrs(node)["zeros"]
    body.bind(frame.out, lambda at: total(*(body.at(a, align(at, a.shape)) for a in node.args), zeros=zeros))

    def one(k: int) -> Stmt:
        return tir.vectorized(widths[k], lambda i: tir.store(stage, body.at(frame.out, index(k, i)), k * lanes + i))

    parts = tir.seq(alloc, [one(k) for k in range(len(widths))])
    totals = [vector(stage, lanes, min(k, len(widths) - 1) * lanes) for k in range(TOGETHER)]
    attrs: Any = full_attrs(node)
    result, bind = tir.let(as_bytes(totals, lanes, attrs["to"], attrs["zero"], attrs["low"], attrs["high"]), "bytes")
    return result, tir.seq(parts, bind)


def as_bytes(totals: Sequence[Expr], lanes: int, to: str, zero: int, low: int, high: int) -> Expr:
    """Four vectors of f32 rounded, half to even, + `zero`, within `low` .. `high`."""
    bounded = [rounded(at_most(t, tir.broadcast(tir.lit(float(high - zero), F32), lanes)), lanes) for t in totals]
    words = [_pack("ssdw", f"int16x{2 * lanes}", lanes, *bounded[k : k + 2]) for k in (0, 2)]
    if zero:
        more = tir.broadcast(tir.lit(zero, "int16"), 2 * lanes)
        words = [tirx.call_llvm_pure_intrin(f"int16x{2 * lanes}", "llvm.sadd.sat", w, more) for w in words]
    kind = "uint8" if to == "u8" else "int8"
    mixed = _pack("uswb" if to == "u8" else "sswb", f"{kind}x{4 * lanes}", lanes, *words)
    # Packing works within 16 bytes: there lie four sums of each vector.
    quads = lanes // 4
    order = [4 * part + k for k in range(TOGETHER) for part in range(quads)]
    whole = tirx.Shuffle([tirx.reinterpret(f"int32x{lanes}", mixed)], [tir.i32(n) for n in order])
    result = tirx.reinterpret(f"{kind}x{4 * lanes}", whole)
    least, _ = limits(to)
    return tirx.max(result, tir.broadcast(tir.lit(low, kind), 4 * lanes)) if low > least else result


def rounded(x: Expr, lanes: int) -> Expr:
    """The nearest integers, halves to even; the least one where there is none."""
    kind = f"int32x{lanes}"
    if lanes == 16:
        none, every, mode = tir.broadcast(tir.i32(0), lanes), tir.lit(-1, "int16"), tir.i32(4)
        return tirx.call_llvm_pure_intrin(kind, "llvm.x86.avx512.mask.cvtps2dq.512", x, none, every, mode)
    return tirx.call_llvm_pure_intrin(kind, "llvm.x86.avx.cvt.ps2dq.256", x)


def _pack(how: str, kind: str, lanes: int, a: Expr, b: Expr) -> Expr:
    return tirx.call_llvm_pure_intrin(kind, _NAMES[lanes].format(how), a, b)


def part(whole: Expr, first: int, count: int) -> Expr:
    """`count` neighbouring lanes of a vector."""
    lanes = whole.ty.dtype.lanes
    return whole if count == lanes else tirx.Shuffle([whole], [tir.i32(first + i) for i in range(count)])
