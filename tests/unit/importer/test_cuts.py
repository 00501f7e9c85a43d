"""Slices whose bounds are computed while the model runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.compiler.errors import UnsupportedModel
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret

ort = pytest.importorskip("onnxruntime")
I64, FLOAT = TensorProto.INT64, TensorProto.FLOAT
NUMBERS = {"zero": [0], "one": [1], "three": [3], "two": [2, 2], "all": [2**63 - 1], "back": [-1], "places": [0, 1]}
X = np.arange(48, dtype=np.float32).reshape(2, 6, 4)


def model(*nodes: str) -> onnx.ModelProto:
    """`result = Op(a, b)`, of x [2, 6, 4] and one number each in i and j."""
    made = []
    for text in nodes:
        result, _, call = text.partition(" = ")
        op, _, args = call.rstrip(")").partition("(")
        made.append(helper.make_node(op, args.split(", "), [result]))
    read = {name for node in made for name in node.input}
    shapes = {"x": (FLOAT, (2, 6, 4)), "i": (I64, (1,)), "j": (I64, (1,))}
    inputs = [helper.make_tensor_value_info(name, *t) for name, t in shapes.items() if name in read]
    held = [numpy_helper.from_array(np.asarray(v, np.int64), k) for k, v in NUMBERS.items() if k in read]
    graph = helper.make_graph(made, "g", inputs, [helper.make_tensor_value_info("y", FLOAT, None)], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def same(proto: onnx.ModelProto, feeds: list[dict[str, int]]) -> None:
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    graph = import_model(proto)
    for numbers in feeds:
        feed: dict[str, Any] = {"x": X} | {k: np.asarray([n], np.int64) for k, n in numbers.items()}
        feed = {k: v for k, v in feed.items() if k in [v.name for v in graph.inputs]}
        np.testing.assert_array_equal(interpret(graph, feed)["y"], session.run(None, feed)[0], err_msg=str(numbers))


@pytest.mark.parametrize(
    ("nodes", "length", "before"),
    [
        (["e = Add(i, one)", "y = Slice(x, i, e, one)"], 1, 0),
        (["e = Add(three, i)", "y = Slice(x, i, e, one, one)"], 3, 0),
        (["s = Sub(i, one)", "e = Add(i, one)", "y = Slice(x, s, e, one)"], 2, 1),
    ],
)
def test_as_many_elements_as_the_bounds_are_apart(nodes: list[str], length: int, before: int) -> None:
    proto = model(*nodes)
    assert import_model(proto).outputs[0].shape == (2, length, 4)
    inside = [n + before for n in range(6 - length + 1)]
    same(proto, [{"i": n} for n in inside])


@pytest.mark.parametrize("place", [-9, -6, 6, 9])
def test_such_a_slice_is_moved_back_into_the_tensor(place: int) -> None:
    graph = import_model(model("e = Add(i, three)", "y = Slice(x, i, e, one)"))
    found = interpret(graph, {"x": X, "i": np.asarray([place], np.int64)})["y"]
    np.testing.assert_array_equal(found, X[:, :3] if place < 0 else X[:, 3:])


@pytest.mark.parametrize(
    "cut", ["zero, i, one", "one, i, one", "i, all, one", "i, back, one", "i, j, one", "i, j", "j, i, zero"]
)
def test_bounds_of_their_own_give_a_size_that_depends_on_data(cut: str) -> None:
    numbers = [-8, -6, -3, 0, 1, 2, 5, 6, 8]
    others = [-3, 0, 2, 9] if "j" in cut else [0]
    same(model(f"y = Slice(x, {cut})"), [{"i": i, "j": j} for i in numbers for j in others])


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        (
            ["b = Concat(i, j)", "y = Slice(x, b, two, places)"],
            r"its starts \('b'\) is computed while the model runs.*--bind",
        ),
        (["y = Slice(x, i, all, one, back)"], r"its starts \('i'\) is computed while the model runs.*--bind"),
        (["e = Sub(i, one)", "y = Slice(x, i, e, one)"], "it takes -1 of 6 elements"),
    ],
)
def test_what_is_refused(nodes: list[str], why: str) -> None:
    proto = model(*nodes)
    for node in proto.graph.node:
        if node.op_type == "Concat":
            node.attribute.append(helper.make_attribute("axis", 0))
    with pytest.raises(UnsupportedModel, match=why):
        import_model(proto)


def test_a_loop_that_reads_the_row_which_its_state_names() -> None:
    nodes = [
        helper.make_node("ReduceMax", ["state"], ["m"], keepdims=0),
        helper.make_node("Cast", ["m"], ["whole"], to=I64),
        helper.make_node("Mod", ["whole", "six"], ["at"]),
        helper.make_node("Unsqueeze", ["at", "zero"], ["first"]),
        helper.make_node("Add", ["first", "one"], ["last"]),
        helper.make_node("Slice", ["x", "first", "last", "one"], ["row"]),
        helper.make_node("ReduceSum", ["row", "one"], ["sum"], keepdims=0),
        helper.make_node("Add", ["state", "sum"], ["next"]),
        helper.make_node("Identity", ["on"], ["again"]),
    ]
    ends = [
        helper.make_tensor_value_info("again", TensorProto.BOOL, []),
        helper.make_tensor_value_info("next", 1, [2, 4]),
    ]
    begins = [
        helper.make_tensor_value_info("turn", I64, []),
        helper.make_tensor_value_info("on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("state", FLOAT, [2, 4]),
    ]
    held = {"six": 6, "zero": [0], "one": [1], "turns": 200}
    weights = [numpy_helper.from_array(np.asarray(v, np.int64), k) for k, v in held.items()]
    loop = helper.make_node("Loop", ["turns", "", "s"], ["y"], body=helper.make_graph(nodes, "body", begins, ends))
    inputs = [helper.make_tensor_value_info("x", FLOAT, (2, 6, 4)), helper.make_tensor_value_info("s", FLOAT, (2, 4))]
    outputs = [helper.make_tensor_value_info("y", FLOAT, (2, 4))]
    graph = helper.make_graph([loop], "g", inputs, outputs, weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    feed = {"x": X, "s": np.ones((2, 4), np.float32)}
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(interpret(import_model(proto), feed)["y"], session.run(None, feed)[0], rtol=1e-6)
