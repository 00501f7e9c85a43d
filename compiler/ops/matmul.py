"""Contraction of the last axis with the last but one: MatMul over stacks of matrices."""

from __future__ import annotations

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import op
from .common import NUMBERS, Tensor, broadcast, equal_types, require, widened


def _matmul(a: Type, b: Type) -> tuple[Type, ...]:
    equal_types(a, b)
    require(a, NUMBERS)
    if min(len(a.shape), len(b.shape)) < 2 or a.shape[-1] != b.shape[-2]:
        raise IRError(f"{a} and {b} are no stacks of matrices that multiply")
    return (Type(a.dtype, (*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])),)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """numpy's product; f16 and bf16 accumulate in f32, integers wrap in their own type."""
    return np.asarray(np.matmul(widened(a), widened(b))).astype(a.dtype)


op("MatMul", 2, _matmul, matmul, kind="contract")
