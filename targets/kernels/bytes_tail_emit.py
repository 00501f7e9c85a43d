"""What follows sums of bytes, on whole vectors: `Edgec.Rescale` of sums and of bytes beside them, `Edgec.Table`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Node, Value
from edgec.compiler.op import full_attrs
from edgec.compiler.ops.common import limits
from edgec.compiler.target import Cpu
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from .int8.lookup import looked_up
from .int8.vector import nearest, pack, pair, quad

Words = list[Expr]  # four dealt vectors


class Tail:
    """The elementwise nodes of a body at one pixel, for `lanes` dealt lanes in each of four vectors.

    `sums`: the anchor's. `multiplier(value, k)`: vector k of an operand that has one element per channel.
    `bytes_at(value)`: the vector of a tensor of the anchor's shape; `table(value)`: the elements of a table.
    `rounds`: every number that is rescaled has a nearest integer. `binds` must stand before the result.
    """

    def __init__(
        self,
        lanes: int,
        known: Mapping[Value, Words],
        multiplier: Callable[[Value, int], Expr],
        bytes_at: Callable[[Value], Expr],
        table: Callable[[Value], Buffer],
        cpu: Cpu,
        rounds: bool = False,
    ) -> None:
        self.rounds = rounds
        self.table, self.cpu = table, cpu
        self.lanes, self.multiplier, self.bytes_at = lanes, multiplier, bytes_at
        self.words = dict(known)
        self.bytes: dict[Value, Expr] = {}
        self.binds: list[Stmt] = []

    def named(self, x: Expr) -> Expr:
        value, bind = tir.let(x, "t")
        self.binds.append(bind)
        return value

    def result(self, value: Value) -> Expr:
        """The bytes of a value."""
        if value not in self.bytes:
            self.bytes[value] = self.named(self.computed(value))
        return self.bytes[value]

    def computed(self, value: Value) -> Expr:
        node = value.node
        if node.op == "Edgec.Table":
            x, table = node.args
            return looked_up(self.cpu, self.result(x), self.table(table), x.type.dtype == "i8")
        return self.rescaled(node) if node.op == "Edgec.Rescale" else self.bytes_at(value)

    def wide(self, value: Value, zero: int) -> Words:
        """value - zero in 32 bits."""
        if value in self.words:
            words = self.words[value]
        else:
            x = self.result(value)
            signed = value.type.dtype == "i8"
            if signed:  # as an unsigned number that is larger by 128
                x, zero = tirx.bitwise_xor(x, tir.broadcast(tir.lit(-128, "int8"), 4 * self.lanes)), zero + 128
            x = self.named(tirx.reinterpret(f"int8x{4 * self.lanes}", x))
            nothing = tir.broadcast(tir.lit(0, "int8"), 4 * self.lanes)
            none = tir.broadcast(tir.lit(0, "int16"), 2 * self.lanes)
            words = [part for half in pair(x, nothing) for part in quad(self.named(half), none)]
        return [w - tir.broadcast(tir.i32(zero), self.lanes) for w in words] if zero else words

    def rescaled(self, node: Node) -> Expr:
        attrs: Any = full_attrs(node)
        count = len(attrs["zeros"])
        parts: list[Words] = []
        for term, multiplier, zero in zip(node.args[:count], node.args[count:], attrs["zeros"], strict=True):
            words = [tirx.Cast(f"float32x{self.lanes}", w) for w in self.wide(term, zero)]
            parts.append([w * self.multiplier(multiplier, k) for k, w in enumerate(words)])
        many = count > 1
        kind = f"float32x{self.lanes}"
        least, most = limits(attrs["to"])
        limited = not self.rounds or attrs["high"] < most  # else packing sets the limit
        top = tir.broadcast(tir.lit(attrs["high"] - attrs["zero"], "float32"), self.lanes)
        rounded = []
        for k in range(4):
            terms = [fence(p[k], kind) if many else p[k] for p in parts]
            total = self.named(reduce(lambda a, b: a + b, terms))
            rounded.append(nearest(tirx.min(total, top) if limited else total))
        x = pack([self.named(r) for r in rounded], attrs["to"], attrs["zero"])
        low = attrs["low"]
        if low == least:
            return x
        element = {"u8": "uint8", "i8": "int8"}[attrs["to"]]
        return tirx.max(x, tir.broadcast(tir.lit(low, element), 4 * self.lanes))


def fence(x: Expr, kind: str) -> Expr:
    return tirx.call_llvm_pure_intrin(kind, "llvm.arithmetic.fence", x)
