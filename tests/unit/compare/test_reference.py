"""The references of `edgec verify` where element types are ones that numpy and ONNX Runtime's interface lack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper

import edgec
from edgec.compiler.compare.bundle import verify
from edgec.compiler.compare.reference import Exact, in_float64, single_results
from edgec.compiler.dtypes import dtype
from edgec.compiler.errors import EdgecError
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import build, const
from edgec.compiler.ports import Port, random_inputs, read_arrays, write_arrays

pytest.importorskip("onnxruntime")
PAIRS = [
    (T.BFLOAT16, T.FLOAT8E4M3FN),
    (T.FLOAT8E4M3FN, T.FLOAT8E5M2),
    (T.FLOAT8E5M2, T.BFLOAT16),
    (T.INT4, T.UINT4),
    (T.UINT4, T.INT4),
]


def casting(pairs: list[tuple[int, int]], opset: int = 21) -> onnx.ModelProto:
    """Inputs x0, x1 ... through f32 to outputs y0, y1 ..."""
    inputs = [helper.make_tensor_value_info(f"x{k}", kind, [3, 5]) for k, (kind, _) in enumerate(pairs)]
    outputs = [helper.make_tensor_value_info(f"y{k}", kind, [3, 5]) for k, (_, kind) in enumerate(pairs)]
    nodes = []
    for k, (_, to) in enumerate(pairs):
        nodes.append(helper.make_node("Cast", [f"x{k}"], [f"f{k}"], to=T.FLOAT))
        nodes.append(helper.make_node("Cast", [f"f{k}"], [f"y{k}"], to=to))
    graph = helper.make_graph(nodes, "casting", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def test_types_that_numpy_lacks_are_compared(tmp_path: Path) -> None:
    onnx.save(casting(PAIRS), tmp_path / "m.onnx")
    edgec.compile(tmp_path / "m.onnx", target="host", out=tmp_path / "b")
    found = verify(tmp_path / "m.onnx", tmp_path / "b", layers=True)
    assert found.ok and len(found.differences) >= len(PAIRS)
    with edgec.load(tmp_path / "b") as model:
        write_arrays(tmp_path / "x.npz", random_inputs(model.inputs, 7))
        given = model.run(read_arrays(tmp_path / "x.npz"))
        np.testing.assert_array_equal(given["y3"], model.run(random_inputs(model.inputs, 7))["y3"])
    assert verify(tmp_path / "m.onnx", tmp_path / "b", inputs=tmp_path / "x.npz").ok


def test_a_wrong_answer_is_seen(tmp_path: Path) -> None:
    onnx.save(casting(PAIRS), tmp_path / "m.onnx")
    wrong = casting(PAIRS)
    wrong.graph.node[3].input[0] = "negative"
    wrong.graph.node.insert(3, helper.make_node("Neg", ["f1"], ["negative"]))
    edgec.compile(wrong, target="host", out=tmp_path / "b", name="m")
    found = verify(tmp_path / "m.onnx", tmp_path / "b")
    assert [d.value for d in found.differences if not d.ok] == ["y1"]


def test_what_onnx_runtime_lacks_too_is_said(tmp_path: Path) -> None:
    onnx.save(casting([(T.FLOAT4E2M1, T.UINT2)], 25), tmp_path / "m.onnx")
    edgec.compile(tmp_path / "m.onnx", target="host", out=tmp_path / "b")
    with pytest.raises(EdgecError, match="ONNX Runtime refuses it"):
        verify(tmp_path / "m.onnx", tmp_path / "b")


def source(name: str, kind: str) -> Value:
    return Value(Node("Input", (), (Type(kind, (6,)),), {}, name))


@pytest.mark.parametrize(
    "kind, to, wide", [("f32", "i32", "i32"), ("i16", "bf16", "f64"), ("f16", "bf16", "f64"), ("f8e5m2", "u8", "u8")]
)
def test_bits_are_those_of_the_narrow_number_in_float64_too(kind: str, to: str, wide: str) -> None:
    x = source("x", kind)
    graph = Graph("g", (x,), (build("BitCast", x, label="y", to=to),))
    array = np.asarray([0, 1, -2, 3.5, 100, -7]).astype(dtype(kind).numpy)
    widened = in_float64(graph)
    (want,), (got,) = (
        list(interpret(g, {"x": array.astype(dtype(g.inputs[0].type.dtype).numpy)}).values()) for g in (graph, widened)
    )
    assert widened.outputs[0].type.dtype == wide
    np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))


def test_results_of_every_type_are_float64() -> None:
    def scalar(value: Any, kind: str) -> Value:
        return const(np.asarray(value).astype(dtype(kind).numpy))

    x = source("x", "i4")
    real = build("DequantizeLinear", x, scalar(0.1, "f16"), scalar(1, "i4"), label="d", to="bf16")
    stored = build("QuantizeLinear", real, scalar(0.3, "bf16"), scalar(0, "f8e4m3fn"), label="q")
    graph = in_float64(Graph("g", (x,), (real, stored)))
    assert [v.type.dtype for v in graph.outputs] == ["f64", "f8e4m3fn"]


def test_branches_are_computed_in_float64() -> None:
    def branch(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
        return helper.make_graph(list(nodes), name, [], [helper.make_tensor_value_info(f"{name}_y", T.FLOAT, [4])])

    node = helper.make_node
    then = branch("then", node("Exp", ["x"], ["then_y"]))
    other = branch("else", node("Mul", ["x", "x"], ["else_y"]))
    ends = [helper.make_tensor_value_info(n, T.FLOAT, [4]) for n in ("x", "y")]
    which = helper.make_tensor_value_info("which", T.BOOL, [])
    graph = helper.make_graph(
        [node("If", ["which"], ["y"], then_branch=then, else_branch=other)], "g", [ends[0], which], [ends[1]]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    wide = in_float64(import_model(proto))
    x = np.linspace(-1, 1, 4)
    for yes, want in ((True, np.exp(x)), (False, x * x)):
        got = interpret(wide, {"x": x, "which": np.array(yes)})["y"]
        np.testing.assert_allclose(got, want, rtol=1e-15)


def test_outputs_that_are_rounded_are_told_apart(tmp_path: Path) -> None:
    """What rounds them has no name."""
    ends = [helper.make_tensor_value_info(n, T.FLOAT, [4]) for n in ("x", "y", "z")]
    nodes = [helper.make_node("Exp", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    x = np.linspace(-1, 1, 4, dtype=np.float32)
    got = Exact(tmp_path / "m.onnx", [Port("x", "float32", (4,))], {}, single_results).run({"x": x})
    np.testing.assert_array_equal(got["y"], np.exp(x.astype(np.float64)).astype(np.float32))
    np.testing.assert_array_equal(got["z"], -x)
