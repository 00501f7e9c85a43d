"""Selection in order: TopK along the last axis.

Of equal elements the one with the lower index comes first; NaN is above all numbers, -0 equals 0.
"""

from __future__ import annotations

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import REQUIRED, op
from .common import NUMBERS, Tensor, require, widened


def _top_k(x: Type, k: int, largest: int) -> tuple[Type, ...]:
    require(x, NUMBERS)
    if not x.shape or not 0 <= k <= x.shape[-1]:
        raise IRError(f"k is {k}; {x} has no {k} elements along its last axis")
    shape = (*x.shape[:-1], k)
    return Type(x.dtype, shape), Type("i64", shape)


def top_k(x: Tensor, k: int, largest: int) -> tuple[Tensor, Tensor]:
    """(elements, their positions), best first."""
    wide, n = widened(x), x.shape[-1]
    if largest:  # a stable ascending order of the row from its back, read from the back
        order = n - 1 - np.flip(np.argsort(np.flip(wide, -1), -1, kind="stable"), -1)
    else:
        order = np.argsort(wide, -1, kind="stable")
    best = order[..., :k]
    return np.take_along_axis(x, best, -1), best.astype(np.int64)


op("TopK", 1, _top_k, top_k, kind="other", attrs={"k": REQUIRED, "largest": 1}, alone=True)
