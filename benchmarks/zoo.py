"""Where the models of benchmarks and tests come from: ONNX files in $EDGEC_MODELS (default: beside the checkout).

Graphs without weights lie in the folder `untrained`; their weights are seeded random numbers.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(os.environ.get("EDGEC_MODELS") or ROOT.parent / "shared" / "models")

TRAINED = """
mobilenet_v2_100_224 mobilenet_v1_025_224 squeezenet_f32 yolox_nano_416 fastestdet_coco_352 ultraface_rfb_320
yunet_n_320 mp_palm_detection_lite mlperf_kws_dscnn mlperf_vww_mbv1_025 mlperf_ic_resnet8 mlperf_ad_autoenc minilm_l6
""".split()
UNTRAINED = """
resnet18 resnet50 mobilenetv3_large_100 efficientnet_lite0 shufflenet_v2_x1_0 vit_tiny_patch16_224 distilbert
yolov3_416
""".split()
DIGITS = ROOT / "examples" / "digits" / "digits.onnx"

# Sizes of what a model leaves open, apart from the batch
DIMENSIONS = {"sequence": 128, "sequence_length": 128, "seq": 128, "seq_len": 128}


def locate(name: str) -> Path | None:
    """The file of a model, or of its graph without weights; None where there is neither."""
    paths = (FOLDER / f"{name}.onnx", FOLDER / "untrained" / f"{name}.onnx")
    return next((path for path in paths if path.exists()), None)


def filled(graph: Path, folder: Path) -> Path:
    """A copy of a graph without weights, with seeded normal numbers of each tensor's own mean and spread.

    A file that has its weights is returned as it is.
    """
    model = onnx.load(graph)
    table = next((row for row in model.metadata_props if row.key == "edgec.weights"), None)
    if table is None:
        return graph
    for row in json.loads(table.value):
        noise = np.random.default_rng(zlib.crc32(row["name"].encode())).standard_normal(row["shape"], np.float32)
        weights = noise * np.float32(row["std"]) + np.float32(row["mean"])
        model.graph.initializer.append(numpy_helper.from_array(weights.astype(np.float32), row["name"]))
    path = folder / graph.name
    onnx.save(model, path)
    return path
