"""How far apart answers of quantized models may be: a step of 8 bits, since rounding may tip, but for few values.

What is nearly a half is rounded up by one implementation and down by another, and the next layer carries that on. Where
more values differ than are allowed, ONNX Runtime's own integer kernels are a second reference, and the two references
show how much rounding alone does to this model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .difference import Difference

ALLOWED = 1e-3  # share of values that may be further off than a step
STEPS = 127  # of 8 bits, in the largest magnitude of a tensor

Array = npt.NDArray[Any]


def beyond_a_step(got: Array, want: Array) -> float:
    """Share of values that differ by more than a step: one of stored integers, 1/127 of the largest real number."""
    if got.shape != want.shape:
        return 1.0
    a, b = got.astype(np.float64), want.astype(np.float64)
    if got.dtype.kind in "iu" and got.dtype.itemsize == 1:
        step = 1.0
    else:
        step = float(np.abs(b[np.isfinite(b)]).max(initial=0.0)) / STEPS
    close = (np.abs(a - b) <= step) | (a == b) | (np.isnan(a) & np.isnan(b))
    return float(np.mean(~close)) if close.size else 0.0


def in_steps(row: Difference, got: Array, want: Array, second: Callable[[], Array | None]) -> Difference:
    """A difference of a quantized model that is not within its tolerance, judged by steps; `second` is the other
    reference, None where it has no such value."""
    if row.ok or got.dtype != want.dtype:
        return row
    note = f"share of values more than a step of 8 bits off; the largest difference is {row.error:.1e} of all"
    share, other = beyond_a_step(got, want), None
    if share <= ALLOWED or (other := second()) is None:
        return replace(row, error=share, tolerance=ALLOWED, note=note)
    spread = beyond_a_step(other, want)
    nearest = min(share, beyond_a_step(got, other))
    return replace(
        row,
        error=nearest,
        tolerance=max(ALLOWED, spread),
        note=f"{note}; ONNX Runtime with and without its integer kernels: {spread:.1e}",
    )
