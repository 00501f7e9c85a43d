"""Functions of a model, and ONNX's own definitions, are converted where a node calls for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.compiler.errors import EdgecError, UnsupportedModel
from edgec.compiler.importer import convert, import_model
from edgec.compiler.interpret import interpret

FLOAT = TensorProto.FLOAT
X = np.asarray([[1, -2, 2, 4]], np.float32)
REFERENCE = onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
node = helper.make_node


def function(
    name: str, inputs: str, outputs: str, body: Sequence[onnx.NodeProto], opset: int = 17, **options: Any
) -> onnx.FunctionProto:
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, inputs.split(), outputs.split(), body, imports, **options)


def call(name: str, inputs: str, outputs: str, **attrs: Any) -> onnx.NodeProto:
    args = ["" if i == "-" else i for i in inputs.split()]
    return node(name, args, ["" if o == "-" else o for o in outputs.split()], domain="local", **attrs)


def model(
    nodes: Sequence[onnx.NodeProto],
    functions: Sequence[onnx.FunctionProto] = (),
    outputs: str = "y",
    opset: int = 17,
    **constants: Any,
) -> onnx.ModelProto:
    infos = [helper.make_tensor_value_info(n, FLOAT, X.shape if n == "x" else None) for n in ["x", *outputs.split()]]
    weights = [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    graph = helper.make_graph(list(nodes), "tiny", infos[:1], infos[1:], weights)
    imports = [helper.make_opsetid(d, v) for d, v in (("", opset), ("local", 1), ("ai.onnx.preview", 1))]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=10)


def answer(made: onnx.ModelProto) -> Any:
    return interpret(import_model(made), {"x": X})["y"]


def test_attributes_of_the_node_and_defaults_of_the_function() -> None:
    leaky = node("LeakyRelu", ["a"], ["b"])
    leaky.attribute.append(REFERENCE)
    scaled = function("Leak", "a", "b", [leaky], attribute_protos=[helper.make_attribute("slope", 0.5)])
    for attrs, slope in (({}, 0.5), ({"slope": 0.25}, 0.25)):
        y = answer(model([call("Leak", "x", "y", **attrs)], [scaled]))
        np.testing.assert_array_equal(y, np.where(X < 0, X * slope, X))


def test_a_reference_without_value_leaves_the_attribute_to_the_operator() -> None:
    leaky = node("LeakyRelu", ["a"], ["b"])
    leaky.attribute.append(REFERENCE)
    y = answer(model([call("Leak", "x", "y")], [function("Leak", "a", "b", [leaky], attributes=["slope"])]))
    np.testing.assert_array_equal(y, np.where(X < 0, X * np.float32(0.01), X))


def test_arguments_and_results_that_are_left_out() -> None:
    body = [node("Clip", ["a", "low", "high"], ["b"]), node("Det", ["a"], ["c"]), node("Neg", ["b"], ["d"])]
    clip = function("Clipped", "a low high", "b c d", body)
    y = answer(model([call("Clipped", "x - h", "- - y")], [clip], h=np.float32(1)))
    np.testing.assert_array_equal(y, -np.minimum(X, 1))
    y = answer(model([call("Clipped", "x", "y")], [clip]))
    np.testing.assert_array_equal(y, X)


def test_functions_in_functions_and_names_that_clash() -> None:
    inner = function("Inner", "x", "y", [node("Add", ["x", "x"], ["t"]), node("Neg", ["t"], ["y"])])
    outer = function("Outer", "x", "y", [call("Inner", "x", "t"), call("Inner", "t", "y")])
    nodes = [call("Outer", "x", "t"), node("Relu", ["t"], ["y"])]
    graph = import_model(model(nodes, [outer, inner]))
    np.testing.assert_array_equal(interpret(graph, {"x": X})["y"], np.maximum(4 * X, 0))
    names = [n.name for n in graph.nodes()]
    assert len(set(names)) == len(names) and {"t", "y"} <= set(names)
    assert {n.origin for n in graph.nodes() if n.op in ("Add", "Neg")} == {("t",)}


def test_a_function_has_an_operator_set_of_its_own() -> None:
    own = function("F", "x", "y", [node("Sign", ["x"], ["y"])], opset=16)  # Sign is the same in both
    y = answer(model([call("F", "x", "y")], [own], opset=17))
    np.testing.assert_array_equal(y, np.sign(X))


def test_overloads() -> None:
    ops = {"up": "Neg", "down": "Abs"}
    functions = [function("F", "x", "y", [node(op, ["x"], ["y"])], overload=name) for name, op in ops.items()]
    first, second = call("F", "x", "t"), call("F", "t", "y")
    first.overload, second.overload = "down", "up"
    np.testing.assert_array_equal(answer(model([first, second], functions)), -np.abs(X))


def test_what_a_definition_holds_is_refused_with_the_node() -> None:
    body = [node("RandomUniformLike", ["x"], ["u"]), node("Add", ["x", "u"], ["y"])]
    with pytest.raises(UnsupportedModel, match=r"y: Noisy .*: its definition holds RandomUniformLike: ") as caught:
        answer(model([call("Noisy", "x", "y")], [function("Noisy", "x", "y", body)]))
    assert len(caught.value.entries) == 1
    assert "RandomUniformLike" not in str(import_model(model([call("Noisy", "x", "- y")], [
        function("Noisy", "x", "u y", [body[0], node("Neg", ["x"], ["y"])])
    ])))  # fmt: skip


def test_wrong_bodies() -> None:
    wrong = function("Wrong", "x", "y", [node("Transpose", ["x"], ["y"], perm=[0, 0])])
    with pytest.raises(EdgecError, match=r"node 'y' \(Wrong\): in its definition: node 'y' \(Transpose\): "):
        answer(model([call("Wrong", "x", "y")], [wrong]))
    with pytest.raises(EdgecError, match="nothing computes 'z' in its definition"):
        answer(model([call("Half", "x", "- y")], [function("Half", "x", "y z", [node("Neg", ["x"], ["y"])])]))
    with pytest.raises(EdgecError, match="in its definition: 'Few' has 1 arguments and 1 results"):
        answer(model([call("Few", "x x", "y")], [function("Few", "x", "y", [node("Neg", ["x"], ["y"])])]))


def test_what_onnx_does_not_define_is_refused() -> None:
    """A precision of integers, and a function that is none."""
    flex = node("FlexAttention", ["q", "q", "q"], ["y"], domain="ai.onnx.preview", softmax_precision=TensorProto.INT8)
    w = np.zeros((2, 1, 2), np.float32)
    conv = node("CausalConvWithState", ["q", "w"], ["y", "state"], activation="none such")
    for last, opset, shape in ((flex, 26, (1, 1, 2, 2)), (conv, 27, (1, 2, 2))):
        made = model([node("Reshape", ["x", "s"], ["q"]), last], opset=opset, s=np.asarray(shape), w=w)
        with pytest.raises(UnsupportedModel, match="its definition cannot be expanded: ONNX has none for these"):
            import_model(made)


def test_definitions_that_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each calls the next one twice."""
    monkeypatch.setattr(convert, "MOST", 500)
    doubling = [
        function(f"F{k}", "x", "y", [call(f"F{k + 1}", "x", "t"), call(f"F{k + 1}", "t", "y")]) for k in range(40)
    ]
    last = function("F40", "x", "y", [node("Neg", ["x"], ["y"])])
    with pytest.raises(EdgecError, match="definitions are nested too deeply, or too many"):
        answer(model([call("F0", "x", "y")], [*doubling, last]))
    deep = [function(f"F{k}", "x", "y", [call(f"F{k + 1}", "x", "y")]) for k in range(80)]
    with pytest.raises(EdgecError, match="definitions are nested too deeply, or too many"):
        answer(model([call("F0", "x", "y")], [*deep, function("F80", "x", "y", [node("Neg", ["x"], ["y"])])]))


def test_data_of_functions_lie_in_the_folder(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../w.bin")
    body = [node("Constant", [], ["w"], value=tensor), node("Add", ["x", "w"], ["y"])]
    path = tmp_path / "in" / "m.onnx"
    path.parent.mkdir()
    for location, text in (("../w.bin", "lies outside the model's folder"), ("w.bin", "is not there")):
        tensor.external_data[0].value = location
        body[0] = node("Constant", [], ["w"], value=tensor)
        path.write_bytes(model([call("F", "x", "y")], [function("F", "x", "y", body)]).SerializeToString())
        with pytest.raises(EdgecError, match=text):
            import_model(path)
    (path.parent / "w.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    np.testing.assert_array_equal(interpret(import_model(path), {"x": X})["y"], X + np.arange(4))


def test_graphs_of_attributes_read_values_from_outside() -> None:
    """`Score` is a name of ONNX's definition too."""
    info = helper.make_tensor_value_info("s", FLOAT, None), helper.make_tensor_value_info("t", FLOAT, None)
    score_mod = helper.make_graph([node("Mul", ["s", "Score"], ["t"])], "score_mod", info[:1], info[1:])
    nodes = [
        node("Reshape", ["x", "shape"], ["q"]),
        node("Constant", [], ["c"], value_float=0.5),
        node("Neg", ["c"], ["Score"]),
        node("FlexAttention", ["q", "q", "q"], ["y"], domain="ai.onnx.preview", score_mod=score_mod),
    ]
    q = X.reshape(1, 1, 2, 2)
    scores = -0.5 * (q @ q.swapaxes(-1, -2)) / np.sqrt(2)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    y = answer(model(nodes, opset=26, shape=np.asarray([1, 1, 2, 2])))
    np.testing.assert_allclose(y, weights @ q, rtol=1e-6)


def test_definitions_depend_on_the_types_that_come() -> None:
    """The function is of element types that the model does not write down."""
    body = [node("CastLike", ["x", "g"], ["z"]), node("RMSNormalization", ["z", "g"], ["y"])]
    rms = function("Rms", "x g", "y", body, opset=23)
    for kind, exact in ((np.float32, 1e-6), (np.float16, 1e-3)):
        y = answer(model([call("Rms", "x g", "y")], [rms], opset=23, g=np.ones(4, kind)))
        assert y.dtype == kind
        np.testing.assert_allclose(y, X / np.sqrt((X**2).mean()), rtol=exact)
