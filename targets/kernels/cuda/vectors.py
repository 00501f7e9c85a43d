"""How many numbers one access takes, and what holds them in registers."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Type

from ..common import power_of_two

KINDS = {"f32": "float32", "f16": "float32", "i8": "int8", "u8": "uint8"}  # TVM's types in registers


def vector_of(types: Sequence[Type], count: int) -> int:
    """Elements of one access: 16 bytes of the narrowest of the types, fewer where `count` is no multiple of them."""
    narrow = min((dtype(t.dtype).bytes for t in types if t.dtype in KINDS), default=4)
    vector = power_of_two(16 // narrow, count)
    return 1 if vector * narrow < 4 else vector


def moves(size: int) -> list[int]:
    """Sizes of the accesses that move so many bytes."""
    each = next(n for n in (16, 8, 4) if size % n == 0)
    return [each] * (size // each)
