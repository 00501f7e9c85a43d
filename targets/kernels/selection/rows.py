"""plain_nonzero, plain_compress, plain_unique: results whose size depends on data, filled with zeros."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Node
from edgec.compiler.layout import storage_bytes
from edgec.compiler.op import int_attr
from edgec.compiler.target import Cpu

from ..cost import streamed
from ..plain import Part, Tensors, plain
from .sort_rows import DIGIT, PASS, bits_of

if TYPE_CHECKING:
    from ...tir import Expr, Stmt

BLOCK = 256  # entries whose selected places are held at once
WORTH = 1 << 14  # elements that are worth a task


def sizes(node: Node) -> tuple[int, int, int]:
    """Elements of the argument before, along and after the node's axis."""
    shape, axis = node.args[0].shape, int_attr(node, "axis") % len(node.args[0].shape)
    return prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])


def compared_as(node: Node) -> str:
    """TVM's type in which elements of slices are compared."""
    row = dtype(node.args[0].type.dtype)
    return "int32" if row.name == "bool" else "float32" if row.name in ("f16", "bf16") else row.tvm


def levels(n: int) -> int:
    """Merges of n sorted runs until one is left."""
    return max(n - 1, 0).bit_length()


def _nonzero(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    from .select_emit import nonzero

    return nonzero(t)


def _compress(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    from .select_emit import compress

    return compress(t)


def _unique(t: Tensors) -> tuple[int, Callable[[Expr], Stmt]]:
    from .unique_emit import unique

    return unique(t)


def _places(node: Node, cpu: Cpu) -> Sequence[Part]:
    return [("int32", BLOCK)]


def _select_cycles(node: Node, cpu: Cpu) -> float:
    """A few for each entry that is looked at; all of the result is written."""
    moved = sum(map(storage_bytes, node.types))
    return 3.0 * node.args[-1].type.size + streamed(cpu, moved).cycles(cpu)


def _unique_scratch(node: Node, cpu: Cpu) -> Sequence[Part]:
    """The first slice of each one's kind; the number of each kind; then what sorting needs: entries and counts, or
    numbers and, where slices have one element, these."""
    outer, n, inner = sizes(node)
    kinds: list[Part] = [("int32", n), ("int32", n)]
    if by_digits(node, cpu):
        wide: list[Part] = [("int32", 2 * n)] if bits_of(node) == 64 else []
        return [*kinds, ("int64", 2 * n), *wide, ("int32", DIGIT * bits_of(node) // 8)]
    keys = [(compared_as(node), 2 * n)] if outer * inner == 1 else []
    return [*kinds, ("int32", 2 * n), *keys]


def by_digits(node: Node, cpu: Cpu) -> bool:
    """Whether slices are sorted digit by digit: those of one element, where that is faster and there is room."""
    outer, _, inner = sizes(node)
    if outer * inner > 1 or cpu.lanes(32) == 1 or "MVE" in cpu.isa:
        return False
    return _digits_cycles(node) < _merge_cycles(node)


def _digits_cycles(node: Node) -> float:
    digits = bits_of(node) // 8
    return 6.0 * sizes(node)[1] + digits * (PASS * sizes(node)[1] + 1.1 * DIGIT)


def _merge_cycles(node: Node) -> float:
    outer, n, inner = sizes(node)
    return n * levels(n) * (19.0 if outer * inner == 1 else 40.0 + 4.0 * min(outer * inner, 8))


def _unique_cycles(node: Node, cpu: Cpu) -> float:
    outer, n, inner = sizes(node)
    sorting = _digits_cycles(node) if by_digits(node, cpu) else _merge_cycles(node)
    return sorting + 20.0 * n + 2.0 * outer * n * inner


plain("plain_nonzero", ["Edgec.NonZero"], _nonzero, _select_cycles, "positions of what is not zero", _places)
plain("plain_compress", ["Edgec.Compress"], _compress, _select_cycles, "slices whose condition is true", _places)
plain("plain_unique", ["Edgec.Unique"], _unique, _unique_cycles, "slices that differ, by sorting them", _unique_scratch)
