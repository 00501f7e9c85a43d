"""A fault of a hundredth in the numbers of one layer is caught, however deep: what f32 can hold does not hide it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from edgec.compiler.compare.difference import TOLERANCE, Difference, relative_error
from edgec.compiler.compare.exact import Arbiter
from edgec.compiler.ports import Port
from tests.support.float_models import SHAPE, Net

DEEP = 12


def deep() -> onnx.ModelProto:
    net = Net()
    x = "x"
    for _ in range(DEEP):
        x = net.node("Relu", net.conv(x, 8, 8))
    return net.model(x)


def answer(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize("layer", range(DEEP))
def test_a_layer_whose_weights_are_off_by_a_hundredth_is_caught(layer: int, tmp_path: Path) -> None:
    model, x = deep(), np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    onnx.save(model, tmp_path / "m.onnx")
    arbiter = Arbiter(tmp_path / "m.onnx", [Port("x", "float32", SHAPE)], {}, in_halves=False)
    want = answer(model, x)
    weights = model.graph.initializer[2 * layer]
    changed = numpy_helper.to_array(weights).copy()
    changed[0] *= np.float32(1.01)  # of one channel alone
    weights.CopyFrom(numpy_helper.from_array(changed, weights.name))
    got = answer(model, x)
    row = arbiter.judge(Difference("output", "y", relative_error(got, want), TOLERANCE), got, want, {"x": x})
    assert not row.ok and row.tolerance == TOLERANCE
    assert arbiter.magnified(row, got, {"x": x}).note == row.note
