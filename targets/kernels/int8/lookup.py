"""Tables of 256 bytes, looked up for a whole vector of bytes at a time."""

from __future__ import annotations

from tvm import tirx

from edgec.compiler.target import Cpu
from edgec.targets import tir
from edgec.targets.tir import Expr

from ..common import permutes
from ..common_emit import vector

_SHUFFLE = {64: "llvm.x86.avx512.pshuf.b.512", 32: "llvm.x86.avx2.pshuf.b", 16: "llvm.x86.ssse3.pshuf.b.128"}


def looked_up(cpu: Cpu, x: Expr, table: tir.Buffer, signed: bool) -> Expr:
    """Elements of a table at each of 16, 32 or 64 bytes; `signed`: the table begins at -128."""
    lanes = x.ty.dtype.lanes
    if permutes(cpu) and lanes < 64:
        whole = tirx.Shuffle([x] * (64 // lanes), [tir.i32(i) for i in range(64)])
        return tirx.Shuffle([looked_up(cpu, whole, table, signed)], [tir.i32(i) for i in range(lanes)])
    place = tirx.reinterpret(f"int8x{lanes}", x)
    if signed:
        place = tirx.bitwise_xor(place, tir.broadcast(tir.lit(-128, "int8"), lanes))
    return _permuted(place, table) if permutes(cpu) else _shuffled(place, table)


def _permuted(place: Expr, table: tir.Buffer) -> Expr:
    """By permutations of 128 bytes, whose upper or lower result the highest bit selects."""
    kind = f"{table.dtype}x64"
    quarters = [vector(table, 64, 64 * k) for k in range(4)]
    halves = [
        tirx.call_llvm_pure_intrin(kind, "llvm.x86.avx512.vpermi2var.qi.512", quarters[k], place, quarters[k + 1])
        for k in (0, 2)
    ]
    return tirx.Select(place < tir.broadcast(tir.lit(0, "int8"), 64), halves[1], halves[0])


def _shuffled(place: Expr, table: tir.Buffer) -> Expr:
    """By sixteen shuffles of 16 bytes. An index of another sixteenth has its highest bit set, which gives 0."""
    lanes = place.ty.dtype.lanes
    kind, found = f"{table.dtype}x{lanes}", None
    for k in range(16):
        away = tirx.bitwise_xor(place, tir.broadcast(tir.lit((16 * k + 128) % 256 - 128, "int8"), lanes))
        index = tirx.call_llvm_pure_intrin(
            f"int8x{lanes}", "llvm.uadd.sat", away, tir.broadcast(tir.lit(0x70, "int8"), lanes)
        )
        part = tirx.Shuffle([vector(table, 16, 16 * k)] * (lanes // 16), [tir.i32(i) for i in range(lanes)])
        chosen = tirx.call_llvm_pure_intrin(kind, _SHUFFLE[lanes], part, index)
        found = chosen if found is None else tirx.bitwise_or(found, chosen)
    return found
