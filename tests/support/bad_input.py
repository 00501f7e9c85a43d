"""What tests of wrong input share: models that are written, and commands that must refuse."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from edgec.compiler.cli import main

Capture = pytest.CaptureFixture[str]


def refused(capsys: Capture, *words: object) -> str:
    capsys.readouterr()
    assert main([str(w) for w in words]) == 1
    said = capsys.readouterr().err
    assert said.startswith("edgec: error: ") and said.count("\n") == 1, said
    return said.removeprefix("edgec: error: ").rstrip("\n")


def save(
    name: str, nodes: list[onnx.NodeProto], inputs: list[Any], outputs: list[Any] | None = None, opset: int = 17
) -> str:
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)] if outputs is None else outputs
    graph = helper.make_graph(nodes, "graph", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), name)
    return name


def tensor(name: str, shape: tuple[int, ...] = (1, 3), kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


RELU = helper.make_node("Relu", ["x"], ["y"], name="r")
