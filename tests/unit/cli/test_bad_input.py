"""Whatever is wrong with arrays, arguments and the machine: one line on stderr, exit code 1, nothing half-written."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgec
from edgec.compiler.cli import main
from edgec.compiler.errors import IRError
from tests.support.bad_input import Capture, refused


@pytest.mark.parametrize("threads", [0, -1, 257])
def test_number_of_threads(here: Path, capsys: Capture, threads: int) -> None:
    said = refused(capsys, "compile", "tiny.onnx", "--threads", threads)
    assert said == f"threads: {threads} is not a number of workers; 1 to 256"


def archive(name: str, content: bytes) -> None:
    with zipfile.ZipFile("x.npz", "w") as out:
        out.writestr(name, content)


ARRAYS: list[tuple[Callable[[], object], str]] = [
    (lambda: None, "x.npz: no such file or folder"),
    (lambda: Path("x.npz").mkdir(), "x.npz: holds no .npy, .npz or image file"),
    (lambda: Path("x.npz").touch(), "x.npz: is no file of arrays; numpy.savez(file, name=array) makes one"),
    (lambda: Path("x.npz").write_text("x = 1"), "x.npz: is no file of arrays; numpy.savez"),
    (lambda: Path("x.npz").write_bytes(b"PK\3\4" + bytes(99)), "x.npz: is no file of arrays: File is not a zip"),
    (lambda: archive("x.npy", b"no array"), "x.npz: is no file of arrays: 'x' is no array"),
    (lambda: archive("x.npy", b"\x93NUMPY\1\0\4\0{}  "), "x.npz: is no file of arrays: "),
    (lambda: np.savez("x.npz", x=np.array([None])), "x.npz: is no file of arrays: Object arrays cannot be"),
    (lambda: np.savez("x.npz", x=np.ones((2, 4), "c8")), "x.npz: input 'x' is complex64; expected numbers"),
    (lambda: np.savez("x.npz", x=np.ones((4, 2), "f4")), "x.npz: input 'x' has shape [4, 2]; expected N samples of"),
    (lambda: np.savez("x.npz", X=np.ones((2, 4)), y=np.ones(1)), "x.npz: 'X' is no input; did you mean 'x'?"),
    (lambda: np.savez("x.npz"), "x.npz: input 'x' is missing"),
]


@pytest.mark.parametrize(("make", "message"), ARRAYS)
def test_inputs_that_do_not_fit(here: Path, capsys: Capture, make: Callable[[], object], message: str) -> None:
    make()
    for words in (["run", "good"], ["verify", "tiny.onnx", "--bundle", "good"]):
        assert message in refused(capsys, *words, "--inputs", "x.npz")


def test_results_that_cannot_be_written(here: Path, capsys: Capture) -> None:
    assert refused(capsys, "run", "good", "--save", "/dev/full") == "/dev/full: cannot write: No space left on device"
    assert refused(capsys, "run", "good", "--save", "tiny.onnx/y") == "tiny.onnx/y: cannot write: Not a directory"
    assert not Path("/dev/full.npz").exists()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (None, r"inputs of type NoneType; expected arrays by name: {'x': array}"),
        ([1], r"inputs of type list; expected arrays by name"),
        ({}, "no value for input 'x'"),
        ({"x": "text"}, "input 'x': is not an array of float32: could not convert"),
        ({"x": [[1, 2], [3]]}, "input 'x': is not an array of float32: "),
        ({"x": None}, r"input 'x': shape \(\), expected \(2, 4\)"),
    ],
)
def test_calls_from_python(here: Path, inputs: Any, message: str) -> None:
    with edgec.load("good") as model, pytest.raises(edgec.EdgecError, match=message):
        model.run(inputs)


def test_bundles_and_models_say_what_they_are(here: Path) -> None:
    with edgec.load("good") as first, edgec.load(first.bundle) as model:
        assert repr(model) == f"Model('tiny' on {model.level}: x float32[2, 4] -> y/out float32[2, 4])"
        assert repr(model.bundle) == f"Bundle('tiny' for {model.bundle.manifest['target']} in 'good')"


def test_arguments_from_python(here: Path) -> None:
    options: list[tuple[dict[str, Any], str]] = [
        ({"threads": "2"}, "threads: '2' is not a number of workers"),
        ({"shapes": {"x": 5}}, "--shape x: 5 is no shape; expected sizes"),
        ({"shapes": {"x": (1, "4")}}, "--shape x: .* is no shape; expected sizes"),
        ({"quantize": "int8"}, "quantize: no calibration data is given"),
        ({"calib": "x.npz"}, "calib: is given, and no pass uses it"),
        ({"quantize": "int8", "calib": [], "max_drop": "1"}, "max_drop: '1'; expected a number that is not negative"),
        ({"quantize": "int8", "calib": [], "max_drop": 1, "score": 3}, "score: 3; expected a function"),
        ({"target": None}, "target: None; expected a name, such as host, or the path of a .toml file"),
        ({"passes": ["fold"]}, r"passes: \['fold'\]; expected text"),
        ({"shapes": "1x3"}, "shapes: '1x3'; expected a table by name"),
        ({"name": 3}, "name: 3; expected text that can be a name in C"),
        ({"out": 3}, "'3': is not the name of a folder"),
        ({"optimize": 2}, "optimize: 2 is unknown; known: size, speed"),
        ({"memory": 3}, "memory: 3; expected the path of a .toml file"),
    ]
    for words, message in options:
        with pytest.raises(edgec.EdgecError, match=message):
            edgec.compile("tiny.onnx", **{"out": "out", **words})
    for model in (None, 3, b"onnx"):
        with pytest.raises(edgec.EdgecError, match="model: of type .*; expected a path or an onnx.ModelProto"):
            edgec.compile(model, out="out")  # type: ignore[arg-type]
    with pytest.raises(edgec.EdgecError, match="bundle: of type int; expected the folder"):
        edgec.load(3)  # type: ignore[arg-type]
    with pytest.raises(edgec.EdgecError, match="threads must be 1 or more, got 'many'"):
        edgec.load("good", threads="many")  # type: ignore[arg-type]
    with pytest.raises(edgec.EdgecError, match="good: has no level 3; known: "):
        edgec.load("good", level=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bench", "good", "--runs", 10**12], "runs must be 1,000,000 or fewer"),
        (["bench", "good", "--ghz", 2], "--ghz 2: goes with --model-cpu"),
        (["compile", "--targt", "x86", "tiny.onnx"], "no option --targt; did you mean '--target'? (see edgec compile"),
        (["verify", "tiny.onnx", "--verbosely=1"], "no option --verbosely; did you mean '--verbose'? (see edgec ver"),
        (["run", "good", "--xyz"], "no option --xyz (see edgec run --help)"),
        (["bench", "good", "--roofline", "good"], "good: cannot write: Is a directory"),
        (["inspect", "good", "--dim", "n=2"], "good is a bundle, whose shapes are fixed; expected a model"),
        (
            ["bisect", "tiny.onnx", "--passes", "fold", "--seed", -1],
            "--seed -1: expected a number that is not negative",
        ),
        (["bisect", "tiny.onnx", "--passes", "fold", "--tolerance", "nan"], "--tolerance nan: expected a number"),
        (["kernels", "--op", "conv"], "unknown operator 'conv'; did you mean 'Conv'?"),
        (["kernels", "--op", "Conv", "--shape", "1x3x8x8"], "--op Conv: give the shapes of its 3 arguments with"),
        (
            ["kernels", "--op", "Relu", "--shape", "4", "--threads", 0],
            "threads: 0 is not a number of workers; 1 to 256",
        ),
        (["kernels", "--target", "x68"], "unknown target 'x68'; did you mean 'x86'?"),
        (
            ["kernels", "--op", "Relu", "--shape", "4", "--attr", "axs=1"],
            "Relu: unknown attribute 'axs'",
        ),
        (["kernels", "--shape", "4"], "--shape and --attr are those of an operator: give --op too"),
        (
            ["verify", "tiny.onnx", "--bundle", "good", "--inputs", "x.npz", "--runs", 3],
            "runs: 3 with inputs that are given",
        ),
        (["verify", "good", "--bundle", "good"], "good: is not a file; expected an ONNX model"),
        (
            ["compile", "tiny.onnx", "--target", "cortex-m4", "--threads", 2],
            "threads: 2 workers; cortex-m4 has no operating system",
        ),
        (["compile", "tiny.onnx", "--target", "no.toml"], "target no.toml: cannot be read: No such file or directory"),
    ],
)
def test_arguments_of_commands(here: Path, capsys: Capture, words: list[object], message: str) -> None:
    assert message in refused(capsys, *words)


def test_threads_may_share_a_model(here: Path) -> None:
    feeds = [np.full((2, 4), k, "f4") for k in range(4)]
    with edgec.load("good") as model:
        wanted = [model.run({"x": x})["y/out"] for x in feeds]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda k: (k % 4, model.run({"x": feeds[k % 4]})["y/out"]), range(400)))
    assert all(np.array_equal(wanted[k], got) for k, got in answers)


def test_full_disk(made: Path) -> None:
    words = [sys.executable, "-m", "edgec", "inspect", str(made / "good")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "edgec: error: output: No space left on device\n")


def test_internal_errors_say_where(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def fail() -> None:
        error = ZeroDivisionError("of nothing")
        error.add_note("in pass 2 of 5, fold; last: rewrite 7")
        raise error

    monkeypatch.setattr("edgec.compiler.cli.targets.all_summaries", fail)
    assert main(["targets"]) == 2
    said = capsys.readouterr().err
    assert "edgec: internal error: ZeroDivisionError: of nothing; in pass 2 of 5, fold; last: rewrite 7\n" in said


def test_the_ir_around_a_fault_is_for_verbose(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def fail() -> None:
        raise IRError("node %a: wrong", "%a = Relu(%x)  <-- here")

    monkeypatch.setattr("edgec.compiler.cli.targets.all_summaries", fail)
    assert refused(capsys, "targets") == "node %a: wrong"
    assert main(["targets", "-v"]) == 1
    assert "%a = Relu(%x)  <-- here\n" in capsys.readouterr().err


def test_help_as_a_word(capsys: Capture) -> None:
    for words, text in ((["help"], "usage: edgec COMMAND"), (["help", "compile"], "usage: edgec compile")):
        with pytest.raises(SystemExit):
            main(words)
        assert text in capsys.readouterr().out
