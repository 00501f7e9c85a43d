"""trees: votes of decision trees. Vectors of trees walk down together until all are at leaves; a task is a row."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2
from typing import TYPE_CHECKING, Any

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Node
from edgec.compiler.op import full_attrs
from edgec.compiler.target import Cpu

from .plain import Part, Tensors, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..tir import Expr, Stmt

STEP = 6.0  # cycles of one tree at one node, beside others in the vector


def _cycles(node: Node, cpu: Cpu) -> float:
    """As if trees were of equal depth, and half as deep again."""
    rows, trees, nodes = node.args[0].shape[0], node.args[4].type.size, node.args[1].type.size
    depth = 1.5 * log2(nodes / max(trees, 1) + 2)
    return rows * trees * (STEP * depth + 6.0)


def _scratch(node: Node, cpu: Cpu) -> Sequence[Part]:
    """The leaves that trees end at; which targets have a vote, where that matters."""
    fold = full_attrs(node)["fold"]
    return [("int32", node.args[4].type.size), *([("int32", node.types[0].shape[1])] if fold != "SUM" else [])]


def _code(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    from .. import tir
    from .plain_lines import filled
    from .trees_emit import counted, walked

    attrs: Any = full_attrs(t.node)
    cpu, count, trees = t.problem.target.cpu, attrs["count"], t.node.args[4].type.size
    lanes = max(1, cpu.lanes(32))
    zero = tir.lit(0, dtype(t.node.types[0].dtype).tvm)

    def task(row: Expr) -> Stmt:
        whole, rest = divmod(trees, lanes)
        return tir.seq(
            filled(cpu, t.out(), row * count, zero, count),
            [tir.loop(count, lambda k: tir.store(seen, tir.i32(0), k), "target") for seen in t.scratch[1:]],
            tir.loop(whole, lambda g: walked(t, row, g * lanes, lanes), "group") if whole else None,
            walked(t, row, tir.i32(whole * lanes), rest) if rest else None,
            tir.loop(trees, lambda k: counted(t, row, k), "tree"),
        )

    return t.node.args[0].shape[0], task


plain("trees", ["Edgec.Trees"], _code, _cycles, "votes of decision trees", _scratch, flat=True)
