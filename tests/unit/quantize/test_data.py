"""Calibration data: every form gives the same scales, and whatever is wrong with it is said in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgec
from edgec.compiler.calibration.data import Calibration, calibration
from edgec.compiler.calibration.images import images, preparation
from edgec.compiler.cli import main
from edgec.compiler.errors import EdgecError
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import build, const
from edgec.compiler.quantize.model import quantize_model
from tests.support.float_models import SHAPE, Array, Net, data, depthwise, quantized

PLAIN = "canonicalize, fold, quantize{equalize=false, learn=false, correct=false}"
INPUT = {"x": Type("f32", SHAPE)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.onnx, good.npz, and a folder `singly` of one .npy per sample."""
    folder = tmp_path_factory.mktemp("quantize")
    onnx.save(depthwise(), folder / "net.onnx")
    np.savez(folder / "good.npz", x=data())
    (folder / "singly").mkdir()
    for number, sample in enumerate(data()):
        np.save(folder / "singly" / f"{number}.npy", sample)
    (folder / "make.py").write_text(
        "import numpy as np\n"
        f"def samples():\n    yield from np.load({str(folder / 'good.npz')!r})['x']\n"
        "def broken():\n    raise ValueError('no camera')\n"
        "def nothing(run):\n    return None\n"
        "def word(run):\n    return 'good'\n"
        "def wrong(run):\n    return run({'z': 1})\n"
        "value = 3\n"
    )
    return folder


FORMS: dict[str, Callable[[Path], Any]] = {
    "npz": lambda f: f / "good.npz",
    "folder": lambda f: str(f / "singly"),
    "array": lambda f: data(),
    "table": lambda f: {"x": data()},
    "list": lambda f: list(data()),
    "dicts": lambda f: [{"x": sample} for sample in data()],
    "batches": lambda f: [{"x": data()[:5]}, {"x": data()[5:]}],
    "generator": lambda f: (sample[None] for sample in data()),
    "callable": lambda f: lambda: iter(data()),
    "script": lambda f: f"{f / 'make.py'}:samples",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_samples(folder: Path, form: str) -> None:
    given = Calibration(FORMS[form](folder), INPUT)
    for _ in range(2):  # as often as one likes
        np.testing.assert_array_equal(np.stack([feed["x"] for feed in given.feeds()])[:, 0], data())
    assert given.count == len(data())


@pytest.mark.parametrize("form", ["npz", "folder", "generator", "callable"])
def test_every_form_gives_the_same_scales(folder: Path, form: str) -> None:
    def scales(source: Any) -> list[tuple[object, ...]]:
        return [(r.scale, r.zero, r.method, r.weight_scales) for r in quantized(depthwise(), source, PLAIN)[1].layers]

    assert scales(FORMS[form](folder)) == scales(data())


def test_pictures_are_what_their_pixels_say(tmp_path: Path) -> None:
    Image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    kind = {"x": Type("f32", (1, 3, 16, 16))}
    found = [f["x"][0] for f in Calibration(tmp_path, kind, "scale=0.5,mean=1/2/3,std=4/4/4,fit=stretch").feeds()]
    want = (pixels * np.float32(0.5) - np.array([1, 2, 3], "f4")) / np.array([4, 4, 4], "f4")
    np.testing.assert_allclose(np.stack(found), want.transpose(0, 3, 1, 2), rtol=1e-6)
    turned = Calibration(tmp_path, {"x": Type("f32", (1, 16, 16, 3))}, "raw,order=bgr,fit=stretch")
    np.testing.assert_array_equal(next(turned.feeds())["x"][0], pixels[0, ..., ::-1])


def test_pictures_give_the_scales_of_their_arrays(tmp_path: Path) -> None:
    Image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3), dtype=np.uint8)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    net = Net((1, 3, 12, 12))
    onnx.save(net.model(net.conv("x", 3, 8)), tmp_path / "net.onnx")

    def scale(calib: Any, prepare: str | None = None) -> float | None:
        return quantize_model(
            tmp_path / "net.onnx", tmp_path / "q.onnx", calib=calib, calib_prep=prepare, passes=PLAIN
        ).layers[0].scale  # fmt: skip

    (tmp_path / "pictures").mkdir()
    for path in tmp_path.glob("*.png"):
        path.rename(tmp_path / "pictures" / path.name)
    arrays = (pixels * np.float32(1 / 255)).transpose(0, 3, 1, 2)
    assert scale(tmp_path / "pictures", "unit,fit=stretch") == scale(arrays)


def test_a_picture_of_another_size_keeps_its_sides(tmp_path: Path) -> None:
    Image = pytest.importorskip("PIL.Image")
    Image.new("RGB", (40, 20), (200, 100, 50)).save(tmp_path / "wide.png")
    kind = Type("f32", (1, 3, 16, 16))
    boxed = images(tmp_path / "wide.png", kind, preparation("yolox"))
    assert (boxed[:, 0, 0] == [50, 100, 200]).all() and (boxed[:, -1] == 114).all()
    assert (images(tmp_path / "wide.png", kind, preparation("raw")) == np.array([200, 100, 50])[:, None, None]).all()


def _spoilt(where: tuple[int, ...], value: float) -> Array:
    array = data()
    array[where] = value
    return array


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"x": data(), "z": data()}, "'z' is no input"),
    "shape": ({"x": np.zeros((4, 8, 12, 13), "f4")}, "input 'x' has shape [4, 8, 12, 13]; expected N samples of [1, 8"),
    "flat": ({"x": np.zeros(7, "f4")}, "input 'x' has shape [7]; expected N samples"),
    "text": ({"x": np.array(["a", "b"])}, "input 'x' is <U1; expected numbers"),
    "complex": ({"x": data().astype("c8")}, "input 'x' is complex64; expected numbers"),
    "nan": ({"x": _spoilt((3, 2, 1, 1), np.nan)}, "sample 3 of input 'x' holds NaN or infinity"),
    "infinity": ({"x": _spoilt((0, 0, 0, 0), np.inf)}, "sample 0 of input 'x' holds NaN or infinity"),
    "too large": ({"x": np.full(SHAPE, 1e300)}, "sample 0 of input 'x' holds NaN or infinity"),
    "empty": ({"x": data()[:0]}, "holds no sample"),
    "no arrays": ({}, "input 'x' is missing"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays(folder: Path, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    arrays, message = BAD[case]
    np.savez(tmp_path / "bad.npz", **arrays)
    words = ["--calib", str(tmp_path / "bad.npz")]
    assert message in refused(["quantize", str(folder / "net.onnx"), "-o", str(tmp_path / "q.onnx"), *words], capsys)
    assert str(tmp_path / "bad.npz") in refused(
        ["compile", str(folder / "net.onnx"), "-o", str(tmp_path / "out"), "--quantize", "int8", *words], capsys
    )
    assert [p.name for p in tmp_path.iterdir()] == ["bad.npz"]


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that fails by its user's mistake."""
    capsys.readouterr()
    assert main(words) == 1
    out, said = capsys.readouterr()
    assert said.startswith("edgec: error: ") and said.count("\n") == 1 and not out, said
    return said


WORDS: dict[str, tuple[list[str], str]] = {
    "missing": (["--calib", "nowhere.npz"], "nowhere.npz: no such file or folder"),
    "no name": (["--calib", ""], "calib: '' names no file; expected data.npz, a folder or script.py:function"),
    "empty folder": (["--calib", "hollow"], "hollow: holds no .npy, .npz or image file"),
    "folder": (["--calib", "mixed"], "mixed/b.npy: input 'x' has shape [7]; expected N samples of"),
    "no arrays": (["--calib", "make.py"], "make.py: is no file of arrays; expected make.py:function"),
    "damaged": (["--calib", "damaged.npz"], "damaged.npz: is no file of arrays"),
    "pickled": (["--calib", "pickled.npy"], "pickled.npy: is no file of arrays"),
    "script missing": (["--calib", "none.py:f"], "none.py: no such Python file; expected script.py:function"),
    "function missing": (["--calib", "make.py:sample"], "make.py has no function 'sample'"),
    "no function": (["--calib", "make.py:value"], "make.py has no function 'value'"),
    "script fails": (["--calib", "make.py:broken"], "make.py:broken: ValueError: no camera"),
    "script stops": (["--calib", "stops.py:f"], "ZeroDivisionError"),
    "drop below 0": (["--calib", "good.npz", "--max-drop", "-0.1"], "max_drop: -0.1; expected a number that is not"),
    "drop is nan": (["--calib", "good.npz", "--max-drop", "nan"], "max_drop: nan; expected a number"),
    "score alone": (["--calib", "good.npz", "--score", "make.py:nothing"], "score: is given without max_drop"),
    "score missing": (["--calib", "good.npz", "--max-drop", "0", "--score", "s.py:f"], "--score s.py:f: s.py: no such"),
    "score no file": (["--calib", "good.npz", "--max-drop", "0", "--score", "f"], "expected script.py:function"),
    "score no name": (["--calib", "good.npz", "--max-drop", "0", "--score", "make.py"], "expected make.py:function"),
    "score no function": (
        ["--calib", "good.npz", "--max-drop", "0", "--score", "make.py:f"],
        "--score make.py:f: make.py has no function 'f'",
    ),
    "score gives None": (["--calib", "good.npz", "--max-drop", "0", "--score", "make.py:nothing"], "score: gave None"),
    "score gives text": (["--calib", "good.npz", "--max-drop", "0", "--score", "make.py:word"], "score: gave 'good'"),
    "score runs badly": (["--calib", "good.npz", "--max-drop", "0", "--score", "make.py:wrong"], "score: EdgecError: "),
    "preparation": (["--calib", "good.npz", "--calib-prep", "trch"], "no preparation 'trch'; did you mean 'torch'?"),
}


@pytest.mark.parametrize("case", WORDS)
def test_bad_options(
    folder: Path, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    (folder / "hollow").mkdir(exist_ok=True)
    (folder / "mixed").mkdir(exist_ok=True)
    np.save(folder / "mixed" / "a.npy", data())
    np.save(folder / "mixed" / "b.npy", np.zeros(7))
    (folder / "damaged.npz").write_bytes((folder / "good.npz").read_bytes()[:2000])
    np.save(folder / "pickled.npy", np.array([{}], object), allow_pickle=True)
    (folder / "stops.py").write_text("1 / 0\n")
    words, message = WORDS[case]
    assert message in refused(["quantize", "net.onnx", "-o", str(tmp_path / "q.onnx"), *words], capsys)
    said = refused(["compile", "net.onnx", "-o", str(tmp_path / "out"), "--quantize", "int8", *words], capsys)
    assert message in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--quantize", "foo", "--calib", "good.npz"], "quantize: 'foo' is no way to quantize; expected int8"),
        (["--quantize", "int8"], "quantize: no calibration data is given"),
        (["--calib", "good.npz"], "calib: is given, and no pass uses it; expected quantize=int8 (--quantize int8)"),
        (["--max-drop", "0.1"], "max_drop: is given without quantize"),
        (["--score", "make.py:nothing"], "score: is given without quantize"),
        (["--calib-prep", "torch"], "calib_prep: is given without calibration data"),
        (["--passes", "+quantize@fold"], "quantize: no calibration data is given"),
    ],
)
def test_options_that_need_each_other(
    folder: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert message in refused(["compile", "net.onnx", "-o", "out", *words], capsys)
    assert not (folder / "out").exists()


def test_quantize_needs_data(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["quantize", str(folder / "net.onnx"), "-o", str(tmp_path / "q.onnx")]
    assert "no calibration data is given; expected calib=data.npz (--calib data.npz)" in refused(words, capsys)
    words += ["--calib", str(folder / "good.npz"), "--method", "minmx"]
    assert "calibration method 'minmx'; did you mean 'minmax'?" in refused(words, capsys)


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
def test_the_method_asked_for_is_the_one_taken(folder: Path, tmp_path: Path, method: str) -> None:
    calib: dict[str, Any] = {"calib": folder / "good.npz"}
    report = quantize_model(folder / "net.onnx", tmp_path / "q.onnx", method=method, **calib)
    assert {layer.method for layer in report.layers} == {method}
    with pytest.raises(EdgecError, match=f"method: '{method}' is given, and the pipeline has quantize{{method=mse}}"):
        spec = "canonicalize, fold, quantize{method=mse}"
        quantize_model(folder / "net.onnx", tmp_path / "q.onnx", method=method, passes=spec, **calib)


def test_integers_where_the_model_takes_integers() -> None:
    given = Calibration({"x": np.full((2, 3), 1.5)}, {"x": Type("i64", (1, 3))})
    with pytest.raises(EdgecError, match="input 'x' is float64; expected i64"):
        list(given.feeds())
    beyond = Calibration({"x": np.full((2, 3), 300)}, {"x": Type("u8", (1, 3))})
    with pytest.raises(EdgecError, match="input 'x' holds numbers that are no u8"):
        list(beyond.feeds())


def test_inputs_of_different_numbers_of_samples() -> None:
    kinds = {"x": Type("f32", (1, 3)), "y": Type("f32", (1, 2))}
    with pytest.raises(EdgecError, match="input 'y' has 4 samples, others 5"):
        list(Calibration({"x": np.zeros((5, 3)), "y": np.zeros((4, 2))}, kinds).feeds())
    with pytest.raises(EdgecError, match=r"one array for 2 inputs \(x, y\); expected arrays by name"):
        list(Calibration([np.zeros((5, 3))], kinds).feeds())
    shared = Calibration({"x": np.zeros((5, 3)), "y": np.zeros((1, 2))}, kinds)
    assert len(list(shared.feeds())) == 5


def test_samples_of_a_batch() -> None:
    given = Calibration(np.arange(22).reshape(11, 2), {"x": Type("f32", (4, 2))})
    np.testing.assert_array_equal(np.concatenate([f["x"] for f in given.feeds()]), np.arange(16).reshape(8, 2))
    assert (given.count, given.left) == (2, 3)


@pytest.mark.parametrize(
    ("count", "factor", "note"),
    [
        (8, 0.0, "the calibration data is all zeros: ranges are those of the answers to zero"),
        (9, 1.0, "the calibration data holds no pictures: calib_prep is not used"),
        (1, 1.0, "one calibration sample: ranges are those of it alone"),
        (3, 1.0, "3 calibration samples: some dozens give better ranges"),
    ],
)
def test_what_is_odd_is_noted(
    folder: Path, tmp_path: Path, count: int, factor: float, note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "odd.npz", x=data(count) * np.float32(factor))
    words = ["quantize", str(folder / "net.onnx"), "-o", str(tmp_path / "q.onnx"), "--calib", str(tmp_path / "odd.npz")]
    assert main([*words, "--calib-prep", "torch"]) == 0
    shown = capsys.readouterr()
    assert f"edgec: note: quantize: {note}" in shown.err and "note:" not in shown.out
    onnx.checker.check_model(onnx.load(tmp_path / "q.onnx"), full_check=True)


def test_a_quantized_model_stays_as_it_is(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calib = ["--calib", str(folder / "good.npz")]
    once = str(tmp_path / "once.onnx")
    assert main(["quantize", str(folder / "net.onnx"), "-o", once, "--json", *calib]) == 0
    assert json.loads(capsys.readouterr().out)["layers_int8"] == 3
    assert "the model is quantized already" in refused(["quantize", once, "-o", str(tmp_path / "two"), *calib], capsys)
    again = edgec.compile(once, out=tmp_path / "again", quantize="int8", calib=str(folder / "good.npz"))
    assert any("quantized already: its own scales stay" in note for note in again.manifest["notes"])


def test_where_the_model_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(depthwise(), "net.onnx")
    words = ["quantize", "net.onnx", "--calib", str(folder / "good.npz")]
    assert main(words) == 0
    first = Path("net.int8.onnx").read_bytes()
    assert "net.int8.onnx: exists; give -o to write over it" in refused(words, capsys)
    assert main([*words, "-o", "net.int8.onnx"]) == 0
    assert Path("net.int8.onnx").read_bytes() == first
    assert main([*words, "-o", "made/q.onnx"]) == 0
    assert Path("made/q.onnx").read_bytes() == first
    assert "net.onnx/q.onnx" in refused([*words, "-o", "net.onnx/q.onnx"], capsys)
    assert "missing.onnx" in refused(["quantize", "missing.onnx", *words[2:]], capsys)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made", "net.int8.onnx", "net.onnx"]


def test_a_model_with_nothing_to_quantize(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = Net()
    onnx.save(net.model(net.node("Relu", "x")), tmp_path / "relu.onnx")
    words = ["quantize", str(tmp_path / "relu.onnx"), "-o", str(tmp_path / "q.onnx")]
    said = refused([*words, "--calib", str(folder / "good.npz")], capsys)
    assert "relu.onnx: quantize: nothing is quantized: the model has no convolution or matrix product of f32" in said


def test_open_sizes_are_settled_first(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = depthwise()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(model, tmp_path / "open.onnx")
    words = ["quantize", str(tmp_path / "open.onnx"), "-o", str(tmp_path / "q.onnx"), "--json"]
    words += ["--calib", str(folder / "good.npz")]
    assert main([*words, "--dim", "n=2"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 4
    sizes = onnx.load(tmp_path / "q.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in sizes] == [2, 8, 12, 12]


def test_numbers_that_name_no_row_of_a_table() -> None:
    """Of the smallest table that is read at them; counted from its end too."""
    ids = Value(Node("Input", (), (Type("i32", (1, 3)),), {}, "ids"))
    near, far = (const(np.ones((n, 4), np.float32)) for n in (9, 5))
    there = build("Reshape", build("Cast", ids, to="i64"), shape=(3,))
    rows = build("Add", build("Gather", near, there), build("Gather", far, there, label="words"))
    graph = Graph("g", (ids,), (rows,))
    assert len(list(calibration({"ids": np.asarray([[0, 4, -5]])}, graph).feeds())) == 1
    for odd in (5, -6):
        message = rf"sample 1 of input 'ids' holds {odd}; it names rows of a table of 5 \(words\)"
        with pytest.raises(EdgecError, match=message):
            list(calibration({"ids": np.asarray([[0, 1, 2], [0, odd, 1]])}, graph).feeds())
