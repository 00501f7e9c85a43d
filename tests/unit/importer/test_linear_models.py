"""Linear models and support vector machines of domain ai.onnx.ml, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgec
from edgec.compiler.cli import main
from edgec.compiler.errors import EdgecError
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret

ort = pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(5)
FEATURES = 6
X = RNG.standard_normal((40, FEATURES)).astype(np.float32)


def proto(op: str, outputs: list[str], **attrs: Any) -> Any:
    node = helper.make_node(op, ["x"], outputs, domain="ai.onnx.ml", **attrs)
    kinds = {"label": TensorProto.INT64}
    infos = [helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), None) for name in outputs]
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", 1, X.shape)], infos)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def same(op: str, outputs: list[str], **attrs: Any) -> None:
    made = proto(op, outputs, **attrs)
    want = ort.InferenceSession(made.SerializeToString()).run(None, {"x": X})
    got = interpret(import_model(made), {"x": X})
    for name, array in zip(outputs, want, strict=True):
        assert got[name].shape == array.shape and got[name].dtype == array.dtype
        np.testing.assert_allclose(got[name], array, rtol=2e-5, atol=2e-6)


def numbers(*shape: int) -> list[float]:
    return [float(v) for v in RNG.standard_normal(shape).astype(np.float32).reshape(-1)]


@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("intercepts", [True, False])
def test_linear_regressor(targets: int, intercepts: bool) -> None:
    more = {"intercepts": numbers(targets)} if intercepts else {}
    same("LinearRegressor", ["y"], targets=targets, coefficients=numbers(targets, FEATURES), **more)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("classes", [2, 4])
def test_linear_classifier(classes: int, transform: str) -> None:
    same(
        "LinearClassifier",
        ["label", "scores"],
        coefficients=numbers(classes, FEATURES),
        intercepts=numbers(classes),
        classlabels_ints=[7, 3, 0, -2][:classes],
        post_transform=transform,
    )


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC"])
def test_one_row_decides_between_two_classes(transform: str) -> None:
    attrs = {"coefficients": numbers(FEATURES), "intercepts": [0.25], "classlabels_ints": [4, 9]}
    same("LinearClassifier", ["label", "scores"], post_transform=transform, **attrs)


def test_scores_of_classes_that_are_strings() -> None:
    """They compile where nobody reads the labels."""
    attrs = {"coefficients": numbers(3, FEATURES), "intercepts": numbers(3), "classlabels_strings": ["a", "b", "c"]}
    made = proto("LinearClassifier", ["label", "scores"], **attrs)
    with pytest.raises(EdgecError, match="its classes are strings; expected classlabels_ints"):
        import_model(made)
    made.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING
    want = ort.InferenceSession(made.SerializeToString()).run(["scores"], {"x": X})[0]
    del made.graph.output[0]
    np.testing.assert_allclose(interpret(import_model(made), {"x": X})["scores"], want, rtol=2e-5, atol=2e-6)


KERNELS = {"LINEAR": [], "RBF": [0.3, 0.0, 0.0], "POLY": [0.5, 0.25, 3.0], "SIGMOID": [0.2, -0.1, 0.0]}


def vectors(count: int, kernel: str) -> dict[str, Any]:
    params = {"kernel_params": KERNELS[kernel]} if KERNELS[kernel] else {"kernel_params": [0.0, 0.0, 0.0]}
    return {"support_vectors": numbers(count, FEATURES), "kernel_type": kernel, **params}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("one_class", [0, 1])
def test_svm_regressor(kernel: str, one_class: int) -> None:
    attrs = {"n_supports": 11, "coefficients": numbers(11), "rho": [0.125], "one_class": one_class}
    same("SVMRegressor", ["y"], **attrs, **vectors(11, kernel))


def machine(classes: int, kernel: str) -> dict[str, Any]:
    counts = [3, 5, 2, 4][:classes]
    return {
        "vectors_per_class": counts,
        "coefficients": numbers(classes - 1, sum(counts)),
        "rho": numbers(classes * (classes - 1) // 2),
        "classlabels_ints": [5, 1, 8, 2][:classes],
        **vectors(sum(counts), kernel),
    }


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_svm_classifier(classes: int, kernel: str) -> None:
    same("SVMClassifier", ["label", "scores"], **machine(classes, kernel))


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_probabilities_by_pairwise_coupling(classes: int) -> None:
    pairs = classes * (classes - 1) // 2
    more = {"prob_a": [-1.5, -2.0, -0.7, -1.1, -0.4, -3.0][:pairs], "prob_b": numbers(pairs)}
    same("SVMClassifier", ["label", "scores"], **machine(classes, "RBF"), **more)


@pytest.mark.parametrize("target", ["host", pytest.param("cortex-m4", marks=pytest.mark.arm)])
def test_a_compiled_machine_answers_the_same(target: str, tmp_path: Path) -> None:
    more = {"prob_a": [-1.5, -2.0, -0.7], "prob_b": numbers(3)}
    made = proto("SVMClassifier", ["label", "scores"], **machine(3, "RBF"), **more)
    path = tmp_path / "machine.onnx"
    onnx.save(made, path)
    edgec.compile(path, target, tmp_path / "out")
    assert main(["verify", str(path), "--bundle", str(tmp_path / "out")]) == 0


def test_a_machine_without_support_vectors() -> None:
    attrs = {"coefficients": numbers(3, FEATURES), "rho": [0.5], "classlabels_ints": [0, 1, 2]}
    same("SVMClassifier", ["label", "scores"], kernel_params=[0.0, 0.0, 0.0], **attrs)


@pytest.mark.parametrize(
    ("op", "outputs", "attrs", "why"),
    [
        ("LinearRegressor", ["y"], {"coefficients": [1.0]}, "coefficients has 1 entries; expected 1 rows of 6"),
        ("LinearRegressor", ["y"], {"coefficients": [1.0] * 6, "post_transform": "LOGISTIC"}, "expected NONE"),
        (
            "LinearClassifier",
            ["label", "s"],
            {"coefficients": [1.0] * 18, "classlabels_ints": [0, 1]},
            "3 classes for 2 labels",
        ),
        (
            "SVMRegressor",
            ["y"],
            {"n_supports": 2, "support_vectors": [0.0] * 11},
            "11 numbers for 2 support vectors of 6",
        ),
        ("SVMClassifier", ["label", "s"], {"classlabels_ints": [0, 1], "coefficients": [0.0]}, "no support vectors"),
        (
            "SVMClassifier",
            ["label", "s"],
            {"classlabels_ints": [0, 1, 2], "prob_a": [1.0], "prob_b": [1.0]},
            "1 prob_a and 1 prob_b for 3 pairs of classes",
        ),
    ],
)
def test_bad_models(op: str, outputs: list[str], attrs: dict[str, Any], why: str) -> None:
    with pytest.raises(EdgecError, match=why):
        import_model(proto(op, outputs, **attrs))
