"""Layer by layer, what a step makes is held against the value of the model that it is: bytes against bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

import edgec
from edgec.compiler.compare.bundle import verify
from edgec.compiler.compare.reference import _names_by_node
from edgec.compiler.exporter import export_model
from tests.support.float_models import Net, quantized


def heads() -> onnx.ModelProto:
    """A product of two values, whose axes change places before a layer reads it in 8 bits."""
    net = Net((1, 4, 6, 6))
    moved = net.node("Transpose", net.node("MatMul", "x", "x"), perm=[0, 2, 1, 3])
    net.constants.append(numpy_helper.from_array(np.asarray([6, 24]), "rows"))
    return net.model(net.gemm(net.node("Reshape", moved, "rows"), 24, 8))


def test_a_step_that_moves_bytes_is_held_against_the_bytes_of_what_it_makes(tmp_path: Path) -> None:
    calib = np.random.default_rng(0).normal(size=(8, 4, 6, 6)).astype(np.float32)
    onnx.save(export_model(quantized(heads(), calib)[0]), tmp_path / "q.onnx")
    bundle = edgec.compile(tmp_path / "q.onnx", out=tmp_path / "net")
    found = verify(tmp_path / "q.onnx", bundle.folder, layers=True, inputs={"x": calib[:1]})
    assert found.ok and not found.skipped
    (moved,) = (d for d in found.differences if d.where == "Transpose_1")
    assert moved.value == "Transpose_1.q"


def test_a_value_is_also_what_it_is_when_quantized() -> None:
    nodes = [
        helper.make_node("Transpose", ["a"], ["t"], "turn"),
        helper.make_node("QuantizeLinear", ["t", "s", "z"], ["t8"], "bytes"),
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["x8"]),
    ]
    proto = helper.make_model(helper.make_graph(nodes, "g", [], []))
    assert _names_by_node(proto) == {
        "t": ["t", "t8"], "turn": ["t"], "t8": ["t8"], "bytes": ["t8"], "x": ["x", "x8"], "x8": ["x8"],
    }  # fmt: skip


def test_phases_of_a_transposed_convolution_are_not_taken_for_its_image(tmp_path: Path) -> None:
    net = Net((1, 16, 16, 16))
    net.constants.append(
        numpy_helper.from_array(np.random.default_rng(0).normal(size=(16, 16, 2, 2)).astype("f4"), "w")
    )
    image = net.node("Relu", net.node("ConvTranspose", "x", "w", strides=[2, 2]))
    onnx.save(net.model(net.gemm(net.node("Flatten", image), 16 * 32 * 32, 2)), tmp_path / "up.onnx")
    bundle = edgec.compile(tmp_path / "up.onnx", out=tmp_path / "up")
    found = verify(tmp_path / "up.onnx", bundle.folder, layers=True)
    assert found.ok and found.skipped == ("ConvTranspose_0",)
    assert found.differences[0].value == "Relu_1"
