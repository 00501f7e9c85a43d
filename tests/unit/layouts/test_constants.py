"""Where constants lie: vectors in one line each, small constants between large ones, equal ones once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgec.compiler.layout import pack
from edgec.compiler.memory.constants import GRAIN, LINE, Weights
from edgec.compiler.op import const
from edgec.compiler.target import find_target
from edgec.compiler.unpadded import BEYOND


def placed(sizes: list[int], line: int = LINE, grain: int = GRAIN) -> tuple[Weights, list[int]]:
    weights = Weights(line, grain)
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


def test_small_constants_lie_close_together_where_words_will_do() -> None:
    weights, places = placed([836, 30, 6, 12, 40], grain=4)
    assert places == [0, 836, 868, 876, 888] and len(weights.bytes()) == 928
    assert placed([1500, 1500], grain=4)[1] == [0, 1504]


def test_gpus_read_vectors_of_small_constants() -> None:
    assert {name: find_target(name).grain for name in ("rpi5", "cortex-m4", "cuda")} == {
        "rpi5": 4,
        "cortex-m4": 4,
        "cuda": 16,
    }


def test_what_is_read_behind_a_constant_is_there() -> None:
    matrix = np.arange(1, 31, dtype=np.int8).reshape(3, 10)
    unpadded = replace(const(matrix).type, layout="U4:JK16j4k")
    value = const(matrix)
    laid = replace(value.node, types=(unpadded,)).results[0]
    weights = Weights(grain=4)
    assert weights.place(laid).offset == 0
    assert len(weights.bytes()) == 40 + BEYOND and weights.bytes()[:40] == pack(matrix, "U4:JK16j4k")[:40].tobytes()
    assert weights.place(const(np.ones(8, np.int8))).offset == 40
    assert len(weights.bytes()) == 40 + BEYOND
    weights.place(const(np.full(70, 7, np.int8)))
    assert len(weights.bytes()) == 48 + 70


def test_equal_constants_lie_there_once() -> None:
    weights = Weights()
    first = weights.place(const(np.arange(9, dtype=np.float32)))
    assert weights.place(const(np.arange(9, dtype=np.float32))) == first and len(weights.parts) == 1
