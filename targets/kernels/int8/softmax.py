"""softmax_int8: shares of bytes along an axis, by a table of exponentials; a task is one line of the axis."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from edgec.compiler.ir import Node
from edgec.compiler.op import full_attrs
from edgec.compiler.target import Cpu

from ..plain import Tensors, plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...tir import Expr, Stmt


def _cycles(node: Node, cpu: Cpu) -> float:
    return 2.8 * node.types[0].size


def _code(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    from tvm import tirx

    from edgec.compiler.ops.common import limits

    from ... import built_for, tir
    from ...integer import multiple, quotient

    attrs: Any = full_attrs(t.node)
    shape = t.node.types[0].shape
    axis = attrs["axis"] % len(shape)
    size, inner = shape[axis], prod(shape[axis + 1 :])
    x, table = t.args
    low, high = (int(limit) - attrs["zero"] for limit in limits(attrs["to"]))
    greatest, total = tir.Cell("int32", "greatest"), tir.Cell("int32", "total")
    each = tir.Cell("float32" if built_for.has_fpu() else "int32", "each")

    def line(task: Expr) -> Stmt:
        first = (task // inner) * (size * inner) + task % inner

        def number(k: Expr) -> Expr:
            return tirx.Cast("int32", tir.load(x, first + k * inner))

        def e(k: Expr) -> Expr:
            return tir.load(table, tirx.max(greatest.now - number(k), tir.i32(0)))

        def put(k: Expr) -> Stmt:
            value = multiple(e(k), each.now, low, high) + tir.i32(attrs["zero"])
            value = tirx.Cast({"u8": "uint8", "i8": "int8"}[attrs["to"]], value)
            return tir.store(t.results[0], value, first + k * inner)

        return tir.seq(
            greatest.made,
            total.made,
            each.made,
            greatest.set(tir.i32(-128)),
            tir.loop(size, lambda k: greatest.set(tirx.max(greatest.now, number(k))), "k"),
            total.set(tir.i32(0)),
            tir.loop(size, lambda k: total.add(e(k)), "k"),
            each.set(quotient(attrs["multiplier"], total.now)),
            tir.loop(size, put, "k"),
        )

    return prod(shape) // max(size, 1), line


plain("softmax_int8", ["Edgec.SoftmaxInteger"], _code, _cycles, "shares of bytes by a table of exponentials", flat=True)
