"""The pass `half`: what is stored in f16, what stays, and how far the answers move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import edgec
from edgec.compiler.errors import EdgecError
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import build, const
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.session import Session


def given(*shape: int, dtype: str = "f32", name: str = "x") -> Value:
    return Value(Node("Input", (), (Type(dtype, shape),), {}, name))


def halved(inputs: Sequence[Value], *outputs: Value) -> tuple[Graph, Graph]:
    """A graph, and what the pass makes of it."""
    graph = Graph("g", tuple(inputs), outputs, tuple(f"y{k}" for k in range(len(outputs))))
    return graph, run_pipeline(graph, parse_pipeline("half"), Session())


def kinds(graph: Graph) -> dict[str, str]:
    """Element type by operator, of those that compute."""
    return {n.op: n.types[0].dtype for n in graph.nodes() if n.op not in ("Input", "Const", "Cast")}


def through(value: Value) -> Value:
    """Something that no output is computed through for free."""
    return build("MatMul", value, const(np.ones((value.shape[-1], 3), np.float32)))


def network() -> tuple[Value, Value]:
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> Value:
        return const((rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))

    x = given(1, 3, 8, 8)
    y = build("Relu", build("Conv", x, weights(16, 3, 3, 3), weights(16), pads=(1, 1, 1, 1)))
    y = build("Reshape", y, shape=(1, 1024))
    return x, build("Softmax", build("MatMul", y, weights(1024, 10)), axis=1)


def test_everything_between_inputs_and_outputs_is_half() -> None:
    x, y = network()
    plain, half = halved([x], y)
    assert kinds(half) == {"Conv": "f16", "Relu": "f16", "Reshape": "f16", "MatMul": "f16", "Softmax": "f32"}
    assert [v.type.dtype for v in (*half.inputs, *half.outputs)] == ["f32", "f32"]
    image: Any = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)
    got, want = run(half, [image])[0], run(plain, [image])[0]
    assert 0 < np.abs(got - want).max() < 2e-3


def test_squares_and_exponentials_stay_real() -> None:
    x = given(4, 8)
    y = build("Softmax", build("Exp", x), axis=1)
    _, half = halved([x], through(build("Transpose", build("Pow", y, const(np.float32(2))), perm=(1, 0))))
    assert kinds(half) == {"Exp": "f32", "Softmax": "f16", "Pow": "f32", "Transpose": "f16", "MatMul": "f16"}
    y = build("Softmax", x, axis=1)
    mean = build("ReduceMean", build("Mul", y, y), axes=(0,), keepdims=1)
    _, half = halved([x], through(build("Transpose", mean, perm=(1, 0))))
    assert kinds(half) == {"Softmax": "f16", "Mul": "f32", "ReduceMean": "f32", "Transpose": "f16", "MatMul": "f16"}


def test_the_inverse_of_a_small_deviation_has_no_half() -> None:
    """A channel of equal numbers has no variance: 0 times 1 / sqrt(1e-12)."""
    x = given(8, 4)
    y = build("Relu", build("Transpose", x, perm=(1, 0)))
    d = build("Sub", y, build("ReduceMean", y, axes=(1,), keepdims=1))
    spread = build(
        "Sqrt", build("Add", build("ReduceMean", build("Mul", d, d), axes=(1,), keepdims=1), const(np.float32(1e-12)))
    )
    plain, half = halved([x], through(build("Mul", d, build("Reciprocal", spread))))
    image: Any = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)
    image[:, 1] = 0.5
    np.testing.assert_allclose(run(half, [image])[0], run(plain, [image])[0], atol=1e-2)
    products = [n for n in half.nodes() if n.op == "Mul"]
    assert [n.types[0].dtype for n in products] == ["f32", "f32"]
    assert [n.op for n in half.users()[Value(products[1])]] == ["Cast"]


def test_biases_stay_real() -> None:
    x = given(1, 2, 3, 3)
    weights, bias = np.ones((4, 2, 1, 1), np.float32), np.float32([1.0001, 3.0003, 0, 0])
    y = build("Conv", x, const(weights), const(bias))
    _, half = halved([x], build("Conv", build("Relu", y), const(np.ones((1, 4, 1, 1), np.float32)), const(bias[:1])))
    found = [n for n in half.nodes() if n.op == "Conv"]
    assert [[a.type.dtype for a in n.args] + [n.types[0].dtype] for n in found] == [["f16", "f16", "f32", "f16"]] * 2


def test_the_way_to_an_output_is_real_from_its_first_computation_on() -> None:
    """Coordinates of boxes: beyond 512 an f16 knows halves of a pixel only."""
    x = given(1, 2, 3, 3)
    heads = build("Conv", x, const(np.ones((4, 2, 1, 1), np.float32)), const(np.zeros(4, np.float32)))
    rows = build("Transpose", heads, perm=(0, 2, 3, 1))
    boxes = build("Add", build("Mul", rows, const(np.float32(8))), const(np.float32(600.25)))
    plain, half = halved([x], build("Concat", boxes, rows, axis=3))
    assert kinds(half) == {"Conv": "f16", "Transpose": "f16", "Mul": "f32", "Add": "f32", "Concat": "f32"}
    image = np.full(x.shape, 0.0625, np.float32)
    np.testing.assert_array_equal(run(half, [image])[0], run(plain, [image])[0])


def test_what_only_reads_real_results_stays_real() -> None:
    """A sum may be beyond the range of f16 when its share is not."""
    x = given(4, 8)
    y = build("Relu", build("Transpose", x, perm=(1, 0)))
    mean = build("Mul", build("ReduceSum", y, axes=(0,), keepdims=1), const(np.float32(1 / 8)))
    _, half = halved([x], through(build("Sub", y, mean)))
    expected = {"Transpose": "f16", "Relu": "f16", "ReduceSum": "f32", "Mul": "f32", "Sub": "f32", "MatMul": "f16"}
    assert kinds(half) == expected


def test_a_constant_beyond_the_range_keeps_its_operator_real() -> None:
    x = given(4, 8)
    y = build("Mul", build("Transpose", x, perm=(1, 0)), const(np.float32(1e6)))
    _, half = halved([x], through(build("Reshape", y, shape=(1, 32))))
    assert kinds(half) == {"Transpose": "f16", "Mul": "f32", "Reshape": "f16", "MatMul": "f16"}


def test_infinity_is_within_the_range() -> None:
    x = given(4, 8)
    y = build("Max", build("Transpose", x, perm=(1, 0)), const(np.float32(-np.inf)))
    _, half = halved([x], through(build("Reshape", y, shape=(1, 32))))
    assert set(kinds(half).values()) == {"f16"}


def test_integers_are_left_alone() -> None:
    x, i = given(4, 8), given(2, dtype="i64", name="i")
    _, half = halved([x, i], through(build("Gather", x, i, axis=0)), build("Add", i, i))
    assert kinds(half) == {"Gather": "f16", "Add": "i64", "MatMul": "f16"}


@pytest.mark.parametrize(
    ("target", "precision", "said"),
    [("x86", "fp16", "for targets with a GPU"), ("cuda", "fp8", "'fp8' is none"), ("cuda", "half", "fp32 or fp16")],
)
def test_a_precision_that_is_not_there(tmp_path: Any, target: str, precision: str, said: str) -> None:
    with pytest.raises(EdgecError, match=said):
        edgec.compile("missing.onnx", target=target, out=tmp_path / "out", precision=precision)


def test_architectures(tmp_path: Any) -> None:
    with pytest.raises(EdgecError, match="'sm_99' is unknown"):
        edgec.compile("missing.onnx", target="cuda", out=tmp_path / "out", arch="sm_99")
    with pytest.raises(EdgecError, match="threads: 2 workers; a model for cuda runs on the GPU"):
        edgec.compile("missing.onnx", target="cuda", out=tmp_path / "out", threads=2)
    with pytest.raises(EdgecError, match="--tune: kernels for cuda run on a GPU"):
        edgec.compile("missing.onnx", target="cuda", out=tmp_path / "out", tune=1.0, tune_db=tmp_path / "db.json")
    with pytest.raises(EdgecError, match="has no GPU"):
        edgec.compile("missing.onnx", target="x86", out=tmp_path / "out", arch="sm_90")
