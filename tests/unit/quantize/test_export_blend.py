"""Resampling with any filter, which ONNX says tap by tap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgec.compiler.exporter import NoForm, export_model
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import build, const


def _answers(graph: Graph, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What ONNX Runtime makes of the exported graph, and the interpreter of the graph."""
    model = export_model(graph)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (want,) = interpret(graph, {"x": x}).values()
    return session.run(None, {"x": x})[0], want


@pytest.mark.parametrize("mode", ["cubic", "linear"])
def test_an_antialiased_or_cubic_resize(mode: str, tmp_path: Path) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
    g (float[1, 2, 9, 32] x) => (float[1, 2, 13, 20] y) {{
      sizes = Constant <value_ints = [1, 2, 13, 20]> ()
      y = Resize <mode = "{mode}", antialias = 1, coordinate_transformation_mode = "half_pixel"> (x, , , sizes)
    }}"""
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    graph = import_model(path)
    assert any(node.op == "Edgec.Blend" for node in graph.nodes())
    got, want = _answers(graph, np.random.default_rng(0).standard_normal((1, 2, 9, 32)).astype(np.float32))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("taps", [1, 2, 3])
def test_bytes_and_positions_outside(taps: int) -> None:
    positions = np.asarray([[0, 2, 1, 9], [1, 1, 0, -3], [2, 0, 2, 2]], np.int32)[:taps]
    weights = np.linspace(-0.5, 1.5, 4 * taps, dtype=np.float32).reshape(taps, 4)
    x = Value(Node("Input", (), (Type("u8", (2, 3, 5)),), {}, "x"))
    graph = Graph("g", (x,), (build("Edgec.Blend", x, const(positions), const(weights), axis=-2, label="y"),))
    got, want = _answers(graph, np.random.default_rng(0).integers(0, 255, (2, 3, 5), np.uint8))
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-4)


def test_computed_weights_have_no_form() -> None:
    x, by = (Value(Node("Input", (), (Type("f32", shape),), {}, name)) for name, shape in (("x", (3,)), ("w", (1, 2))))
    y = build("Edgec.Blend", x, const(np.asarray([[0, 1]], np.int32)), by, axis=0)
    with pytest.raises(NoForm, match="positions or weights are computed"):
        export_model(Graph("g", (x, by), (y,)))
