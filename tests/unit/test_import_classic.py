"""Operators of domain ai.onnx.ml, and constant indices that leave their axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from edgec.compiler.errors import EdgecError, UnsupportedModel
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret

ort = pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(1)
ML = "ai.onnx.ml"


def model(op: str, arrays: dict[str, Any], constants: str = "", domain: str = ML, **attrs: Any) -> tuple[Any, Any]:
    """One node; `constants` names the arguments that are no inputs."""
    kind = helper.np_dtype_to_tensor_dtype
    infos = [helper.make_tensor_value_info(k, kind(a.dtype), a.shape) for k, a in arrays.items() if k not in constants]
    out = helper.make_tensor_value_info("z", kind(arrays["x"].dtype), None)
    held = [numpy_helper.from_array(arrays[k], k) for k in constants]
    graph = helper.make_graph(
        [helper.make_node(op, list(arrays), ["z"], domain=domain, **attrs)], "g", infos, [out], held
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(ML, 1)]
    feeds = {k: a for k, a in arrays.items() if k not in constants}
    return helper.make_model(graph, opset_imports=opsets, ir_version=9), feeds


def same(op: str, arrays: dict[str, Any], constants: str = "", **attrs: Any) -> None:
    proto, feeds = model(op, arrays, constants, **attrs)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    want = session.run(None, feeds)[0]
    got = interpret(import_model(proto), feeds)["z"]
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


def test_binarizer() -> None:
    x = np.asarray([[0.5, 0.25, -np.inf], [-1, np.inf, 0.50001]], np.float32)
    same("Binarizer", {"x": x}, threshold=0.5)
    same("Binarizer", {"x": x})


@pytest.mark.parametrize("threshold", [-1.5, -1.0, 0.0, 0.5])
def test_binarizer_of_integers(threshold: float) -> None:
    x = np.arange(-3, 4, dtype=np.int64)
    proto, feeds = model("Binarizer", {"x": x}, threshold=threshold)
    np.testing.assert_array_equal(interpret(import_model(proto), feeds)["z"], (x > threshold).astype(np.int64))


@pytest.mark.parametrize("constants", ["", "y"])
@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 7)])
@pytest.mark.parametrize("kind", [np.float32, np.int64])
def test_array_feature_extractor(constants: str, shape: tuple[int, ...], kind: Any) -> None:
    x = RNG.integers(-9, 9, shape).astype(kind)
    same("ArrayFeatureExtractor", {"x": x, "y": np.asarray([[3, 0, 6, 3]])}, constants)


def test_others_of_the_domain_are_refused_by_name() -> None:
    proto, _ = model("Scaler", {"x": np.zeros((1, 3), np.float32)})
    with pytest.raises(UnsupportedModel, match="Scaler .*; of its domain, ArrayFeatureExtractor, Binarizer"):
        import_model(proto)


@pytest.mark.parametrize(
    ("op", "indices", "axis"),
    [("Gather", [4], 0), ("GatherElements", [[0, 0, -5]], 0), ("GatherND", [[1, 3]], 1), ("GatherND", [[-5, 0]], 0)],
)
def test_constant_indices_outside_are_an_error(op: str, indices: Any, axis: int) -> None:
    proto, _ = model(op, {"x": np.zeros((4, 3), np.float32), "y": np.asarray(indices)}, "y", domain="")
    with pytest.raises(EdgecError, match=f"leave axis {axis} of "):
        import_model(proto)


def test_an_axis_that_one_hot_lacks_is_an_error() -> None:
    arrays = {"x": np.zeros(3, np.int64), "d": np.asarray(3), "v": np.zeros(2, np.int64)}
    proto, _ = model("OneHot", arrays, "d", domain="", axis=2)
    with pytest.raises(EdgecError, match="axis 2 is outside a tensor of 2 axes"):
        import_model(proto)
