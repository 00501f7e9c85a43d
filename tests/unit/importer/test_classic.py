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


def model(
    op: str,
    arrays: dict[str, Any],
    constants: str = "",
    domain: str = ML,
    opset: int = 1,
    result: Any = None,
    **attrs: Any,
) -> tuple[Any, Any]:
    """One node; `constants` names the arguments that are no inputs."""
    kind = helper.np_dtype_to_tensor_dtype
    infos = [helper.make_tensor_value_info(k, kind(a.dtype), a.shape) for k, a in arrays.items() if k not in constants]
    out = helper.make_tensor_value_info("z", kind(np.dtype(result or arrays["x"].dtype)), None)
    held = [numpy_helper.from_array(arrays[k], k) for k in constants]
    graph = helper.make_graph(
        [helper.make_node(op, list(arrays), ["z"], domain=domain, **attrs)], "g", infos, [out], held
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(ML, opset)]
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


TABLE = RNG.standard_normal((5, 4)).astype(np.float32)


@pytest.mark.parametrize("kind", [np.float32, np.int64, np.float64])
@pytest.mark.parametrize("count", [1, 4])
def test_scaler(kind: Any, count: int) -> None:
    offset, scale = RNG.standard_normal((2, count)).tolist()
    same("Scaler", {"x": (TABLE * 8).astype(kind)}, result=np.float32, offset=offset, scale=scale)


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
@pytest.mark.parametrize("shape", [(5, 4), (20,)])
def test_normalizer(norm: str, shape: tuple[int, ...]) -> None:
    """Rows of zeros, and of negative numbers, stay finite."""
    x = TABLE.copy()
    x[0], x[1] = 0, -np.abs(x[1])
    proto, feeds = model("Normalizer", {"x": x.reshape(shape)}, norm=norm)
    want = ort.InferenceSession(proto.SerializeToString()).run(None, feeds)[0]
    np.testing.assert_allclose(interpret(import_model(proto), feeds)["z"], want, rtol=1e-6)


@pytest.mark.parametrize("values", [[7.0], [1.0, 2.0, 3.0, 4.0]])
@pytest.mark.parametrize("missing", [np.nan, 0.5])
def test_imputer(values: list[float], missing: float) -> None:
    x = TABLE.copy()
    x[1, 2], x[3] = 0.5, np.nan
    same("Imputer", {"x": x}, imputed_value_floats=values, replaced_value_float=missing)


def test_imputer_of_integers() -> None:
    x = RNG.integers(-2, 2, (5, 3))
    same("Imputer", {"x": x}, imputed_value_int64s=[9], replaced_value_int64=-1)


def test_feature_vectorizer_cuts_and_fills_up() -> None:
    arrays = {"x": TABLE, "y": TABLE[:, 2:], "w": TABLE[:, :3] * 2}
    same("FeatureVectorizer", arrays, inputdimensions=[4, 3, 2])


@pytest.mark.parametrize("kind", [np.int64, np.float32])
def test_one_hot_encoder(kind: Any) -> None:
    x = np.asarray([[3, 1], [7, -2], [0, 3]]).astype(kind)
    same("OneHotEncoder", {"x": x + kind(0)}, result=np.float32, cats_int64s=[1, 3, -2])


@pytest.mark.parametrize(
    ("x", "result", "attrs"),
    [
        (
            np.asarray([3, 4, 3, 9]),
            np.float32,
            {"keys_int64s": [4, 3], "values_floats": [0.5, 2.5], "default_float": 7.0},
        ),
        (np.asarray([3, 4, 3, 9]), np.int64, {"keys_int64s": [4, 3, 4], "values_int64s": [5, 6, 7]}),
        (np.asarray([np.nan, 2, -1], np.float32), np.int64, {"keys_floats": [2.0, np.nan], "values_int64s": [1, 8]}),
    ],
)
def test_label_encoder(x: Any, result: Any, attrs: dict[str, Any]) -> None:
    same("LabelEncoder", {"x": x}, opset=4, result=result, **attrs)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [5, 3, 9, -1]])
def test_zip_map_gives_the_rows_by_label(labels: list[int]) -> None:
    proto, feeds = model("ZipMap", {"x": TABLE}, classlabels_int64s=labels)
    kind = helper.make_sequence_type_proto(helper.make_map_type_proto(7, helper.make_tensor_type_proto(1, None)))
    proto.graph.output[0].type.CopyFrom(kind)
    (want,) = ort.InferenceSession(proto.SerializeToString()).run(None, feeds)
    got = interpret(import_model(proto), feeds)["z"]
    np.testing.assert_array_equal(got, [[row[label] for label in sorted(labels)] for row in want])


@pytest.mark.parametrize(
    ("op", "attrs", "why"),
    [
        ("OneHotEncoder", {"cats_strings": ["a"]}, "its categories are strings"),
        ("OneHotEncoder", {"cats_int64s": [1], "zeros": 0}, "fails where a category is unknown"),
        ("LabelEncoder", {"keys_int64s": [1], "values_strings": ["a"]}, "maps from or to strings"),
        ("Normalizer", {"norm": "L3"}, "norm 'L3' is unknown; expected MAX, L1 or L2"),
        ("Scaler", {"offset": [0.0, 1.0], "scale": [1.0]}, "offset has 2 entries for f32"),
        ("ZipMap", {"classlabels_int64s": [1, 2]}, "2 labels for 4 columns"),
    ],
)
def test_what_cannot_be_compiled_is_said_in_a_line(op: str, attrs: dict[str, Any], why: str) -> None:
    proto, _ = model(op, {"x": TABLE}, opset=2 if op == "LabelEncoder" else 1, **attrs)
    with pytest.raises(EdgecError, match=why):
        import_model(proto)


def test_others_of_the_domain_are_refused_by_name() -> None:
    proto, _ = model("CategoryMapper", {"x": np.zeros((1, 3), np.int64)})
    with pytest.raises(UnsupportedModel, match="CategoryMapper .*; of its domain, ArrayFeatureExtractor, Binarizer"):
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
