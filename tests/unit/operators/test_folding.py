"""Operators that fold axes or run along them compute what ONNX Runtime computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from tests.support.meaning import check, f32, i64, ints
from tests.support.one_node import K

REDUCTIONS = """ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceSumSquare ReduceL1 ReduceL2 ReduceLogSum
    ReduceLogSumExp""".split()


@pytest.mark.parametrize("op", REDUCTIONS)
def test_reductions(op: str) -> None:
    x = np.abs(f32(2, 3, 4)) + 0.1
    check(op, x, K(i64(0, -1)), opset=18, keepdims=0)
    check(op, x, opset=18)
    check(op, x, K(i64()), opset=18, noop_with_empty_axes=1) if op == "ReduceSum" else None
    check(op, x, opset=11, axes=[1])


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_position_of_the_extreme(op: str) -> None:
    x = ints(0, 3, 4, 5).astype(np.float32)
    check(op, x, axis=-1, keepdims=0)
    check(op, x, axis=0, select_last_index=1)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin", "Hardmax"])
def test_extremes_of_nothing(op: str) -> None:
    check(op, f32(2, 0), axis=0)
    check(op, K(f32(0, 2)), axis=1)


def test_the_greatest_along_an_axis_of_nothing() -> None:
    check("Hardmax", f32(2, 0), axis=1)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax(op: str) -> None:
    check(op, f32(2, 3, 4), axis=1)
    check(op, f32(2, 3, 4), opset=11)
    check(op, f32(2, 3, 1, 1), opset=11)


def test_normalizations() -> None:
    check("LayerNormalization", f32(2, 3, 4), K(f32(4)), K(f32(4)), axis=-1)
    check("LayerNormalization", f32(2, 3, 4), K(f32(3, 4)), axis=1, epsilon=0.1)
    check("InstanceNormalization", f32(2, 3, 4, 5), K(f32(3)), K(f32(3)), epsilon=0.1)
    check("LpNormalization", f32(2, 3), axis=1, p=1)
    check("LpNormalization", f32(2, 3), axis=0)
    check("BatchNormalization", f32(2, 3, 4), *(K(np.abs(f32(3))) for _ in range(4)), opset=15)
    check("GroupNormalization", f32(2, 4, 3), K(f32(4)), K(f32(4)), num_groups=2)
    check("MeanVarianceNormalization", f32(2, 3, 4, 4), opset=13)
    check("LRN", f32(1, 5, 3, 3), size=3)
    check("CumSum", f32(3, 4), K(np.int64(1)), exclusive=1, reverse=1)
    check("CumSum", f32(3, 4), K(np.int64(0)))
    check("CumSum", f32(3, 0), K(np.int64(1)), exclusive=1)


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
def test_counts_of_runs(mode: str) -> None:
    attrs = {"ngram_counts": [0, 3], "ngram_indexes": [3, 1, 2, 0, 4], "pool_int64s": [1, 2, 3, 1, 2, 3, 1]}
    attrs |= {"min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 2, "mode": mode}
    check("TfIdfVectorizer", ints(1, 5, 3, 20), weights=[1.0, 2.0, 3.0, 4.0, 5.0], **attrs)
    check("TfIdfVectorizer", ints(1, 5, 20, to=np.int64), **attrs)


def test_determinants() -> None:
    check("Det", f32(4, 4))
    check("Det", f32(2, 3, 5, 5), opset=11)
    check("Det", f32(1, 1))


def test_running_products() -> None:
    check("CumProd", f32(3, 4), K(np.int64(1)), opset=26, exclusive=1, reverse=1)
    check("CumProd", ints(-3, 4, 3, 4), K(np.int64(0)), opset=26)


def _graph(name: str, nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> onnx.GraphProto:
    def info(row: tuple[str, int, list[int]]) -> Any:
        return onnx.helper.make_tensor_value_info(*row)

    return onnx.helper.make_graph(nodes, name, list(map(info, inputs)), list(map(info, outputs)))


def test_branches_and_loops() -> None:
    node, f, i, b = onnx.helper.make_node, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
    sides = {}
    for side, value in (("then_branch", 1.0), ("else_branch", 2.0)):
        sides[side] = _graph(side, [node("Constant", [], ["r"], value_floats=[value])], [], [("r", f, [1])])
    for condition in (True, False):
        check("If", np.asarray(condition), **sides)
    step = [node("Add", ["x", "x"], ["x2"]), node("Identity", ["c"], ["c2"])]
    ports = [("i", i, []), ("c", b, []), ("x", f, [2])], [("c2", b, []), ("x2", f, [2])]
    for turns in (0, 1, 5):
        check("Loop", np.asarray(turns, np.int64), None, f32(2), body=_graph("body", step, *ports))


def recurrent(op: str, directions: int, steps: int = 4, batch: int = 3, inputs: int = 7, hidden: int = 5) -> list[Any]:
    """X, W, R, B, no lengths, first states."""
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op] * hidden
    shapes = [(directions, gates, inputs), (directions, gates, hidden), (directions, 2 * gates)]
    states = [f32(directions, batch, hidden) for _ in range(2 if op == "LSTM" else 1)]
    return [f32(steps, batch, inputs), *(K(f32(*shape)) for shape in shapes), None, *states]


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_recurrence(op: str, direction: str) -> None:
    results, directions = 3 if op == "LSTM" else 2, 2 if direction == "bidirectional" else 1
    args = recurrent(op, directions)
    settings: dict[str, Any] = {"hidden_size": 5, "direction": direction, "results": results}
    check(op, *args, **settings)
    check(op, *args[:3], opset=7, **settings)
    args[4] = K(np.asarray([2, 4, 0], np.int32))
    check(op, *args, opset=14, **settings)


def test_recurrence_with_attributes() -> None:
    two: dict[str, Any] = {"hidden_size": 5, "results": 2}
    check("GRU", *recurrent("GRU", 2), direction="bidirectional", linear_before_reset=1, **two)
    check("GRU", *recurrent("GRU", 1), clip=0.4, **two)
    args, three = [*recurrent("LSTM", 1), K(f32(1, 15))], {**two, "results": 3}
    check("LSTM", *args, **three)
    check("LSTM", *args, input_forget=1, **three)
    for functions in (["Affine", "LeakyRelu", "ThresholdedRelu"], ["Softsign", "Softplus", "Relu"]):
        check("LSTM", *args, activations=functions, activation_alpha=[0.4, 0.3, 0.2], activation_beta=[0.1], **three)
    uneven = ["HardSigmoid", "Tanh", "elu", "Sigmoid", "ScaledTanh", "Softplus"]
    three |= {"direction": "bidirectional", "activations": uneven}
    check("LSTM", *recurrent("LSTM", 2), activation_alpha=[0.3, 0.7, 0.2], activation_beta=[0.4, 0.9], **three)
