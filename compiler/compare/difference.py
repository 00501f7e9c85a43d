"""A value of a bundle beside the reference: how far apart they are, and how far they may be."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import narrow
from ..dtypes import dtype

TOLERANCE = 1e-4
# ten units in the last place: every layer rounds to half precision; of 8 bits and less one, which two numbers that are
# nearly equal may be rounded apart
_LOOSER = {"float16": 1e-2, "bfloat16": 8e-2} | {
    dtype(name).numpy.name: 2.0**-f.mantissa for name, f in narrow.FORMATS.items()
}


@dataclass(frozen=True)
class Difference:
    """One compared value. `where` is the step that made it, or "output"."""

    where: str
    value: str
    error: float
    tolerance: float
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance


def tolerance(kind: np.dtype[Any]) -> float:
    """Allowed relative error of an element type."""
    return _LOOSER.get(kind.name, TOLERANCE)


def relative_error(got: npt.NDArray[Any], want: npt.NDArray[Any]) -> float:
    """Largest difference relative to the largest magnitude of `want`; NaN and infinity must be at the same places."""
    if got.shape != want.shape:
        return inf
    a, b = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return inf
    if not finite.any():
        return 0.0
    scale = float(np.abs(b[finite]).max())
    return float(np.abs(a[finite] - b[finite]).max()) / (scale or 1.0)
