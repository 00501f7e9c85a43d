"""What `edgec verify` says of a value that differs from ONNX Runtime's: the model in float64 is the judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from edgec.compiler import interpret
from edgec.compiler.compare.difference import TOLERANCE, Difference, relative_error
from edgec.compiler.compare.exact import Arbiter
from edgec.compiler.compare.nudged import NUDGES, nudge
from edgec.compiler.compare.reference import halved_operands, halves_before, single_results
from edgec.compiler.compare.remarks import said_of_constants, said_of_ties
from edgec.compiler.compare.steps import ALLOWED, beyond_a_step, in_steps
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import build, const

EXACT = np.asarray([1.0, -0.5, 0.25])


class Known:
    def __init__(self, halves: dict[str, str] | None = None) -> None:
        self.halves = halves or {}

    def run(self, feed: Any) -> dict[str, Any]:
        return {"y": EXACT}


@pytest.mark.parametrize(
    ("ours", "theirs", "ok", "error"),
    [
        (0.8e-4, -0.6e-4, True, 0.8e-4),  # either side of the true value
        (0.2e-4, 5e-3, True, 0.2e-4),  # the reference is off
        (1.2e-4, 0.0, False, 1.2e-4),
        (1.2e-4, -1e-2, False, 1.2e-4),  # both are off, though f32 can do better: the allowance stays what it is
        (0.9e-4, 0.0, True, 0.9e-4),  # ONNX Runtime agrees: float64 is not asked
    ],
)
def test_a_value_must_be_within_the_allowance_of_the_true_one(
    ours: float, theirs: float, ok: bool, error: float
) -> None:
    arbiter = Arbiter("", [], {}, in_halves=False)
    arbiter.graphs = {None: Known(), single_results: Moved(1e-7)}  # type: ignore[dict-item]
    got, want = ((EXACT + e).astype(np.float32) for e in (ours, theirs))
    row = Difference("output", "y", relative_error(got, want), TOLERANCE)
    judged = arbiter.judge(row, got, want, {"x": EXACT})
    assert judged.ok == ok and judged.error == pytest.approx(error, abs=2e-7)
    assert ("against float64" in judged.note) == (not row.ok and ours < max(abs(theirs), TOLERANCE))


@pytest.mark.parametrize(("error", "ok"), [(5e-3, True), (2e-2, False)])
def test_an_f32_that_comes_of_f16_is_no_more_exact(error: float, ok: bool) -> None:
    arbiter = Arbiter("", [], {}, in_halves=False)
    arbiter.graphs = {None: Known({"y": "f16"}), single_results: Moved(1e-7)}  # type: ignore[dict-item]
    got, want = (EXACT + error).astype(np.float32), EXACT.astype(np.float32)
    row = arbiter.judge(Difference("output", "y", error, TOLERANCE), got, want, {"x": EXACT})
    assert row.ok == ok and "from f16" in row.note


def test_what_comes_of_values_in_half_precision() -> None:
    """Weights that are stored so do not count."""
    x = Value(Node("Input", (), (Type("f32", (2, 2)),), {}, "x"))
    stored = const(np.ones((2, 2), np.float16), "w")
    plain = build("MatMul", x, build("Cast", stored, to="f32", label="c"), label="plain")
    half = build("Relu", build("Cast", plain, to="f16", label="h"), label="r")
    y = build("Add", build("Cast", half, to="f32", label="back"), plain, label="y")
    found = halves_before(Graph("g", (x,), (plain, y)))
    assert found == {"h": "f16", "r": "f16", "back": "f16", "y": "f16"}


class Moved:
    """Rounding moves the answer by `spread` of its largest magnitude."""

    def __init__(self, spread: float) -> None:
        self.spread = spread

    def run(self, feed: Any) -> dict[str, Any]:
        return {"y": EXACT + self.spread}


@pytest.mark.parametrize(
    ("error", "spread", "noted"),
    [
        (0.01, 0.5, False),  # within what is allowed
        (0.05, 0.03, True),
        (0.03, 0.005, False),  # the operands are not at fault
        (0.03, np.inf, False),
    ],
)
def test_a_value_that_halves_by_themselves_move_says_so(error: float, spread: float, noted: bool) -> None:
    arbiter = Arbiter("", [], {}, in_halves=True)
    arbiter.graphs = {None: Known(), halved_operands: Moved(spread)}  # type: ignore[dict-item]
    got, want = (EXACT + error).astype(np.float32), EXACT.astype(np.float32)
    judged = arbiter.judge(Difference("output", "y", relative_error(got, want), 0.02), got, want, {"x": EXACT})
    assert judged.ok == (error < 0.02) and judged.tolerance == 0.02
    assert ("--inputs" in judged.note) == noted


@pytest.mark.parametrize(
    ("ours", "theirs", "spread", "ok"),
    [
        (1.5e-4, 5e-3, 1e-4, True),
        (2.1e-4, 5e-3, 1e-4, False),  # more than f32 explains
        (1.5e-4, -1.4e-4, 1e-4, False),  # ONNX Runtime is nearer
        (1.5e-4, 5e-3, 0.4e-4, False),
        (1.5e-4, 5e-3, np.inf, False),
    ],
)
def test_more_is_allowed_where_f32_cannot_hold_the_value_better(
    ours: float, theirs: float, spread: float, ok: bool
) -> None:
    arbiter = Arbiter("", [], {}, in_halves=False)
    arbiter.graphs = {None: Known(), single_results: Moved(spread)}  # type: ignore[dict-item]
    got, want = ((EXACT + e).astype(np.float32) for e in (ours, theirs))
    judged = arbiter.judge(Difference("output", "y", relative_error(got, want), TOLERANCE), got, want, {"x": EXACT})
    assert judged.ok == ok and ("each operator in f32" in judged.note) == (judged.tolerance > TOLERANCE)
    assert judged.tolerance <= max(abs(theirs) * 1.001, TOLERANCE)


def test_no_more_is_said_to_be_allowed_than_onnx_runtime_is_off() -> None:
    arbiter = Arbiter("", [], {}, in_halves=False)
    arbiter.graphs = {None: Known(), single_results: Moved(4e-3)}  # type: ignore[dict-item]
    got, want = ((EXACT + e).astype(np.float32) for e in (1.1e-3, 1.6e-3))
    judged = arbiter.judge(Difference("output", "y", relative_error(got, want), TOLERANCE), got, want, {"x": EXACT})
    assert judged.ok and judged.tolerance == pytest.approx(1.6e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("error", "spread", "noted"),
    [
        (0.3, 0.2, True),
        (0.3, 1e-3, False),  # more than f32 explains
        (0.3, np.inf, False),
        (0.5e-4, 1.0, False),  # within what is allowed
    ],
)
def test_a_value_that_f32_alone_moves_says_so_and_differs_still(error: float, spread: float, noted: bool) -> None:
    arbiter = Arbiter("", [], {}, in_halves=False)
    arbiter.graphs = {None: Known(), single_results: Moved(spread)}  # type: ignore[dict-item]
    row = Difference("output", "y", error, TOLERANCE)
    said = arbiter.magnified(row, (EXACT + error).astype(np.float32), {"x": EXACT})
    assert said.ok == row.ok and said.tolerance == TOLERANCE
    assert ("magnifies rounding" in said.note) == noted


@pytest.mark.parametrize(
    ("got", "second", "noted"),
    [
        ([0, 1, 1, 1], [1, 1, 0, 1], "25.0% of the values differ; of ONNX Runtime's own, with and without its"),
        ([0, 0, 0, 1], [1, 1, 0, 1], ""),  # more of them than of ONNX Runtime's
        ([0, 1, 1, 1], [1, 1, 1, 1], ""),  # which agrees with itself
        ([1, 1, 1, 1], [1, 1, 0, 1], ""),  # nothing differs
    ],
)
def test_whole_numbers_that_onnx_runtime_cannot_tell_either(got: list[int], second: list[int], noted: str) -> None:
    want = np.asarray([1, 1, 1, 1])
    row = Difference("output", "y", relative_error(np.asarray(got), want), TOLERANCE)
    said = said_of_ties(row, np.asarray(got), want, lambda: np.asarray(second))
    assert said.ok == row.ok and said.note.startswith(noted) and bool(said.note) == bool(noted)
    reals = [np.asarray(x, np.float32) for x in (got, want, second)]
    assert said_of_ties(row, reals[0], reals[1], lambda: reals[2]) == row


def test_results_in_singles() -> None:
    x = Value(Node("Input", (), (Type("f64", (3,)),), {}, "x"))
    graph = Graph("g", (x,), (build("Mul", build("Mul", x, x), const(np.float64(1 / 3))),))
    (got,) = interpret.run(graph.map(single_results), [np.full(3, 0.1)])
    np.testing.assert_array_equal(got, float(np.float32(float(np.float32(0.1 * 0.1)) / 3)))


def test_contractions_in_singles_sum_in_f32() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32).astype(np.float64) for shape in ((4, 3000), (3000, 16)))
    x = Value(Node("Input", (), (Type("f64", (4, 3000)),), {}, "x"))
    graph = Graph("g", (x,), (build("MatMul", x, const(b)),))
    (got,) = interpret.run(graph.map(single_results), [a])
    assert got.dtype == np.float64 and np.array_equal(got, got.astype(np.float32))
    rounded_once = (a @ b).astype(np.float32)
    assert 0 < relative_error(got, rounded_once) < 1e-5 and np.mean(got != rounded_once) > 0.2


def test_operands_of_products_in_halves() -> None:
    def input_(*shape: int) -> Value:
        return Value(Node("Input", (), (Type("f64", shape),), {}, "x"))

    x = input_(2, 2)
    third = const(np.full((2, 2), 1 / 3))
    graph = Graph("g", (x,), (build("Mul", build("MatMul", x, third), const(np.float64(1 / 3))),))
    got = interpret.run(graph.map(halved_operands), [np.full((2, 2), 0.1)])[0]
    np.testing.assert_array_equal(got, 2 * float(np.float16(0.1)) * float(np.float16(1 / 3)) * (1 / 3))


@pytest.mark.parametrize(
    ("want", "noted"), [([0, 0, 0], True), ([2.5, 2.5], True), ([0, 1], False), ([3], False), ([], False)]
)
def test_an_output_of_equal_values_shows_little(want: list[float], noted: bool) -> None:
    array = np.asarray(want, np.float32)
    row = said_of_constants(Difference("output", "y", 0.0, TOLERANCE), array)
    assert row.ok and row.note.startswith("all its values are") == noted
    off = Difference("output", "y", 1.0, TOLERANCE)
    assert said_of_constants(off, array) == off  # that it differs is what matters


def _row(got: Any, want: Any) -> Difference:
    return Difference("output", "y", relative_error(got, want), TOLERANCE)


def test_a_value_of_a_quantized_model_may_be_a_step_off() -> None:
    want = np.arange(256, dtype=np.uint8)
    for off, ok in ((1, True), (2, False)):
        got = np.roll(want, 0)
        got[3:10] += np.uint8(off)
        assert in_steps(_row(got, want), got, want, lambda: None).ok is ok
    real = np.linspace(-1, 1, 255).astype(np.float32)
    assert beyond_a_step(real + np.float32(0.9 / 127), real) == 0
    assert beyond_a_step(real + np.float32(1.1 / 127), real) == 1


def test_few_values_may_be_more_than_a_step_off() -> None:
    want = np.zeros(2000, np.int8)
    for many, ok in ((2, True), (3, False)):
        got = want.copy()
        got[:many] = 9
        row = in_steps(_row(got, want), got, want, tuple)
        assert row.ok is ok and row.error == many / 2000 and row.tolerance == ALLOWED


def test_where_more_differ_other_references_show_what_rounding_does() -> None:
    want, got, other = np.zeros(1000, np.int8), np.zeros(1000, np.int8), np.zeros(1000, np.int8)
    got[:20] = 9
    other[:30] = 9
    row = in_steps(_row(got, want), got, want, lambda: (want, other))
    assert row.ok and row.error == 0.01 and row.tolerance == 0.03
    assert "show little" not in row.note
    got[:200] = 9
    assert not in_steps(_row(got, want), got, want, lambda: (want, other)).ok
    other[:300] = 9
    row = in_steps(_row(got, want), got, want, lambda: (want, other))
    assert row.ok and "these inputs show little" in row.note


def test_numbers_are_nudged_where_they_become_bytes() -> None:
    """A number just below half a step is rounded up, and down again; constants and scales stay."""
    ort = pytest.importorskip("onnxruntime")
    text = """
    <ir_version: 9, opset_import: ["": 19]>
    g (float[1,2] x) => (float[1,2] y) {
        s = Constant <value = float {0.5}> ()
        w = Constant <value = float[2] {0.24999, 1.0}> ()
        q = QuantizeLinear (x, s)
        c = QuantizeLinear (w, s)
        a = DequantizeLinear (q, s)
        b = DequantizeLinear (c, s)
        y = Add (a, b)
    }
    """
    x = {"x": np.asarray([[0.24999, 1.25001]], np.float32)}
    found = {}
    for factor in (1.0, *NUDGES):
        proto = onnx.parser.parse_model(text)
        nudge(proto, factor)
        onnx.checker.check_model(proto)
        found[factor] = ort.InferenceSession(proto.SerializeToString()).run(None, x)[0].tolist()
    assert found == {1.0: [[0.0, 2.5]], NUDGES[0]: [[0.5, 2.5]], NUDGES[1]: [[0.0, 2.0]]}
