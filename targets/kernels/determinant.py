"""det: elimination with partial pivoting in a copy of each matrix; a task is a matrix, vectors lie along its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgec.compiler.ir import Node
from edgec.compiler.target import Cpu

from .plain import Part, Tensors, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..tir import Expr, Stmt


def _cycles(node: Node, cpu: Cpu) -> float:
    n, lanes = node.args[0].shape[-1], max(1, cpu.lanes(32))
    return node.types[0].size * (20.0 * n + n * n * (4.0 + 0.75 * n / lanes))


def _kind(node: Node) -> str:
    return "float64" if node.args[0].type.dtype == "f64" else "float32"


def _row(node: Node, cpu: Cpu) -> int:
    """Elements of a row of the copy: whole vectors, and zeros behind the matrix."""
    lanes = max(1, cpu.lanes(8 * (8 if _kind(node) == "float64" else 4)))
    return -(-node.args[0].shape[-1] // lanes) * lanes


def _scratch(node: Node, cpu: Cpu) -> Sequence[Part]:
    return [(_kind(node), node.args[0].shape[-1] * _row(node, cpu))]


def _code(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    from . import determinant_emit

    kind = _kind(t.node)
    return determinant_emit.code(t, kind, _row(t.node, t.problem.target.cpu))


plain("det", ["Det"], _code, _cycles, "determinants by elimination", _scratch, flat=True)
