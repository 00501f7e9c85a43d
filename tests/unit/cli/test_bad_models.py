"""Whatever is wrong with a model or a graph: one line on stderr, exit code 1, and nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgec
from edgec.compiler.cli import main
from edgec.compiler.errors import Unsupported, UnsupportedModel
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from tests.support.bad_input import RELU, Capture, refused, save, tensor


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "m.onnx: no such file"),
        (b"", "m.onnx: is not an ONNX model, or is empty"),
        (b"\x7fELF" + bytes(200), "m.onnx: is not an ONNX model, or is truncated"),
        (b"hello, world\n" * 20, "m.onnx: is not an ONNX model, or is truncated"),
    ],
)
@pytest.mark.parametrize("command", [("compile", "-o", "out"), ("inspect",), ("opt",), ("bisect", "--passes", "fold")])
def test_files_that_are_no_models(
    here: Path, capsys: Capture, command: tuple[str, ...], content: bytes | None, message: str
) -> None:
    if content is not None:
        Path("m.onnx").write_bytes(content)
    assert refused(capsys, command[0], "m.onnx", *command[1:]) == message
    assert not Path("out").exists()


def test_unsupported_inputs_and_nodes_are_listed_together(here: Path, capsys: Capture) -> None:
    inputs = [
        helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [2]),
        tensor("t", kind=TensorProto.STRING),
        tensor("x"),
        tensor("i", (), TensorProto.INT64),
    ]
    nodes = [
        helper.make_node("SequenceAt", ["s", "i"], ["y"], name="at"),
        helper.make_node("Identity", ["t"], ["same"]),
        helper.make_node("ImageDecoder", ["x"], ["d1"], name="one"),
        helper.make_node("ImageDecoder", ["x"], ["d2"], name="two"),
    ]
    outputs = [tensor(name) for name in ("y", "d1", "d2")] + [tensor("same", kind=TensorProto.STRING)]
    save("m.onnx", nodes, inputs, outputs)
    said = refused(capsys, "compile", "m.onnx", "-o", "out")
    assert said.startswith("m.onnx: 4 unsupported inputs and nodes: input 's': is a sequence; edgec takes tensors only")
    assert "input 't': element type STRING is not supported; expected one of f32, " in said
    assert said.count("one, two: ImageDecoder (opset 17): ") == 1 and not Path("out").exists()
    with pytest.raises(UnsupportedModel) as caught:
        edgec.compile("m.onnx")
    assert [(e.node, e.op) for e in caught.value.entries][:2] == [("s", "Input"), ("t", "Input")]


def test_inspect_lists_every_refusal(here: Path, capsys: Capture) -> None:
    nodes = [helper.make_node("ImageDecoder", ["x"], [name], name=name) for name in ("one", "two")]
    save("m.onnx", nodes, [tensor("x"), tensor("t", kind=TensorProto.STRING)], [tensor("one"), tensor("two")])
    assert main(["inspect", "m.onnx", "--json"]) == 1
    entries = json.loads(capsys.readouterr().out)["unsupported"]
    assert [(e["node"], e["op"], e["opset"]) for e in entries] == [
        ("t", "Input", 17), ("one", "ImageDecoder", 17), ("two", "ImageDecoder", 17)
    ]  # fmt: skip
    assert all(e["why"] for e in entries)
    assert main(["inspect", "m.onnx"]) == 1
    shown = capsys.readouterr().out
    assert shown.count("is not an operator of ONNX") == 2 and "m.onnx: 3 of its nodes and inputs" in shown


def test_one_reason_is_said_once() -> None:
    entries = [
        Unsupported("a", "Op", 0, "why", "help"),
        Unsupported("x", "Input", 9, "no"),
        Unsupported("b", "Op", 0, "why", "help"),
    ]
    assert str(UnsupportedModel(entries[:1])) == "1 unsupported node: a: Op: why; help"
    assert str(UnsupportedModel(entries, "f")) == (
        "f: 3 unsupported inputs and nodes: a, b: Op: why; help | input 'x': no"
    )


def test_a_model_without_outputs(here: Path, capsys: Capture) -> None:
    save("m.onnx", [helper.make_node("Relu", ["x"], ["y"])], [tensor("x")], [])
    assert refused(capsys, "compile", "m.onnx", "-o", "out") == "m.onnx: has no outputs: there is nothing to compute"


def test_output_named_twice(here: Path, capsys: Capture) -> None:
    save("m.onnx", [RELU], [tensor("x")], [tensor("y"), tensor("y")])
    assert "m.onnx: two outputs are named 'y'" in refused(capsys, "compile", "m.onnx", "-o", "out")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (helper.make_node("Softmax", ["x"], ["y"], name="n", axis=9), "axis 9 is outside a tensor of 2 axes"),
        (helper.make_node("Transpose", ["x"], ["y"], name="n", perm=[0, 0]), "perm"),
        (helper.make_node("MaxPool", ["x"], ["y"], name="n", kernel_shape=[1 << 40]), "n"),
        (helper.make_node("Concat", ["x", "x"], ["y"], name="n", axis=-7), "axis -7"),
    ],
)
def test_nodes_that_contradict_themselves(here: Path, capsys: Capture, node: onnx.NodeProto, message: str) -> None:
    said = refused(capsys, "compile", save("m.onnx", [node], [tensor("x")]), "-o", "out")
    assert message in said and said.startswith("m.onnx: node 'n' (")


def test_values_without_elements_fold(here: Path) -> None:
    nodes = [helper.make_node("ReduceSum", ["x"], ["s"]), helper.make_node("Add", ["s", "b"], ["y"])]
    graph = import_model(save("m.onnx", nodes, [tensor("x", (4, 0)), tensor("b", (1, 1))]))
    answer = interpret(graph, {"x": np.zeros((4, 0), "f4"), "b": np.full((1, 1), 2, "f4")})
    assert answer["y"] == [[2.0]] and [v.name for v in graph.inputs] == ["x", "b"]


def test_parts_without_elements(here: Path) -> None:
    nodes = [
        helper.make_node("Split", ["x"], ["y", "e"], axis=1, num_outputs=2),
        helper.make_node("Relu", ["y"], ["r"]),
    ]
    outputs = [tensor("r", (2, 1)), tensor("e", (2, 0))]
    graph = import_model(save("m.onnx", nodes, [tensor("x", (2, 1))], outputs, opset=18))
    answer = interpret(graph, {"x": np.ones((2, 1), "f4")})
    assert [v.shape for v in answer.values()] == [(2, 1), (2, 0)]
    assert [t.shape for n in graph.nodes() if n.op == "Split" for t in n.types] in ([], [(2, 1)])


def test_graphs_that_cannot_be_written(here: Path, capsys: Capture) -> None:
    words = ["opt", "tiny.onnx", "--dim", "n=2", "--passes", "fold"]
    assert "tiny.onnx/g.eir: cannot write: Not a directory" in refused(capsys, *words, "-o", "tiny.onnx/g.eir")
    assert "--dump tiny.onnx/dump: tiny.onnx is not a folder" in refused(capsys, *words, "--dump", "tiny.onnx/dump")
    assert refused(capsys, *words, "--limit", -1) == "--limit -1: expected a number of rewrites"
    assert refused(capsys, "opt", "none.eir") == "none.eir: cannot be read: No such file or directory"
