"""Blocked attention gives the meaning of Edgec.Attention: any sizes, strides, masks, batch axes and vector widths."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgec.compiler.ops
import edgec.targets.kernels  # noqa: F401
from edgec.compiler import op as ops
from edgec.compiler.interpret import run
from edgec.compiler.ir import Array, Graph, Node, Type, Value
from edgec.compiler.registry import ROWS, Problem, choices
from edgec.compiler.target import Target, find_target, read_target, target_files
from tests.support.emulated import emulate

ROW = "attention_f32_blocked"


def target(bits: int) -> Target:
    """x86 with vectors of so many bits; LLVM splits those that the CPU lacks."""
    x86 = read_target(target_files()["x86"].read_text(), "x86")
    return replace(x86, cpu=replace(x86.cpu, vector_bits=bits, vector_registers=32 if bits == 512 else 16))


def dense(*dims: int) -> tuple[int, ...]:
    return tuple(prod(dims[k + 1 :]) for k in range(len(dims)))


@dataclass(frozen=True)
class Case:
    """Sizes S, T, D, E of `heads` heads in `batch` elements; `joint`: Q, K and V side by side in one value."""

    sizes: tuple[int, int, int, int]
    heads: int = 2
    batch: int = 1
    joint: bool = False
    mask: tuple[int, ...] | None = None  # a shape of four axes that broadcasts to [batch, heads, S, T]
    groups: int = 0  # heads of K and V, each for heads / groups of Q
    keys_last: bool = False  # K lies as [batch, heads, D, T]
    cap: float = 0.0
    zero_masked: int = 0

    def problem(self, on: Target) -> Problem:
        (s, t, d, e), b, h = self.sizes, self.batch, self.heads
        rep = h // self.groups if self.groups else 1
        kv = self.groups or h
        batch = (b, kv, rep)
        inputs: list[Value] = []

        def tensor(*shape: int) -> Value:
            inputs.append(Value(Node("Input", (), (Type("f32", shape),), {}, f"a{len(inputs)}")))
            return inputs[-1]

        attrs: dict[str, Any] = {"batch": batch, "sizes": self.sizes, "scale": 0.4}
        if self.joint:
            row = 3 * h * d
            args = [tensor(b, s, row)] * 3
            for k, name in enumerate("qkv"):
                attrs[name] = (k * h * d, s * row, rep * d, d, row, 1)
        else:
            args = [tensor(b, s, h, d), tensor(b, kv, d, t) if self.keys_last else tensor(b, t, kv, d)]
            args.append(tensor(b, t, kv, e))
            attrs["q"] = (0, s * h * d, rep * d, d, h * d, 1)
            attrs["k"] = (0, kv * d * t, d * t, 0, 1, t) if self.keys_last else (0, t * kv * d, d, 0, kv * d, 1)
            attrs["v"] = (0, t * kv * e, e, 0, kv * e, 1)
        if self.mask:
            args.append(tensor(*self.mask))
            n = [m if m > 1 else 0 for m in self.mask]
            mb, mh, ms, mt = (m and step for m, step in zip(n, dense(*self.mask), strict=True))
            attrs["mask"] = (0, mb, rep * mh, mh, ms, mt)
        attrs |= {
            "cap": self.cap,
            "zero_masked": self.zero_masked,
            "shape": (b, s, h * e),
            "out": (s * h * e, rep * e, e, h * e, 1),
        }
        y = ops.build("Edgec.Attention", *args, **attrs)
        return Problem(Graph("body", tuple(inputs), (y,)), on)


CASES = [
    Case((197, 197, 64, 64), heads=1, joint=True),
    Case((16, 128, 32, 32), heads=3, mask=(1, 1, 1, 128)),
    Case((5, 7, 3, 9), mask=(1, 2, 5, 7)),  # a mask that tells heads and queries apart
    Case((37, 37, 20, 20), batch=2, joint=True, mask=(2, 1, 37, 37)),
    Case((1, 33, 8, 24), heads=4, groups=2),  # one query, heads share keys
    Case((1, 33, 64, 24), heads=4, groups=2),  # whose numbers fill vectors
    Case((1, 50, 20, 70), batch=2, heads=3, mask=(2, 1, 1, 50)),
    Case((1, 16, 37, 8), heads=3, mask=(1, 3, 1, 16), cap=1.5, zero_masked=1),
    Case((1, 21, 32, 16), keys_last=True),
    Case((33, 9, 32, 16), heads=1),  # the last block has one query
    Case((9, 1, 1, 1)),  # one key, one number
    Case((19, 50, 16, 40), batch=2, heads=6, groups=3, mask=(2, 1, 1, 50)),
    Case((33, 21, 24, 16), keys_last=True),
    Case((40, 11, 65, 70), heads=1),
    Case((37, 21, 8, 12), cap=1.5),
    Case((19, 50, 16, 40), batch=2, heads=6, groups=3, mask=(2, 1, 1, 50), cap=0.7, zero_masked=1),
    Case((37, 9, 20, 20), mask=(1, 2, 37, 9), zero_masked=1),
    Case((3, 50, 40, 70), batch=2, heads=4, groups=2, mask=(2, 1, 3, 50), cap=0.7, zero_masked=1),
    Case((2, 32, 16, 8)),
    Case((2, 7, 64, 33), mask=(1, 1, 1, 7)),
]
FEW = "attention_f32_few"


def arrays_for(problem: Problem) -> list[Array]:
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(v.shape).astype(np.float32) for v in problem.body.inputs]
    if len(problem.anchor.args) == 4:  # some keys are masked, never all of a query
        arrays[-1] = np.where(arrays[-1] > 0.8, np.float32(-np.inf), arrays[-1])
        arrays[-1][..., 0] = 0.5
    return arrays


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("bits", [256, 512])
def test_attention(case: Case, bits: int) -> None:
    from edgec.targets.measure import Measured

    problem = case.problem(target(bits))
    arrays = arrays_for(problem)
    want = run(problem.body, arrays)[0]
    for choice in choices(problem):
        got = Measured(problem, choice, arrays).run(parts=3)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max(), err_msg=str(choice))


@pytest.mark.parametrize(
    ("case", "dots"),
    [
        (Case((1, 33, 64, 64)), True),
        (Case((1, 33, 4, 64)), False),
        (Case((2, 33, 64, 64)), False),
        (Case((1, 33, 64, 64), keys_last=True), False),
    ],
    ids=str,
)
def test_a_single_query_is_multiplied_along_its_numbers(case: Case, dots: bool) -> None:
    """A lane per query would leave all others of a vector empty."""
    problem = case.problem(target(256))
    choice = next(c for c in choices(problem) if c.row == ROW)
    assert ("dots" in str(ROWS[ROW].emit(problem, choice, "kern").function)) is dots


@pytest.mark.parametrize(
    ("case", "row"),
    [(Case((1, 100, 64, 64)), FEW), (Case((2, 100, 64, 64)), FEW), (Case((16, 100, 64, 64)), ROW)],
    ids=str,
)
def test_keys_lie_along_lanes_where_queries_are_few(case: Case, row: str) -> None:
    assert choices(case.problem(target(512)))[0].row == row


def test_every_row_of_weights_is_masked_or_not_a_number() -> None:
    """A query without any key gives NaN, as the operators do one by one; large scores do not overflow."""
    from edgec.targets.measure import Measured

    problem = Case((4, 6, 8, 8), mask=(1, 1, 4, 6)).problem(target(256))
    arrays = arrays_for(problem)
    arrays[0] *= 1e3
    arrays[3][0, 0, 2] = -np.inf
    got = Measured(problem, choices(problem)[0], arrays).run()
    want = run(problem.body, arrays)[0]
    assert np.isnan(got[0, 2]).all() and np.isfinite(np.delete(got[0], 2, 0)).all()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "case",
    [
        Case((21, 6, 8, 8), batch=2, mask=(1, 1, 21, 6), zero_masked=1),
        Case((21, 6, 8, 8), batch=2, mask=(1, 2, 21, 6), zero_masked=1),
        Case((21, 6, 8, 8), batch=2, mask=(2, 1, 1, 6), zero_masked=1),
        Case((4, 19, 16, 8), batch=2, mask=(2, 1, 4, 19), zero_masked=1),
    ],
    ids=str,
)
def test_queries_without_a_key_give_zeros(case: Case) -> None:
    """Where that is asked for: whatever their scores, and only where the mask is -inf throughout."""
    from edgec.targets.measure import Measured

    problem = case.problem(target(256))
    choice = next(c for c in choices(problem) if c.row == (FEW if case.sizes[0] == 4 else ROW))
    arrays = arrays_for(problem)
    arrays[3][-1, ..., -1, :] = -np.inf  # nothing is left
    arrays[0][-1, -1] = np.nan
    arrays[0][0, 3] = np.nan  # keys are left: not a number
    arrays[3][0, ..., 0, 2] = np.nan
    got = Measured(problem, choice, arrays).run()
    want = run(problem.body, arrays)[0]
    assert (got[-1, -1] == 0).all() and np.isnan(got[0, 3]).all()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_masked_values_weigh_nothing() -> None:
    """Not even those that a product with the least normal number would bring back."""
    from edgec.targets.measure import Measured

    problem = Case((5, 6, 8, 8), mask=(1, 1, 1, 6)).problem(target(256))
    arrays = arrays_for(problem)
    arrays[3][...] = [0, 0, 0, 0, -np.inf, -np.inf]
    arrays[2][:, 4:] = 3e38
    got = Measured(problem, choices(problem)[0], arrays).run()
    np.testing.assert_allclose(got, run(problem.body, arrays)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("on", sorted(target_files()))
def test_every_target_has_the_row(on: str) -> None:
    problem = Case((9, 9, 4, 4)).problem(read_target(target_files()[on].read_text(), on))
    assert ROWS[ROW].accepts(problem) is True
    assert choices(problem)


def test_work_is_split_for_threads() -> None:
    problem = replace(Case((197, 197, 64, 64), heads=3).problem(target(256)), threads=2)
    emitted = ROWS[ROW].emit(problem, choices(problem)[0], "k")
    assert emitted.tasks >= 8


@pytest.mark.arm
@pytest.mark.parametrize("case", CASES[1:], ids=str)
def test_on_arm_numbers_are_multiplied_by_lane(case: Case, tmp_path: Path) -> None:
    """Four numbers of a key, or of four queries, are read at once; what is left over one by one."""
    problem = case.problem(find_target("cortex-a78"))
    arrays = arrays_for(problem)
    want = run(problem.body, arrays)[0]
    offers = choices(problem)
    for row in dict.fromkeys(c.row for c in offers if c.row in (ROW, FEW)):
        got = emulate(problem, next(c for c in offers if c.row == row), arrays, tmp_path)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max(), err_msg=row)


@pytest.mark.arm
@pytest.mark.parametrize("on", ["rpi5", "rpi4", "armv7"])
def test_weights_of_far_scores_on_arm(on: str, tmp_path: Path) -> None:
    """From where exponentials are no normal numbers on they are zero; masked keys weigh nothing."""
    problem = Case((5, 40, 8, 8), mask=(1, 1, 5, 40)).problem(find_target(on))
    arrays = arrays_for(problem)
    arrays[3][..., 1:] = np.linspace(0, -120, 39, dtype=np.float32)
    arrays[3][..., 30:] = -np.inf
    arrays[2][:, 30:] = 3e38
    choice = next(c for c in choices(problem) if c.row == ROW)
    got = emulate(problem, choice, arrays, tmp_path)
    np.testing.assert_allclose(got, run(problem.body, arrays)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("queries", "row"), [(1, FEW), (3, ROW)])
def test_few_queries_on_arm(queries: int, row: str) -> None:
    offers = choices(Case((queries, 100, 64, 64)).problem(find_target("cortex-a78")))
    assert offers[0].row == row


@pytest.mark.arm
@pytest.mark.parametrize("case", CASES[1:], ids=str)
@pytest.mark.parametrize("small", [False, True])
def test_on_cortex_m_products_are_assembly(case: Case, small: bool, tmp_path: Path) -> None:
    problem = case.problem(replace(find_target("cortex-m4"), small=small))
    arrays = arrays_for(problem)
    (want,) = run(problem.body, arrays)
    choice = ROWS[ROW].choices(problem)[0]
    assert choice.get("nv") <= 4
    got = emulate(problem, choice, arrays, tmp_path, "cortex-a15")
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())
