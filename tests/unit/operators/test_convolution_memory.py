"""The interpreter's convolutions take memory for a stretch of positions, not for all taps of the whole input."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from edgec.compiler.ops import convolution
from edgec.compiler.ops.convolution import conv


def test_columns_of_a_large_convolution_take_bounded_memory() -> None:
    x, w = np.ones((1, 16, 400, 400), np.float32), np.ones((4, 16, 5, 5), np.float32)
    tracemalloc.start()
    y = conv(x, w, np.zeros(4, np.float32), (1, 1), (2, 2, 2, 2), (1, 1), 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert y[0, 0, 200, 200] == 400 and y[0, 0, 0, 0] == 144
    assert peak < 4 * x.nbytes  # columns of all positions at once would be 25 times as large


@pytest.mark.parametrize("strides", [(1, 1), (3, 2)])
@pytest.mark.parametrize("group", [1, 2])
def test_stretches_give_what_all_positions_at_once_give(
    monkeypatch: pytest.MonkeyPatch, strides: tuple[int, int], group: int
) -> None:
    random = np.random.default_rng(0)
    x, w = random.integers(-9, 9, (2, 4, 50, 31)), random.integers(-9, 9, (6, 4 // group, 3, 2))
    x, w, b = (a.astype(np.float32) for a in (x, w, random.integers(-9, 9, 6)))  # sums are exact
    whole = conv(x, w, b, strides, (1, 0, 2, 1), (2, 1), group)
    monkeypatch.setattr(convolution, "COLUMNS", 300)
    np.testing.assert_array_equal(conv(x, w, b, strides, (1, 0, 2, 1), (2, 1), group), whole)
