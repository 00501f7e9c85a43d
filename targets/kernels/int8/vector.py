"""Vectors of bytes on x86: unpacking to 32 bits, packing back, dot products of four; of 16, 32 or 64 bytes each.

`unpack` deals the bytes of each 16-byte lane to four vectors, four bytes of the lane each, and `pack` takes them from
there: between the two, values lie in "dealt" order, which costs no shuffle beside those that widen and narrow.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr

_PACKS = {
    128: ("sse2.packssdw.128", "sse2.packuswb.128", "sse2.packsswb.128"),
    256: ("avx2.packssdw", "avx2.packuswb", "avx2.packsswb"),
    512: ("avx512.packssdw.512", "avx512.packuswb.512", "avx512.packsswb.512"),
}


def x86(kind: str, name: str, *args: Expr) -> Expr:
    return tirx.call_llvm_pure_intrin(kind, f"llvm.x86.{name}", *args)


def shuffled(a: Expr, b: Expr, order: Sequence[int]) -> Expr:
    return tirx.Shuffle([a, b], [tir.i32(k) for k in order])


def joined(parts: Sequence[Expr]) -> Expr:
    """Vectors one behind the other."""
    if len(parts) == 1:
        return parts[0]
    lanes = sum(p.ty.dtype.lanes for p in parts)
    return tirx.Shuffle(list(parts), [tir.i32(k) for k in range(lanes)])


def _interleaved(a: Expr, b: Expr, high: bool) -> Expr:
    """The lower or higher halves of each 16-byte lane, element by element in turn."""
    lanes = a.ty.dtype.lanes
    each = 128 // int(str(a.ty.dtype).lstrip("uint").split("x")[0])
    half = each // 2
    order = []
    for lane in range(0, lanes, each):
        for k in range(half):
            at = lane + (half if high else 0) + k
            order += [at, lanes + at]
    return shuffled(a, b, order)


def pair(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """Bytes of two vectors in turn, as 16 bits: of the lower and of the higher halves of lanes."""
    wide = f"int16x{a.ty.dtype.lanes // 2}"
    low, high = (_interleaved(a, b, high) for high in (False, True))
    return tirx.reinterpret(wide, low), tirx.reinterpret(wide, high)


def quad(ab: Expr, cd: Expr) -> tuple[Expr, Expr]:
    """Two of the halves of two pairs in turn, as 32 bits."""
    wide = f"int32x{ab.ty.dtype.lanes // 2}"
    low, high = (_interleaved(ab, cd, high) for high in (False, True))
    return tirx.reinterpret(wide, low), tirx.reinterpret(wide, high)


def dot(total: Expr, x: Expr, w: Expr) -> Expr:
    """total + the sum of four products of bytes in each lane; x unsigned, w signed."""
    lanes = total.ty.dtype.lanes
    x, w = (tirx.reinterpret(f"int8x{4 * lanes}", v) for v in (x, w))
    return x86(f"int32x{lanes}", f"avx512.vpdpbusd.{32 * lanes}", total, x, w)


def added_pairs(x: Expr, w: Expr) -> Expr:
    """The sum of two products of 16-bit numbers in each lane."""
    lanes = x.ty.dtype.lanes
    x, w = (tirx.reinterpret(f"int16x{2 * lanes}", v) for v in (x, w))
    name = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}[lanes]
    return x86(f"int32x{lanes}", name, x, w)


def nearest(x: Expr) -> Expr:
    """The nearest integers, halves to even; the least one where x lies beyond them."""
    lanes = x.ty.dtype.lanes
    kind = f"int32x{lanes}"
    if lanes == 16:
        nothing = tir.broadcast(tir.i32(0), 16)
        return x86(kind, "avx512.mask.cvtps2dq.512", x, nothing, tir.lit(-1, "int16"), tir.i32(4))
    return x86(kind, "avx.cvt.ps2dq.256" if lanes == 8 else "sse2.cvtps2dq", x)


def pack(words: Sequence[Expr], to: str, plus: int) -> Expr:
    """Four dealt vectors of 32 bits, + a number, as bytes: what does not fit becomes the nearest that does."""
    lanes = words[0].ty.dtype.lanes
    narrow, *ends = _PACKS[32 * lanes]
    kind = f"int16x{2 * lanes}"
    halves = [x86(kind, narrow, a, b) for a, b in (words[:2], words[2:])]
    if plus:
        number = tir.broadcast(tir.lit(plus, "int16"), 2 * lanes)
        halves = [tirx.call_llvm_pure_intrin(kind, "llvm.sadd.sat", half, number) for half in halves]
    bytes_ = x86(f"int8x{4 * lanes}", ends[0 if to == "u8" else 1], *halves)
    return tirx.reinterpret(f"uint8x{4 * lanes}", bytes_) if to == "u8" else bytes_


def dealt(buffer: Buffer, first: Expr | int, k: int, lanes: int) -> Expr:
    """Vector k of the four over which neighbours in memory are dealt, elements of 32 bits, from `first` on."""
    return joined([tir.load(buffer, tir.ramp(tir.expr(first) + 16 * n + 4 * k, 4)) for n in range(lanes // 4)])
