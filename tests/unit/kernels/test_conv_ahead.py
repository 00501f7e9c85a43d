"""Strided convolutions over inputs that outgrow L2 ask for what their next tile reads, and give the meaning."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from edgec.compiler.registry import ROWS, Choice, Problem
from edgec.compiler.target import Target
from edgec.targets import built_for
from edgec.targets.measure import with_layouts
from tests.support.convolutions import Case, check
from tests.support.harness import target

SMALL = 16 << 10  # bytes of an L2 cache that the inputs below outgrow
STRIDED = [
    Case((1, 32, 12, 130), 16, (3, 3), (2, 2), (1, 1, 1, 1), then="Relu"),
    Case((2, 16, 9, 131), 40, (2, 2), (2, 2)),
    Case((1, 24, 11, 117), 24, (5, 3), (3, 2), (2, 1, 2, 1), (1, 2), then="Add"),
    Case((1, 64, 10, 90), 32, (3, 3), (1, 2), (1, 0, 1, 2), group=2),
]


def small(name: str, l2: int = SMALL) -> Target:
    on = target(name)
    return replace(on, cpu=replace(on.cpu, l2=l2))


def blocked(problem: Problem) -> Choice:
    """The first choice whose input lies in blocks of channels, tiles being of one row."""
    offers = ROWS["conv_f32_tile"].choices(problem)
    return next(c for c in offers if (c.layouts_in[0] or "").endswith("c") and c.get("rt") == 1)


def asked(problem: Problem) -> int:
    """Lines that its code asks to bring to L2."""
    choice = blocked(problem)
    with built_for.core(problem.target.cpu):
        code = str(ROWS[choice.row].emit(with_layouts(problem, choice), choice, "kern").function)
    return len(re.findall(r'"llvm\.prefetch".*, 0, 2, 1\)', code))


@pytest.mark.parametrize("on", ["x86", "x86-avx512"])
@pytest.mark.parametrize("case", STRIDED, ids=str)
def test_rows_that_are_asked_for_ahead_give_the_meaning(case: Case, on: str) -> None:
    problem = case.problem(small(on))
    assert asked(problem)
    check(problem, [blocked(problem)], parts=3)


def test_rows_are_asked_for_where_the_window_is_strided_and_its_input_outgrows_the_cache() -> None:
    case = STRIDED[0]
    assert asked(case.problem(small("x86-avx512")))
    assert not asked(case.problem(small("x86-avx512", 1 << 20)))
    assert not asked(replace(case, strides=(2, 1)).problem(small("x86-avx512")))
    assert not asked(replace(case, kernel=(1, 3), pads=(0, 1, 0, 1)).problem(small("x86-avx512")))
    for name in ("rpi4", "armv7"):
        assert not asked(case.problem(small(name)))
