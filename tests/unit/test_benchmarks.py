"""The benchmark tools: rows, tables and the part of README that they write; no engine but edgec is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import engines, models, zoo

ROW = models.Row("tiny", 2, {"edgec": 2.0, "onnxruntime": 5.0, "mnn": None, "openvino": 3.0}, {"mnn": "refused"}, 0.5)


def test_the_ratio_is_that_of_the_fastest_other_engine() -> None:
    assert ROW.ratio == 1.5
    assert models.Row("tiny", 1, {"edgec": 2.0, "mnn": None}, {}, 0.5).ratio is None
    assert models.Row("tiny", 1, {"edgec": None, "mnn": 1.0}, {}, None).ratio is None


def test_the_table_shows_what_is_missing() -> None:
    text = models.markdown([ROW], ["edgec", "onnxruntime", "mnn", "openvino"])
    assert "| 2 threads | edgec | ONNX Runtime | MNN | OpenVINO | fastest other / edgec |" in text
    assert "| tiny | 2 | 5 | - | 3 | 1.50 |" in text
    assert "Fastest other engine / edgec over 1 models: geometric mean 1.50, least 1.50." in text


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{models.BEGIN}old\n{models.END}after\n")
    models.write_between(page, "new\n")
    assert page.read_text() == f"before\n{models.BEGIN}new\n{models.END}after\n"
    page.write_text("no markers\n")
    with pytest.raises(SystemExit, match="has no lines"):
        models.write_between(page, "new\n")
    readme = (zoo.ROOT / "README.md").read_text()
    assert readme.count(models.BEGIN) == readme.count(models.END) == 1


def test_engines_take_turns_in_processes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = models.inputs_of(zoo.DIGITS, {})
    running = {name: engines.Engine(name, 1) for name in ("edgec", "ncnn")}
    row = models.measured(zoo.DIGITS, running, 1, feed, rounds=2, seconds=0.01)
    assert row.ms["edgec"] is not None and 0 < row.ms["edgec"] < 100 and row.load_seconds is not None
    assert (row.ms["ncnn"] is None) == ("ncnn" in row.why)
    for engine in running.values():
        engine.stop()
        assert not engine.process.is_alive()


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="nowhere.onnx: no such file, nor a model in"):
        models.chosen(["nowhere.onnx"], tmp_path)
