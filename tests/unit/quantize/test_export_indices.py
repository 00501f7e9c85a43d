"""Places in narrow integers, which some operators of ONNX take as int64 only."""

from __future__ import annotations

import numpy as np
import onnxruntime

from edgec.compiler.exporter import export_model
from edgec.compiler.interpret import interpret
from edgec.compiler.text import parse

SCATTERED = """
graph @scattered(%x: f32[4, 3], %at: i32[2, 1], %rows: f32[2, 3]) {
  %y = ScatterND(%x, %at, %rows) : f32[4, 3]
  return %y
}
"""


def test_places_in_i32_are_widened() -> None:
    graph = parse(SCATTERED)
    feed = {
        "x": np.zeros((4, 3), np.float32),
        "at": np.array([[2], [0]], np.int32),
        "rows": np.arange(6, dtype=np.float32).reshape(2, 3),
    }
    session = onnxruntime.InferenceSession(export_model(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    (want,) = interpret(graph, feed).values()
    np.testing.assert_array_equal(session.run(None, feed)[0], want)
