"""A detector from images to boxes: convolution, suppression, gathers; a C program reads as many as there are."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgec
from edgec.compiler.bundle import Bundle
from edgec.compiler.compare.bundle import verify
from edgec.compiler.target import find_target

from .models import needs

HERE = Path(__file__).parent
SIZE, CELLS, CLASSES = 32, 64, 3
MOST = 40  # boxes per class


def detector() -> onnx.ModelProto:
    """Boxes [n, 4] (center, size), labels [n], confidences [n, 1]; and the places [2, m] of very bright pixels."""
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).reshape(1, CELLS, 2) * 4 + 2.0
    constants = {
        "w": rng.standard_normal((4 + CLASSES, 3, 5, 5)) * 0.12,
        "b": np.concatenate([np.zeros(4), np.full(CLASSES, -1.0)]),
        "centers": np.concatenate([grid, np.zeros((1, CELLS, 2))], -1),
        "scale": np.asarray([2, 2, 3, 3]),
        "overlap": np.asarray(0.4),
        "confidence": np.asarray(0.6),
        "bright": np.asarray(2.2),
    }
    counts = {
        "flat": [1, 4 + CLASSES, CELLS],
        "parts": [4, CLASSES],
        "most": [MOST],
        "one": 1,
        "axis1": [1],
        "first": [0],
        "box": [2],
        "stop": [3],
        "order": [0, 2, 1],
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "w", "b"], ["map"], pads=[2, 2, 2, 2], strides=[4, 4]),
        node("Reshape", ["map", "flat"], ["rows"]),
        node("Split", ["rows", "parts"], ["raw", "logits"], axis=1),
        node("Sigmoid", ["logits"], ["scores"]),
        node("Transpose", ["raw"], ["offsets"], perm=[0, 2, 1]),
        node("Exp", ["offsets"], ["sides"]),
        node("Mul", ["sides", "scale"], ["scaled"]),
        node("Add", ["scaled", "centers"], ["all"]),
        node(
            "NonMaxSuppression",
            ["all", "scores", "most", "overlap", "confidence"],
            ["kept"],
            center_point_box=1,
            name="nms",
        ),
        node("Gather", ["kept", "one"], ["labels"], axis=1),
        node("Slice", ["kept", "box", "stop", "axis1"], ["which"]),
        node("Squeeze", ["which", "axis1"], ["index"]),
        node("Squeeze", ["all", "first"], ["table"]),
        node("Gather", ["table", "index"], ["boxes"], axis=0),
        node("Transpose", ["scores"], ["by_box"], perm=[0, 2, 1]),
        node("Gather", ["kept", "order"], ["address"], axis=1),
        node("GatherND", ["by_box", "address"], ["found"]),
        node("Unsqueeze", ["found", "axis1"], ["confidences"]),
        node("ReduceMax", ["image"], ["light"], axes=[0, 1], keepdims=0),
        node("Greater", ["light", "bright"], ["over"]),
        node("NonZero", ["over"], ["places"]),
    ]
    weights = [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in constants.items()]
    weights += [numpy_helper.from_array(np.asarray(v, np.int64), k) for k, v in counts.items()]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIZE, SIZE])
    outputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["n", 4]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("confidences", TensorProto.FLOAT, ["n", 1]),
        helper.make_tensor_value_info("places", TensorProto.INT64, [2, "m"]),
    ]
    graph = helper.make_graph(nodes, "detector", [image], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


IMAGES = [
    np.float32(np.random.default_rng(k).standard_normal((1, 3, SIZE, SIZE)) * gain) for k, gain in enumerate((1, 0, 3))
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    folder = tmp_path_factory.mktemp("detector")
    onnx.save(detector(), folder / "detector.onnx")
    return folder, edgec.compile(folder / "detector.onnx", target="host", out=folder / "bundle", name="detector")


def reference(image: Any) -> list[Any]:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(detector().SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"image": image}))


def test_a_c_program_reads_as_many_boxes_as_there_are(built: tuple[Path, Bundle]) -> None:
    folder, bundle = built
    (folder / "images").write_bytes(b"".join(image.tobytes() for image in IMAGES))
    warnings = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    libraries = [bundle.static_library, bundle.folder / "libedgec.a", "-lm"]
    command = ["cc", *warnings, f"-I{bundle.folder}", HERE / "detector.c", *libraries, "-o", "detector"]
    subprocess.run([str(word) for word in command], cwd=folder, check=True)
    done = subprocess.run(["./detector", "images"], cwd=folder, capture_output=True, text=True, check=True)
    lines = iter(done.stdout.splitlines())
    found = []
    for image in IMAGES:
        boxes, labels, _, places = reference(image)
        assert int(next(lines)) == len(boxes)
        for box, label in zip(boxes, labels, strict=True):
            words = next(lines).split()
            assert int(words[0]) == label
            np.testing.assert_allclose([float.fromhex(word) for word in words[1:]], box, rtol=1e-4)
        assert int(next(lines)) == places.shape[1]
        for place in places.T:
            assert next(lines).split() == [str(n) for n in place]
        found.append((len(boxes), places.shape[1]))
    assert next(lines, None) is None
    assert len({n for n, _ in found}) == 3 and len({m for _, m in found}) == 3, "the images should differ in both"


def test_python_sees_the_same(built: tuple[Path, Bundle]) -> None:
    with edgec.load(built[1].folder) as model:
        for image in IMAGES:
            for got, want in zip(model.run({"image": image}).values(), reference(image), strict=True):
                assert got.shape == want.shape and got.dtype == want.dtype
                np.testing.assert_allclose(got, want, rtol=1e-4)


@pytest.mark.arm
def test_an_emulator_cuts_outputs_too(built: tuple[Path, Bundle], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    needs(find_target("arm"))
    edgec.compile(built[0] / "detector.onnx", target="arm", out=tmp_path / "arm")
    assert verify(built[0] / "detector.onnx", tmp_path / "arm").ok
