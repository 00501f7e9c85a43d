"""What random operators draw as inputs of the compiled model, and as constants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgec
from edgec.compiler.cli import main
from edgec.compiler.errors import EdgecError, UnsupportedModel
from edgec.compiler.importer import import_model


def model(node: onnx.NodeProto, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """The node's result z, and y: the argument's Relu m and z, both in f32, added."""
    nodes = [
        helper.make_node("Relu", ["x"], ["m"]),
        node,
        helper.make_node("Cast", ["m"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["z"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["wide", "number"], ["y"]),
    ]
    infos = [helper.make_tensor_value_info("x", kind, [2, 3]), helper.make_tensor_value_info("y", 1, None)]
    graph = helper.make_graph(nodes, "sampled", infos[:1], infos[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


NODES: list[tuple[str, list[str], dict[str, Any], int, str]] = [
    ("RandomNormal", [], {"shape": [2, 3], "mean": 4.0}, TensorProto.FLOAT, "f32"),
    ("RandomUniform", [], {"shape": [2, 3], "dtype": TensorProto.DOUBLE}, TensorProto.FLOAT, "f64"),
    ("RandomNormalLike", ["m"], {}, TensorProto.FLOAT16, "f16"),
    ("RandomUniformLike", ["m"], {"dtype": TensorProto.FLOAT}, TensorProto.FLOAT16, "f32"),
    ("Bernoulli", ["m"], {"dtype": TensorProto.BOOL}, TensorProto.FLOAT, "bool"),
    ("Multinomial", ["m"], {"sample_size": 3}, TensorProto.FLOAT, "i32"),
]


@pytest.mark.parametrize(("op", "args", "attrs", "kind", "drawn"), NODES)
def test_a_named_draw_is_an_input_of_its_type(op: str, args: list[str], attrs: Any, kind: int, drawn: str) -> None:
    proto = model(helper.make_node(op, args, ["z"], **attrs), kind)
    with pytest.raises(UnsupportedModel, match="--shape z=SIZES makes them an input"):
        import_model(proto)
    graph = import_model(proto, shapes={"z": (2, 3)})
    assert [(v.name, str(v.type)) for v in graph.inputs][1:] == [("z", f"{drawn}[2, 3]")]


def test_numbers_given_are_the_numbers_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The compiled model, and `edgec verify`, which compares it with ONNX Runtime."""
    path, out = tmp_path / "sampled.onnx", tmp_path / "bundle"
    onnx.save(model(helper.make_node("RandomNormalLike", ["m"], ["z"])), path)
    edgec.compile(path, target="host", out=out, shapes={"z": (2, 3)})
    rng = np.random.default_rng(1)
    feed = {name: rng.standard_normal((2, 3)).astype(np.float32) for name in "xz"}
    with edgec.load(out) as compiled:
        np.testing.assert_array_equal(compiled.run(feed)["y"], np.maximum(feed["x"], 0) + feed["z"])
    assert main(["verify", str(path), "--bundle", str(out)]) == 0, capsys.readouterr()


def test_a_draw_may_be_bound() -> None:
    """No noise: the mean of what a variational encoder samples. The shape is inferred."""
    graph = import_model(model(helper.make_node("RandomNormalLike", ["m"], ["z"])), binds={"z": 0})
    assert [v.name for v in graph.inputs] == ["x"]
    assert graph.outputs[0].type.shape == (2, 3)


def test_what_is_not_drawn_is_no_input() -> None:
    with pytest.raises(EdgecError, match="the model has no input 'm'"):
        import_model(model(helper.make_node("RandomNormalLike", ["m"], ["z"])), shapes={"m": (2, 3)})


def test_draws_of_branches_stay_refused() -> None:
    """An input would be the same in every turn of a loop; nothing is advised that does not help."""
    draw = helper.make_graph(
        [helper.make_node("RandomNormal", [], ["z"], shape=[2])],
        "draw",
        [],
        [helper.make_tensor_value_info("z", 1, [2])],
    )
    infos = [helper.make_tensor_value_info("c", TensorProto.BOOL, []), helper.make_tensor_value_info("y", 1, [2])]
    node = helper.make_node("If", ["c"], ["y"], then_branch=draw, else_branch=draw)
    proto = helper.make_model(
        helper.make_graph([node], "branches", infos[:1], infos[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    with pytest.raises(UnsupportedModel) as error:
        import_model(proto)
    assert "draws random numbers" in str(error.value)
    assert "--shape" not in str(error.value)
