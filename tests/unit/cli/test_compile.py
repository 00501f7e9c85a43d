"""`edgec compile` and what follows it, on a real model: compile, verify, run, reproduce, and every refusal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgec
from edgec.compiler.cli import main
from tests.support.handmade import expected, onnx_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compile")
    onnx.save(onnx_model(), folder / "tiny.onnx")
    return folder


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    edgec.compile(folder / "tiny.onnx", out=folder / "out", dims={"n": 2}, threads=2)
    return folder / "out"


def test_compiled_model_answers(bundle: Path) -> None:
    x = np.linspace(-1, 1, 8, dtype="f4").reshape(2, 4)
    np.testing.assert_allclose(edgec.load(bundle).run({"x": x})["y/out"], expected(x), rtol=1e-5, atol=1e-6)


def test_verify(folder: Path, bundle: Path) -> None:
    words = ["verify", str(folder / "tiny.onnx"), "--bundle", str(bundle)]
    assert main([*words, "--runs", "3"]) == 0
    assert main([*words, "--layers"]) == 0


def test_bench_says_where_it_uses_fewer_threads(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(bundle), "--runs", "1", "--threads", "9", "--json"]) == 0
    out, said = capsys.readouterr()
    assert json.loads(out)["threads"] == 2 and said == "edgec: note: --threads 9: compiled for 2 threads\n"


def test_two_compiles_give_the_same_bytes(folder: Path, bundle: Path, tmp_path: Path) -> None:
    again = edgec.compile(folder / "tiny.onnx", out=tmp_path / "elsewhere", dims={"n": 2}, threads=2).folder
    for path in [p for p in bundle.rglob("*") if p.is_file()]:
        assert (again / path.relative_to(bundle)).read_bytes() == path.read_bytes(), path.name


def test_what_is_printed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compile", str(folder / "tiny.onnx"), "-o", str(tmp_path / "out")]
    assert main([*words, "--shape", "x=2x4"]) == 0
    said = capsys.readouterr().out
    assert "above the lower bound" in said and "compiled in" in said
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["inputs"][0]["shape"] == [1, 4] and json.loads(out)["compile_seconds"] > 0
    assert "edgec: note: " in err and "'n'" in err


def test_limits_are_kept_and_the_old_bundle_too(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["compile", str(folder / "tiny.onnx"), "-o", str(out), "--dim", "n=2"]
    assert main([*words, "--max-ram", "1M", "--max-flash", "1M"]) == 0
    before = (out / "tiny.json").read_bytes()
    assert main([*words, "--dim", "n=2", "--name", "other", "--max-ram", "8"]) == 1
    capsys.readouterr()
    assert main([*words, "--name", "other", "--max-ram", "8"]) == 1
    ram = capsys.readouterr().err
    assert "above max_ram 8 bytes; most at step 0: " in ram and "what helps: " in ram and "`edgec compress`" in ram
    assert main([*words, "--name", "other", "--max-flash", "8"]) == 1
    flash = capsys.readouterr().err
    assert "above max_flash 8 bytes; weights " in flash and "what helps: --quantize int8" in flash
    assert (out / "tiny.json").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "x68"], "unknown target 'x68'; did you mean 'x86'?"),
        (["--threads", "0"], "threads: 0 is not a number of workers"),
        (["--name", "3d"], "model name '3d' cannot be used in C; use --name m3d"),
        (["-o", "/proc/edgec"], "/proc/edgec: cannot write the bundle"),
        (["--shape", "y=1x4"], "'y'"),
        (["--dim", "m=1"], "'m'"),
        (["--passes", "foold"], "'foold'"),
    ],
)
def test_refusals(
    folder: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", str(folder / "tiny.onnx"), "-o", str(tmp_path / "out"), *words]) == 1
    said = capsys.readouterr().err
    assert message in said and said.startswith("edgec: error: ") and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_kernels_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernels"]) == 0
    assert "generic" in capsys.readouterr().out
    words = ["kernels", "--op", "Conv", "--shape", "1x64x56x56", "--shape", "64x64x3x3", "--shape", "64"]
    assert main([*words, "--attr", "pads=1,1,1,1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert sum(row["note"] == "picked" for row in rows) == 1 and any("rejected: " in row["note"] for row in rows)
    assert rows[0]["note"] == "picked" and not any(row["kernel"].startswith("matmul") for row in rows)
    assert main(["kernels", "--op", "Konv", "--shape", "1"]) == 1
    assert "unknown operator 'Konv'; did you mean 'Conv'?" in capsys.readouterr().err
    assert main(["kernels", "--op", "Conv"]) == 1
    assert "give the shapes of its 3 arguments with --shape" in capsys.readouterr().err
