"""Products by constants with many zeros give the meaning: densities, ragged sizes, strides, batches, what follows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgec.compiler.ops
import edgec.targets.kernels  # noqa: F401
from edgec.compiler.interpret import run
from edgec.compiler.ir import Array, Data, Graph, Node, Type, Value
from edgec.compiler.op import build
from edgec.compiler.registry import ROWS, Choice, Problem, choices
from edgec.compiler.target import read_target, target_files
from tests.support.emulated import emulate
from tests.support.harness import TARGETS, chain
from tests.support.integers import FULL, numbers

FILLED = {"none": 0.0, "one": -1.0, "fifth": 0.2, "all": 1.0}


@dataclass(frozen=True)
class Case:
    """A 1x1 convolution of `x`, or a product where `x` is no image; blocks of weights are zero together."""

    x: tuple[int, ...]
    outputs: int
    filled: str = "fifth"
    block: tuple[int, int] = (1, 1)
    strides: tuple[int, ...] = ()
    then: str = ""

    @property
    def image(self) -> bool:
        return len(self.x) == 4

    @property
    def inputs(self) -> int:
        return self.x[1 if self.image else -1]

    def weights(self) -> Any:
        """[outputs, inputs]: which are not zero."""
        rng, (rows, columns) = np.random.default_rng(5), self.block
        shape = -(-self.outputs // rows), -(-self.inputs // columns)
        live = rng.random(shape) < FILLED[self.filled]
        if self.filled == "one":
            live[-1, shape[1] // 2] = True
        return np.repeat(np.repeat(live, rows, 0), columns, 1)[: self.outputs, : self.inputs]

    def shaped(self, matrix: Any) -> Any:
        return matrix.reshape(*matrix.shape, 1, 1) if self.image else np.ascontiguousarray(matrix.T)

    def problem(self, where: str, threads: int = 1) -> tuple[Problem, list[Array]]:
        rng = np.random.default_rng(7)
        live = self.weights()
        w = self.shaped((rng.standard_normal(live.shape) * live).astype(np.float32))
        shapes = [self.x, w.shape] + ([(self.outputs,)] if self.image else [])
        inputs = [Value(Node("Input", (), (Type("f32", s),), {}, f"a{i}")) for i, s in enumerate(shapes)]
        y = build("Conv", *inputs, strides=self.strides) if self.image else build("MatMul", *inputs)
        if self.then == "Add":
            inputs.append(Value(Node("Input", (), (Type("f32", y.shape),), {}, "other")))
            y = build("Relu", build("Add", y, inputs[-1]))
        elif self.then:
            y = build("Mul", y, build(self.then, y))
        target = read_target(target_files()[where].read_text(), where)
        body, known = Graph("body", tuple(inputs), (y,)), ((1, Data(w)),)
        arrays = [rng.standard_normal(v.shape).astype(np.float32) for v in inputs]
        arrays[1] = w
        return Problem(body, target, threads, frozenset({1, 2}), False, known), arrays


def sparse(problem: Problem) -> list[Choice]:
    return [c for c in choices(problem) if "sparse" in c.row]


def one_of_each(problem: Problem) -> list[Choice]:
    """The first choice of each row in each layout."""
    return list({(c.row, c.layouts_in[0], c.layouts_out): c for c in reversed(sparse(problem))}.values())


def check(problem: Problem, arrays: list[Array], offers: list[Choice]) -> None:
    from edgec.targets.measure import Measured

    want = run(problem.body, arrays)[0]
    assert offers
    for choice in offers:
        got = Measured(problem, choice, arrays).run(parts=2)
        limit = 1e-5 * max(np.abs(want).max(), 1e-3)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=limit, err_msg=f"{choice} {choice.layouts_in}")


CASES = [
    Case((1, 40, 7, 9), 24, "none"),
    Case((1, 40, 7, 9), 24, "one"),
    Case((1, 40, 7, 9), 24, "all"),
    Case((2, 24, 5, 13), 144, then="Add"),
    Case((1, 17, 4, 8), 33, then="Sigmoid"),
    Case((2, 300, 7, 7), 40, then="Add"),
    Case((1, 20, 1, 1), 48),
    Case((1, 3, 30, 9), 100, "all", then="Relu"),
    Case((1, 96, 6, 6), 40, block=(16, 1), then="Add"),
    Case((1, 64, 9, 7), 72, block=(16, 1), strides=(2, 2), then="Relu"),
    Case((2, 64, 9, 5), 72, block=(8, 1), strides=(2, 1)),
    Case((1, 37, 5, 5), 20, "none", block=(16, 1), strides=(2, 2)),
    Case((5, 40), 24),
    Case((2, 3, 19), 100, then="Add"),
    Case((70, 300), 33, then="Sigmoid"),
    Case((33, 7), 48, "one"),
    Case((9, 5), 48, "all"),
    Case((1, 64), 80, block=(16, 1), then="Add"),
    Case((2, 17, 64), 40, "none", block=(16, 1)),
]


@pytest.mark.parametrize("where", ["x86", "x86-avx512"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_products_give_the_meaning(case: Case, where: str) -> None:
    problem, arrays = case.problem(where)
    check(problem, arrays, one_of_each(problem))


@pytest.mark.parametrize("case", [CASES[3], CASES[5], CASES[9], CASES[13], CASES[14]], ids=str)
def test_products_of_several_threads_and_every_tile(case: Case) -> None:
    problem, arrays = case.problem("x86-avx512", threads=4)
    check(problem, arrays, sparse(problem))


@pytest.mark.parametrize("case", [CASES[3], CASES[4], CASES[5], CASES[9], CASES[13], CASES[17]], ids=str)
def test_products_on_arm(case: Case, tmp_path: Path) -> None:
    problem, arrays = case.problem("arm")
    want = run(problem.body, arrays)[0]
    for choice in one_of_each(problem):
        got = emulate(problem, choice, arrays, tmp_path, "cortex-a72")
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max(), err_msg=str(choice))


def test_slices_of_the_inputs_give_the_meaning() -> None:
    problem, arrays = Case((1, 300, 9, 9), 40, then="Add").problem("x86-avx512")
    row = ROWS["conv_f32_sparse"]
    found = [c for c in row.choices(problem) if c.get("ks") < 300]
    assert found
    check(problem, arrays, found)


def test_zeros_are_left_out_of_memory() -> None:
    from edgec.compiler.layout import storage_bytes

    problem, _ = Case((1, 384, 14, 14), 64).problem("x86-avx512")
    for choice in sparse(problem):
        stored = storage_bytes(Type("f32", (64, 384, 1, 1), choice.layouts_in[1] or ""))
        if choice.row == "conv_f32_sparse":
            assert stored < 0.35 * 4 * 64 * 384


def test_many_zeros_cost_less_and_few_do_not() -> None:
    for case, wins in ((Case((1, 384, 14, 14), 64), True), (Case((1, 384, 14, 14), 64, "all"), False)):
        problem, _ = case.problem("x86-avx512")
        assert ("sparse" in choices(problem)[0].row) == wins


def test_measured_times_hold_for_any_number_of_zeros() -> None:
    from edgec.compiler.tunings import candidate

    names = []
    for filled in ("fifth", "one"):
        problem, _ = Case((1, 384, 14, 14), 64, filled).problem("x86-avx512")
        names.append({candidate(c) for c in ROWS["conv_f32_pointwise_sparse_blocks"].choices(problem)})
    assert all("S16x1k384p1:OIHW" in name or "S32x1k384p1:OIHW" in name for group in names for name in group)


def test_rows_say_why_they_refuse() -> None:
    problem, _ = Case((1, 64, 9, 7), 72, strides=(2, 2)).problem("x86-avx512")
    accepts = {name: ROWS[name].accepts(problem) for name in ROWS if "sparse" in name}
    assert accepts["conv_f32_sparse_blocks"] is True
    assert "stride 1" in str(accepts["conv_f32_sparse"])
    assert "stride 1" in str(accepts["conv_f32_pointwise_sparse_blocks"])
    assert "MatMul" in str(accepts["matmul_f32_sparse"])
    unknown = replace(problem, sparse=())
    assert ROWS["conv_f32_sparse_blocks"].accepts(unknown) == "needs constant weights with many zeros"


# -- bytes -----------------------------------------------------------------------------------------------------------


def integers(case: Case, where: str, zero: int, threads: int = 1) -> tuple[Problem, list[Array]]:
    live, rank = case.weights(), 2 if case.image else 0
    x, w = (f"{kind}{list(shape)}" for kind, shape in (("u8", case.x), ("i8", case.shaped(live).shape)))
    each = f"f32{[case.outputs, *(1,) * rank]}"

    def body(x: Value, w: Value, bias: Value, m: Value, *rest: Value) -> Value:
        if case.image:
            y = build("Edgec.ConvInteger", x, w, bias, zero=zero, strides=case.strides)
        else:
            y = build("Edgec.MatMulInteger", x, w, bias, a_zero=zero)
        terms = (y, rest[0], m, rest[1]) if rest else (y, m)
        return build("Edgec.Rescale", *terms, zeros=(0, 9)[: 1 + bool(rest)], **FULL)

    kinds = [x, w, f"i32[{case.outputs}]", each]
    if case.then:
        out = chain(kinds, body).body.outputs[0].shape
        kinds += [f"u8{list(out)}", "f32[1]"]
    problem = chain(kinds, body, [], where, threads)
    arrays = numbers([v.type for v in problem.body.inputs])
    arrays[1] = np.asarray(arrays[1] * case.shaped(live), np.int8)
    return replace(problem, constants=frozenset({1, 2, 3}), sparse=((1, Data(arrays[1])),)), arrays


BYTES = [
    Case((1, 64, 7, 9), 48, block=(16, 4)),
    Case((2, 40, 5, 5), 33, block=(16, 4), then="Add"),
    Case((1, 24, 6, 6), 72, "none", block=(16, 4)),
    Case((1, 24, 6, 6), 72, "one", block=(16, 4)),
    Case((1, 17, 6, 6), 40, "all", block=(16, 4), then="Add"),
    Case((1, 64, 9, 7), 80, block=(16, 4), strides=(2, 2), then="Add"),
    Case((1, 3, 12, 12), 20, block=(8, 2)),
    Case((7, 64), 48, block=(16, 4)),
    Case((2, 3, 40), 33, block=(16, 4), then="Add"),
]


@pytest.mark.parametrize("zero", [0, 77])
@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("case", BYTES, ids=str)
def test_products_of_bytes_give_the_bits(case: Case, where: str, zero: int) -> None:
    from edgec.targets.measure import Measured

    problem, arrays = integers(case, where, zero)
    want, offers = run(problem.body, arrays)[0], one_of_each(problem)
    assert offers
    for choice in offers:
        np.testing.assert_array_equal(Measured(problem, choice, arrays).run(parts=2), want, err_msg=str(choice))


def test_products_of_bytes_of_every_tile() -> None:
    from edgec.targets.measure import Measured

    problem, arrays = integers(BYTES[5], "x86-avx512", 128, threads=4)
    want = run(problem.body, arrays)[0]
    for choice in sparse(problem):
        np.testing.assert_array_equal(Measured(problem, choice, arrays).run(parts=3), want, err_msg=str(choice))
