"""`edgec opt` and `edgec passes`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from edgec.compiler.cli import main
from edgec.compiler.eir_file import read_eir
from edgec.compiler.text import show

SOURCE = """graph @g(%x: f32[2]) {
  %a = Relu(%x) : f32[2]
  %b = Relu(%a) : f32[2]
  %n = Neg(%b) : f32[2]
  return %n
}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "g.eir"
    file.write_text(SOURCE)
    return file


def test_graph_in_graph_out(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["opt", str(path), "--passes", "canonicalize", "--time", "--steps", "--verify", "3"]) == 0
    done = capsys.readouterr()
    assert done.out == "graph @g(%x: f32[2]) {\n  %a = Relu(%x) : f32[2]\n  %n = Neg(%a) : f32[2]\n  return %n\n}\n"
    assert "    1 canonicalize >> relu_relu >> b" in done.err and "ms  canonicalize" in done.err


def test_output_dump_print_and_limit(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-o", str(tmp_path / "out.eir"), "--dump", str(tmp_path / "d"), "--print-after", "fold", "--limit", "0"]
    assert main(["opt", str(path), "--passes", "canonicalize, fold", *words]) == 0
    assert show(read_eir(tmp_path / "out.eir")) == SOURCE
    assert capsys.readouterr().out.startswith("# after fold\ngraph @g(")
    assert (tmp_path / "d" / "02-fold.eir").exists()


def test_json(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["opt", str(path), "--passes", "canonicalize", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "%n = Neg(%a)" in found["graph"] and found["steps"] == [
        {"number": 1, "rewrite": "canonicalize >> relu_relu >> b"}
    ]
    assert [row["pass"] for row in found["times"]] == ["canonicalize"] and found["notes"] == []


def test_output_as_onnx(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.onnx"
    assert main(["opt", str(path), "--passes", "canonicalize", "-o", str(out)]) == 0
    model = onnx.load(out)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Relu", "Neg"]
    before = out.read_bytes()
    assert main(["opt", str(out), "-o", str(out)]) == 1
    assert "the result would take the place of what is read" in capsys.readouterr().err
    assert out.read_bytes() == before


def test_onnx_cannot_say_what_a_kernel_is(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["opt", str(path), "--passes", "fuse", "--target", "x86", "-o", str(tmp_path / "out.onnx")]) == 1
    assert "out.onnx: ONNX cannot say" in capsys.readouterr().err
    assert not (tmp_path / "out.onnx").exists()


def test_layout_finds_the_kernels_of_a_target(path: Path) -> None:
    words = ["opt", str(path), "--passes", "canonicalize, fuse, layout", "--target", "x86"]
    fresh = [sys.executable, "-m", "edgec", *words]  # in this process other tests may have loaded them
    done = subprocess.run(fresh, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert 'row="' in done.stdout


def test_why(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["opt", str(path), "--passes", "canonicalize", "--why", "neg_neg"]) == 0
    assert "neg_neg: its pattern fits nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["-o", "--dump"])
def test_what_cannot_be_written_is_said_before_the_work(
    path: Path, flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    where = tmp_path / "file" / "out.eir"
    said = {
        "-o": f"{where}: cannot write: Not a directory",
        "--dump": f"--dump {where}: {tmp_path}/file is not a folder",
    }
    for command in ("opt", "bisect") if flag == "--dump" else ("opt",):
        assert main([command, str(path), "--passes", "no such pass", flag, str(where)]) == 1
        assert capsys.readouterr().err.strip() == f"edgec: error: {said[flag]}"
    assert (tmp_path / "file").read_text() == "mine"


def test_the_form_of_the_output_is_known_by_its_name(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["opt", str(path), "--passes", "fold", "-o", str(tmp_path / "out.onxx")]) == 1
    assert capsys.readouterr().err.strip() == f"edgec: error: -o {tmp_path}/out.onxx: expected FILE.eir or FILE.onnx"
    assert not (tmp_path / "out.onxx").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--passes", "canonicalise"], "unknown pass 'canonicalise'; did you mean 'canonicalize'?"),
        (["--passes", "fold", "--why", "fodl"], "--why fodl: no such rule in this pipeline; did you mean 'fold'?"),
        (
            ["--passes", "fold", "--print-after", "fodl"],
            "--print-after fodl: no such pass in this pipeline; did you mean 'fold'?",
        ),
        (
            ["--passes", "fold", "--json", "--print-after", "all"],
            "--json: prints the graph at the end alone; --dump DIR writes those in between",
        ),
        (["--passes", "fold", "--target", "x68"], "unknown target 'x68'; did you mean 'x86'?"),
    ],
)
def test_mistakes_are_one_line(path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["opt", str(path), *words]) == 1
    assert capsys.readouterr().err.strip() == f"edgec: error: {message}"


def test_faults_show_the_ir_around_them(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(SOURCE.replace("Neg(%b) : f32[2]", "Neg(%b) : f32[3]"))
    assert main(["opt", str(path), "--passes", "fold"]) == 1
    error = capsys.readouterr().err
    assert "  %n = Neg(%b) : f32[3]\n  ^ type says f32[3] but its arguments give f32[2]" in error
    assert error.endswith("edgec: error: Neg 'n': type says f32[3] but its arguments give f32[2]\n")


def test_passes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passes"]) == 0
    assert "canonicalize" in capsys.readouterr().out
    assert main(["passes", "fold", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["options"] == [{"name": "max-bytes", "expects": "a whole number", "default": "65536"}]
    assert row["order"]["after"] == {"canonicalize": "it makes operators on constants out of others"}
    assert row["rules"] == []
    assert main(["passes", "fodl"]) == 1


def test_a_pass_lists_its_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passes", "canonicalize"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("canonicalize: ") and "answers: close" in out
    assert "scale_into_conv " in out and "canonicalize.rules:" in out
