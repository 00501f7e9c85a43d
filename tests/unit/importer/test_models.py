"""Trained models, imported and interpreted, answer as in ONNX Runtime. Skipped where the models are not there."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgec.compiler.dtypes import dtype
from edgec.compiler.errors import EdgecError
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret

ort = pytest.importorskip("onnxruntime")
MODELS = Path(__file__).resolve().parents[4] / "shared" / "models"

TRAINED: dict[str, dict[str, Any]] = {
    "mnist_cntk_8": {},
    "hand_keypoint_classifier": {},
    "mlperf_kws_dscnn": {},
    "mlperf_kws_dscnn_int8": {},
    "mlperf_vww_mbv1_025": {},
    "mlperf_ic_resnet8": {},
    "mlperf_ic_resnet8_int8": {},
    "mlperf_ad_autoenc": {},
    "mlperf_sww_1dcnn": {},
    "mobilenet_v1_025_224": {},
    "mobilenet_v2_100_224": {},
    "squeezenet_f32": {},
    "squeezenet_fp16": {"tolerance": 5e-3},
    "fastestdet_coco_352": {},
    "ultraface_rfb_320": {},
    "yunet_n_320": {"scale": 100},
    "yunet_n_dynamic": {"dims": {"height": 64, "width": 96}, "scale": 100},
    "st_yamnet_256": {},
    "mp_palm_detection_lite": {},
    "mp_selfie_segmentation_landscape": {"tolerance": 5e-4},  # f64 arithmetic sides with us
    "magika_standard_v3_3": {},
    "ppocr_v3_mobile_det": {"shapes": {"x": (1, 3, 64, 96)}, "scale": 20},
    "basic_pitch_nmp": {"tolerance": 5e-4},
    "yolox_nano_416": {"scale": 60},
}
UNTRAINED = ["resnet18", "shufflenet_v2_x1_0", "mobilenetv3_large_100"]
SLOW = {"minilm_l6": {"dims": {"sequence": 16}, "below": 2}, "yolov3_416": {}, "vit_tiny_patch16_224": {}}


def compare(
    source: str | onnx.ModelProto,
    tolerance: float = 1e-4,
    below: int = 100,
    scale: float = 1.0,
    **options: Any,
) -> None:
    """Random inputs, output by output: greatest difference relative to the greatest magnitude."""
    graph = import_model(source, notice=lambda text: None, **options)
    rng = np.random.default_rng(1)
    feeds: dict[str, Any] = {}
    for value in graph.inputs:
        row = dtype(value.type.dtype)
        data = rng.standard_normal(value.shape) * scale if row.is_float else rng.integers(0, below, value.shape)
        feeds[value.name] = data.astype(row.numpy)
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    content = source if isinstance(source, str) else source.SerializeToString()
    session = ort.InferenceSession(content, settings, ["CPUExecutionProvider"])
    wanted = session.run(None, feeds)
    got = interpret(graph, feeds)
    assert list(got) == [o.name for o in session.get_outputs()]
    for name, want in zip(got, wanted, strict=True):
        assert got[name].shape == want.shape and got[name].dtype == want.dtype, name
        difference = np.max(np.abs(got[name].astype(np.float64) - want.astype(np.float64)), initial=0)
        largest = np.max(np.abs(want.astype(np.float64)), initial=0)
        assert difference <= tolerance * max(largest, 1e-30), (name, difference, largest)


def located(path: str) -> Path:
    found = MODELS / path
    if not found.exists():
        pytest.skip("trained models are not part of the project")
    return found


def filled(name: str) -> onnx.ModelProto:
    """A graph without weights, with seeded ones of each tensor's own mean and spread."""
    model = onnx.load(located(f"untrained/{name}.onnx"))
    meta = next(m for m in model.metadata_props if m.key == "edgec.weights")
    for w in json.loads(meta.value):
        rng = np.random.default_rng(zlib.crc32(w["name"].encode()))
        data = rng.standard_normal(w["shape"], dtype=np.float32) * np.float32(w["std"]) + np.float32(w["mean"])
        model.graph.initializer.append(onnx.numpy_helper.from_array(data.astype(np.float32), w["name"]))
    return model


@pytest.mark.parametrize("name", TRAINED)
def test_trained_model(name: str) -> None:
    compare(str(located(f"{name}.onnx")), **TRAINED[name])


@pytest.mark.parametrize("name", UNTRAINED)
def test_large_architecture(name: str) -> None:
    compare(filled(name))


@pytest.mark.long
@pytest.mark.parametrize("name", SLOW)
def test_slow_model(name: str) -> None:
    trained = (MODELS / f"{name}.onnx").exists()
    compare(str(located(f"{name}.onnx")) if trained else filled(name), **SLOW[name])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "bodypix_mbv1_075",
            r": 1 unsupported node: poses: TFL_PosenetDecoderOp \(opset 15\): is not an operator",
        ),
        (
            "deeploy_kws",
            r": 10 unsupported nodes: RequantShift_17, .*: RequantShift \(opset 10\): is not an operator",
        ),
        ("mp_face_landmark_attention", r": 11 unsupported nodes: .*TFL_TransformLandmarks"),
        ("super_resolution_x3", "is written for opset 1; expected 6 or later"),
    ],
)
def test_hostile_model_is_refused_in_one_line(name: str, text: str) -> None:
    with pytest.raises(EdgecError, match=text) as caught:
        import_model(located(f"hostile/{name}.onnx"))
    assert "\n" not in str(caught.value)
