"""Operators from outside that are not whole: what is missing is said in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

import edgec
from edgec.compiler.importer.table import CONVERTERS
from edgec.compiler.op import OPS, Op
from edgec.compiler.ops.common import FLOATS, same


def cube_model() -> onnx.ModelProto:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Cube", ["x"], ["y"])], "cubes", ports[:1], ports[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def cube(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Adds the operator Cube without code; its converter writes an operator of the given name."""

    def add(made: str) -> None:
        monkeypatch.setitem(OPS, "Cube", Op("Cube", (1, 1), same(FLOATS), lambda x: x * x * x, "elementwise"))
        monkeypatch.setitem(CONVERTERS, "Cube", lambda c: c.emit(made, c.arg()))

    return add


def test_an_operator_without_code(cube: Callable[[str], None], tmp_path: Path) -> None:
    cube("Cube")
    with pytest.raises(edgec.EdgecError, match="Cube 'y': no code computes it; expected an entry of SCALAR or"):
        edgec.compile(cube_model(), out=tmp_path / "out")


def test_a_converter_that_writes_an_unknown_operator(cube: Callable[[str], None], tmp_path: Path) -> None:
    cube("Kube")
    with pytest.raises(edgec.EdgecError, match=r"node 'y' \(Cube\): unknown operator 'Kube'; did you mean 'Cube'?"):
        edgec.compile(cube_model(), out=tmp_path / "out")


def test_a_row_of_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match="operator row 'Cube': kind 'elementwize'; did you mean 'elementwise'?"):
        Op("Cube", (1, 1), same(FLOATS), lambda x: x, "elementwize")  # type: ignore[arg-type]
