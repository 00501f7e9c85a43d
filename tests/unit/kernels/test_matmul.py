"""Matrix product kernels give numpy's product, with packed and with computed right operands."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgec.compiler.ops
import edgec.targets.kernels  # noqa: F401
from edgec.compiler import op as ops
from edgec.compiler.interpret import run
from edgec.compiler.ir import Array, Graph, Node, Type, Value
from edgec.compiler.registry import ROWS, Choice, Problem, choices
from edgec.compiler.target import read_target, target_files
from edgec.targets.kernels.cost import fits_registers
from edgec.targets.kernels.matmul_rows import PANEL
from tests.support.emulated import emulate

ROW_NAMES = ("matmul_f32_packed", "matmul_f32_dynamic", "matmul_f32_dots")


def problem_of(a: tuple[int, ...], b: tuple[int, ...], then: str, on: str = "x86-avx512") -> Problem:
    inputs = [Value(Node("Input", (), (Type("f32", s),), {}, f"a{i}")) for i, s in enumerate((a, b))]
    y = ops.build("MatMul", *inputs)
    if then:
        shape = (b[-1],) if then == "bias" else y.shape
        inputs.append(Value(Node("Input", (), (Type("f32", shape),), {}, "other")))
        y = ops.build("Relu", ops.build("Add", y, inputs[-1]))
    return Problem(Graph("body", tuple(inputs), (y,)), read_target(target_files()[on].read_text(), on))


def arrays_for(problem: Problem) -> list[Array]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal(v.shape).astype(np.float32) for v in problem.body.inputs]


def each_way(problem: Problem) -> list[Choice]:
    """The best choice of each row, with and without a copy of columns."""
    offers = [c for name in ROW_NAMES if ROWS[name].accepts(problem) is True for c in ROWS[name].choices(problem)]
    return list({(c.row, copies(c)): c for c in reversed(offers)}.values())


def copies(choice: Choice) -> bool:
    return PANEL in dict(choice.config)


CASES = [
    ((1, 70), (70, 1001), "bias"),
    ((1, 19, 32), (32, 100), "bias"),
    ((2, 3, 5, 24), (24, 17), "residual"),
    ((40, 7), (7, 1), ""),
    ((9, 37), (37, 40), ""),  # an odd number of steps, several of them at once
    ((128, 64), (64, 96), "bias"),
    ((2, 3, 7, 5), (3, 5, 37), "residual"),
    ((1, 4, 33, 16), (1, 4, 16, 33), ""),
    ((3, 1, 9), (3, 9, 4), "bias"),
    ((1, 1, 5, 5), (1, 1, 5, 1), ""),  # one column: as many pixels as rows
    ((2, 3, 5, 1), (2, 3, 1, 5), "residual"),
    ((37, 16), (16, 3), ""),  # few columns: sums of whole vectors, and of parts of one
    ((9, 133), (133, 5), "bias"),
    ((2, 5, 65), (65, 7), "residual"),
    ((3, 31), (31, 1), "bias"),
    ((1, 259), (259, 2), "residual"),
    ((23, 80), (80, 15), "bias"),
    ((2, 21, 40), (2, 40, 1024), "residual"),  # rows of the right operand lie in one cache set
    ((2, 70, 520), (1, 520, 1024), "bias"),  # ... and sums are formed in several passes
]


@pytest.mark.parametrize(("a", "b", "then"), CASES, ids=str)
@pytest.mark.parametrize("on", ["x86-avx512", "x86"])
def test_products(a: tuple[int, ...], b: tuple[int, ...], then: str, on: str) -> None:
    from edgec.targets.measure import Measured

    problem = problem_of(a, b, then, on)
    arrays = arrays_for(problem)
    want = run(problem.body, arrays)[0]
    for choice in each_way(problem):
        got = Measured(problem, choice, arrays).run(parts=2)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max(), err_msg=str(choice))


def test_a_product_on_arm() -> None:
    from edgec.targets.measure import Built

    compiler, emulator = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64-static")
    if not compiler or not emulator:
        pytest.skip("needs a cross compiler and an emulator for aarch64")
    problem = problem_of((5, 24), (24, 37), "bias", "arm")
    arrays = arrays_for(problem)
    offers = [c for c in choices(problem) if c.row == "matmul_f32_packed"]
    got = Built(problem, offers[0], arrays).emulate(compiler, emulator)
    np.testing.assert_allclose(got, run(problem.body, arrays)[0], rtol=1e-4, atol=1e-4)


BY_LANE = [
    ((2, 3, 5, 24), (24, 17), "residual"),
    ((19, 64), (64, 40), "bias"),
    ((1, 70), (70, 33), "bias"),
    ((2, 3, 7, 8), (3, 8, 37), "residual"),
    ((3, 1, 4), (3, 4, 5), ""),
    ((7, 1), (1, 9), ""),
]


@pytest.mark.arm
@pytest.mark.parametrize(("a", "b", "then"), BY_LANE, ids=str)
def test_products_by_lane_on_arm(a: tuple[int, ...], b: tuple[int, ...], then: str, tmp_path: Path) -> None:
    """Four numbers of a row are read at once where rows hold whole fours."""
    problem = problem_of(a, b, then, "cortex-a78")
    arrays = arrays_for(problem)
    want = run(problem.body, arrays)[0]
    for choice in each_way(problem):
        got = emulate(problem, choice, arrays, tmp_path)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max(), err_msg=str(choice))


@pytest.mark.parametrize(("a", "b"), [((40, 64), (64, 64)), ((3, 40, 64), (3, 64, 64))])
def test_rows_leave_registers_for_fours_of_their_numbers(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    on = read_target(target_files()["cortex-a78"].read_text(), "cortex-a78").cpu
    offers = choices(problem_of(a, b, "", "cortex-a78"))
    found = [c for c in offers if c.row in ("matmul_f32_packed", "matmul_f32_dynamic")]
    assert found
    assert all(fits_registers(on, c.get("mt") * c.get("rt"), c.get("nv"), True) for c in found)


@pytest.mark.parametrize(("columns", "copied"), [(1024, True), (4096, True), (1040, False), (384, False), (64, False)])
def test_columns_are_copied_whose_rows_lie_in_one_cache_set(columns: int, copied: bool) -> None:
    assert copies(choices(problem_of((8, 1024, 64), (8, 64, columns), ""))[0]) is copied


def test_few_rows_are_no_reason_to_copy_columns() -> None:
    assert not copies(choices(problem_of((8, 1, 64), (8, 64, 1024), ""))[0])


@pytest.mark.parametrize("on", ["cortex-m7", "cortex-m55"])
def test_columns_are_not_copied_where_memory_is_small(on: str) -> None:
    problem = problem_of((8, 64, 64), (8, 64, 1024), "", on)
    assert not any(map(copies, choices(problem)))


def test_packing_is_for_one_matrix() -> None:
    assert (
        ROWS["matmul_f32_packed"].accepts(problem_of((3, 1, 9), (3, 9, 4), ""))
        == "the right operand is a stack of matrices"
    )


@pytest.mark.parametrize("columns", [1, 2, 5, 10])
def test_few_columns_are_multiplied_along_the_sums(columns: int) -> None:
    assert choices(problem_of((512, 512), (512, columns), ""))[0].row == "matmul_f32_dots"


@pytest.mark.parametrize(("a", "b"), [((512, 256), (256, 64)), ((1000, 24), (24, 12)), ((64, 8), (8, 5))])
def test_full_vectors_and_short_sums_are_not(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    assert choices(problem_of(a, b, ""))[0].row != "matmul_f32_dots"


@pytest.mark.parametrize(("inner", "held"), [(512, 24), (1024, 12), (4096, 12)])
def test_rows_of_a_tile_do_not_displace_each_other(inner: int, held: int) -> None:
    """Twelve ways of 4096 bytes: rows that lie as far apart share the lines of a set."""
    problem = problem_of((128, inner), (inner, 16), "")
    best = choices(problem)[0]
    assert best.row == "matmul_f32_packed" and 4 <= best.get("mt") <= held


def test_threads_share_rows_of_few_columns() -> None:
    from edgec.targets.measure import Measured

    problem = replace(problem_of((203, 96), (96, 3), "bias"), threads=4)
    arrays = arrays_for(problem)
    choice = next(c for c in choices(problem) if c.row == "matmul_f32_dots")
    built = Measured(problem, choice, arrays)
    np.testing.assert_allclose(built.run(parts=3), run(problem.body, arrays)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("rows", "inner", "columns", "split"),
    [(784, 768, 192, False), (128, 384, 1536, False), (196, 1536, 384, False), (49, 768, 3072, False)]
    + [(512, 12288, 768, True)],
)
def test_sums_are_split_where_their_weights_leave_the_l2_cache(
    rows: int, inner: int, columns: int, split: bool
) -> None:
    """On a core that multiplies 512 bits in two steps weights from L2 cost less than sums that wait there."""
    problem = problem_of((1, rows, inner), (inner, columns), "bias")
    cpu = replace(problem.target.cpu, fma_per_cycle=1.0, l1d=32 << 10, l2=1 << 20)
    problem = replace(problem, target=replace(problem.target, cpu=cpu), constants=frozenset({1}))
    best = min(ROWS["matmul_f32_packed"].choices(problem), key=lambda c: c.cost_us)
    assert (best.get("kp") > 1) is split
