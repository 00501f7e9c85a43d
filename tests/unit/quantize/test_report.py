"""What manifest, report and `edgec inspect` say of a quantized model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgec
from edgec.compiler.bundle.manifest import read_bundle
from edgec.compiler.calibration.likeness import inputs_like
from edgec.compiler.cli import main
from edgec.compiler.compare.difference import Difference, relative_error
from edgec.compiler.compare.noise import LEAST, SLACK, expected, in_noise
from edgec.compiler.errors import EdgecError
from edgec.compiler.ports import Port, random_inputs
from edgec.compiler.quantize.report import Record, Report, lines, rows
from tests.support.float_models import data, residual

LAYER_KEYS = (
    "name op origin macs precision scale zero_point method weight_scales sqnr_db change_of_output saturated "
    "cost_us_f32 cost_us reason"
).split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    onnx.save(residual(), folder / "net.onnx")
    np.savez(folder / "data.npz", x=data())
    return folder


def compiled(folder: Path, out: str) -> Path:
    calib = folder / "data.npz"
    return edgec.compile(folder / "net.onnx", out=folder / out, quantize="int8", calib=calib, max_drop=0.05).folder


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    return compiled(folder, "out")


def test_the_manifest_says_what_became_of_each_layer(bundle: Path) -> None:
    found = read_bundle(bundle).manifest["quantization"]
    assert found["samples"] == 8 and found["layers_int8"] + found["layers_f32"] == 3 == len(found["layers"])
    assert found["layers_int8"] >= 1 and 0 < found["macs_int8"] <= 1 and 0 < found["drop"] < 0.05
    assert found["output_sqnr_db"] >= found["sample_sqnr_db"] > 25 and 0 < found["cost_us"] < found["cost_us_f32"]
    for row in found["layers"]:
        assert list(row) == LAYER_KEYS and row["cost_us_f32"] > 0 and row["cost_us"] > 0
        assert (row["precision"] == "int8") == (row["scale"] is not None)
        assert row["precision"] == "int8" or row["reason"].startswith("in f32: ")
    (first,) = (row for row in found["layers"] if row["name"] == "Conv_0")
    assert first["origin"] == ["Conv_0"] and first["macs"] == 12 * 12 * 16 * 8 * 9 and first["change_of_output"] > 0


def test_two_compiles_give_the_same_bytes(folder: Path, bundle: Path) -> None:
    again = compiled(folder, "elsewhere")
    for path in [p for p in bundle.rglob("*") if p.is_file()]:
        assert (again / path.relative_to(bundle)).read_bytes() == path.read_bytes(), path.name


def test_inspect_shows_it(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(bundle)]) == 0
    said = capsys.readouterr().out
    assert "SQNR dB" in said and "of the multiplications in int8, by 8 calibration samples" in said
    assert "outputs differ from the float model's by" in said and "us in f32" in said
    assert main(["inspect", str(bundle), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["quantization"]
    assert [row["name"] for row in found["layers"]] == ["Conv_0", "Conv_2", "Conv_5"]


def test_the_report_shows_it(bundle: Path) -> None:
    page = (bundle / "report.html").read_text()
    assert "<h2>Quantization</h2>" in page and page.count("<td>Conv_2<td>Conv<") == 1


def test_a_model_of_floats_has_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = edgec.compile(folder / "net.onnx", out=folder / "float")
    assert made.manifest["quantization"] is None
    assert "Quantization" not in (made.folder / "report.html").read_text()
    assert main(["inspect", str(made.folder)]) == 0
    assert "SQNR" not in capsys.readouterr().out


def test_quantize_prints_its_layers(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["quantize", str(folder / "net.onnx"), "-o", str(tmp_path / "q.onnx"), "--calib", str(folder / "data.npz")]
    assert main([*words, "--layers"]) == 0
    said = capsys.readouterr().out
    assert "Conv_5" in said and "3 of 3 layers and 100.0 % of the multiplications in int8" in said
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [list(row) for row in found["layers"]] == [LAYER_KEYS] * 3 and found["notes"] == []
    assert found["cost_us"] is None and found["layers"][0]["cost_us"] is None  # no target is known


def test_what_edgec_quantize_writes_is_compared_exactly(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    words = ["quantize", str(folder / "net.onnx"), "-o", str(tmp_path / "q.onnx"), "--calib", str(folder / "data.npz")]
    assert main(words) == 0
    edgec.compile(tmp_path / "q.onnx", out=tmp_path / "q")
    assert main(["verify", str(tmp_path / "q.onnx"), "--bundle", str(tmp_path / "q"), "--runs", "3"]) == 0


def test_what_is_not_known_is_left_open() -> None:
    table = Report([Record("a", "Conv", (), 10, "f32", reason="why")], 3, float("inf"), None).table()
    assert json.loads(json.dumps(table, allow_nan=False))["output_sqnr_db"] is None
    assert lines(table) == ["0 of 1 layers and 0.0 % of the multiplications in int8, by 3 calibration samples"]
    assert rows(table["layers"]) == [("a", "Conv", 10, "f32", "", "", "", "", "", "", "why")]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ((), [], "quantization is not a table"),
        (("layers",), {}, "quantization.layers is not a list"),
        (("macs_int8",), None, "quantization.macs_int8 is not a number"),
        (("drop",), "little", "quantization.drop is no number"),
        (("inputs",), {}, r"quantization.inputs is not a list"),
        (("inputs", 0, "mean"), None, r"quantization.inputs\[0\].mean is not a number"),
        (("layers", 1), 3, r"quantization.layers\[1\] is not a table"),
        (("layers", 1, "reason"), None, r"quantization.layers\[1\].reason is not text"),
        (("layers", 2, "scale"), "x", r"quantization.layers\[2\].scale is no number"),
    ],
)
def test_a_damaged_manifest(bundle: Path, tmp_path: Path, path: tuple[Any, ...], value: object, message: str) -> None:
    table = json.loads((bundle / "net.json").read_text())
    at: Any = table
    for key in ("quantization", *path)[:-1]:
        at = at[key]
    at[("quantization", *path)[-1]] = value
    (tmp_path / "net.json").write_text(json.dumps(table))
    with pytest.raises(EdgecError, match=f"damaged manifest: {message}"):
        read_bundle(tmp_path / "net.json")


@pytest.mark.parametrize(("factor", "code"), [(1.0, 0), (30.0, 1)])
def test_a_bundle_in_int8_is_held_against_what_quantization_cost(
    folder: Path, bundle: Path, factor: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    np.savez(folder / "one.npz", x=data()[:1] * np.float32(factor))
    words = ["verify", str(folder / "net.onnx"), "--bundle", str(bundle)]
    assert main([*words, "--inputs", str(folder / "one.npz")]) == code
    said = capsys.readouterr()
    assert "dB signal to noise; " in said.out
    assert ("to compare exactly, compile what `edgec quantize` writes" in said.err) is bool(code)
    assert main([*words, "--layers"]) == 1
    assert "--layers: the bundle computes in int8 by calibration data" in capsys.readouterr().err


def test_random_inputs_are_like_the_calibration_data(
    folder: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Others leave the ranges that 8 bits stand for, or use little of them."""
    pytest.importorskip("onnxruntime")
    x = data()
    (row,) = read_bundle(bundle).manifest["quantization"]["inputs"]
    assert row["name"] == "x" and (row["least"], row["largest"]) == (x.min(), x.max())
    np.testing.assert_allclose([row["mean"], row["deviation"]], [x.mean(), x.std()], rtol=1e-3, atol=1e-5)
    np.savez(tmp_path / "soft.npz", x=0.02 * x)
    soft = edgec.compile(folder / "net.onnx", out=tmp_path / "soft", quantize="int8", calib=tmp_path / "soft.npz")
    for made in (bundle, soft.folder):
        assert main(["verify", str(folder / "net.onnx"), "--bundle", str(made), "--runs", "3"]) == 0
    assert "dB signal to noise; " in capsys.readouterr().out


def test_inputs_without_numbers_and_in_bytes() -> None:
    ports = [Port("ids", "int64", (50,)), Port("b", "uint8", (50,)), Port("x", "float32", (50,))]
    rows = [{"name": name, "least": 100.0, "largest": 102.5, "mean": 101.0, "deviation": 9.0} for name in ("ids", "b")]
    made = inputs_like(ports, rows, 3)
    assert set(made["ids"]) == {100, 101, 102} and made["ids"].dtype == np.int64
    plain = random_inputs(ports, 3)
    assert all(np.array_equal(made[name], plain[name]) for name in ("b", "x"))


def test_what_a_bundle_in_int8_is_held_against() -> None:
    assert expected({}) is None and expected({"quantization": {"layers_int8": 0, "output_sqnr_db": 40.0}}) is None
    assert expected({"quantization": {"layers_int8": 2, "output_sqnr_db": None}}) == LEAST
    assert expected({"quantization": {"layers_int8": 2, "output_sqnr_db": 30.0, "sample_sqnr_db": 8.0}}) == 8.0
    want = np.asarray([3.0, -4.0], np.float32)
    for off, ok in ((0.09, True), (0.11, False), (np.nan, False)):
        got = want + np.asarray([off, 0.0], np.float32)
        row = in_noise(Difference("output", "y", relative_error(got, want), 1e-4), got, want, 40.0)
        assert row.ok is ok and row.tolerance == pytest.approx(0.01 * 10 ** (SLACK / 20))
    counts = np.asarray([3, 4])
    row = Difference("output", "n", 0.5, 0.0)
    assert in_noise(row, counts, counts + 2, 40.0) is row
