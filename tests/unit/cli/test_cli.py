"""The command line: spellings, output, exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from edgec.compiler.cli import COMMANDS, common
from tests.support.command_line import edgec

# ---- The frame


def test_help_is_light() -> None:
    heavy = "{'numpy', 'onnx', 'lark', 'tvm', 'rich'}"
    code = f"import sys, edgec.compiler.cli as c; c.main([]); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: edgec") and done.stdout.endswith("\n[]\n")


@pytest.mark.parametrize("name", ["compile", "run", "verify", "bench", "inspect", "targets", "kernels", "completion"])
def test_every_command_has_help_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        edgec(name, "--help")
    text = capsys.readouterr().out
    assert (
        stop.value.code == 0
        and COMMANDS[name].help in text
        and f"  edgec {name}" in text.split("examples:")[1] + "  edgec completion"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["complie"], "no command 'complie'; did you mean 'compile'?"),
        (["bench"], "the following arguments are required: DIR (see edgec bench --help)"),
        (["bench", "nowhere"], "nowhere: no such bundle; make one with: edgec compile MODEL --target host -o nowhere"),
        (["bench", "x", "--runs", "many"], "--runs many: expected a whole number"),
        (["run", "x", "-o", "y.npz"], "no option -o (see edgec run --help)"),
        (["completion", "csh"], "bash|zsh|fish csh: expected bash, zsh, fish"),
        (["opt", "x.eir", "--verify", "7"], "--verify 7: expected 0, 1, 2, 3"),
        (["targets", "x68"], "unknown target 'x68'; did you mean 'x86'?"),
        (["compile", "m.onnx", "--shape", "x"], "--shape x: expected NAME=VALUE"),
        (["compile", "m.onnx", "--shape", "x=1xtwo"], "--shape x=1xtwo: expected sizes, such as 1x3x224x224"),
        (["compile", "m.onnx", "--dim", "n=-1"], "--dim n=-1: expected a size"),
        (["compile", "m.onnx", "--dim", "n=1", "--dim", "n=2"], "--dim n: given twice"),
        (
            ["compile", "m.onnx", "--bind", "sr=fast"],
            "--bind sr=fast: expected a number, true, false, or numbers with commas",
        ),
        (
            ["compile", "m.onnx", "--quantize", "int8"],
            "quantize: no calibration data is given; expected calib=data.npz (--calib data.npz)",
        ),
        (
            ["compile", "m.onnx", "--calib", "x.npz"],
            "calib: is given, and no pass uses it; expected quantize=int8 (--quantize int8)",
        ),
        (
            ["compile", "m.onnx", "--quantize", "int4", "--calib", "x"],
            "quantize: 'int4' is no way to quantize; expected int8",
        ),
        (["compile", "m.onnx", "--max-ram", "lots"], "max_ram: 'lots'; expected a size such as 192K or 1.5M"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_1(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert edgec(*words) == 1
    assert capsys.readouterr().err == f"edgec: error: {message}\n"


def test_verbose_shows_the_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert edgec("bench", "nowhere", "-v") == 1
    assert "Traceback" in capsys.readouterr().err


def test_defects_of_ours_get_exit_code_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("edgec.compiler.cli.targets.all_summaries", lambda: 1 // 0)
    assert edgec("targets") == 2
    said = capsys.readouterr().err
    assert "internal error: ZeroDivisionError" in said and "defect of edgec: please report" in said


def test_values_on_the_command_line() -> None:
    args = type(
        "Args", (), {"shape": ["in:0=1x2", "s="], "dim": ["n=3"], "bind": ["a=1", "b=0.5", "c=1,2", "d=true"]}
    )()
    assert common.shapes_of(args) == {"in:0": (1, 2), "s": ()}
    assert common.dims_of(args) == {"n": 3}
    assert common.binds_of(args) == {"a": 1, "b": 0.5, "c": [1, 2], "d": True}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgec("completion", shell) == 0
    script = capsys.readouterr().out
    assert "verify" in script and "x86-avx512" in script and "threads" in script
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        subprocess.run([shell, "-n", tmp_path / "script"], check=True)


def test_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert edgec("targets") == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names[1] == "host" and {"x86", "arm"} <= set(names)
    assert edgec("targets", "arm", "--json") == 0
    assert json.loads(capsys.readouterr().out)["triple"].startswith("aarch64")


# ---- Bundles


def test_run(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((2, 4), "f4"))
    assert edgec("run", made / "good", "--inputs", tmp_path / "x.npz", "--save", tmp_path / "y.npz", "--json") == 0
    shown = json.loads(capsys.readouterr().out)["y/out"]
    np.testing.assert_allclose(shown, np.load(tmp_path / "y.npz")["y/out"], rtol=1e-6)
    assert edgec("run", made / "good") == 0
    assert "y/out" in capsys.readouterr().out
    assert edgec("run", made / "good", "--save", tmp_path / "x.npz" / "y.npz") == 1
    assert "cannot write" in capsys.readouterr().err


def test_bench(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgec("bench", made / "good", "--runs", 3, "--layers", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["runs"]) == 3 and [s["name"] for s in shown["layers"]] == ["mul", "act"]
    assert edgec("bench", made / "good", "--runs", 3, "--layers") == 0
    assert "median" in capsys.readouterr().out


def test_inspect_a_bundle(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgec("inspect", made / "good", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["macs"] == 8 and shown["live_bytes"] == [64, 64] and "libtiny.so" in shown["file_bytes"]
    kernels, steps = shown["kernels"], shown["steps"]
    assert sum(k["steps"] for k in kernels) == len(steps) and sum(k["macs"] for k in kernels) == 8
    assert kernels == sorted(kernels, key=lambda k: -k["cost_us"])
    assert edgec("inspect", made / "good") == 0
    table = capsys.readouterr().out
    us = sum(step["cost_us"] for step in steps)
    assert "Tanh_1, Add_2" in table and "2 by 1" in table and f"modelled    {us:,.0f} us on one core" in table


def test_inspect_a_model(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgec("inspect", made / "tiny.onnx", "--dim", "n=2", "--json") == 0
    out, said = capsys.readouterr()
    shown = json.loads(out)
    assert not said and shown["inputs"] == [{"name": "x", "dtype": "float32", "shape": [2, 4]}]
    assert shown["parameters"] == 8 and [s["op"] for s in shown["steps"]] == ["Mul", "Tanh", "Add"]


@pytest.mark.parametrize("more", [(), ("--target", "x86")])
def test_notes_stand_beside_what_is_printed(
    made: Path, more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    note = "input 'x': first dimension 'n' is taken as 1; --shape or --dim changes it"
    assert edgec("inspect", made / "tiny.onnx", *more) == 0
    out, said = capsys.readouterr()
    assert said == f"edgec: note: {note}\n" and "note" not in out
    assert edgec("inspect", made / "tiny.onnx", *more, "--json") == 0
    out, said = capsys.readouterr()
    assert said == f"edgec: note: {note}\n" and json.loads(out)["notes"] == [note]


def test_run_takes_one_sample(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "one.npy", np.ones((2, 4)))
    np.save(tmp_path / "two.npy", np.ones((2, 2, 4)))
    assert edgec("run", made / "good", "--inputs", tmp_path / "one.npy") == 0
    assert edgec("run", made / "good", "--inputs", tmp_path / "two.npy") == 1
    assert "two.npy: more than one sample is given; expected x [2, 4]" in capsys.readouterr().err


def test_what_is_printed_beside_a_progress_bar_stays_on_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """stdout may be a file while the bar stands on a terminal."""
    terminal = StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with common.progress_bar("passes"):
        print("result")
    assert capsys.readouterr().out == "result\n"
    assert "passes" in terminal.getvalue()
