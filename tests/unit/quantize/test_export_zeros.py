"""Zero points of channels that are all 0 are left out of ONNX files, which mean the same without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from edgec.compiler.exporter import export_model
from edgec.compiler.quantize.model import PASSES
from tests.support.float_models import MODELS, data, quantized


def test_a_quantized_model_holds_none_for_its_channels(tmp_path: Path) -> None:
    graph, _, _ = quantized(MODELS["depthwise"](), data(), PASSES)
    model = export_model(graph)
    sizes = {c.name: int(np.prod(c.dims)) for c in model.graph.initializer}
    layers = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and sizes.get(n.input[1], 1) > 1]
    assert layers and all(len(n.input) == 2 for n in layers)
    assert set(sizes) <= {name for n in model.graph.node for name in n.input}
    onnx.checker.check_model(model)
    onnx.save(model, tmp_path / "m.onnx")
    ort.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
