"""plain_suppress, plain_listed: non-maximum suppression class by class, and what was kept as a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log2
from typing import TYPE_CHECKING

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Node
from edgec.compiler.op import int_attr
from edgec.compiler.target import Cpu

from ..plain import Part, Tensors, plain

if TYPE_CHECKING:
    from ...tir import Expr, Stmt

SIDES = 5  # of a box: two corners and an area


def _suppress(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    from .suppress_emit import suppress

    return suppress(t)


def _listed(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    from .suppress_emit import listed

    return listed(t)


def _scratch(node: Node, cpu: Cpu) -> Sequence[Part]:
    """The heap's scores and boxes; sides of what was kept, in whole vectors; one vector of flags."""
    kind, boxes, lanes = dtype(node.args[0].type.dtype).tvm, node.args[1].shape[2], cpu.lanes(32)
    kept = -(-int_attr(node, "size") // lanes) * lanes
    return [(kind, boxes), ("int32", boxes), *((kind, kept),) * SIDES, ("int32", lanes)]


def _suppress_cycles(node: Node, cpu: Cpu) -> float:
    """As if half of the scores were allowed, and three boxes looked at for each that is kept."""
    batches, classes, boxes = node.args[1].shape
    kept = min(int_attr(node, "size"), 256)
    looked = 3 * kept * (30 + 15 * log2(boxes + 1) + 8 * kept / cpu.lanes(32))
    return batches * classes * (10.0 * boxes + looked)


def _listed_cycles(node: Node, cpu: Cpu) -> float:
    return 2.0 * sum(v.type.size for v in node.args) + node.types[0].size / max(1, cpu.lanes(64))


plain("plain_suppress", ["Edgec.NonMaxSuppression"], _suppress, _suppress_cycles, "boxes kept by class", _scratch)
plain("plain_listed", ["Edgec.Listed"], _listed, _listed_cycles, "what each row begins with, as a list")
