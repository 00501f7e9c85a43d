"""A Resize is written by scales only where all readers take the same sizes from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgec.compiler.exporter import export_model
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret


@pytest.mark.parametrize(("size", "wanted"), [(3, 7), (3, 6), (6, 13), (7, 15), (12, 7), (49, 71)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_sizes_that_scales_in_f32_miss_by_a_hair(size: int, wanted: int, mode: str, tmp_path: Path) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[1, 2, {size}, {size}] x) => (float[1, 2, {wanted}, {wanted}] y) {{
      sizes = Constant <value_ints = [1, 2, {wanted}, {wanted}]> ()
      r = Resize <mode = "{mode}", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (x, , , sizes)
      y = Add (r, r)
    }}"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    graph = import_model(tmp_path / "m.onnx")
    model = export_model(graph)
    onnx.checker.check_model(model, full_check=True)
    x = np.random.default_rng(0).standard_normal((1, 2, size, size)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    got, want = session.run(None, {"x": x})[0], interpret(graph, {"x": x})["y"]
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
