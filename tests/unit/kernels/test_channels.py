"""Kernels that move channels give the operator's meaning, in blocks and in planes, whatever the counts of channels."""

from __future__ import annotations

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

SHUFFLED = tuple(int(c) for c in np.arange(20).reshape(2, 10).T.ravel())
SCATTERED = tuple(int(c) for c in np.random.default_rng(1).permutation(42)[:29])


def problem_of(op: str, shapes: list[tuple[int, ...]], on: str, threads: int = 1, **attrs: Any) -> Problem:
    inputs = tuple(Value(Node("Input", (), (Type("f32", s),), {}, f"a{i}")) for i, s in enumerate(shapes))
    outputs = ops.build(op, *inputs, **attrs).node.results
    return Problem(Graph("body", inputs, outputs), read_target(target_files()[on].read_text(), on), threads)


CASES = [
    ("Edgec.Select", [(1, 20, 5, 7)], {"index": SHUFFLED}),
    ("Edgec.Select", [(2, 12, 3, 3), (2, 30, 3, 3)], {"index": SCATTERED}),
    ("Edgec.Select", [(1, 20, 9)], {"index": (3,)}),
    ("Concat", [(1, 5, 4, 4), (1, 17, 4, 4), (1, 8, 4, 4)], {"axis": 1}),
    ("Slice", [(1, 40, 4, 5)], {"starts": (3,), "ends": (39,), "axes": (1,), "steps": (2,)}),
    ("Slice", [(1, 40, 4, 5)], {"starts": (12,), "ends": (37,), "axes": (1,), "steps": (1,)}),
]


@pytest.mark.parametrize("on", ["x86", "x86-avx512"])
@pytest.mark.parametrize(("op", "shapes", "attrs"), CASES, ids=str)
def test_channels_move(op: str, shapes: list[tuple[int, ...]], attrs: dict[str, Any], on: str) -> None:
    from edgec.targets.measure import Measured

    problem = problem_of(op, shapes, on, threads=2, **attrs)
    assert ROWS["channels_f32"].accepts(problem) is True
    arrays = [np.random.default_rng(2).standard_normal(v.shape).astype(np.float32) for v in problem.body.inputs]
    offers = ROWS["channels_f32"].choices(problem)
    assert {bool(c.layouts_in[0]) for c in offers} == {False, True}
    for choice in offers:
        np.testing.assert_array_equal(
            Measured(problem, choice, arrays).run(parts=2), run(problem.body, arrays)[0], str(choice)
        )


@pytest.mark.parametrize("on", ["x86", "x86-avx512"])
def test_several_results_of_one_kernel(on: str) -> None:
    from edgec.targets.measure import Measured

    problem = problem_of("Split", [(1, 40, 4, 5)], on, axis=1, split=(7, 33))
    (x,) = (np.random.default_rng(2).standard_normal(v.shape).astype(np.float32) for v in problem.body.inputs)
    for choice in ROWS["channels_f32"].choices(problem):
        got = Measured(problem, choice, [x]).run_all(parts=2)
        for ours, theirs in zip(got, np.split(x, [7], axis=1), strict=True):
            np.testing.assert_array_equal(ours, theirs, str(choice))


def test_other_work_is_refused() -> None:
    row = ROWS["channels_f32"]
    assert row.accepts(problem_of("Concat", [(1, 4, 4, 4)] * 2, "x86", axis=2)) == (
        "needs three or four axes, all but the channels alike"
    )
    cut = problem_of("Slice", [(1, 4, 4, 4)], "x86", starts=(0, 0), ends=(2, 4), axes=(1, 2), steps=(1, 1))
    assert row.accepts(cut) == "cuts other axes than channels"
