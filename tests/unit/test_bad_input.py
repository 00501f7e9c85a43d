"""Whatever is wrong with files, flags and folders: one line on stderr, exit code 1, and nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgec
from edgec.compiler.bundle import write_bundle
from edgec.compiler.cli import main
from edgec.compiler.errors import IRError, Unsupported, UnsupportedModel
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from tests.unit.handmade import onnx_model, program, target

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.onnx and its bundle `good/`."""
    folder = tmp_path_factory.mktemp("made")
    onnx.save(onnx_model(), folder / "tiny.onnx")
    write_bundle(program(folder), target(), folder / "good")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a copy of `made`."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def refused(capsys: Capture, *words: object) -> str:
    capsys.readouterr()
    assert main([str(w) for w in words]) == 1
    said = capsys.readouterr().err
    assert said.startswith("edgec: error: ") and said.count("\n") == 1, said
    return said.removeprefix("edgec: error: ").rstrip("\n")


# ---- Models


def save(
    name: str, nodes: list[onnx.NodeProto], inputs: list[Any], outputs: list[Any] | None = None, opset: int = 17
) -> str:
    outputs = outputs or [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "graph", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), name)
    return name


def tensor(name: str, shape: tuple[int, ...] = (1, 3), kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


RELU = helper.make_node("Relu", ["x"], ["y"], name="r")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "m.onnx: no such file"),
        (b"", "m.onnx: is not an ONNX model, or is empty"),
        (b"\x7fELF" + bytes(200), "m.onnx: is not an ONNX model, or is truncated"),
        (b"hello, world\n" * 20, "m.onnx: is not an ONNX model, or is truncated"),
    ],
)
@pytest.mark.parametrize("command", [("compile", "-o", "out"), ("inspect",), ("opt",), ("bisect", "--passes", "fold")])
def test_files_that_are_no_models(
    here: Path, capsys: Capture, command: tuple[str, ...], content: bytes | None, message: str
) -> None:
    if content is not None:
        Path("m.onnx").write_bytes(content)
    assert refused(capsys, command[0], "m.onnx", *command[1:]) == message
    assert not Path("out").exists()


def test_unsupported_inputs_and_nodes_are_listed_together(here: Path, capsys: Capture) -> None:
    inputs = [
        helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [2]),
        tensor("t", kind=TensorProto.STRING),
        tensor("x"),
        tensor("i", (), TensorProto.INT64),
    ]
    nodes = [
        helper.make_node("SequenceAt", ["s", "i"], ["y"], name="at"),
        helper.make_node("Identity", ["t"], ["same"]),
        helper.make_node("ImageDecoder", ["x"], ["d1"], name="one"),
        helper.make_node("ImageDecoder", ["x"], ["d2"], name="two"),
    ]
    outputs = [tensor(name) for name in ("y", "d1", "d2")] + [tensor("same", kind=TensorProto.STRING)]
    save("m.onnx", nodes, inputs, outputs)
    said = refused(capsys, "compile", "m.onnx", "-o", "out")
    assert said.startswith("m.onnx: 4 unsupported inputs and nodes: input 's': is a sequence; edgec takes tensors only")
    assert "input 't': element type STRING is not supported; expected one of f32, " in said
    assert said.count("one, two: ImageDecoder (opset 17): ") == 1 and not Path("out").exists()
    with pytest.raises(UnsupportedModel) as caught:
        edgec.compile("m.onnx")
    assert [(e.node, e.op) for e in caught.value.entries][:2] == [("s", "Input"), ("t", "Input")]


def test_inspect_lists_every_refusal(here: Path, capsys: Capture) -> None:
    nodes = [helper.make_node("ImageDecoder", ["x"], [name], name=name) for name in ("one", "two")]
    save("m.onnx", nodes, [tensor("x"), tensor("t", kind=TensorProto.STRING)], [tensor("one"), tensor("two")])
    assert main(["inspect", "m.onnx", "--json"]) == 1
    entries = json.loads(capsys.readouterr().out)["unsupported"]
    assert [(e["node"], e["op"], e["opset"]) for e in entries] == [
        ("t", "Input", 17), ("one", "ImageDecoder", 17), ("two", "ImageDecoder", 17)
    ]  # fmt: skip
    assert all(e["why"] for e in entries)
    assert main(["inspect", "m.onnx"]) == 1
    shown = capsys.readouterr().out
    assert shown.count("is not an operator of ONNX") == 2 and "m.onnx: 3 of its nodes and inputs" in shown


def test_one_reason_is_said_once() -> None:
    entries = [
        Unsupported("a", "Op", 0, "why", "help"),
        Unsupported("x", "Input", 9, "no"),
        Unsupported("b", "Op", 0, "why", "help"),
    ]
    assert str(UnsupportedModel(entries[:1])) == "1 unsupported node: a: Op: why; help"
    assert str(UnsupportedModel(entries, "f")) == (
        "f: 3 unsupported inputs and nodes: a, b: Op: why; help | input 'x': no"
    )


def test_output_named_twice(here: Path, capsys: Capture) -> None:
    save("m.onnx", [RELU], [tensor("x")], [tensor("y"), tensor("y")])
    assert "m.onnx: two outputs are named 'y'" in refused(capsys, "compile", "m.onnx", "-o", "out")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (helper.make_node("Softmax", ["x"], ["y"], name="n", axis=9), "axis 9 is outside a tensor of 2 axes"),
        (helper.make_node("Transpose", ["x"], ["y"], name="n", perm=[0, 0]), "perm"),
        (helper.make_node("MaxPool", ["x"], ["y"], name="n", kernel_shape=[1 << 40]), "n"),
        (helper.make_node("Concat", ["x", "x"], ["y"], name="n", axis=-7), "axis -7"),
    ],
)
def test_nodes_that_contradict_themselves(here: Path, capsys: Capture, node: onnx.NodeProto, message: str) -> None:
    said = refused(capsys, "compile", save("m.onnx", [node], [tensor("x")]), "-o", "out")
    assert message in said and said.startswith("m.onnx: node 'n' (")


def test_values_without_elements_fold(here: Path) -> None:
    nodes = [helper.make_node("ReduceSum", ["x"], ["s"]), helper.make_node("Add", ["s", "b"], ["y"])]
    graph = import_model(save("m.onnx", nodes, [tensor("x", (4, 0)), tensor("b", (1, 1))]))
    answer = interpret(graph, {"x": np.zeros((4, 0), "f4"), "b": np.full((1, 1), 2, "f4")})
    assert answer["y"] == [[2.0]] and [v.name for v in graph.inputs] == ["x", "b"]


def test_parts_without_elements(here: Path) -> None:
    nodes = [
        helper.make_node("Split", ["x"], ["y", "e"], axis=1, num_outputs=2),
        helper.make_node("Relu", ["y"], ["r"]),
    ]
    outputs = [tensor("r", (2, 1)), tensor("e", (2, 0))]
    graph = import_model(save("m.onnx", nodes, [tensor("x", (2, 1))], outputs, opset=18))
    answer = interpret(graph, {"x": np.ones((2, 1), "f4")})
    assert [v.shape for v in answer.values()] == [(2, 1), (2, 0)]
    assert [t.shape for n in graph.nodes() if n.op == "Split" for t in n.types] in ([], [(2, 1)])


# ---- Folders


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("", "'': is not the name of a folder"),
        ("n\0l", "'n\\x00l': is not the name of a folder"),
        ("n" * 201, "the name is longer than 200 bytes"),
        ("tiny.onnx", "tiny.onnx is not a folder"),
        ("tiny.onnx/below", "tiny.onnx is not a folder"),
        ("/dev/full", "/dev/full is not a folder"),
    ],
)
def test_folders_that_cannot_be_written(here: Path, capsys: Capture, out: str, message: str) -> None:
    before = sorted(here.rglob("*"))
    assert message in refused(capsys, "compile", "tiny.onnx", "-o", out)
    assert sorted(here.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(here: Path, capsys: Capture) -> None:
    Path("locked").mkdir(mode=0o555)
    assert "no permission to write in" in refused(capsys, "compile", "tiny.onnx", "-o", "locked/out")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_interrupted_compile_leaves_the_old_bundle(here: Path, stop: type[BaseException]) -> None:
    def progress(stage: str, done: int, total: int) -> None:
        if stage == "link":
            raise stop

    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    with pytest.raises(stop):
        edgec.compile("tiny.onnx", out="good", dims={"n": 2}, progress=progress)
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("threads", [0, -1, 257])
def test_number_of_threads(here: Path, capsys: Capture, threads: int) -> None:
    said = refused(capsys, "compile", "tiny.onnx", "--threads", threads)
    assert said == f"threads: {threads} is not a number of workers; 1 to 256"


# ---- Bundles

Change = Callable[[dict[str, Any]], object]
DAMAGE: list[tuple[Change, str]] = [
    (lambda t: t.update(schema=99, edgec="9.9"), "written by edgec 9.9 (manifest schema 99); this edgec reads up to"),
    (lambda t: t.pop("outputs"), "damaged manifest: no outputs"),
    (lambda t: t.update(inputs=3), "damaged manifest: inputs is not a list"),
    (lambda t: t["inputs"][0].pop("dtype"), "damaged manifest: no inputs[0].dtype"),
    (lambda t: t["steps"][1].update(macs="many"), "damaged manifest: steps[1].macs is not a whole number"),
    (lambda t: t.update(arena={}), "damaged manifest: no arena.bytes"),
    (lambda t: t["arena"]["map"].append(1), "damaged manifest: arena.map[3] is not a table"),
    (lambda t: t.update(name="../tiny"), "damaged manifest: name is '../tiny'"),
]


@pytest.mark.parametrize(("change", "message"), DAMAGE)
def test_damaged_manifest(here: Path, capsys: Capture, change: Change, message: str) -> None:
    table = json.loads(Path("good/tiny.json").read_text())
    change(table)
    Path("good/tiny.json").write_text(json.dumps(table))
    for words in (["run", "good"], ["inspect", "good"], ["verify", "tiny.onnx", "--bundle", "good"]):
        assert f"good/tiny.json: {message}" in refused(capsys, *words)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\0", b"[" * 100_000])
def test_manifest_that_is_none(here: Path, capsys: Capture, content: bytes) -> None:
    Path("good/tiny.json").write_bytes(content)
    assert "good/tiny.json: not a bundle's manifest" in refused(capsys, "run", "good")


def test_a_model_is_no_bundle(here: Path, capsys: Capture) -> None:
    hint = "not a bundle's manifest"
    assert hint in refused(capsys, "run", "tiny.onnx")
    assert "good: is not a file; expected an ONNX model" in refused(capsys, "compile", "good")


def test_verify_with_another_model(here: Path, capsys: Capture) -> None:
    save("other.onnx", [helper.make_node("Relu", ["z"], ["y"])], [tensor("z")])
    said = refused(capsys, "verify", "other.onnx", "--bundle", "good")
    assert said == "the bundle's input 'x' is none of the ONNX model's: is it the model of this bundle?"


@pytest.mark.parametrize("size", [0, 30, 600, 5000])
def test_library_cut_short_is_not_opened(here: Path, capsys: Capture, size: int) -> None:
    """The loader of the system would die of it."""
    os.truncate("good/libtiny.so", size)
    assert "libtiny.so: is damaged or cut short; compile the model again" in refused(capsys, "run", "good")


# ---- Arrays


def archive(name: str, content: bytes) -> None:
    with zipfile.ZipFile("x.npz", "w") as out:
        out.writestr(name, content)


ARRAYS: list[tuple[Callable[[], object], str]] = [
    (lambda: None, "x.npz: cannot be read: No such file or directory"),
    (lambda: Path("x.npz").mkdir(), "x.npz: cannot be read: Is a directory"),
    (lambda: Path("x.npz").touch(), "x.npz: not a .npz file of arrays; numpy.savez(file, name=array) makes one"),
    (lambda: Path("x.npz").write_text("x = 1"), "x.npz: not a .npz file of arrays; numpy.savez"),
    (lambda: Path("x.npz").write_bytes(b"PK\3\4" + bytes(99)), "x.npz: not a .npz file of arrays: File is not a zip"),
    (lambda: archive("x.npy", b"no array"), "x.npz: not a .npz file of arrays: 'x' is no array"),
    (lambda: archive("x.npy", b"\x93NUMPY\1\0\4\0{}  "), "x.npz: not a .npz file of arrays: "),
    (lambda: np.savez("x.npz", x=np.array([None])), "x.npz: not a .npz file of arrays: Object arrays cannot be"),
    (lambda: np.savez("x.npz", x=np.ones((2, 4))), "input 'x': "),
    (lambda: np.savez("x.npz", x=np.ones((4, 2), "f4")), "input 'x': "),
    (lambda: np.savez("x.npz", X=np.ones((2, 4), "f4")), "the model has no input 'X'; did you mean 'x'?"),
    (lambda: np.savez("x.npz"), "no value for input 'x'"),
]


@pytest.mark.parametrize(("make", "message"), ARRAYS)
def test_inputs_that_do_not_fit(here: Path, capsys: Capture, make: Callable[[], object], message: str) -> None:
    make()
    for words in (["run", "good"], ["verify", "tiny.onnx", "--bundle", "good"]):
        assert message in refused(capsys, *words, "--inputs", "x.npz")


def test_results_that_cannot_be_written(here: Path, capsys: Capture) -> None:
    assert refused(capsys, "run", "good", "--save", "/dev/full") == "/dev/full: cannot write: No space left on device"
    assert refused(capsys, "run", "good", "--save", "no/y.npz") == "no/y.npz: cannot write: No such file or directory"
    assert not Path("/dev/full.npz").exists()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (None, r"inputs are a NoneType; expected arrays by name: {'x': array}"),
        ([1], r"inputs are a list; expected arrays by name"),
        ({}, "no value for input 'x'"),
        ({"x": "text"}, "input 'x': is not an array of float32: could not convert"),
        ({"x": [[1, 2], [3]]}, "input 'x': is not an array of float32: "),
        ({"x": None}, r"input 'x': shape \(\), expected \(2, 4\)"),
    ],
)
def test_calls_from_python(here: Path, inputs: Any, message: str) -> None:
    with edgec.load("good") as model, pytest.raises(edgec.EdgecError, match=message):
        model.run(inputs)


def test_arguments_from_python(here: Path) -> None:
    options: list[tuple[dict[str, Any], str]] = [
        ({"threads": "2"}, "threads: '2' is not a number of workers"),
        ({"shapes": {"x": 5}}, "--shape x: 5 is no shape; expected sizes"),
        ({"shapes": {"x": (1, "4")}}, "--shape x: .* is no shape; expected sizes"),
        ({"quantize": "int8"}, "quantize: no calibration data is given"),
        ({"calib": "x.npz"}, "calib: is given, and no pass uses it"),
        ({"quantize": "int8", "calib": [], "max_drop": "1"}, "max_drop: '1'; expected a number that is not negative"),
        ({"quantize": "int8", "calib": [], "max_drop": 1, "score": 3}, "score: 3; expected a function"),
    ]
    for words, message in options:
        with pytest.raises(edgec.EdgecError, match=message):
            edgec.compile("tiny.onnx", out="out", **words)
    with pytest.raises(edgec.EdgecError, match="threads must be 1 or more, got 'many'"):
        edgec.load("good", threads="many")  # type: ignore[arg-type]


def test_threads_may_share_a_model(here: Path) -> None:
    feeds = [np.full((2, 4), k, "f4") for k in range(4)]
    with edgec.load("good") as model:
        wanted = [model.run({"x": x})["y/out"] for x in feeds]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda k: (k % 4, model.run({"x": feeds[k % 4]})["y/out"]), range(400)))
    assert all(np.array_equal(wanted[k], got) for k, got in answers)


# ---- Graphs


def test_graphs_that_cannot_be_written(here: Path, capsys: Capture) -> None:
    words = ["opt", "tiny.onnx", "--dim", "n=2", "--passes", "fold"]
    assert "tiny.onnx/g.eir: cannot write: Not a directory" in refused(capsys, *words, "-o", "tiny.onnx/g.eir")
    assert "cannot write: Not a directory" in refused(capsys, *words, "--dump", "tiny.onnx/dump")
    assert refused(capsys, *words, "--limit", -1) == "--limit -1: expected a number of rewrites"
    assert refused(capsys, "opt", "none.eir") == "none.eir: cannot be read: No such file or directory"


# ---- The machine


def test_full_disk(made: Path) -> None:
    words = [sys.executable, "-m", "edgec", "inspect", str(made / "good")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "edgec: error: output: No space left on device\n")


# ---- Defects of ours


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
