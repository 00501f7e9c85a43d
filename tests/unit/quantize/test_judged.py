"""Where answers in 8 bits are judged: at outputs, but before a selection, which leaps where scores are nearly equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import edgec
from edgec.compiler.bundle.manifest import read_bundle
from edgec.compiler.compare.bundle import verify
from edgec.compiler.compare.difference import Difference
from edgec.compiler.compare.noise import in_noise
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Value
from edgec.compiler.quantize.judged import judged, selected, shares
from tests.support.float_models import Net, canonical, data, quantized


def detector(again: bool = False) -> onnx.ModelProto:
    """Boxes of 12 x 12 places, of which those with the five largest scores are the answer, and all scores. `again`: the
    answer goes through a product."""
    net = Net()
    a = net.node("Relu", net.conv("x", 8, 16))
    flat = [net.node("Flatten", net.conv(a, 16, 1, 1), axis=1) for _ in range(2)]
    scores = net.node("Sigmoid", flat[0])
    net.constants.append(onnx.numpy_helper.from_array(np.array([5], np.int64), "five"))
    net.nodes.append(onnx.helper.make_node("TopK", [scores, "five"], ["best", "places"], name="top"))
    found = net.node("GatherElements", flat[1], "places", axis=1)
    return net.model(net.gemm(found, 5, 3) if again else found, "best", net.node("Neg", scores))


def ops_of(found: list[tuple[str, Value]]) -> list[str]:
    return [value.node.op for _, value in found]


def test_what_a_selection_reads_is_judged_in_its_place() -> None:
    graph = canonical(detector())
    assert selected(graph) == ["y", "y1"]
    found = judged(graph)
    assert ops_of(found) == ["Reshape", "Sigmoid", "Neg"] and found[2][0] == "y2"
    assert {value.shape for _, value in found} == {(1, 144)}


def test_an_output_behind_products_of_what_was_selected_is_judged_itself() -> None:
    graph = canonical(detector(again=True))
    assert selected(graph) == ["y1"] and next(name for name, _ in judged(graph)) == "y"


def test_a_selection_of_inputs_is_none() -> None:
    net = Net()
    largest = net.node("ArgMax", "x", axis=3, keepdims=1)
    graph = canonical(net.model(net.node("GatherElements", net.conv("x", 8, 8), largest, axis=3)))
    assert not selected(graph) and [name for name, _ in judged(graph)] == ["y"]


def test_whole_numbers_and_truths_between_are_passed_through() -> None:
    net = Net()
    a = net.conv("x", 8, 8)
    graph = canonical(net.model(net.node("NonZero", net.node("Greater", a, net.constant(0.5)))))
    assert selected(graph) == ["y"] and ops_of(judged(graph)) == ["Conv"]


def test_labels_are_judged_by_scores() -> None:
    """Without them no layer's harm shows: labels are no floats."""
    net = Net()
    labels = net.node("ArgMax", net.conv(net.node("Relu", net.conv("x", 8, 16)), 16, 8), axis=1)
    graph, report, _ = quantized(net.model(labels), data())
    assert report.selected == ["y"] and report.output_sqnr is not None and 25 < report.output_sqnr < 60
    assert [r.precision for r in report.layers] == ["int8", "int8"] and selected(graph) == ["y"]


def close(model: onnx.ModelProto) -> onnx.ModelProto:
    """Scores of the detector that hardly differ: rounding changes which are the largest."""
    for tensor in model.graph.initializer:
        if tensor.name == "c2":
            tensor.CopyFrom(onnx.numpy_helper.from_array(1e-3 * onnx.numpy_helper.to_array(tensor), "c2"))
    return model


@pytest.mark.parametrize("seed", [1, 2])
def test_layers_stay_in_int8_where_only_what_is_selected_leaps(seed: int) -> None:
    model = close(detector())
    graph, report, _ = quantized(model, data(seed=seed))
    assert all(r.precision == "int8" for r in report.layers) and report.output_sqnr is not None
    real, rough = (_answers(g, data(seed=seed)) for g in (canonical(model), graph))
    off = np.square(real - rough).sum() / np.square(real).sum()
    assert off > 0.03, "the answer leaps, or this says nothing"
    assert report.output_sqnr > 20


def _answers(graph: Graph, samples: np.ndarray) -> np.ndarray:
    return np.stack([run(graph, [sample[None]])[0] for sample in samples])


def test_verify_says_that_what_was_selected_is_not_judged(tmp_path: Path) -> None:
    onnx.save(close(detector()), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=data())
    made = edgec.compile(
        tmp_path / "net.onnx",
        out=tmp_path / "made",
        quantize="int8",
        calib=tmp_path / "data.npz",
        passes="+quantize{slower=true}@fold",
    )
    assert read_bundle(made.folder).manifest["quantization"]["selected"] == ["y", "y1"]
    rows = verify(tmp_path / "net.onnx", made.folder).differences
    assert all(row.ok for row in rows)
    (row,) = [row for row in rows if row.value == "y"]
    assert row.note.startswith("int8: not judged behind a selection")


def empty_maps() -> onnx.ModelProto:
    """A map of how sure it is that there is text, of data without any: all of it is near 0."""
    net = Net()
    a = net.node("Relu", net.conv("x", 8, 16))
    off = net.node("Add", net.conv(a, 16, 1, 3, gain=14.0), net.constant(-40.0))
    return net.model(net.node("Transpose", net.node("Sigmoid", off), perm=[0, 2, 3, 1]))


def test_errors_of_shares_count_beside_one(tmp_path: Path) -> None:
    model = empty_maps()
    graph, report, _ = quantized(model, data())
    assert report.shares == ["y"] and not report.selected
    assert all(r.precision == "int8" for r in report.layers) and report.output_sqnr is not None
    real, rough = (_answers(g, data()) for g in (canonical(model), graph))
    assert np.square(real - rough).sum() > 0.01 * np.square(real).sum(), "or they are no reason to leave int8"
    assert real.max() < 0.3 and report.output_sqnr > 30
    onnx.save(model, tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=data())
    slower = "+quantize{slower=true}@fold"
    made = edgec.compile(
        tmp_path / "net.onnx", out=tmp_path / "made", quantize="int8", calib=tmp_path / "data.npz", passes=slower
    )
    assert read_bundle(made.folder).manifest["quantization"]["shares"] == ["y"]
    assert all(row.ok for row in verify(tmp_path / "net.onnx", made.folder).differences)


def test_an_error_of_shares_is_found() -> None:
    row = Difference("output", "y", 1.0, 1e-4)
    want = np.full(100, 1e-4, np.float32)
    manifest = {"quantization": {"shares": ["y"]}}
    assert in_noise(row, want + np.float32(1e-3), want, 40.0, manifest).ok
    assert not in_noise(row, want + np.float32(0.01), want, 40.0, manifest).ok
    assert not in_noise(row, want + np.float32(1e-3), want, 40.0).ok


def test_a_join_of_shares_with_something_else_is_none() -> None:
    net = Net()
    a = net.conv("x", 8, 8)
    graph = canonical(net.model(net.node("Concat", a, net.node("Sigmoid", a), axis=1), net.node("Sigmoid", a)))
    assert shares(graph) == ["y1"]
