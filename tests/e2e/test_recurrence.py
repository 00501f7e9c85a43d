"""Models of one recurrent node, compiled: computed weights, half precision, lengths, batches first, two workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgec
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret

GATES = {"GRU": 3, "LSTM": 4}


def node(
    op: str, kind: int, *, computed: bool, steps: int = 5, batch: int = 3, hidden: int = 20, **attrs: Any
) -> onnx.ModelProto:
    """A bidirectional one with all inputs and results."""
    rng, wide, layout = np.random.default_rng(1), GATES[op] * hidden, attrs.get("layout", 0)
    state = (batch, 2, hidden) if layout else (2, batch, hidden)
    x = (batch, steps, 6) if layout else (steps, batch, 6)
    names = ["X", "W", "R", "B", "lengths", "h", *(["c", "P"] if op == "LSTM" else [])]
    shapes = [x, (2, wide, 6), (2, wide, hidden), (2, 2 * wide), (batch,), state, state, (2, 3 * hidden)]
    inputs, weights = [], []
    for name, shape in zip(names, shapes, strict=False):
        if name in "WRBP" and not computed:
            array = rng.uniform(-0.3, 0.3, shape).astype(helper.tensor_dtype_to_np_dtype(kind))
            weights.append(onnx.numpy_helper.from_array(array, name))
        else:
            element = TensorProto.INT32 if name == "lengths" else kind
            inputs.append(helper.make_tensor_value_info(name, element, shape))
    results = ["Y", "Y_h", *(["Y_c"] if op == "LSTM" else [])]
    recurrent = helper.make_node(op, names, results, direction="bidirectional", hidden_size=hidden, **attrs)
    outputs = [helper.make_tensor_value_info(name, kind, None) for name in results]
    graph = helper.make_graph([recurrent], "recurrent", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def feed(model: onnx.ModelProto) -> dict[str, Any]:
    rng, found = np.random.default_rng(2), {}
    for v in model.graph.input:
        shape = [d.dim_value for d in v.type.tensor_type.shape.dim]
        array = np.resize([5, 2, 0], shape) if v.name == "lengths" else rng.uniform(-0.5, 0.5, shape)
        found[v.name] = array.astype(helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type))
    return found


@pytest.mark.parametrize(
    ("op", "kind", "computed", "threads", "attrs"),
    [
        ("LSTM", TensorProto.FLOAT, True, 2, {"layout": 1}),
        ("GRU", TensorProto.FLOAT16, False, 1, {"linear_before_reset": 1}),
        ("LSTM", TensorProto.FLOAT16, True, 1, {}),
        (
            "GRU",
            TensorProto.BFLOAT16,
            True,
            2,
            {"layout": 1, "activations": ["Sigmoid", "Tanh", "Sigmoid", "Softsign"]},
        ),
        ("GRU", TensorProto.DOUBLE, False, 2, {}),
    ],
)
def test_a_compiled_recurrence_answers_like_the_interpreter(
    op: str, kind: int, computed: bool, threads: int, attrs: dict[str, Any], tmp_path: Path
) -> None:
    model = node(op, kind, computed=computed, **attrs)
    given = feed(model)
    want = interpret(import_model(model), given)
    edgec.compile(model, out=tmp_path / "bundle", threads=threads)
    with edgec.load(tmp_path / "bundle", threads=threads) as compiled:
        got = compiled.run(given)
    rough = {TensorProto.FLOAT: 1e-5, TensorProto.DOUBLE: 1e-11}.get(kind, 2e-2)
    for name, value in want.items():
        assert got[name].dtype == value.dtype and got[name].shape == value.shape
        np.testing.assert_allclose(got[name].astype(np.float64), value.astype(np.float64), atol=rough)
