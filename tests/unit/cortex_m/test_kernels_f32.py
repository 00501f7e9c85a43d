"""Kernels of f32 for Cortex-M are as close to the interpreter as sums in another order can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.interpret import run
from edgec.compiler.ir import Value
from edgec.compiler.op import build
from edgec.compiler.registry import ROWS, Problem, choices
from edgec.targets.build_jobs import Job, build_job
from tests.support.cortex_convolutions import DENSE, DEPTHWISE, WIDTHS, small
from tests.support.emulated import emulate, laid
from tests.support.harness import chain

pytestmark = pytest.mark.arm


def real(case: dict[str, Any]) -> Problem:
    """The same convolution of f32, with a Relu, a residual tensor, or long code behind it."""
    given = dict(case)
    x, w, then = given.pop("x"), given.pop("w"), given.pop("then", "")
    attrs = {k: v for k, v in given.items() if k not in ("zero", "limits")}
    kinds = [f"f32[{x}]", f"f32[{w}]", f"f32[{int(w.partition(',')[0])}]"]
    if then == "add":
        sums = chain(kinds, lambda *v: build("Conv", *v, **attrs), (), "cortex-m4").body.outputs[0]
        kinds.append(f"f32{list(sums.shape)}")

    def body(a: Value, b: Value, bias: Value, *more: Value) -> Value:
        y = build("Conv", a, b, bias, **attrs)
        if then == "gate":
            return build("Mul", y, build("Sigmoid", y))
        return build("Add", y, more[0]) if more else build("Relu", y)

    return chain(kinds, body, (), "cortex-m4")


def close(problem: Problem, row: str, folder: Path, over: int = -1) -> None:
    accepted = ROWS[row].accepts(problem)
    assert accepted is True, accepted
    form = ROWS[row].form
    if not problem.shared and form and form(problem):
        close(replace(problem, shared=True), row, folder, over)
    rng = np.random.default_rng(1)
    arrays: Sequence[Any] = [rng.standard_normal(v.shape).astype(np.float32) for v in problem.body.inputs]
    want = run(problem.body, arrays)[0]
    for choice in ROWS[row].choices(problem):
        got = emulate(problem, choice, arrays, folder, "cortex-a15", over)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max(), err_msg=str(choice))


REAL = [name for name, case in DENSE.items() if case.get("then", "") in ("", "add") and "limits" not in case]


@pytest.mark.parametrize("case", REAL)
def test_a_convolution_of_f32_is_close(case: str, tmp_path: Path) -> None:
    close(real(DENSE[case]), "conv_f32_cortex", tmp_path)


GROUPS: dict[str, dict[str, Any]] = {
    "padded": {"x": "1, 16, 7, 9", "w": "32, 4, 3, 3", "group": 4, "pads": (1, 1, 1, 1)},
    "pointwise": {"x": "2, 24, 5, 5", "w": "16, 12, 1, 1", "group": 2},
    "strided": {"x": "1, 10, 9, 9", "w": "8, 5, 1, 3", "group": 2, "strides": (2, 2)},
    "dilated": {"x": "1, 16, 9, 9", "w": "8, 8, 3, 3", "group": 2, "dilations": (2, 2), "pads": (2, 2, 2, 2)},
    "four of each channel": {"x": "1, 6, 5, 4", "w": "24, 1, 3, 3", "group": 6, "pads": (1, 0, 1, 0)},
    "many channels": {"x": "1, 136, 5, 4", "w": "8, 68, 3, 3", "group": 2, "pads": (1, 1, 1, 1)},
    "far apart": {"x": "1, 2052, 3, 4", "w": "8, 1026, 1, 2", "group": 2},
    "one axis": {"x": "1, 16, 20", "w": "16, 4, 5", "group": 4, "pads": (2, 2)},
}  # fmt: skip


@pytest.mark.parametrize("case", list(GROUPS))
@pytest.mark.parametrize("optimize", ["speed", "size"])
def test_a_convolution_of_f32_with_groups_is_close(case: str, optimize: str, tmp_path: Path) -> None:
    problem = real(GROUPS[case])
    close(small(problem) if optimize == "size" else problem, "conv_f32_cortex", tmp_path)


@pytest.mark.parametrize("case", [name for name, case in DEPTHWISE.items() if case.get("then", "") in ("", "add")])
def test_a_depthwise_convolution_of_f32_is_close(case: str, tmp_path: Path) -> None:
    close(real(DEPTHWISE[case]), "depthwise_f32_cortex", tmp_path)


@pytest.mark.parametrize("optimize", ["speed", "size"])
@pytest.mark.parametrize("row", ["conv_f32_cortex", "depthwise_f32_cortex"])
def test_layers_that_differ_in_sizes_have_one_code(row: str, optimize: str) -> None:
    made = []
    for c, o, size in ((8, 12, "6, 6"), (16, 4, "12, 10"), (24, 20, "8, 15")):
        depthwise = {"w": f"{c}, 1, 3, 3", "pads": (1, 1, 1, 1), "group": c}
        layer = depthwise if row.startswith("depthwise") else {"w": f"{o}, {c}, 1, 1"}
        problem = replace(real({"x": f"1, {c}, {size}", **layer}), shared=True)
        problem = small(problem) if optimize == "size" else problem
        choice = ROWS[row].choices(problem)[0]
        made.append(build_job(Job("k", laid(problem, choice), choice), problem.target))
    assert len({built.code for built in made}) == 1
    assert len({built.numbers for built in made}) == len(made)


@pytest.mark.parametrize("case", ["channels left over", "padded", "two pixels", "one axis"])
def test_long_code_after_a_convolution_of_f32(case: str, tmp_path: Path) -> None:
    close(real(DENSE[case] | {"then": "gate"}), "conv_f32_cortex", tmp_path)


def test_long_code_after_a_depthwise_convolution_of_f32(tmp_path: Path) -> None:
    close(real(DEPTHWISE["3x3"] | {"then": "gate"}), "depthwise_f32_cortex", tmp_path)


@pytest.mark.parametrize("shape", ["1, 640, 128", "1, 7, 5", "5, 64, 40", "2, 3, 12, 6"])
def test_a_product_of_f32_is_close(shape: str, tmp_path: Path) -> None:
    *rows, inner, columns = shape.split(", ")
    kinds = [f"f32[{', '.join([*rows, inner])}]", f"f32[{inner}, {columns}]", f"f32[{columns}]"]
    problem = chain(kinds, lambda a, b, c: build("Add", build("MatMul", a, b), c), (), "cortex-m4")
    close(replace(problem, constants=frozenset({1, 2})), "matmul_f32_cortex", tmp_path)


@pytest.mark.parametrize("w", ["6, 8, 1, 1", "3, 8, 3, 3", "8, 1, 3, 3"])
def test_a_residual_of_f32_may_be_written_over(w: str, tmp_path: Path) -> None:
    depthwise = {"group": 8} if w.startswith("8") else {}
    row = f"{'depthwise' if depthwise else 'conv'}_f32_cortex"
    for size in WIDTHS:
        pads = (1, 1, 1, 1) if w.endswith("3") else (0, 0, 0, 0)
        close(real({"x": f"2, 8, {size}", "w": w, "then": "add", "pads": pads, **depthwise}), row, tmp_path, 3)


@pytest.mark.parametrize("case", ["padded", "pointwise", "residual"])
def test_a_small_convolution_of_f32_is_close(case: str, tmp_path: Path) -> None:
    close(small(real(DENSE[case])), "conv_f32_cortex", tmp_path)


@pytest.mark.parametrize("case", ["3x3, even", "strided", "residual"])
def test_a_small_depthwise_convolution_of_f32_is_close(case: str, tmp_path: Path) -> None:
    close(small(real(DEPTHWISE[case])), "depthwise_f32_cortex", tmp_path)


def test_the_row_wins_where_it_fits() -> None:
    assert choices(real(DENSE["padded"]))[0].row == "conv_f32_cortex"
