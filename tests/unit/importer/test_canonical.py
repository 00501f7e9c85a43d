"""Every way in which ONNX writes a thing becomes the one canonical form, and names are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.ir import Graph
from edgec.compiler.op import const_array, is_const

FLOAT = TensorProto.FLOAT


def imported(
    nodes: Sequence[onnx.NodeProto],
    x: Any = (1, 3),
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    constants: dict[str, Any] | None = None,
    ir_version: int = 8,
    listed: bool = False,
    **options: Any,
) -> Graph:
    weights = [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()]
    inputs = [helper.make_tensor_value_info("x", FLOAT, x)]
    if listed:
        inputs += [helper.make_tensor_value_info(w.name, w.data_type, w.dims) for w in weights]
    infos = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
    graph = helper.make_graph(list(nodes), "tiny", inputs, infos, weights)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return import_model(helper.make_model(graph, opset_imports=imports, ir_version=ir_version), **options)


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes() if n.op not in ("Input", "Const")]


def node(op: str, inputs: str, outputs: str = "y", **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), **attrs)


def test_names_of_values_and_nodes_are_kept() -> None:
    graph = imported([node("Neg", "x", "middle", name="first"), node("Relu", "middle")])
    assert [(n.op, n.name, n.origin) for n in graph.nodes()] == [
        ("Input", "x", ()),
        ("Neg", "middle", ("first",)),
        ("Relu", "y", ("y",)),
    ]
    assert graph.name == "tiny" and graph.output_names == ("y",)


def test_weights_that_old_files_list_as_inputs_are_no_inputs() -> None:
    w = {"w": np.ones(3, np.float32)}
    graph = imported([node("Add", "x w")], constants=w, ir_version=3, listed=True, opset=8)
    assert [v.name for v in graph.inputs] == ["x"]


def test_gemm_folds_factors_and_transposes_into_constants() -> None:
    w = {"w": np.arange(12, dtype=np.float32).reshape(4, 3), "b": np.ones(4, np.float32)}
    graph = imported([node("Gemm", "x w b", transB=1, alpha=2.0, beta=3.0)], constants=w)
    assert ops(graph) == ["MatMul", "Add"]
    matmul, add = (n for n in graph.nodes() if n.op in ("MatMul", "Add"))
    np.testing.assert_array_equal(const_array(matmul.args[1]), 2 * w["w"].T)
    np.testing.assert_array_equal(const_array(add.args[1]), [3, 3, 3, 3])
    assert (matmul.name, add.name) == ("y.matmul", "y")


def test_batch_normalization_becomes_mul_and_add() -> None:
    w = {k: np.asarray(v, np.float32) for k, v in {"s": [2, 2], "b": [1, 1], "m": [3, 0], "v": [3, 0]}.items()}
    graph = imported([node("BatchNormalization", "x s b m v", epsilon=1.0)], x=(1, 2, 3, 3), constants=w)
    assert ops(graph) == ["Mul", "Add"]
    mul, add = (n for n in graph.nodes() if n.op in ("Mul", "Add"))
    assert mul.args[1].shape == add.args[1].shape == (2, 1, 1)
    np.testing.assert_array_equal(const_array(mul.args[1]).ravel(), [1, 2])
    np.testing.assert_array_equal(const_array(add.args[1]).ravel(), [-2, 1])


def test_batch_normalization_by_quantized_constants_is_one_too() -> None:
    w = {k: np.asarray(v, np.float32) for k, v in {"f": 0.5, "b": [1, 1], "m": [3, 0], "v": [3, 0]}.items()}
    w |= {"q": np.array([4, 4], np.int8), "z": np.int8(0)}
    nodes = [node("DequantizeLinear", "q f z", "s"), node("BatchNormalization", "x s b m v", epsilon=1.0)]
    graph = imported(nodes, x=(1, 2, 3, 3), constants=w)
    assert ops(graph) == ["Mul", "Add"]
    mul = next(n for n in graph.nodes() if n.op == "Mul")
    np.testing.assert_array_equal(const_array(mul.args[1]).ravel(), [1, 2])


def test_convolution_always_has_a_bias_and_explicit_pads() -> None:
    w = {"w": np.ones((4, 2, 3, 3), np.float32)}
    graph = imported([node("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 2])], x=(1, 2, 8, 8), constants=w)
    conv = graph.outputs[0].node
    assert conv.attrs == {"strides": (2, 2), "pads": (0, 0, 1, 1), "dilations": (1, 1), "group": 1}
    assert not np.any(const_array(conv.args[2])) and conv.args[2].shape == (4,)


@pytest.mark.parametrize(
    ("nodes", "opset", "form"),
    [
        ([node("Identity", "x", "a"), node("Dropout", "a", "b"), node("Relu", "b")], 17, ["Relu"]),
        ([node("GlobalAveragePool", "x")], 17, ["ReduceMean"]),
        ([node("GlobalMaxPool", "x")], 17, ["ReduceMax"]),
        ([node("Flatten", "x")], 17, ["Reshape"]),
        ([node("Squeeze", "x", axes=[0])], 11, ["Reshape"]),
        ([node("Sum", "x x x")], 17, ["Add", "Add"]),
        ([node("Softmax", "x", axis=1)], 11, ["Reshape", "Softmax", "Reshape"]),
        ([node("Softmax", "x", axis=3)], 11, ["Softmax"]),
        ([node("Pad", "x", pads=[0] * 8), ], 10, ["Edgec.Layout"]),
        ([node("Cast", "x", to=FLOAT)], 17, ["Edgec.Layout"]),
        ([node("Shape", "x", "s"), node("Reshape", "x s", "a"), node("Relu", "a")], 17, ["Relu"]),
        ([node("MaxPool", "x", kernel_shape=[2, 2], ceil_mode=1)], 17, ["MaxPool"]),
        ([node("Upsample", "x", scales=[1.0, 1.0, 2.0, 2.0])], 7, ["Resize"]),
        ([node("Swish", "x")], 24, ["Sigmoid", "Mul"]),
        ([node("MatMul", "x x")], 17, ["MatMul"]),
    ],
)  # fmt: skip
def test_canonical_form(nodes: Sequence[onnx.NodeProto], opset: int, form: list[str]) -> None:
    assert ops(imported(nodes, x=(1, 2, 4, 4), opset=opset)) == form


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_a_window_larger_than_the_padded_input_ends_with_it(op: str) -> None:
    attrs = {"kernel_shape": [640, 3], "strides": [640, 2], "pads": [1, 0, 2, 0], "ceil_mode": 1}
    pool = imported([node(op, "x", **attrs)], x=(1, 2, 4, 6), opset=19).outputs[0]
    kept = {key: pool.node.attrs[key] for key in ("kernel_shape", "strides", "pads", "ceil_mode")}
    assert kept == {"kernel_shape": (7, 3), "strides": (7, 2), "pads": (1, 0, 2, 0), "ceil_mode": 1}
    assert pool.shape == (1, 2, 1, 3)


def test_arithmetic_on_shapes_disappears() -> None:
    constants = {"i": np.int64(0), "tail": np.asarray([-1], np.int64), "axes": np.asarray([0], np.int64)}
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s i", "n"),
        node("Unsqueeze", "n axes", "n1"),
        node("Concat", "n1 tail", "target", axis=0),
        node("Reshape", "x target", "y"),
    ]
    graph = imported(nodes, x=("batch", 3, 4, 5), constants=constants, dims={"batch": 2})
    assert ops(graph) == ["Reshape"] and graph.outputs[0].shape == (2, 60)


def test_limits_of_clip_from_attributes_and_inputs() -> None:
    old = imported([node("Clip", "x", min=0.0, max=6.0)], opset=10).outputs[0].node
    limits = {"low": np.float32(0), "high": np.float32(6)}
    new = imported([node("Clip", "x low high")], constants=limits).outputs[0].node
    assert old.attrs == new.attrs == {"min": 0.0, "max": 6.0}


def test_slices_are_counted_from_the_front() -> None:
    graph = imported([node("Slice", "x", starts=[-2, 0], ends=[99, 99], axes=[-1, 0])], x=(1, 5), opset=9)
    assert graph.outputs[0].node.attrs == {"starts": (3,), "ends": (5,), "axes": (1,), "steps": (1,)}


def test_reductions_name_their_axes() -> None:
    attrs = imported([node("ReduceMean", "x", axes=[-1])], x=(2, 3)).outputs[0].node.attrs
    assert attrs == {"axes": (1,), "keepdims": 1}
    assert imported([node("ReduceSum", "x")], x=(2, 3)).outputs[0].node.attrs["axes"] == (0, 1)


def test_resize_has_sizes_and_scales_of_all_axes() -> None:
    sizes = {"s": np.asarray([1, 8, 6, 3], np.int64)}
    attrs = imported([node("Resize", "x   s".replace("   ", " e e "), mode="linear")], x=(1, 8, 4, 4), constants={
        **sizes, "e": np.zeros(0, np.float32)}).outputs[0].node.attrs  # fmt: skip
    assert attrs["sizes"] == (1, 8, 6, 3) and attrs["scales"] == (1.0, 1.0, 1.5, 0.75)


def test_quantization_stays_and_its_weights_stay_small() -> None:
    w = {"w": np.ones((4, 3), np.int8), "s": np.float32(0.1), "z": np.int8(0)}
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("DequantizeLinear", "q s z", "a"),
        node("DequantizeLinear", "w s z", "b"),
        node("Gemm", "a b", transB=1),
    ]
    graph = imported(nodes, constants=w)
    assert ops(graph) == ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Transpose", "MatMul"]


def test_outputs_that_are_inputs_or_constants_or_equal() -> None:
    nodes = [node("Identity", "x", "a"), node("Relu", "x", "r"), node("Identity", "r", "b")]
    constants = {"k": np.ones(2, np.float32)}
    graph = imported(nodes, outputs=("a", "k", "r", "b"), constants=constants)
    assert graph.output_names == ("a", "k", "r", "b") and len(set(graph.outputs)) == 4
    assert not any(is_const(v) or v.node.op == "Input" for v in graph.outputs)
    x = np.asarray([[-1, 0, 2]], np.float32)
    out = interpret(graph, {"x": x})
    assert list(out) == ["a", "k", "r", "b"]
    np.testing.assert_array_equal(out["a"], x)
    np.testing.assert_array_equal(out["b"], np.maximum(x, 0))


def branching() -> list[onnx.NodeProto]:
    branches = {}
    for name, op in (("then_branch", "Neg"), ("else_branch", "Relu")):
        out = helper.make_tensor_value_info(f"{name}_y", FLOAT, None)
        branches[name] = helper.make_graph([node(op, "x", f"{name}_y")], name, [], [out])
    return [helper.make_node("If", ["c"], ["b"], **branches), node("Abs", "b")]


@pytest.mark.parametrize(("condition", "chosen"), [(True, "Neg"), (False, "Relu")])
def test_a_constant_condition_picks_its_branch(condition: bool, chosen: str) -> None:
    assert ops(imported(branching(), constants={"c": np.asarray(condition)})) == [chosen, "Abs"]


def test_a_bound_input_is_a_constant() -> None:
    graph = imported([node("Relu", "x", "y")], binds={"x": 2})
    assert graph.inputs == () and ops(graph) == ["Edgec.Layout"]
    np.testing.assert_array_equal(interpret(graph, {})["y"], [[2, 2, 2]])


def test_functions_of_the_model_and_of_onnx_are_expanded() -> None:
    body = [helper.make_node("Add", ["a", "a"], ["two"]), helper.make_node("Relu", ["two"], ["out"])]
    imports = [helper.make_opsetid("", 23), helper.make_opsetid("local", 1)]
    double = helper.make_function("local", "Double", ["a"], ["out"], body, imports[:1])
    nodes = [
        helper.make_node("Double", ["x"], ["d"], domain="local"),
        helper.make_node("RMSNormalization", ["d", "g"], ["y"]),
    ]
    infos = [helper.make_tensor_value_info(n, FLOAT, (1, 4)) for n in ("x", "y")]
    gain = onnx.numpy_helper.from_array(np.ones(4, np.float32), "g")
    graph = helper.make_graph(nodes, "tiny", infos[:1], infos[1:], [gain])
    model = helper.make_model(graph, opset_imports=imports, functions=[double], ir_version=10)
    out = interpret(import_model(model), {"x": np.asarray([[1, -2, 2, 4]], np.float32)})["y"]
    np.testing.assert_allclose(out, np.asarray([[2, 0, 4, 8]]) / np.sqrt(21), rtol=1e-4)


def test_arguments_of_opset_6_lie_along_an_axis() -> None:
    w = {"w": np.asarray([1, 2], np.float32)}
    graph = imported([node("Add", "x w", broadcast=1, axis=1)], x=(1, 2, 3), constants=w, opset=6)
    out = interpret(graph, {"x": np.zeros((1, 2, 3), np.float32)})["y"]
    np.testing.assert_array_equal(out[0], [[1, 1, 1], [2, 2, 2]])


def test_resize_of_few_channels_is_one_blend_per_axis() -> None:
    constants = {"s": np.asarray([1, 1, 6, 3], np.int64), "e": np.zeros(0, np.float32)}
    graph = imported([node("Resize", "x e e s", mode="linear")], x=(1, 1, 4, 4), constants=constants)
    assert ops(graph) == ["Edgec.Blend", "Edgec.Blend"]
