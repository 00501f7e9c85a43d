"""What turns 32-bit sums into bytes, as vector code that packs four vectors into one: for bodies that end in Rescale.

Saturating packs do most of the clamping: only the upper limit is taken before, where it makes sure that a sum fits 32
bits again, and a lower limit that is none of the type's own comes after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

from tvm import tirx

from edgec.compiler.ir import Node, Value
from edgec.compiler.op import full_attrs
from edgec.compiler.ops.common import limits
from edgec.compiler.registry import Problem
from edgec.targets import tir
from edgec.targets.mathlib import fenced
from edgec.targets.tir import Expr

LANES = 16
TVM_KIND = {"u8": "uint8", "i8": "int8"}
ORDER = (0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)  # quarters of vectors after packing


@dataclass(frozen=True)
class Tail:
    """The Rescale at the end of a body, and where its operands come from."""

    node: Node
    anchor: Value
    factors: tuple[Value, ...]  # f32 inputs: one number, or one for each channel
    bytes: tuple[Value, ...]  # inputs with the shape of the result


def tail_of(problem: Problem, axis: int) -> Tail | None:
    """The tail of a body, if vector code is known for it; `axis` of the result holds the channels."""
    body, anchor = problem.body, problem.anchor.results[0]
    shape = anchor.shape
    factors: list[Value] = []
    others: list[Value] = []

    def knows(value: Value) -> bool:
        if value == anchor:
            return True
        if value in body.inputs:
            if value.type.dtype in TVM_KIND and value.shape == shape:
                others.append(value)
                return True
            return False
        return value.node.op == "Edgec.Rescale" and rescaled(value.node)

    def rescaled(node: Node) -> bool:
        count = len(node.args) // 2
        for factor in node.args[count:]:
            if factor not in body.inputs or not per_channel(factor):
                return False
            factors.append(factor)
        return all(knows(term) for term in node.args[:count])

    def per_channel(value: Value) -> bool:
        places = [n if a == axis - len(shape) else 1 for a, n in zip(range(-len(shape), 0), shape, strict=True)]
        return value.type.size == 1 or list(value.shape) == places[len(shape) - len(value.shape) :]

    last = body.outputs[0].node
    if last.op != "Edgec.Rescale" or not rescaled(last):
        return None
    return Tail(last, anchor, tuple(dict.fromkeys(factors)), tuple(dict.fromkeys(others)))


@dataclass(frozen=True)
class Vectors:
    """Reads of 16 channels, of some pixel: sums, bytes of another operand, factors of a vector of channels."""

    sums: Expr
    bytes: Callable[[Value], Expr]
    factors: Callable[[Value], Expr]


def numbers(tail: Tail, read: Vectors) -> Expr:
    """The result less its zero point, before saturation: 16 numbers of 32 bits."""
    attrs = full_attrs(tail.node)
    total = _total(tail, tail.node, read)
    return _whole(tirx.min(total, _all(float(attrs["high"] - attrs["zero"]))))


def _total(tail: Tail, node: Node, read: Vectors) -> Expr:
    count, zeros = len(node.args) // 2, full_attrs(node)["zeros"]
    terms = [
        tirx.Cast("float32x16", _less(_term(tail, term, read), zero)) * read.factors(factor)
        for term, factor, zero in zip(node.args[:count], node.args[count:], zeros, strict=True)
    ]
    return reduce(lambda a, b: a + b, map(fenced, terms) if count > 1 else terms)


def _term(tail: Tail, value: Value, read: Vectors) -> Expr:
    if value == tail.anchor:
        return read.sums
    if value in tail.bytes:
        return tirx.Cast("int32x16", read.bytes(value))
    attrs = full_attrs(value.node)
    low, high = (_all(float(attrs[end] - attrs["zero"])) for end in ("low", "high"))
    inner = _whole(tirx.min(tirx.max(_total(tail, value.node, read), low), high))
    return inner + _all(attrs["zero"]) if attrs["zero"] else inner


def _less(x: Expr, zero: int) -> Expr:
    return x - _all(zero) if zero else x


def _all(value: float) -> Expr:
    return tir.broadcast(tir.lit(value, "float32" if isinstance(value, float) else "int32"), LANES)


def _whole(x: Expr) -> Expr:
    """The nearest integers, halves to even."""
    every, as_set = tirx.IntImm("int16", -1), tir.i32(4)
    zeros = tir.broadcast(tir.i32(0), LANES)
    return tirx.call_llvm_pure_intrin(
        "int32x16", "llvm.x86.avx512.mask.cvtps2dq.512", x, zeros, every, as_set
    )


def packed(tail: Tail, four: Sequence[Expr]) -> Expr:
    """Four vectors of numbers as 64 bytes, in order."""
    attrs = full_attrs(tail.node)
    kind, zero = TVM_KIND[attrs["to"]], attrs["zero"]
    pairs = [
        tirx.call_llvm_pure_intrin("int16x32", "llvm.x86.avx512.packssdw.512", a, b)
        for a, b in (four[:2], four[2:])
    ]
    if zero:
        shift = tir.broadcast(tir.lit(zero, "int16"), 32)
        pairs = [tirx.call_llvm_pure_intrin("int16x32", "llvm.sadd.sat", x, shift) for x in pairs]
    pack = "llvm.x86.avx512.packuswb.512" if kind == "uint8" else "llvm.x86.avx512.packsswb.512"
    mixed = tirx.call_llvm_pure_intrin("int8x64", pack, *pairs)
    quarters = tirx.Shuffle([tirx.reinterpret("int32x16", mixed)], [tir.i32(k) for k in ORDER])
    result = tirx.reinterpret(f"{kind}x64", quarters)
    if attrs["low"] > limits(attrs["to"])[0]:
        result = tirx.max(result, tir.broadcast(tir.lit(attrs["low"], kind), 64))
    return result


def part(x: Expr, kind: str, lanes: int, first: int) -> Expr:
    """Some of the lanes of 64 bytes."""
    if lanes == 64:
        return x
    return tirx.call_llvm_pure_intrin(f"{kind}x{lanes}", "llvm.vector.extract", x, tirx.IntImm("int64", first))
