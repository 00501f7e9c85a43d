"""Convolutions over one long axis go by in bands, and give the operator's meaning."""

from __future__ import annotations

import pytest

from edgec.compiler.registry import ROWS
from tests.support.convolutions import Case, check
from tests.support.harness import target

ONE_LONG_ROW = [  # longer than the caches: its parts go by all channels of the output one after the other
    Case((1, 128, 2101), 40, (3,), (2,), (1, 1), then="Add"),
    Case((2, 96, 1200), 32, (8,), (4,), (2, 2), then="Relu"),
    Case((1, 120, 1500), 33, (7,), dilations=(9,), pads=(40, 14)),
]


@pytest.mark.parametrize("on", ["x86", "x86-avx512"])
@pytest.mark.parametrize("case", ONE_LONG_ROW, ids=str)
def test_a_long_row_goes_by_in_bands(case: Case, on: str) -> None:
    problem = case.problem(target(on), threads=2)
    every = [c for c in ROWS["conv_f32_tile"].choices(problem) if dict(c.config).get("bn", 1) > 1]
    first = {c.layouts_in[0]: c for c in reversed(every)}
    assert set(first) >= {"NCW16c" if on == "x86-avx512" else "NCW8c"}
    check(problem, list(first.values()), parts=3)
