"""The best elements of rows on a GPU, under emulation: exactly what the operator means."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.compiler import interpret
from edgec.compiler import op as ops
from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Array, Graph, Value
from edgec.compiler.registry import Problem
from edgec.targets.cuda.emulation import Check
from tests.support.cuda_rows_run import offers, problem, results, value

ROW = "top_k_block__cuda"


def top_k(kind: str, shape: tuple[int, ...], k: int, largest: int = 1) -> Problem:
    x = value(kind, *shape)
    best = ops.build("TopK", x, k=k, largest=largest)
    of = problem(best, x)
    return Problem(Graph("body", (x,), tuple(Value(best.node, i) for i in range(2))), of.target)


def agrees(of: Problem, array: Array, check: Check = "none") -> None:
    (choice,) = offers(of, ROW)
    for got, want in zip(results(of, choice, [array], check), interpret.run(of.body, [array]), strict=True):
        np.testing.assert_array_equal(got, want)


def numbers(kind: str, shape: tuple[int, ...]) -> Array:
    """Few different ones, so that many are equal."""
    return np.random.default_rng(1).integers(0, 100, shape).astype(dtype(kind).numpy)


KINDS = ["f32", "f16", "bf16", "f64", "i8", "u8", "i16", "i32", "u32", "i64", "u64"]


@pytest.mark.parametrize("kind", KINDS)
def test_types_and_ties(kind: str) -> None:
    agrees(top_k(kind, (2, 150), 40), numbers(kind, (2, 150)))


@pytest.mark.parametrize(("n", "k"), [(17, 1), (32, 32), (33, 5), (1000, 1000), (4096, 7), (4097, 2048), (9000, 100)])
def test_lengths(n: int, k: int) -> None:
    agrees(top_k("f32", (1, n), k, n % 2), np.random.default_rng(n).standard_normal((1, n)).astype(np.float32))


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("n", [40, 5000])
def test_what_is_no_number(n: int, largest: int) -> None:
    """NaN is above all numbers; zeros of both signs are equal; infinities are numbers."""
    pool = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0], np.float32)
    array = np.random.default_rng(2).choice(pool, (3, n))
    agrees(top_k("f32", (3, n), 33, largest), array)


@pytest.mark.parametrize("kind", ["f32", "i64"])
@pytest.mark.parametrize("n", [100, 4500])
def test_threads_do_not_race(kind: str, n: int) -> None:
    agrees(top_k(kind, (2, n), 20), numbers(kind, (2, n)), "race")


def test_rows_that_are_left_to_others() -> None:
    from edgec.targets.kernels.cuda.blocks.top_k_block import match

    assert match(top_k("f32", (5, 16), 3)) == "sorts rows of more than 16 elements"
    assert match(top_k("f32", (1, 5000), 2049)) == "finds at most 2048 of more than 4096 elements"
