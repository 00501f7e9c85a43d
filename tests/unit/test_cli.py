"""The command line: spellings, output, exit codes; `verify` on a bundle made by hand."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgec.compiler import toolchain as tools
from edgec.compiler.bundle import write_bundle
from edgec.compiler.cli import COMMANDS, common, main
from edgec.compiler.compare.bundle import verify
from edgec.compiler.compare.difference import relative_error
from edgec.compiler.errors import EdgecError
from tests.unit.handmade import onnx_model, program, target


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny.onnx, a right bundle `good/` and a wrong one `bad/`."""
    folder = tmp_path_factory.mktemp("cli")
    onnx.save(onnx_model(), folder / "tiny.onnx")
    write_bundle(program(folder), target(), folder / "good")
    write_bundle(program(folder, offset=0.01), target(), folder / "bad")
    return folder


def edgec(*words: object) -> int:
    return main([str(w) for w in words])


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


def test_run(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((2, 4), "f4"))
    assert edgec("run", folder / "good", "--inputs", tmp_path / "x.npz", "--save", tmp_path / "y.npz", "--json") == 0
    shown = json.loads(capsys.readouterr().out)["y/out"]
    np.testing.assert_allclose(shown, np.load(tmp_path / "y.npz")["y/out"], rtol=1e-6)
    assert edgec("run", folder / "good") == 0
    assert "y/out" in capsys.readouterr().out
    assert edgec("run", folder / "good", "--save", tmp_path / "x.npz" / "y.npz") == 1
    assert "cannot write" in capsys.readouterr().err


def test_bench(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgec("bench", folder / "good", "--runs", 3, "--layers", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["runs"]) == 3 and [s["name"] for s in shown["layers"]] == ["mul", "act"]
    assert edgec("bench", folder / "good", "--runs", 3, "--layers") == 0
    assert "median" in capsys.readouterr().out


def test_inspect_a_bundle(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgec("inspect", folder / "good", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["macs"] == 8 and shown["live_bytes"] == [64, 64] and "libtiny.so" in shown["file_bytes"]
    kernels, steps = shown["kernels"], shown["steps"]
    assert sum(k["steps"] for k in kernels) == len(steps) and sum(k["macs"] for k in kernels) == 8
    assert kernels == sorted(kernels, key=lambda k: -k["cost_us"])
    assert edgec("inspect", folder / "good") == 0
    table = capsys.readouterr().out
    us = sum(step["cost_us"] for step in steps)
    assert "Tanh_1, Add_2" in table and "2 by 1" in table and f"modelled    {us:,.0f} us on one core" in table


def test_inspect_a_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgec("inspect", folder / "tiny.onnx", "--dim", "n=2", "--json") == 0
    out, said = capsys.readouterr()
    shown = json.loads(out)
    assert not said and shown["inputs"] == [{"name": "x", "dtype": "float32", "shape": [2, 4]}]
    assert shown["parameters"] == 8 and [s["op"] for s in shown["steps"]] == ["Mul", "Tanh", "Add"]


@pytest.mark.parametrize("more", [(), ("--target", "x86")])
def test_notes_stand_beside_what_is_printed(
    folder: Path, more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    note = "input 'x': first dimension 'n' is taken as 1; --shape or --dim changes it"
    assert edgec("inspect", folder / "tiny.onnx", *more) == 0
    out, said = capsys.readouterr()
    assert said == f"edgec: note: {note}\n" and "note" not in out
    assert edgec("inspect", folder / "tiny.onnx", *more, "--json") == 0
    out, said = capsys.readouterr()
    assert said == f"edgec: note: {note}\n" and json.loads(out)["notes"] == [note]


# ---- verify


@pytest.mark.parametrize("extra", [(), ("--layers",), ("--runs", 3)])
def test_verify_accepts_a_right_bundle(
    folder: Path, extra: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert edgec("verify", folder / "tiny.onnx", "--bundle", folder / "good", *extra) == 0
    assert "all within tolerance" in capsys.readouterr().out


def test_verify_names_the_first_layer_that_differs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgec("verify", folder / "tiny.onnx", "--bundle", folder / "bad", "--layers") == 1
    assert "first to differ: mul m" in capsys.readouterr().out
    assert edgec("verify", folder / "tiny.onnx", "--bundle", folder / "bad", "--json") == 1
    assert json.loads(capsys.readouterr().out)["rows"][0]["state"] == "DIFFERS"


def test_verify_on_given_inputs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((2, 4), "f4"))
    np.savez(tmp_path / "any_name.npz", z=np.ones((2, 4), "f4"))
    np.save(tmp_path / "samples.npy", np.array([np.nan, 1, 2], "f8").reshape(3, 1, 1) * np.ones((2, 4)))
    np.savez(tmp_path / "names.npz", x=np.ones((2, 4), "f4"), z=np.ones(1))
    np.savez(tmp_path / "shape.npz", x=np.ones((2, 5), "f4"))
    words = ("verify", folder / "tiny.onnx", "--bundle", folder / "good", "--inputs")
    for name in ("x.npz", "any_name.npz", "samples.npy"):  # as --calib takes them, not-a-number apart
        assert edgec(*words, tmp_path / name) == 0
    assert edgec(*words, tmp_path / "names.npz") == 1
    assert "names.npz: 'z' is no input; known: x" in capsys.readouterr().err
    assert edgec(*words, tmp_path / "shape.npz") == 1
    assert "input 'x' has shape [2, 5]; expected N samples of [2, 4]" in capsys.readouterr().err
    assert edgec(*words, tmp_path / "x.npz", "--calib-prep", "trch") == 1
    assert "no preparation 'trch'; did you mean 'torch'?" in capsys.readouterr().err


def test_verify_looks_at_every_sample(folder: Path) -> None:
    inputs = np.full((3, 2, 4), 1e6, "f4")  # beside which an offset of 0.01 is nothing
    assert verify(folder / "tiny.onnx", folder / "bad", inputs={"x": inputs}).ok
    inputs[2] = 1
    assert not verify(folder / "tiny.onnx", folder / "bad", inputs={"x": inputs}).ok


def test_run_takes_one_sample(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "one.npy", np.ones((2, 4)))
    np.save(tmp_path / "two.npy", np.ones((2, 2, 4)))
    assert edgec("run", folder / "good", "--inputs", tmp_path / "one.npy") == 0
    assert edgec("run", folder / "good", "--inputs", tmp_path / "two.npy") == 1
    assert "two.npy: more than one sample is given; expected x [2, 4]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "nowhere.onnx"}, r"nowhere\.onnx: no such file"),
        ({"runs": 0}, "runs must be 1 or more, got 0"),
        ({"binds": {"sr": 1}}, "--bind sr: not an input that was fixed at compile time"),
    ],
)
def test_verify_refuses(folder: Path, change: dict[str, object], message: str) -> None:
    words = {"model": folder / "tiny.onnx", "bundle": folder / "good", **change}
    with pytest.raises(EdgecError, match=message):
        verify(**words)


def test_verify_needs_the_values_of_bound_inputs(folder: Path, tmp_path: Path) -> None:
    model = onnx_model()
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [2, 4]))
    del model.graph.initializer[:]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(EdgecError, match="input 'w' was fixed at compile time: give its value with --bind w=VALUE"):
        verify(tmp_path / "m.onnx", folder / "good")
    assert verify(tmp_path / "m.onnx", folder / "good", binds={"w": list(range(8))}).ok


def test_verify_refuses_what_onnx_runtime_refuses(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("not a model")
    with pytest.raises(EdgecError, match=r"m\.onnx: ONNX Runtime refuses it"):
        verify(tmp_path / "m.onnx", folder / "good")


def test_verify_without_onnx_runtime(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EdgecError, match=r"verify needs ONNX Runtime: pip install edgec\[verify\]"):
        verify(folder / "tiny.onnx", folder / "good")


def test_relative_error() -> None:
    error = relative_error
    a = np.array([1.0, np.nan, np.inf, -4.0], "f4")
    assert error(a, a) == 0 and error(a[:3], a) == np.inf
    assert error(a + np.array([0, 0, 0, 1], "f4"), a) == 0.25
    assert error(np.nan_to_num(a), a) == np.inf and error(np.full(4, np.nan), np.ones(4)) == np.inf
    assert error(np.zeros((0,)), np.zeros((0,))) == 0 and error(np.array([1e-5]), np.zeros(1)) == 1e-5
    assert error(np.array([True]), np.array([False])) == 1


@pytest.mark.arm
@pytest.mark.parametrize("compiler", ["aarch64-linux-gnu-gcc", "ziglang"])
def test_verify_through_an_emulator(
    folder: Path, tmp_path: Path, compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm = target("arm")
    if tools.runs_here(arm.triple) or tools.emulator(arm) is None:
        pytest.skip("needs qemu-user and another machine")
    if compiler == "ziglang":
        pytest.importorskip("ziglang")
        which = shutil.which
        monkeypatch.setattr(tools.shutil, "which", lambda name: None if name.startswith("aarch64") else which(name))
    elif shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    for name, offset, ok in (("good", 0.0, True), ("bad", 0.01, False)):
        write_bundle(program(tmp_path, arm, offset=offset), arm, tmp_path / name)
        found = verify(folder / "tiny.onnx", tmp_path / name, layers=True)
        assert found.ok is ok and [d.where for d in found.differences] == ["mul", "act", "output"]


def test_no_emulator(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder / "good", tmp_path / "out")
    table = json.loads((tmp_path / "out" / "tiny.json").read_text())
    other = "arm" if target("x86").triple.startswith("x86") and tools.runs_here(target("x86").triple) else "x86"
    (tmp_path / "out" / "tiny.json").write_text(json.dumps({**table, "target": other, "triple": target(other).triple}))
    monkeypatch.setattr(tools, "emulator", lambda target: None)
    with pytest.raises(EdgecError, match="no emulator for it here .*install qemu-user-static, or verify on the device"):
        verify(folder / "tiny.onnx", tmp_path / "out")


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
