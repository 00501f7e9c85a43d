"""`edgec compress` and `edgec.compress` on small models: what is written, what is said, and every refusal."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgec
from edgec.compiler.cli import main
from edgec.compiler.compress.compressor import BudgetError
from tests.support.float_models import Net, data, head, residual

FILES = ("net.h", "net.json", "libnet.a", "libnet.so", "report.html", "net.compressed.onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compress")
    onnx.save(residual(), folder / "net.onnx")
    onnx.save(head(), folder / "head.onnx")
    np.savez(folder / "data.npz", x=data(16)[:, None])
    (folder / "score.py").write_text(
        "import numpy as np\n"
        "def energy(run):\n    return float(np.square(run({'x': np.ones((1, 8, 12, 12), np.float32)})['y']).mean())\n"
        "def text(run):\n    return 'good'\n"
    )
    return folder


def words(folder: Path, *more: str, model: str = "net", models: Sequence[Path] = ()) -> list[str]:
    files = [str(folder / f"{model}.onnx"), *map(str, models)]
    return ["compress", *files, "--calib", str(folder / "data.npz"), "--jobs", "1", *more]


@pytest.fixture(scope="module")
def made(folder: Path) -> Path:
    """The smallest error within a flash that only fewer bits and channels fit into."""
    whole = edgec.compile(folder / "net.onnx", out=folder / "float")
    limit = whole.weights_bytes + whole.code_bytes - 12_000
    out = folder / "out"
    assert (
        main(words(folder, "--max-flash", str(limit), "--methods", "int8,channels", "--time", "30s", "-o", str(out)))
        == 0
    )
    return out


def test_bundle_and_model_are_written(made: Path) -> None:
    assert all((made / name).is_file() for name in FILES)
    onnx.checker.check_model(str(made / "net.compressed.onnx"), full_check=True)
    manifest = json.loads((made / "net.json").read_text())
    assert "net.compressed.onnx" in manifest["files"]
    assert any(note.startswith("compressed: ") for note in manifest["notes"])


def test_the_onnx_file_answers_as_the_bundle_and_compiles_to_it(made: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(made / "net.compressed.onnx"), providers=["CPUExecutionProvider"])
    again = edgec.compile(made / "net.compressed.onnx", out=tmp_path / "again", name="net")
    with edgec.load(made) as model, edgec.load(again.folder) as same:
        for x in data(4, seed=5):
            (want,), got = session.run(None, {"x": x[None]}), model.run({"x": x[None]})["y"]
            assert np.abs(got - want).max() <= 0.02 * np.abs(want).max()
            np.testing.assert_array_equal(got, same.run({"x": x[None]})["y"])
    assert (again.weights_bytes, again.code_bytes) == (model.bundle.weights_bytes, model.bundle.code_bytes)


def by_multiplications(model: Any, reference: Any, feed: Any) -> tuple[float, float]:
    """In place of times, which say little of a model of some microseconds on a busy machine."""
    one, other = (sum(step["macs"] for step in m.bundle.steps) / 1e6 for m in (model, reference))
    return one, other


def test_what_is_printed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgec.compiler.compress.search.evaluate.paired", by_multiplications)
    out = tmp_path / "out"
    more = ["--max-drop", "0.2", "--methods", "channels", "--time", "30s", "--layers", "-o", str(out)]
    assert main(words(folder, *more)) == 0
    said, progress = capsys.readouterr()
    assert "latency" in said and "as it is" in said and "--max-drop 0.2: " in said
    assert "times as fast as the float model" in said and "shape before" in said
    assert "as it is: " in progress and "channels 20 % (draft): " in progress


def test_json_holds_the_whole_report(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--max-drop", "0.5", "--score", f"{folder / 'score.py'}:energy", "--methods", "int8", "--json"]
    assert main(words(folder, *more, "-o", str(tmp_path / "out"))) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "net" and found["drop_is"] == "points of the score"
    assert found["limits"] == {"drop": 0.5} and found["samples"] == {"fitted": 16, "judged": 16}
    chosen, whole = found["chosen"], found["float"]
    assert chosen["drop"] == pytest.approx(whole["score"] - chosen["score"], abs=1e-5)
    assert chosen["drop"] <= 0.5 and chosen["latency_ms"] <= whole["latency_ms"] * 1.03
    assert all(p["flash_bytes"] == p["weights_bytes"] + p["code_bytes"] for p in found["points"])
    assert Path(found["onnx"]).is_file() and len(found["memory"]["chosen"]) > 1


def test_an_impossible_budget_writes_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    more = ["--max-flash", "100", "--max-ram", "1M", "--methods", "channels", "--time", "10s", "-o", str(out)]
    assert main(words(folder, *more)) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("edgec: error: net: no model meets the limits; the nearest (channels ")
    assert (
        "misses --max-flash 100 bytes by " in error
        and "without --max-flash" in error
        and "--max-ram 1M by" not in error
    )
    assert not out.exists()


def test_from_python(folder: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    made = edgec.compress(
        residual(),
        calib=list(data(8)[:, None]),
        max_ram="1M",
        out=tmp_path / "out",
        name="net",
        progress=lines.append,
    )
    assert made.bundle.folder == tmp_path / "out" and made.model.is_file()
    assert made.table["chosen"]["what"] == "as it is" and len(lines) == 1
    with pytest.raises(BudgetError) as failed:
        edgec.compress(residual(), calib=data(4), max_latency=1e-9, methods=["channels"], time="20s", jobs=1)
    assert failed.value.outcome.limits.latency == pytest.approx(1e-6)


def test_several_models_and_targets(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--target", "host", "--target", "x86", "--max-ram", "1M", "-o", str(tmp_path)]
    assert main(words(folder, *more, models=[folder / "head.onnx"])) == 0
    names = ["head-host", "head-x86", "net-host", "net-x86"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    progress = capsys.readouterr().err
    assert all(f"edgec: {name}: " in progress for name in names)


def test_one_that_fails_does_not_stop_the_others(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--max-ram", "1M", "-o", str(tmp_path / "out")]
    (tmp_path / "none.onnx").write_bytes(b"no model")
    assert main(words(folder, *more, models=[tmp_path / "none.onnx"])) == 1
    assert "none.onnx" in capsys.readouterr().err and (tmp_path / "out" / "net-host" / "net.json").exists()


BAD = [
    (["--max-flash", "900Q"], "max_flash: '900Q'; expected a size"),
    (["--max-flash", "0"], "max_flash: '0'; expected a size"),
    (["--max-ram", "-5K"], "expected"),
    (["--max-latency", "20"], "max_latency: '20'; expected a time"),
    (["--max-latency", "soon"], "max_latency: 'soon'; expected a time"),
    (["--max-drop", "-1"], "max_drop: -1.0; expected a number that is not negative"),
    (["--max-drop", "x"], "--max-drop x: expected a number"),
    ([], "no limit is given; expected one or more of --max-latency, --max-flash, --max-ram, --max-drop"),
    (["--max-ram", "1M", "--methods", "int4"], "no method 'int4'; did you mean 'int8'"),
    (["--max-ram", "1M", "--time", "0"], "time: '0'; expected a time such as 10m"),
    (["--max-ram", "1M", "--threads", "0"], "threads: 0 is not a number of workers"),
    (["--max-ram", "1M", "--score", "none.py:f"], "--score none.py:f: none.py: no such Python file"),
    (["--max-ram", "1M", "--score", "none.py"], "--score none.py: expected none.py:function"),
    (["--max-ram", "1M", "--target", "vax"], "unknown target 'vax'"),
    (["--max-ram", "1M", "--calib", "no.npz", "--calib", "two.npz"], "--calib: given 3 times for 1 models"),
    (["--max-ram", "1M", "--target", "x86", "--target", "x86"], "net-x86: 2 results would go to this folder"),
    (["--max-ram", "1M", "--name", "a b"], "model name 'a b' cannot be used in C"),
    (["--max-ram", "1M", "--shape", "z=1x2"], "z"),
]


@pytest.mark.parametrize(("more", "error"), BAD, ids=[" ".join(more) or "no limit" for more, _ in BAD])
def test_bad_input(folder: Path, more: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(folder, *more, "-o", str(folder / "bad"))) == 1
    said = capsys.readouterr().err
    assert error in said and "Traceback" not in said and said.strip().count("edgec: error") == 1
    assert not (folder / "bad").exists()


def test_calibration_data_that_is_missing_or_does_not_fit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = ["compress", str(folder / "net.onnx"), "--max-ram", "1M", "--jobs", "1", "-o", str(folder / "bad")]
    assert main(first) == 1
    assert "compress: no calibration data is given; expected calib=data.npz" in capsys.readouterr().err
    np.savez(folder / "wrong.npz", x=np.zeros((4, 3, 3), np.float32))
    assert main([*first, "--calib", str(folder / "wrong.npz")]) == 1
    assert "has shape [4, 3, 3]; expected N samples of [1, 8, 12, 12]" in capsys.readouterr().err


def test_a_model_that_is_missing_is_known_before_any_work(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [str(folder / "net.onnx"), str(folder / "none.onnx")]
    assert main(["compress", *models, "--calib", str(folder / "data.npz"), "--max-ram", "1M", "--jobs", "1"]) == 1
    said = capsys.readouterr().err
    assert said == f"edgec: error: {folder / 'none.onnx'}: no such file\n"


def test_a_score_that_is_no_number(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--max-drop", "1", "--score", f"{folder / 'score.py'}:text", "-o", str(folder / "bad")]
    assert main(words(folder, *more)) == 1
    assert "score: gave 'good'; expected a number" in capsys.readouterr().err


def test_a_model_that_onnx_cannot_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = Net()
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Abs", ["x"], ["a"])], "b", [], [onnx.helper.make_tensor_value_info("a", 1, None)]
    )
    condition = net.node("Greater", net.node("ReduceSum", "x", keepdims=0), net.constant(0.0))
    onnx.save(net.model(net.node("If", condition, then_branch=body, else_branch=body)), tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", x=data(2)[:, None])
    assert main(words(tmp_path, "--max-ram", "1M", "-o", str(tmp_path / "out"), model="m")) == 1
    assert "compress: the model cannot be written as ONNX: If" in capsys.readouterr().err


class Page(HTMLParser):
    """Tags that are open, what refers elsewhere, and headings."""

    EMPTY = ("meta", "tr", "td", "th", "p", "line", "rect", "path", "circle", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        given: Mapping[str, Any] = dict(attrs)
        self.links += [str(given[key]) for key in ("src", "href", "data", "action") if key in given]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag


def test_the_page_is_whole_and_stands_alone(made: Path) -> None:
    text = (made / "report.html").read_text()
    page = Page()
    page.feed(text)
    page.close()
    assert not page.open and not page.links and "script" not in page.tags
    assert "http:" not in text.replace("http://www.w3.org", "") and "https:" not in text and "url(" not in text
    assert page.tags.count("svg") >= 4 and "circle" in page.tags
    for word in ("Pareto", "Memory over time", "Layers", "SQNR", "Bundle", "Steps"):
        assert word in text


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def test_the_page_opens_in_a_browser(made: Path, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no browser")
    address = (made / "report.html").resolve().as_uri()
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    options += ["--window-size=1000,1400", f"--screenshot={tmp_path / 'page.png'}", "--dump-dom"]
    done = subprocess.run([browser, *options, address], capture_output=True, text=True, timeout=120, check=True)
    page = Page()
    page.feed(done.stdout)
    assert page.tags.count("svg") >= 4 and page.tags.count("circle") >= 4 and "tbody" in page.tags
    assert "Compressed: " in done.stdout
    image = pytest.importorskip("PIL.Image").open(tmp_path / "page.png").convert("RGB")
    colours = {pixel for _, pixel in image.getcolors(1 << 24)}
    assert {(0xD1, 0x46, 0x2F), (0x9A, 0xA7, 0xB4)} <= colours  # the chosen model's dot, and bars of the float model
