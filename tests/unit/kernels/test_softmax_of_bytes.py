"""Shares of bytes along rows: the interpreter's bits for whole and for cut vectors, and the kernel where it pays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgec.compiler.op import build
from edgec.compiler.registry import Problem, choices
from tests.support.harness import chain, for_size
from tests.unit.kernels.test_bytes import same

NAME = "softmax_int8_rows"


def shares(
    shape: tuple[int, ...], kind: str = "u8", to: str = "u8", zero: int = 0, axis: int = -1, where: str = "x86-avx512"
) -> Problem:
    kinds = [f"{kind}{list(shape)}", "i32[256]"]
    attrs = {"axis": axis, "multiplier": 255.0, "to": to, "zero": zero}
    return chain(kinds, lambda x, table: build("Edgec.SoftmaxInteger", x, table, **attrs), [], where)


def table_of(size: int, step: float) -> np.ndarray:
    return np.rint(np.exp(-np.arange(256) * step) * (((1 << 31) - 1) // size)).astype(np.int32)


@pytest.mark.parametrize(("kind", "to", "zero"), [("u8", "u8", 0), ("u8", "i8", -128), ("i8", "u8", 3)])
@pytest.mark.parametrize("shape", [(1, 2, 5, 64), (3, 65), (2, 3, 127), (5, 128), (1, 300), (2, 1000)], ids=str)
def test_rows(shape: tuple[int, ...], kind: str, to: str, zero: int, tmp_path: Path) -> None:
    least = -128 if kind == "i8" else 0
    x = np.random.default_rng(0).integers(least, least + 256, shape).astype(np.int8 if kind == "i8" else np.uint8)
    x[0] = x.max() if len(shape) < 3 else x[0]  # all alike, at the end of the range
    problem = shares(shape, kind, to, zero)
    same(problem, NAME, tmp_path, arrays=[x, table_of(shape[-1], 0.02)])
    same(replace(problem, threads=3), NAME, tmp_path, arrays=[x, table_of(shape[-1], 0.3)])


@pytest.mark.parametrize("edge", ["one", "none"])
def test_the_greatest_element_may_lie_in_the_part_that_is_read_twice(edge: str, tmp_path: Path) -> None:
    x = np.full((1, 70), 9, np.uint8)
    if edge == "one":
        x[0, 69] = 255
    same(shares((1, 70)), NAME, tmp_path, arrays=[x, table_of(70, 0.05)])


def test_it_is_taken_where_it_pays() -> None:
    assert choices(shares((4, 196)))[0].row == NAME
    for problem in (
        shares((4, 49)),
        shares((4, 196, 3), axis=1),
        for_size(shares((4, 196))),
        shares((4, 196), where="x86"),
    ):
        assert {c.row for c in choices(problem)} == {"softmax_int8"}


@pytest.mark.parametrize(("shape", "us"), [((1, 4, 196, 196), 39.6), ((1, 16, 256, 256), 215.5)])
def test_it_costs_what_it_takes(shape: tuple[int, ...], us: float) -> None:
    """On an EPYC Zen 4."""
    offers = {c.row: c.cost_us for c in choices(shares(shape))}
    assert us / 1.6 < offers[NAME] < 1.6 * us
    assert 2.5 * us < offers["softmax_int8"] < 5 * us
