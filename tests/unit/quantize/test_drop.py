"""Layers go back to f32 until the quantized model answers well enough: the bad ones, and no others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgec.compiler.calibration.data import calibration
from edgec.compiler.calibration.runner import running
from edgec.compiler.cli import main
from edgec.compiler.errors import EdgecError
from edgec.compiler.exporter import export_model
from edgec.compiler.interpret import interpret
from edgec.compiler.quantize import back_to_f32
from edgec.compiler.quantize.back_to_f32 import hope, improve, rescue
from edgec.compiler.quantize.fallback import (
    LOST,
    cheap,
    disagreement,
    drop_of,
    fewest,
    more,
    predicted,
    rescued,
    worst_first,
)
from edgec.compiler.quantize.held import storing
from edgec.compiler.quantize.job import Job, Options, State
from edgec.compiler.quantize.placement import place
from edgec.compiler.quantize.settings import Wanted
from edgec.compiler.session import Session
from tests.support.float_models import Net, canonical, data, head, quantized

BAD, GOOD = "Conv_5", ["Conv_0", "Conv_2", "Conv_7"]


def heavy(pool: int = 1) -> onnx.ModelProto:
    """The third layer reads fourth powers: a few elements are hundreds of times as large as most. It has a fifteenth of
    the multiplications; with a `pool` of 3, that many elements of either axis made one before it, 0.5 %."""
    net = Net()
    b = net.conv(net.node("Relu", net.conv("x", 8, 16)), 16, 16)
    if pool > 1:
        b = net.node("MaxPool", b, kernel_shape=[pool, pool], strides=[pool, pool])
    square = net.node("Mul", b, b)
    c = net.conv(net.node("Mul", square, square), 16, 16, 1, gain=0.05)
    return net.model(net.conv(net.node("Relu", c), 16, 8, 1))


def precision(report: Any) -> dict[str, str]:
    return {layer.name: layer.precision for layer in report.layers}


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


def test_unasked_only_what_spoils_the_outputs_goes() -> None:
    plan = place(canonical(heavy()))
    assert rescued(plan, np.array([1e-4, 1e-4, 1e-4, 1e-4])).all()
    assert list(rescued(plan, np.array([1e-4, 1e-4, 0.5, 1e-4]))) == [1, 1, 0, 1]
    assert rescued(plan, np.array([1e-4, 0.5, 1e-4, 1e-4])).all()  # it has most of the multiplications
    assert list(rescued(plan, np.array([1e-4, 0.5, 1e-4, 1e-4]), 0.9)) == [1, 0, 1, 1]
    assert list(rescued(plan, np.array([1e-4, 1e-4, LOST, 0.02]))) == [1, 1, 0, 0]  # what is lost hides nothing


@pytest.mark.parametrize(("gain", "real"), [(0.5, 0), (1.5, 1)])
def test_layers_go_back_only_where_that_brings_something(
    gain: float, real: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unasked, what is spared the noise must be worth the time."""
    plan = place(canonical(heavy()))
    job = Job(data(), Wanted(), Options(), Session(), lambda *_: None)  # type: ignore[arg-type]
    monkeypatch.setattr(job, "harmful", lambda state: (None, np.array([1e-4, 1e-4, 0.5, 1e-4]), 50.0))
    monkeypatch.setattr(back_to_f32, "without", lambda job, state, harm, on, why: state)
    monkeypatch.setattr(job, "reconstructed", lambda state: replace(state, sqnr=state.sqnr + gain))
    found = rescue(job, State(plan, {}, sqnr=15.0))
    assert found.sqnr == 15 + gain * real
    assert ("1 of 4 layers stay in f32" in job.session.notes[0]) == bool(real)
    assert ("no few layers' fault" in job.session.notes[0]) != bool(real)


def test_a_cheap_layer_that_makes_most_of_the_noise_goes_back_though_outputs_are_not_poor() -> None:
    model = heavy(pool=3)
    _, whole, _ = quantized(model, data(), max_drop=1.0)  # what may be lost is said: that alone counts
    assert set(precision(whole).values()) == {"int8"} and 20 < (whole.output_sqnr or 0) < 30
    _, report, session = quantized(model, data())
    (bad,) = (layer for layer in report.layers if layer.precision == "f32")
    assert bad.macs < 0.01 * sum(layer.macs for layer in report.layers)
    assert bad.reason.startswith("in f32: alone in int8 it changes the outputs by ")
    assert (report.output_sqnr or 0) >= (whole.output_sqnr or 0) + 6
    before, now = (f"{one.output_sqnr:.1f} dB" for one in (whole, report))
    assert session.notes == [
        f"quantize: 1 of 4 layers stay in f32: with all in int8 the outputs were off by {before}, now by {now}"
    ]
    _, asked, _ = quantized(model, data(), "canonicalize, fold, quantize{real=0}")
    assert set(precision(asked).values()) == {"int8"}


@pytest.mark.parametrize(("target", "real"), [("cortex-m4", True), ("cortex-m0plus", False)])
def test_what_is_cheap_is_judged_by_the_modelled_time_where_the_target_is_known(target: str, real: bool) -> None:
    """Without an FPU multiplications of f32 take tens of times as long as those of int8."""
    _, report, session = quantized(heavy(pool=3), data(), target=target)
    assert (precision(report)["Conv_6"] == "f32") == real
    assert any("with all in int8 the outputs were" in note for note in session.notes) == real


def test_a_layer_that_is_not_cheap_stays_where_outputs_are_not_poor() -> None:
    _, report, session = quantized(heavy(), data())
    assert set(precision(report).values()) == {"int8"} and 20 < (report.output_sqnr or 0) < 30
    assert not session.notes


@pytest.mark.parametrize(
    ("most", "alone", "gain", "steps"),
    [
        (5.9, 0.5, 9, []),  # all cheap ones together bring too little
        (6.1, 2e-4, 9, ["harm"]),  # too little of the noise is theirs
        (6.1, 0.5, 5.9, ["harm", "made"]),
        (6.1, 0.5, 6.1, ["harm", "made", "kept"]),
    ],
)
def test_no_time_is_spent_on_what_cheap_layers_cannot_bring(
    most: float, alone: float, gain: float, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = place(canonical(heavy(pool=3)))
    job = Job(data(), Wanted(), Options(), Session(), lambda *_: None)  # type: ignore[arg-type]
    done: list[str] = []

    def harmful(state: State) -> Any:
        done.append("harm")
        return None, np.array([1e-4, 1e-4, alone, 1e-4]), 50.0

    def reconstructed(state: State) -> State:
        done.append("made")
        return replace(state, sqnr=state.sqnr + gain)

    monkeypatch.setattr(back_to_f32, "hope", lambda job, state: most)
    monkeypatch.setattr(job, "harmful", harmful)
    monkeypatch.setattr(job, "reconstructed", reconstructed)
    monkeypatch.setattr(back_to_f32, "without", lambda job, state, harm, on, why: state)
    found = improve(job, State(plan, {}, sqnr=22.0))
    assert done + ["kept"] * (found.sqnr > 22) == steps
    assert [note.split(" layers")[0] for note in job.session.notes] == ["1 of 4"] * ("kept" in steps)


def test_what_all_cheap_layers_bring_is_measured() -> None:
    """Here two layers of four are cheap, and one of them makes nearly all of the noise."""
    graph = canonical(heavy(pool=4))
    job = Job(calibration(data(), graph), Wanted(), Options(), Session(), lambda *_: None)
    list(job.data.feeds())
    state = job.begun(graph)
    assert list(cheap(state.plan)) == [False, False, True, True]
    _, harm, _ = job.harmful(state)
    assert hope(job, state) == pytest.approx(predicted(harm, np.array([1, 1, 0, 0])), abs=2)
    assert hope(job, State(place(canonical(heavy())), {})) == 0


def test_noise_of_single_layers_adds_up() -> None:
    assert predicted(np.array([0.9, 0.06, 0.04]), np.array([0, 1, 1])) == pytest.approx(10)
    assert predicted(np.array([0.9]), np.zeros(1)) == np.inf and predicted(np.zeros(2), np.ones(2)) == 0


def difference() -> onnx.ModelProto:
    """Two layers that are nearly alike: what differs is less than the rounding of their weights."""
    net = Net()
    w = net.random.normal(size=(8, 8, 1, 1))
    a, b = (net.node("Conv", "x", net.constant(v)) for v in (w, w + 1e-3 * net.random.normal(size=w.shape)))
    return net.model(net.node("Sub", a, b))


def test_what_would_be_of_no_use_stays_as_it_is() -> None:
    graph, report, session = quantized(difference(), data())
    assert set(precision(report).values()) == {"f32"} and report.output_sqnr is None
    assert not any(n.op == "QuantizeLinear" for n in graph.nodes())
    assert all("in f32: alone in int8 it changes the outputs by" in layer.reason for layer in report.layers)
    assert any("all layers stay in f32: in int8 the outputs were off by -" in note for note in session.notes)


def test_what_is_allowed_is_done_even_where_it_is_of_no_use() -> None:
    _, report, _ = quantized(difference(), data(), max_drop=1e6)
    assert set(precision(report).values()) == {"int8"} and report.output_sqnr is not None and report.output_sqnr < 3


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


def hidden(loud: float) -> tuple[onnx.ModelProto, Any]:
    """One channel of the input, which nothing reads, hides the others; its only layer is all there is to quantize."""
    net, calib = Net(), data()
    calib[:, 0] *= loud
    weights = net.random.normal(size=(8, 8, 3, 3))
    weights[:, 0] = 0
    net.node("Conv", "x", net.constant(weights))
    return net.model("Conv_0"), calib


def test_a_model_that_is_poor_everywhere_says_so() -> None:
    model, calib = hidden(30)
    _, report, session = quantized(model, calib)
    assert precision(report) == {"Conv_0": "int8"} and report.output_sqnr is not None and report.output_sqnr < 20
    assert any("in int8 the outputs are off by" in note and "no few layers' fault" in note for note in session.notes)
    _, report, _ = quantized(model, calib, max_drop=0.01)
    assert precision(report) == {"Conv_0": "f32"}


def test_a_model_of_no_use_stays_in_f32() -> None:
    _, report, session = quantized(*hidden(1000))
    assert precision(report) == {"Conv_0": "f32"}
    assert any("all layers stay in f32: in int8 the outputs were off by" in note for note in session.notes)


@pytest.mark.parametrize("loud", [30, 1000])
def test_a_model_whose_inputs_alone_spoil_its_outputs_says_so(loud: float) -> None:
    model, calib = hidden(loud)
    _, _, session = quantized(model, calib)
    (said,) = (note for note in session.notes if "magnifies small errors" in note)
    scale = (calib.max() - calib.min()) / 255
    real, rough = (
        [interpret(canonical(model), {"x": x[None]})["y"] for x in xs] for xs in (calib, np.rint(calib / scale) * scale)
    )
    wanted = 10 * np.log10(np.square(real).sum() / np.square(np.subtract(real, rough)).sum())
    found = float(said.split("off by ")[1].split(" dB")[0])
    assert found == pytest.approx(wanted, abs=2)


def test_a_model_that_is_poor_for_other_reasons_does_not_say_so() -> None:
    _, _, session = quantized(difference(), data())
    assert session.notes and not any("magnifies small errors" in note for note in session.notes)


def test_a_share_of_the_layers_stays_real_and_the_others_are_rounded_with_that_in_view() -> None:
    spec = "canonicalize, fold, quantize{{real={}}}"
    _, whole, _ = quantized(heavy(), data(), spec.format(0))
    _, spared, _ = quantized(heavy(), data(), spec.format(0.25))
    assert set(precision(whole).values()) == {"int8"}
    assert precision(spared) == {**dict.fromkeys(GOOD, "int8"), BAD: "f32"}
    assert (spared.output_sqnr or 0) > (whole.output_sqnr or 0) + 6
    (bad,) = (layer for layer in spared.layers if layer.name == BAD)
    assert bad.reason.startswith("in f32: alone in int8 it changes the outputs by ")
    _, none, _ = quantized(heavy(), data(), spec.format(1))
    assert set(precision(none).values()) == {"f32"}


@pytest.mark.parametrize("share", ["-0.1", "1.5"])
def test_a_share_that_is_none(share: str) -> None:
    with pytest.raises(EdgecError, match=f"quantize: real={share}: expected a share of the layers, from 0 to 1"):
        quantized(heavy(), data(), f"canonicalize, fold, quantize{{real={share}}}")
