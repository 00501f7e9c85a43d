"""Pooling and spatial reductions over blocked channels give the operators' meaning, at every kind of edge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgec.compiler.ops
import edgec.targets.kernels  # noqa: F401
from edgec.compiler import op as ops
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.registry import ROWS, Problem
from edgec.compiler.target import read_target, target_files
from edgec.targets.kernels import pool_rows
from edgec.targets.kernels.conv import depthwise_rows
from tests.support.emulated import emulate


def problem_of(
    op: str, shape: tuple[int, ...], on: str = "x86-avx512", *, then: str = "", before: str = "", **attrs: Any
) -> Problem:
    x = y = Value(Node("Input", (), (Type("f32", shape),), {}, "x"))
    for name, extra in ((before, {}), (op, attrs), (then, {})):
        y = ops.build(name, y, **extra) if name else y
    return Problem(Graph("body", (x,), (y,)), read_target(target_files()[on].read_text(), on))


def check(problem: Problem, row: str) -> None:
    from edgec.targets.measure import Measured

    arrays = [np.random.default_rng(5).standard_normal(v.shape).astype(np.float32) for v in problem.body.inputs]
    want = run(problem.body, arrays)[0]
    offers = ROWS[row].choices(problem)
    assert offers
    for choice in offers[:1] if problem.target.name == "x86" else offers:
        got = Measured(problem, choice, arrays).run(parts=2)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5, err_msg=str(choice))


@pytest.mark.parametrize("on", ["x86-avx512", "x86"])
@pytest.mark.parametrize(
    "attrs",
    [
        {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)},
        {"kernel_shape": (3, 3), "strides": (2, 2), "ceil_mode": 1},
        {"kernel_shape": (5, 3), "strides": (1, 2), "pads": (2, 0, 1, 1), "dilations": (2, 1)},
        {"kernel_shape": (2, 2)},
    ],
    ids=str,
)
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "AveragePool with padding"])
def test_pooling(op: str, attrs: dict[str, Any], on: str) -> None:
    extra = {"count_include_pad": 1} if "with" in op else {}
    check(problem_of(op.split()[0], (2, 20, 14, 19), on, then="Relu", **attrs, **extra), "pool_f32_blocked")


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("size", [3, 11], ids=str)
def test_bands_of_a_plane(op: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depthwise_rows, "BAND_US", 1e-6)
    problem = problem_of(op, (1, 20, 27, 19), "x86", kernel_shape=(size, 3), pads=(size // 2, 1, size // 2, 1))
    problem = replace(problem, threads=4)
    assert ROWS["pool_f32_blocked"].choices(problem)[0].get("hb") > 1
    check(problem, "pool_f32_blocked")


WIDE: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((1, 20, 13, 13), {"kernel_shape": (13, 13), "pads": (6, 6, 6, 6)}),
    ((2, 8, 9, 40), {"kernel_shape": (5, 5), "pads": (2, 2, 2, 2)}),
    ((1, 7, 12, 33), {"kernel_shape": (3, 3)}),
    ((1, 4, 9, 30), {"kernel_shape": (4, 7), "strides": (2, 1), "pads": (3, 6, 3, 6)}),
    ((1, 4, 9, 25), {"kernel_shape": (3, 4), "dilations": (1, 2), "pads": (1, 3, 1, 3)}),
    ((1, 5, 70), {"kernel_shape": (6,), "pads": (2, 3)}),
]


def pooled(shape: tuple[int, ...], attrs: dict[str, Any], on: str) -> tuple[Problem, Any, Any]:
    """A pooling by greatest numbers, what it reads and what comes out."""
    problem = problem_of("MaxPool", shape, on, **attrs)
    x = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    return problem, x, run(problem.body, [x])[0]


@pytest.mark.parametrize("on", ["x86-avx512", "x86"])
@pytest.mark.parametrize(("shape", "attrs"), WIDE, ids=str)
def test_greatest_numbers_of_columns_are_found_once(shape: tuple[int, ...], attrs: dict[str, Any], on: str) -> None:
    from edgec.targets.measure import Measured

    problem, x, want = pooled(shape, attrs, on)
    for choice in ROWS["pool_f32_blocked"].choices(problem):
        np.testing.assert_array_equal(Measured(problem, choice, [x]).run(parts=2), want, str(choice))
    w = pool_rows.geometry(problem)
    assert pool_rows.work_left(w, choice.get("mt"), problem.target.cpu) < 0.9


SMALL: tuple[tuple[int, ...], dict[str, Any]] = ((1, 6, 9, 9), {"kernel_shape": (2, 2), "strides": (2, 2)})


@pytest.mark.arm
@pytest.mark.parametrize(
    ("shape", "attrs", "on"), [*((*case, "cortex-a78") for case in [*WIDE, SMALL]), (*WIDE[1], "armv7")], ids=str
)
def test_greatest_numbers_on_arm(shape: tuple[int, ...], attrs: dict[str, Any], on: str, tmp_path: Path) -> None:
    """NaN is greater than any number there, as the operator has it."""
    problem, x, _ = pooled(shape, attrs, on)
    x.reshape(-1)[::97] = np.nan
    want = run(problem.body, [x])[0]
    choice = ROWS["pool_f32_blocked"].choices(problem)[0]
    np.testing.assert_array_equal(emulate(problem, choice, [x], tmp_path), want, str(choice))


def test_pooling_over_a_line() -> None:
    check(problem_of("MaxPool", (1, 5, 31), kernel_shape=(4,), strides=(3,), pads=(1, 2)), "pool_f32_blocked")


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pooling_before_long_code(op: str) -> None:
    check(problem_of(op, (2, 20, 9, 19), "x86", then="Sigmoid", kernel_shape=(3, 3), pads=(1,) * 4), "pool_f32_blocked")


def test_a_window_of_minus_infinity_stays_so() -> None:
    from edgec.targets.measure import Measured

    problem = problem_of("MaxPool", (1, 16, 4, 4), kernel_shape=(2, 2), strides=(2, 2))
    x = np.full((1, 16, 4, 4), -np.inf, np.float32)
    assert np.isneginf(Measured(problem, ROWS["pool_f32_blocked"].choices(problem)[0], [x]).run()).all()


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum", "ReduceMax"])
@pytest.mark.parametrize(("shape", "keep"), [((1, 64, 7, 7), 1), ((2, 20, 13, 3), 0), ((1, 5, 2, 1), 1)], ids=str)
def test_reductions_over_whole_images(op: str, shape: tuple[int, ...], keep: int) -> None:
    check(problem_of(op, shape, axes=(2, 3), keepdims=keep, before="Relu", then="Neg"), "reduce_f32_spatial")


def test_other_axes_are_left_to_other_kernels() -> None:
    problem = problem_of("ReduceMean", (1, 8, 4, 4), axes=(1,))
    assert ROWS["reduce_f32_spatial"].accepts(problem) == "reduces other axes than the spatial ones"
