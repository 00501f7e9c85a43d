"""Outputs whose size depends on data, from the model to the arrays that `run` returns and the tables that say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgec
from edgec.compiler.bundle import read_bundle
from edgec.compiler.cli import main
from edgec.compiler.compare.bundle import verify
from tests.support.counts import FOUND, X, answers, model

pytest.importorskip("onnxruntime")

NAMES = "n p v r twice first some best joined u i w t top"
TEXT = f"""{FOUND}
twice = Identity(v)
first = Gather(n, 1) axis=0
some = Slice(r, [1], [4], [0])
best = ReduceMax(v, [0]) keepdims=0
joined = Concat(r, x, r) axis=0
u, i, w, t = Unique(x) sorted=0
c = Greater(v, 1.5f)
top = Compress(v, c) axis=0
"""
COUNTED = {
    "n": 1,
    "p": 0,
    "v": 0,
    "r": 0,
    "twice": 0,
    "first": 0,
    "some": 0,
    "joined": 0,
    "u": 0,
    "i": 0,
    "t": 0,
    "top": 0,
}


@pytest.fixture(scope="module")
def made() -> onnx.ModelProto:
    return model(TEXT, {"x": X}, NAMES, opset=18)


@pytest.fixture(scope="module")
def folder(made: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("counts")
    onnx.save(made, where / "counts.onnx")
    edgec.compile(where / "counts.onnx", target="host", out=where / "bundle")
    return where


@pytest.mark.parametrize("x", [X, np.abs(X) + 1, X * 0 + 0.6], ids=["some", "all", "equal"])
def test_arrays_are_as_long_as_the_data_make_them(x: Any, made: onnx.ModelProto, folder: Path) -> None:
    with edgec.load(folder / "bundle") as compiled:
        assert {p.name: p.count_axis for p in compiled.outputs if p.count_axis is not None} == COUNTED
        for feeds in ({"x": x}, {"x": X}):
            got = compiled.run(feeds)
            for name, want in answers(made, feeds).items():
                np.testing.assert_array_equal(got[name], want, name)


def test_nothing_is_found(folder: Path) -> None:
    with edgec.load(folder / "bundle") as compiled:
        got = compiled.run({"x": X * 0})
    assert (got["n"].shape, got["p"].shape, got["r"].shape, got["joined"].shape) == ((2, 0), (0, 2), (0, 5), (4, 5))
    assert got["best"] == -np.inf


def test_manifest_header_and_report_name_the_axis(folder: Path) -> None:
    bundle = read_bundle(folder / "bundle")
    ports = {p["name"]: p for p in bundle.manifest["outputs"]}
    assert {name: p["count"]["axis"] for name, p in ports.items() if p["count"]} == COUNTED
    assert ports["n"]["shape"] == [2, 20] and ports["best"]["count"] is None
    header = bundle.header.read_text()
    assert " *   0  n: int64[2, 0..20], 320 bytes" in header
    assert "#define BUNDLE_OUTPUT_N_COUNT_AXIS 1 /*".replace("BUNDLE", bundle.name.upper()) in header
    assert "OUTPUT_N_COUNT_MOST 20\n" in header and "OUTPUT_BEST_COUNT" not in header
    assert "const int64_t count = ec_output_count(&model, 0);" in header
    assert "2x0..20" in (folder / "bundle" / "report.html").read_text()


def test_inspect_shows_sizes_as_ranges(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (folder / "bundle", folder / "counts.onnx"):
        assert main(["inspect", str(path)]) == 0
        assert "2x0..20" in capsys.readouterr().out
    assert main(["inspect", str(folder / "counts.onnx"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"][0]["count"] == {"axis": 1}


def test_verify_compares_arrays_of_varying_size(folder: Path) -> None:
    found = verify(folder / "counts.onnx", folder / "bundle", runs=3)
    assert found.ok and len(found.differences) == len(NAMES.split())
    assert verify(folder / "counts.onnx", folder / "bundle", layers=True).ok


def test_an_empty_bound_still_has_a_count(tmp_path: Path) -> None:
    """A scalar has no coordinates: what varies is the size of an array without elements."""
    made = model("y = NonZero(a)", {"a": np.float32(1)}, "y")
    edgec.compile(made, target="host", out=tmp_path / "b")
    with edgec.load(tmp_path / "b") as compiled:
        assert compiled.run({"a": np.float32(3)})["y"].shape == (0, 1)
        assert compiled.run({"a": np.float32(0)})["y"].shape == (0, 0)


def test_workers_share_what_is_long(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    feeds = {"x": np.where(rng.random((300, 400)) < 0.3, rng.standard_normal((300, 400)), 0).astype(np.float32)}
    made = model("m = Cast(x) to=9\nn = NonZero(m)\nf = Reshape(m, [-1])\nc = Compress(x, f)", feeds, "n c")
    edgec.compile(made, target="host", out=tmp_path / "b", threads=3)
    with edgec.load(tmp_path / "b") as compiled:
        assert max(step["tasks"] for step in compiled.bundle.steps) > 1
        got = compiled.run(feeds)
    for name, want in answers(made, feeds).items():
        np.testing.assert_array_equal(got[name], want, name)
