"""What `edgec verify` says of a value, where its inputs are the reason that comparing it shows little."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .difference import Difference

Array = npt.NDArray[Any]


def said_of_constants(row: Difference, want: Array) -> Difference:
    """Says of an output whose values are all the same that comparing it shows little."""
    if not row.ok or row.note or want.size < 2 or not bool(np.all(want == want.flat[0])):
        return row
    note = f"all its values are {want.flat[0]:.6g} on these inputs, which shows little; --inputs takes real ones"
    return replace(row, note=note)


def said_of_ties(row: Difference, got: Array, want: Array, second: Callable[[], Array | None]) -> Difference:
    """Says of whole numbers that differ, such as the places of scores that are nearly alike, that ONNX Runtime's own do
    as well; `second`: its other answer."""
    if row.ok or got.dtype.kind not in "iub" or got.shape != want.shape or got.dtype != want.dtype:
        return row
    other = second()
    if other is None or other.shape != want.shape:
        return row
    ours, theirs = (float(np.mean(x != want)) for x in (got, other))
    if ours > theirs:
        return row
    note = (
        f"{ours:.1%} of the values differ; of ONNX Runtime's own, with and without its optimizations, {theirs:.1%} do: "
        "what they choose between is nearly alike on these inputs; --inputs takes real ones"
    )
    return replace(row, note=note)
