"""How far apart answers of quantized models may be: a step of 8 bits, since rounding may tip, but for few values.

What is nearly a half is rounded up by one implementation and down by another, and the next layer carries that on. Where
more values differ than are allowed, ONNX Runtime's own integer kernels are another reference, and so is the model with
numbers a little larger or smaller where they are rounded (nudged.py): they show how much rounding alone does to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .difference import Difference

ALLOWED = 1e-3  # share of values that may be further off than a step
MUCH = 0.1  # share that rounding alone may move before a comparison shows little
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


def in_steps(row: Difference, got: Array, want: Array, others: Callable[[], Sequence[Array]]) -> Difference:
    """A difference of a quantized model that is not within its tolerance, judged by steps; `others`: the value as other
    references have it, none where they lack it."""
    if row.ok or got.dtype != want.dtype:
        return row
    note = f"share of values more than a step of 8 bits off; the largest difference is {row.error:.1e} of all"
    share = beyond_a_step(got, want)
    if share <= ALLOWED or not (found := others()):
        return replace(row, error=share, tolerance=ALLOWED, note=note)
    spread = max(beyond_a_step(other, want) for other in found)
    note = f"{note}; rounding alone moves ONNX Runtime's by {spread:.1e}"
    if spread > MUCH:
        note = f"{note}, so that these inputs show little; --inputs takes real ones"
    return replace(
        row,
        error=min(share, *(beyond_a_step(got, other) for other in found)),
        tolerance=max(ALLOWED, spread),
        note=note,
    )
