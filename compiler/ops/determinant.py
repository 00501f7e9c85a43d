"""Det: determinants of square matrices, those along the axes before the last two."""

from __future__ import annotations

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import op
from .common import FLOATS, Tensor, require, widened


def _determined(x: Type) -> tuple[Type, ...]:
    require(x, FLOATS)
    if len(x.shape) < 2 or x.shape[-1] != x.shape[-2]:
        raise IRError(f"{x} holds no square matrices")
    return (Type(x.dtype, x.shape[:-2]),)


def determinant(x: Tensor) -> Tensor:
    """Of a matrix without elements it is one."""
    return np.asarray(np.linalg.det(widened(x))).astype(x.dtype)


op("Det", 1, _determined, determinant, kind="other", alone=True)
