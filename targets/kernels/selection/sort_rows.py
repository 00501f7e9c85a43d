"""top_k: the best elements of each row, in order; a task is a row.

Four ways, the cheapest by a model: counting for each element how many are better (short rows); a heap of the best so
far, which vectors of elements are compared with (few of many); radix sorting of what is not below a bound, which the
best of groups of elements give (some of many) or a histogram of the leading bits (many).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, log2, prod
from typing import TYPE_CHECKING, Any

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Node
from edgec.compiler.op import full_attrs
from edgec.compiler.target import Cpu

from ..plain import Part, Tensors, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...tir import Expr, Stmt

LEVEL = 8.0  # cycles for a level of a heap
PASS = 3.3  # cycles per element of a pass of the radix sort
BINS = 2048  # of the histogram
ENTRY = 8  # bytes of an element's key and index
GROUPS = 4  # times as many as elements are wanted
DIGIT = 256  # values of a digit of the radix sort


def size_of(node: Node) -> tuple[int, int, int]:
    """Rows, elements of each, and how many are wanted."""
    shape, attrs = node.args[0].shape, full_attrs(node)
    k: Any = attrs["k"]
    return prod(shape[:-1]), shape[-1], k


def bits_of(node: Node) -> int:
    return 8 * dtype(node.args[0].type.dtype).bytes


def groups_of(node: Node, cpu: Cpu) -> tuple[int, int]:
    """Groups of the elements of a row, whole vectors of them, and elements of each; none where a row is too short, and
    on a Cortex-M, which has no room for all entries of a row."""
    _, n, k = size_of(node)
    lanes = max(1, cpu.lanes(bits_of(node)))
    wanted = -(-GROUPS * k // lanes) * lanes
    if lanes == 1 or "MVE" in cpu.isa or bits_of(node) < 32 or n < 2 * wanted:
        return 0, 0
    turns = n // wanted
    return n // turns // lanes * lanes, turns


def ways(node: Node, cpu: Cpu) -> dict[str, float]:
    """Modelled cycles per row of each way."""
    _, n, k = size_of(node)
    lanes, wide = max(1, cpu.lanes(bits_of(node))), max(1, cpu.lanes(64))
    levels, digits = log2(k + 1), bits_of(node) // 8
    sifted = k * (1 + log(max(n / max(k, 1), 1)))
    kept = n if k == n else min(n, 2 * k)
    found = {
        "count": n * (6.0 + 2.2 * -(-n // wide)),
        "heap": 3.0 * n / lanes + LEVEL * levels * (sifted + k) + 20.0 * min(n, sifted),
        "radix": (0.0 if k == n else BINS / 4 + 6.0 * n) + digits * (PASS * kept + 1.1 * DIGIT),
    }
    groups, _ = groups_of(node, cpu)
    if groups and (2 * n * ENTRY <= cpu.l2 // 2 or found["radix"] < found["heap"]):  # a heap needs far less memory
        looked_at = 1.3 * k * (20.0 + lanes)
        digits_of = digits * (1.3 * PASS * k + 1.1 * DIGIT)
        found["groups"] = 4.0 * n / lanes + 8.0 * groups + 2500.0 + looked_at + digits_of
    return found


def way(node: Node, cpu: Cpu) -> str:
    found = ways(node, cpu)
    return min(found, key=lambda name: found[name])


def _cycles(node: Node, cpu: Cpu) -> float:
    return size_of(node)[0] * ways(node, cpu)[way(node, cpu)]


def _scratch(node: Node, cpu: Cpu) -> Sequence[Part]:
    """Entries (a word each, and where keys fill it an index beside), for radix sorting in two halves, with counts."""
    _, n, k = size_of(node)
    how = way(node, cpu)
    wide = max(1, cpu.lanes(64))
    room = {"count": -(-n // wide) * wide, "heap": max(k, 1), "radix": 2 * n, "groups": 2 * n}[how]
    one: list[Part] = [("int64", room), *([("int32", room)] if bits_of(node) == 64 else [])]
    if how in ("count", "heap"):
        return one
    counts: list[Part] = [("int32", max(BINS, DIGIT * bits_of(node) // 8))]
    best = [(dtype(node.args[0].type.dtype).tvm, groups_of(node, cpu)[0])] if how == "groups" else []
    return [*one, *counts, *best]


def _code(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    from . import sort_emit, sort_radix

    cpu = t.problem.target.cpu
    code = {
        "count": sort_emit.counted,
        "heap": sort_emit.heaped,
        "radix": sort_radix.sorted_rows,
        "groups": sort_radix.grouped_rows,
    }[way(t.node, cpu)]
    return size_of(t.node)[0], code(t)


plain("top_k", ["TopK"], _code, _cycles, "the best elements of each row, in order", _scratch, flat=True)
