"""Constant indices, which every operator that takes any checks and counts from the front."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EdgecError
from ..ir import Value
from ..op import const_array, is_const
from .context import Context


def from_front(c: Context, array: npt.NDArray[Any], size: int, axis: int) -> npt.NDArray[np.int64]:
    """Indices without negative ones. An `EdgecError` names the axis that some of them leave."""
    wide = np.asarray(array).astype(np.int64)
    if wide.size and not (-size <= wide.min() and wide.max() < size):
        raise EdgecError(f"{c.where}: indices {wide.min()} to {wide.max()} leave axis {axis} of {c.arg().type}")
    return np.where(wide < 0, wide + size, wide)


def counted(c: Context, indices: Value, size: int, axis: int) -> Value:
    """The same for an argument: constant ones are counted from the front, computed ones stay."""
    if not is_const(indices):
        return indices
    array = const_array(indices)
    wide = from_front(c, array, size, axis)
    return indices if np.array_equal(wide, array) else c.const(wide, like=indices)
