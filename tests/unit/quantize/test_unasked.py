"""Layers that spoil the outputs go back to f32 unasked, where that brings something; what cannot be helped is said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from edgec.compiler.calibration.data import calibration
from edgec.compiler.errors import EdgecError
from edgec.compiler.interpret import interpret
from edgec.compiler.quantize import back_to_f32
from edgec.compiler.quantize.back_to_f32 import hope, improve, rescue
from edgec.compiler.quantize.fallback import (
    LOST,
    cheap,
    predicted,
    rescued,
)
from edgec.compiler.quantize.job import Job, Options, State
from edgec.compiler.quantize.placement import place
from edgec.compiler.quantize.settings import Wanted
from edgec.compiler.session import Session
from tests.support.float_models import BAD, GOOD, Net, canonical, data, heavy, precision, quantized


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
