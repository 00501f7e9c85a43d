"""Results whose size depends on data, which ONNX finds in their own size: zeros after them, and what counts them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgec.compiler.exporter import NoForm, export_model
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.text import parse

NON_ZERO = """
g (float[6, 2] x) => (float[n, 2] y, int64[1, n] at) {
  one = Constant <value_ints = [1]> ()
  sums = ReduceSum <keepdims = 0> (x, one)
  zero = Constant <value_float = 0.0> ()
  above = Greater (sums, zero)
  at = NonZero (above)
  turned = Transpose <perm = [1, 0]> (at)
  y = GatherND (x, turned)
}"""
ZEROS_AFTER = """
g (float[2, 3] x) => (int64[2, n] y, int64[2, 4] z) {
  at = NonZero (x)
  shape = Constant <value_ints = [2, 4]> ()
  zeros = ConstantOfShape <value = int64[1] {0}> (shape)
  y = Concat <axis = 1> (at, zeros)
  from = Constant <value_ints = [0]> ()
  to = Constant <value_ints = [4]> ()
  along = Constant <value_ints = [1]> ()
  z = Slice (y, from, to, along)
}"""
COMPRESS = """
g (float[2, 6] x) => (float[2, n] y) {
  zero = Constant <value_float = 0.0> ()
  first = ReduceMax <axes = [0], keepdims = 0> (x)
  above = Greater (first, zero)
  found = Compress <axis = -1> (x, above)
  y = Relu (found)
}"""
SUPPRESSION = """
g (float[1, 6, 4] x) => (float[n, 4] y) {
  most = Constant <value_ints = [3]> ()
  overlap = Constant <value_floats = [0.5]> ()
  least = Constant <value_floats = [0.1]> ()
  last = Constant <value_ints = [2]> ()
  one = Constant <value_ints = [1]> ()
  sums = ReduceSum <keepdims = 0> (x, last)
  scores = Unsqueeze (sums, one)
  kept = NonMaxSuppression <center_point_box = 1> (x, scores, most, overlap, least)
  two = Constant <value_int = 2> ()
  which = Gather <axis = 1> (kept, two)
  flat = Squeeze (x)
  y = Gather (flat, which)
}"""


@pytest.mark.parametrize("text", [NON_ZERO, ZEROS_AFTER, COMPRESS, SUPPRESSION])
@pytest.mark.parametrize("shift", [0.0, -5.0, 5.0])
def test_what_is_found_is_found_again(text: str, shift: float, tmp_path: Path) -> None:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 13]>{text}')
    onnx.save(model, tmp_path / "m.onnx")
    graph = import_model(tmp_path / "m.onnx")
    exported = export_model(graph)
    onnx.checker.check_model(exported, full_check=True)
    onnx.save(exported, tmp_path / "again.onnx")
    shape = graph.inputs[0].shape
    feed = {"x": np.random.default_rng(3).standard_normal(shape).astype(np.float32) + np.float32(shift)}
    want, got = (
        onnxruntime.InferenceSession(str(tmp_path / name), providers=["CPUExecutionProvider"]).run(None, feed)
        for name in ("m.onnx", "again.onnx")
    )
    again = list(interpret(import_model(tmp_path / "again.onnx"), feed).values())
    for a, b, c in zip(want, got, again, strict=True):
        np.testing.assert_array_equal(b, a)
        np.testing.assert_array_equal(c, a)


def test_a_list_of_something_else_has_no_form() -> None:
    graph = parse("""
graph @listed(%x: i32[2, 3], %n: i32[2]) {
  %rows, %count = Edgec.Listed(%x, %n) : i64[6, 2], i64[]
  return %rows
}
""")
    with pytest.raises(NoForm, match="Edgec.Listed of Input"):
        export_model(graph)
