"""Where constants lie: vectors in one line each, small constants between large ones, equal ones once."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.compiler.constants import LINE, Weights
from edgec.compiler.op import const


def placed(sizes: list[int], line: int = LINE) -> tuple[Weights, list[int]]:
    weights = Weights(line)
    arrays = [np.full(size, k + 1, np.uint8) for k, size in enumerate(sizes)]
    places = [weights.place(const(a)).offset for a in arrays]
    for a, at in zip(arrays, places, strict=True):
        assert weights.bytes()[at : at + a.size] == a.tobytes()
    return weights, places


def test_small_constants_lie_between_large_ones() -> None:
    weights, places = placed([80, 128, 40, 256, 12])
    assert places == [0, 128, 80, 256, 512]
    assert len(weights.bytes()) == 524 and [p.offset for p in weights.parts] == places


@pytest.mark.parametrize("line", [16, 64])
def test_vectors_lie_in_one_line(line: int) -> None:
    sizes = [int(n) for n in np.random.default_rng(5).integers(1, 300, 200)]
    _, places = placed(sizes, line)
    ends = sorted((at, at + size) for at, size in zip(places, sizes, strict=True))
    assert all(stop <= start for (_, stop), (start, _) in zip(ends, ends[1:], strict=False))
    for at, size in zip(places, sizes, strict=True):
        assert at % min(line, max(16, size & -size)) == 0


def test_equal_constants_lie_there_once() -> None:
    weights = Weights()
    first = weights.place(const(np.arange(9, dtype=np.float32)))
    assert weights.place(const(np.arange(9, dtype=np.float32))) == first and len(weights.parts) == 1
