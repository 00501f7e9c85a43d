"""Layers go back to f32 until the quantized model answers well enough: the bad ones, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgec.compiler.calibration.runner import running
from edgec.compiler.cli import main
from edgec.compiler.exporter import export_model
from edgec.compiler.interpret import interpret
from edgec.compiler.quantize.fallback import (
    disagreement,
    drop_of,
    fewest,
    more,
    worst_first,
)
from edgec.compiler.quantize.held import storing
from edgec.compiler.quantize.placement import place
from tests.support.float_models import BAD, GOOD, Net, canonical, data, head, heavy, precision, quantized


def test_a_bad_layer_goes_back_and_the_others_stay() -> None:
    model = heavy()
    _, whole, _ = quantized(model, data())
    assert set(precision(whole).values()) == {"int8"}
    allowed = 10 ** (-(whole.output_sqnr or 0) / 10) / 4
    graph, report, session = quantized(model, data(), max_drop=allowed)
    assert precision(report) == {**dict.fromkeys(GOOD, "int8"), BAD: "f32"}
    assert report.drop is not None and report.drop <= allowed
    (bad,) = (layer for layer in report.layers if layer.name == BAD)
    assert f"to keep max_drop {allowed:g}: alone in int8 it changes the outputs by" in bad.reason
    assert bad.scale is None and bad.change == max(layer.change or 0 for layer in report.layers)
    assert any("1 of 4 layers stay in f32 to keep max_drop" in note for note in session.notes)
    real, rough = ([interpret(g, {"x": s[None]})["y"] for s in data()] for g in (canonical(model), graph))
    noise, power = np.square(np.subtract(real, rough)).sum(), np.square(real).sum()
    assert report.output_sqnr == pytest.approx(10 * np.log10(power / noise), abs=0.2)
    onnx.checker.check_model(export_model(graph), full_check=True)
    (layer,) = (n for n in graph.nodes() if n.name == BAD)
    assert layer.args[1].node.op == "Const"


def test_what_cannot_be_kept_leaves_the_float_model() -> None:
    graph, report, session = quantized(heavy(), data(), max_drop=0.0)
    assert set(precision(report).values()) == {"f32"} and report.drop == 0.0 and report.output_sqnr is None
    assert any("max_drop 0 is kept by f32 everywhere only: no layer is quantized" in n for n in session.notes)
    assert not any(n.op == "QuantizeLinear" for n in graph.nodes())
    x = data(1, seed=9)
    np.testing.assert_allclose(
        interpret(graph, {"x": x})["y"], interpret(canonical(heavy()), {"x": x})["y"], rtol=1e-4, atol=1e-5
    )


def test_what_is_kept_anyway_leaves_every_layer_in_int8() -> None:
    _, report, session = quantized(heavy(), data(), max_drop=0.5)
    assert set(precision(report).values()) == {"int8"} and report.drop is not None and 0 < report.drop < 0.5
    assert not session.notes


def test_a_score_decides() -> None:
    model = heavy()
    real = [interpret(canonical(model), {"x": sample[None]})["y"] for sample in data()]

    def agreement(run: Any) -> float:
        """100, less the mean error in percent."""
        found = [run({"x": sample[None]})["y"] for sample in data()]
        return 100 - 100 * float(
            np.mean([np.abs(a - b).mean() / np.abs(b).mean() for a, b in zip(found, real, strict=True)])
        )

    _, lax, _ = quantized(model, data(), max_drop=20.0, score=agreement)
    assert set(precision(lax).values()) == {"int8"} and lax.drop is not None
    _, strict, _ = quantized(model, data(), max_drop=0.75 * lax.drop, score=agreement)
    assert precision(strict) == {**dict.fromkeys(GOOD, "int8"), BAD: "f32"}
    assert strict.drop is not None and strict.drop <= 0.75 * lax.drop


def test_a_score_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(heavy(), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=data())
    (tmp_path / "score.py").write_text(
        "import numpy as np\n"
        f"x = np.load({str(tmp_path / 'data.npz')!r})['x']\n"
        "first = []\n"
        "def closeness(run):\n"
        "    y = np.stack([run({'x': sample[None]})['y'] for sample in x])\n"
        "    first.append(y)  # the float model is asked first\n"
        "    return -float(np.square(y - first[0]).sum() / np.square(first[0]).sum())\n"
    )
    words = ["quantize", str(tmp_path / "net.onnx"), "-o", str(tmp_path / "q.onnx"), "--json", "--max-drop", "0.0015"]
    words += ["--calib", str(tmp_path / "data.npz"), "--score", f"{tmp_path / 'score.py'}:closeness"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert {row["name"]: row["precision"] for row in said["layers"]} == {**dict.fromkeys(GOOD, "int8"), BAD: "f32"}
    assert said["layers_f32"] == 1 and 0 < said["drop"] <= 0.0015


def test_outputs_that_are_no_floats_are_left_out() -> None:
    net = Net()
    a = net.node("Relu", net.conv("x", 8, 8))
    b = net.conv(a, 8, 8)
    model = net.model(b, net.node("Greater", b, a), net.node("ArgMax", b, axis=1, keepdims=0))
    for info, kind in zip(model.graph.output[1:], (onnx.TensorProto.BOOL, onnx.TensorProto.INT64), strict=True):
        info.type.tensor_type.elem_type = kind
    graph, report, _ = quantized(model, data(), max_drop=0.01)
    assert report.output_sqnr is not None and report.output_sqnr > 35
    assert [v.type.dtype for v in graph.outputs] == ["f32", "bool", "i64"]


def test_a_row_of_scores_is_right_or_wrong() -> None:
    a, b = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 2.0, 2.1]])
    assert disagreement([b], [a]) == 0.0 and disagreement([a[:, ::-1]], [a]) == 1.0
    field = np.ones((1, 2, 4, 4))
    assert disagreement([field * 1.1], [field]) == pytest.approx(0.01)


def test_a_classifier_is_held_against_its_classes() -> None:
    _, report, _ = quantized(head(), data(16), max_drop=0.25)
    assert report.drop is not None and (16 * report.drop).is_integer()


@pytest.mark.parametrize("needed", range(5))
def test_as_few_layers_as_needed(needed: int) -> None:
    """Trials are few, and the count found is the least that keeps the drop."""
    plan, trials = place(canonical(heavy())), []

    def drop(on: Any) -> float:
        trials.append(on)
        return 0.0 if (on == 0).sum() >= needed else 1.0

    harm = np.array([1.0, 4.0, 3.0, 2.0])
    found = fewest(worst_first(plan, harm), drop, 0.5, lambda *_: None)
    assert found == needed and len(trials) <= 4


def test_scores_that_rise_and_fall_are_tried_from_small_counts_on() -> None:
    tried = []

    def drop(on: Any) -> float:
        tried.append(int((on == 0).sum()))
        return 0.0 if tried[-1] == 4 or tried[-1] >= 80 else 1.0

    assert fewest(np.arange(90), drop, 0.5, lambda *_: None) == 4
    assert tried == [0, 1, 2, 3, 4]


def test_a_count_that_fails_when_compiled_is_followed_by_the_next_that_fits() -> None:
    tried = []

    def drop(on: Any) -> float:
        tried.append(int((on == 0).sum()))
        return 0.0 if tried[-1] >= 12 else 1.0

    assert more(np.arange(90), 8, drop, 0.5, lambda *_: None) == 12
    assert tried == [10, 12]
    assert more(np.arange(9), 8, drop, 0.5, lambda *_: None) == 9  # everything in f32 needs no trial
    assert tried == [10, 12]


def test_many_layers_take_few_trials() -> None:
    tried = []

    def drop(on: Any) -> float:
        tried.append(int((on == 0).sum()))
        return 0.0 if tried[-1] >= 80 else 1.0

    assert fewest(np.arange(90), drop, 0.5, lambda *_: None) == 80
    assert len(tried) <= 18


def test_a_score_sees_outputs_by_name() -> None:
    def score(run: Any) -> float:
        return float(run({"x": 2.0})["b"])

    with storing() as store:
        drop = drop_of(["a", "b"], lambda feed: [feed["x"], 3 * feed["x"]], None, score, store)  # type: ignore[arg-type, list-item]
        assert drop(lambda feed: [feed["x"], feed["x"]]) == 4  # type: ignore[list-item]


def test_the_outcome_itself_keeps_the_drop(monkeypatch: pytest.MonkeyPatch) -> None:
    """More layers go back where integers lose more than the trials did."""
    drops = iter([0.0, 1.0, 1.0, 0.0, 0.0])  # of a trial, what it leads to, trials of 1 and 2 layers in f32, these 2
    monkeypatch.setattr("edgec.compiler.quantize.back_to_f32.drop_of", lambda *_: lambda answer: next(drops))
    _, report, session = quantized(heavy(), data(), max_drop=0.5)
    assert list(precision(report).values()).count("f32") == 2 and report.drop == 0.0
    assert any("2 of 4 layers stay in f32 to keep max_drop" in note for note in session.notes)


def test_the_drop_is_measured_on_the_very_numbers_that_are_compiled() -> None:
    """Scales that move by a millionth move bytes, and with them the score of a detector."""
    answers: list[Any] = []

    def score(run: Any) -> float:
        answers.append(run({"x": data()[0][None]})["y"])
        return 0.0

    graph, _, _ = quantized(heavy(), data(), max_drop=1.0, score=score)
    with running(graph, graph.outputs) as run:
        np.testing.assert_array_equal(run({"x": data()[0][None]})[0], answers[-1])
