"""`edgec verify` on bundles made by hand: what it accepts, finds and refuses."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgec.compiler import toolchain as tools
from edgec.compiler.bundle import write_bundle
from edgec.compiler.compare.bundle import verify
from edgec.compiler.compare.difference import relative_error
from edgec.compiler.errors import EdgecError
from tests.support.command_line import edgec
from tests.support.handmade import onnx_model, program, target


@pytest.mark.parametrize("extra", [(), ("--layers",), ("--runs", 3)])
def test_verify_accepts_a_right_bundle(
    made: Path, extra: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert edgec("verify", made / "tiny.onnx", "--bundle", made / "good", *extra) == 0
    assert "all within tolerance" in capsys.readouterr().out


def test_verify_names_the_first_layer_that_differs(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgec("verify", made / "tiny.onnx", "--bundle", made / "bad", "--layers") == 1
    assert "first to differ: mul m" in capsys.readouterr().out
    assert edgec("verify", made / "tiny.onnx", "--bundle", made / "bad", "--json") == 1
    assert json.loads(capsys.readouterr().out)["rows"][0]["state"] == "DIFFERS"


def test_verify_on_given_inputs(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((2, 4), "f4"))
    np.savez(tmp_path / "any_name.npz", z=np.ones((2, 4), "f4"))
    np.save(tmp_path / "samples.npy", np.array([np.nan, 1, 2], "f8").reshape(3, 1, 1) * np.ones((2, 4)))
    np.savez(tmp_path / "names.npz", x=np.ones((2, 4), "f4"), z=np.ones(1))
    np.savez(tmp_path / "shape.npz", x=np.ones((2, 5), "f4"))
    words = ("verify", made / "tiny.onnx", "--bundle", made / "good", "--inputs")
    for name in ("x.npz", "any_name.npz", "samples.npy"):  # as --calib takes them, not-a-number apart
        assert edgec(*words, tmp_path / name) == 0
    assert edgec(*words, tmp_path / "names.npz") == 1
    assert "names.npz: 'z' is no input; known: x" in capsys.readouterr().err
    assert edgec(*words, tmp_path / "shape.npz") == 1
    assert "input 'x' has shape [2, 5]; expected N samples of [2, 4]" in capsys.readouterr().err
    assert edgec(*words, tmp_path / "x.npz", "--calib-prep", "trch") == 1
    assert "no preparation 'trch'; did you mean 'torch'?" in capsys.readouterr().err


def test_verify_looks_at_every_sample(made: Path) -> None:
    inputs = np.full((3, 2, 4), 1e6, "f4")  # beside which an offset of 0.01 is nothing
    assert verify(made / "tiny.onnx", made / "bad", inputs={"x": inputs}).ok
    inputs[2] = 1
    assert not verify(made / "tiny.onnx", made / "bad", inputs={"x": inputs}).ok


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "nowhere.onnx"}, r"nowhere\.onnx: no such file"),
        ({"runs": 0}, "runs must be 1 or more, got 0"),
        ({"binds": {"sr": 1}}, "--bind sr: not an input that was fixed at compile time"),
    ],
)
def test_verify_refuses(made: Path, change: dict[str, object], message: str) -> None:
    words = {"model": made / "tiny.onnx", "bundle": made / "good", **change}
    with pytest.raises(EdgecError, match=message):
        verify(**words)


def test_verify_needs_the_values_of_bound_inputs(made: Path, tmp_path: Path) -> None:
    model = onnx_model()
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [2, 4]))
    del model.graph.initializer[:]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(EdgecError, match="input 'w' was fixed at compile time: give its value with --bind w=VALUE"):
        verify(tmp_path / "m.onnx", made / "good")
    assert verify(tmp_path / "m.onnx", made / "good", binds={"w": list(range(8))}).ok


def test_verify_refuses_what_onnx_runtime_refuses(made: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("not a model")
    with pytest.raises(EdgecError, match=r"m\.onnx: ONNX Runtime refuses it"):
        verify(tmp_path / "m.onnx", made / "good")


def test_verify_without_onnx_runtime(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EdgecError, match=r"verify needs ONNX Runtime: pip install edgec\[verify\]"):
        verify(made / "tiny.onnx", made / "good")


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
def test_verify_through_an_emulator(made: Path, tmp_path: Path, compiler: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
        found = verify(made / "tiny.onnx", tmp_path / name, layers=True)
        assert found.ok is ok and [d.where for d in found.differences] == ["mul", "act", "output"]


def test_no_emulator(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(made / "good", tmp_path / "out")
    table = json.loads((tmp_path / "out" / "tiny.json").read_text())
    other = "arm" if target("x86").triple.startswith("x86") and tools.runs_here(target("x86").triple) else "x86"
    (tmp_path / "out" / "tiny.json").write_text(json.dumps({**table, "target": other, "triple": target(other).triple}))
    monkeypatch.setattr(tools, "emulator", lambda target: None)
    with pytest.raises(EdgecError, match="no emulator for it here .*install qemu-user-static, or verify on the device"):
        verify(made / "tiny.onnx", tmp_path / "out")
