"""How far off answers in 8 bits are: of all samples together, of the worst one, and when that is said."""

from __future__ import annotations

from math import inf
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgec
from edgec.compiler.bundle.manifest import read_bundle
from edgec.compiler.quantize.fallback import LOST, distance
from edgec.compiler.quantize.noise import Weakest, warning, weakest, worst_sqnr


def test_the_worst_value_and_the_worst_sample() -> None:
    loud, soft = np.full(4, 100.0, np.float32), np.full(4, 1.0, np.float32)
    real = [[loud, soft], [loud, loud]]
    rough = [[loud + 1, soft - 1], [loud + 2, loud]]
    assert worst_sqnr(real, rough) == pytest.approx(10 * np.log10(2e4 / 4))
    least = weakest(real, rough)
    assert least is not None and (least.sample, least.output) == (1, 0) and least.sqnr == pytest.approx(0.0)


def test_what_does_not_count() -> None:
    ids, one = np.arange(4), np.ones(1, np.float32)
    assert weakest([[ids], [one]], [[ids + 1], [one + 1]]) is None
    assert weakest([[np.ones(3, np.float32)]], [[np.ones(3, np.float32)]]) is None
    assert worst_sqnr([[ids]], [[ids + 1]]) == inf


def test_answers_that_are_not_finite_are_as_far_off_as_can_be() -> None:
    loud = np.full(4, 100.0, np.float32)
    broken = np.array([100, np.nan, 100, 100], np.float32)
    assert worst_sqnr([[loud, loud]], [[loud, broken]]) == -inf
    assert distance([broken], [loud]) == distance([loud * np.inf], [loud]) == LOST
    masked = np.array([1, -np.inf], np.float32)  # as the float model answers it
    assert worst_sqnr([[masked]], [[masked]]) == inf and distance([masked], [masked]) == 0


def test_when_it_is_said() -> None:
    assert warning(None, inf, "y", 0) is None
    assert warning(Weakest(3, 0, 12.0), 30.0, "y", 6) is None  # usable
    assert warning(Weakest(3, 0, 9.0), 12.0, "y", 6) is None  # as all are
    said = warning(None, 9.0, "", 0)
    assert said is not None and "the outputs are off by 9.0 dB, of little use" in said
    said = warning(Weakest(3, 0, -2.0), 25.0, "y", 6)
    assert said is not None and "output 'y' is off by -2.0 dB on calibration sample 6" in said


def test_a_sample_far_softer_than_the_others_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    w = helper.make_tensor("w", TensorProto.FLOAT, [16, 3, 3, 3], rng.normal(size=432).astype(np.float32))
    conv = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 12, 12])
        for name, channels in (("x", 3), ("y", 16))
    ]
    graph = helper.make_graph([conv], "net", ports[:1], ports[1:], [w])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx"
    )
    x = rng.normal(size=(8, 3, 12, 12)).astype(np.float32)
    for name, factor in (("even", 1.0), ("apart", 1e-3)):
        x[5] *= np.float32(factor)
        np.savez(tmp_path / "data.npz", x=x)
        made = edgec.compile(
            tmp_path / "net.onnx",
            out=tmp_path / name,
            quantize="int8",
            calib=tmp_path / "data.npz",
            passes="+quantize{slower=true}@fold",
        )
        manifest = read_bundle(made.folder).manifest
        said = [note for note in manifest["notes"] if "on calibration sample 5" in note]
        assert len(said) == (factor < 1)
        assert (manifest["quantization"]["sample_sqnr_db"] < 10) is (factor < 1)
