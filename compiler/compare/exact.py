"""Holds a value that differs from ONNX Runtime's against the model in float64.

With the same allowance: two answers may lie on either side of the true one, and ONNX Runtime's sigmoid, for one, is
right to 3e-8 of 1 only, which is a large error of an output whose greatest value is 1e-5. More is allowed to a bundle
that is nearer to the true answer than ONNX Runtime only where rounding the result of every operator to f32 moves the
value by as much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..dtypes import dtype
from ..ports import Port
from .difference import Difference, relative_error, tolerance
from .reference import Arrays, Exact, Rounding, halved_operands, single_results

SPREADS = 2.0  # two answers in a type may err to either side


class Arbiter:
    """The model in float64, which is run only when needed.

    `in_halves`: the bundle stores f16; what that alone does to the model may be more than is allowed.
    """

    def __init__(self, model: str | Path, ports: list[Port], binds: Mapping[str, Any], *, in_halves: bool) -> None:
        self.of, self.in_halves = (model, ports, binds), in_halves
        self.graphs: dict[Rounding | None, Exact] = {}
        self.feed: Arrays = {}
        self.values: dict[Rounding | None, Arrays] = {}

    def _run(self, feed: Arrays, rounded: Rounding | None = None) -> Arrays:
        if self.feed is not feed:
            self.feed, self.values = feed, {}
        if rounded not in self.values:
            if rounded not in self.graphs:
                self.graphs[rounded] = Exact(*self.of, rounded)
            self.values[rounded] = self.graphs[rounded].run(feed)
        return self.values[rounded]

    def judge(self, row: Difference, got: npt.NDArray[Any], want: npt.NDArray[Any], feed: Arrays) -> Difference:
        if row.ok or got.dtype.kind != "f" or got.dtype != want.dtype:
            return row
        exact = self._run(feed).get(row.value)
        if exact is None or exact.size != got.size:
            return row
        row = self._of_halves(row)
        if row.ok:
            return row
        ours, theirs = (relative_error(x.reshape(exact.shape), exact) for x in (got, want))
        if ours > max(theirs, row.tolerance):
            return self._sensitive(row, exact, feed) if self.in_halves else row
        row = replace(row, error=ours, note=f"against float64; ONNX Runtime itself is off by {theirs:.1e}")
        if row.ok or got.dtype != np.float32 or self.in_halves:
            return row
        return self._in_singles(row, theirs, exact, feed)

    def _of_halves(self, row: Difference) -> Difference:
        """A value that the model makes of half precision is no more exact than that, whatever its own type."""
        kind = self.graphs[None].halves.get(row.value)
        allowed = tolerance(dtype(kind).numpy) if kind else 0.0
        if allowed <= row.tolerance:
            return row
        return replace(row, tolerance=allowed, note=f"the model computes it from {kind}")

    def _in_singles(self, row: Difference, theirs: float, exact: npt.NDArray[Any], feed: Arrays) -> Difference:
        """A value nearer to the true one than ONNX Runtime's, which is that far off however it is computed in f32.

        A normalization of numbers that are nearly equal, say, makes a large error of how they are rounded.
        """
        spread = self._spread(row, exact, feed)
        if not row.tolerance < SPREADS * spread < inf:
            return row
        note = f"{row.note}, and computing each operator in f32 moves it by {spread:.1e}"
        return replace(row, tolerance=min(SPREADS * spread, theirs), note=note)

    def magnified(self, row: Difference, got: npt.NDArray[Any], feed: Arrays) -> Difference:
        """Says of a value that differs by no more than f32 alone may move it that this is the model's doing."""
        exact = None if row.ok or got.dtype != np.float32 or self.in_halves else self._run(feed).get(row.value)
        if exact is None or exact.size != got.size:
            return row
        spread = self._spread(row, exact, feed)
        if not relative_error(got.reshape(exact.shape), exact) <= SPREADS * spread < inf:
            return row
        note = (
            f"the model magnifies rounding: computing each operator in f32 moves it by {spread:.1e} on these inputs, "
            "which therefore show little; --inputs takes real ones"
        )
        return replace(row, note=note)

    def _spread(self, row: Difference, exact: npt.NDArray[Any], feed: Arrays) -> float:
        """How far f32 moves a value, whoever computes it."""
        return relative_error(self._run(feed, single_results)[row.value].reshape(exact.shape), exact)

    def _sensitive(self, row: Difference, exact: npt.NDArray[Any], feed: Arrays) -> Difference:
        """Says of a value that rounding to f16 moves by more than is allowed, whoever computes it."""
        spread = relative_error(self._run(feed, halved_operands)[row.value], exact)
        if not row.tolerance < SPREADS * spread < inf:
            return row
        note = f"f16 operands of products alone move it by {spread:.1e} on these inputs; --inputs takes real ones"
        return replace(row, note=note)
