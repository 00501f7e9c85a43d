"""Bundles for boards without an operating system, in firmware on emulated ones: counts, stack, probes, errors."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgec.compiler import toolchain as tools
from edgec.compiler.bundle import Bundle, read_bundle, write_bundle
from edgec.compiler.bundle.firmware import Firmware, refuse_too_large
from edgec.compiler.cli import main
from edgec.compiler.errors import EdgecError
from edgec.compiler.program import Program
from edgec.compiler.target import Target, find_target
from tests.support.emulated import needs_board
from tests.support.handmade import expected, onnx_model, program

pytestmark = pytest.mark.firmware
X = np.linspace(-2, 2, 8, dtype=np.float32).reshape(2, 4)
TURNS = 20_000  # of two instructions

# What `scale` of handmade.py is replaced by: loops of a known length; a stack of a known size; an illegal instruction.
LOOP = f'int n = {TURNS}; __asm__ volatile(".syntax unified\\n1: subs %0, #1\\n bne 1b" : "+l"(n) : : "cc");'
STACK = "volatile char big[STACK]; for (int i = 0; i < STACK; i++) big[i] = 1;"
FAULT = '__asm__ volatile("udf #0");'


def made(folder: Path, board: str = "cortex-m4", first: str = "") -> Bundle:
    """The model of handmade.py for a board; `first` is what its first kernel does before all else."""
    kind = find_target(board)
    return write_bundle(_changed(program(folder, kind), kind, folder, first), kind, folder / "out")


def _changed(base: Program, kind: Target, folder: Path, first: str) -> Program:
    source = (
        (folder / "kernels.c")
        .read_text()
        .replace("    const float *x = args[0], *w", f"    {first}\n    const float *x = args[0], *w")
    )
    (folder / "kernels.c").write_text(source)
    tools.toolchain(kind).compile(["kernels.c"], folder, ["-std=c11", "-DOFFSET=0.0f", "-DSTACK=4000"])
    return replace(base, objects=(("kernels.o", (folder / "kernels.o").read_bytes()),), threads=1)


@pytest.fixture(autouse=True)
def board() -> None:
    needs_board()


@pytest.mark.parametrize("what", ["RAM", "flash"])
def test_a_model_that_the_board_has_no_room_for_is_refused(what: str, tmp_path: Path) -> None:
    bundle, machine = made(tmp_path), find_target("cortex-m4").machine
    assert machine
    small = replace(machine, ram=(0, 100)) if what == "RAM" else replace(machine, flash=(0, 100))
    with pytest.raises(EdgecError, match=rf"needs [\d,]+ bytes of {what}, and mps2-an386, .* has 100: "):
        refuse_too_large(bundle, small)
    refuse_too_large(bundle, machine)


@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"])
def test_every_board_runs_the_model(name: str, tmp_path: Path) -> None:
    firmware = Firmware(made(tmp_path, name))
    for scale, outputs in zip((1, 3), firmware.run([{"x": X}, {"x": 3 * X}]), strict=True):
        np.testing.assert_allclose(outputs["y/out"], expected(scale * X), rtol=1e-6)


@pytest.mark.parametrize("name", ["cortex-m4", "cortex-m55"])
def test_instructions_are_counted_exactly(name: str, tmp_path: Path) -> None:
    plain = Firmware(made(tmp_path / "plain", name)).count([{"x": X}])
    longer = Firmware(made(tmp_path / "longer", name, LOOP)).count([{"x": X}])
    assert longer.runs[0] - plain.runs[0] == pytest.approx(2 * TURNS, rel=0.001)
    assert dict(longer.layers)["mul"] - dict(plain.layers)["mul"] == pytest.approx(2 * TURNS, rel=0.001)
    assert sum(count for _, count in longer.layers) == pytest.approx(longer.runs[0], rel=0.01)


def test_the_stack_is_measured(tmp_path: Path) -> None:
    plain = Firmware(made(tmp_path / "plain")).count([{"x": X}]).stack_bytes
    assert 150 < plain < 500
    assert 3900 < Firmware(made(tmp_path / "deep", first=STACK)).count([{"x": X}]).stack_bytes < 4000 + plain


def test_probes_show_the_arena_between_steps(tmp_path: Path) -> None:
    outputs, (after, before) = Firmware(made(tmp_path)).trace({"x": X}, [(1, 128, 32), (0, 64, 32)])
    np.testing.assert_allclose(np.frombuffer(before, np.float32), (X * np.arange(8).reshape(2, 4)).ravel(), rtol=1e-6)
    assert after == outputs["y/out"].tobytes()


def test_commands_run_verify_and_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(made(tmp_path).folder)
    np.savez(tmp_path / "x.npz", x=X)
    assert main(["run", folder, "--inputs", str(tmp_path / "x.npz"), "--save", str(tmp_path / "y.npz")]) == 0
    np.testing.assert_allclose(np.load(tmp_path / "y.npz")["y/out"], expected(X), rtol=1e-6)
    onnx.save(onnx_model(), tmp_path / "tiny.onnx")
    assert main(["verify", str(tmp_path / "tiny.onnx"), "--bundle", folder, "--layers"]) == 0
    capsys.readouterr()
    assert main(["bench", folder, "--layers", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["machine"] == "mps2-an386" and [row["name"] for row in found["layers"]] == ["mul", "act"]
    assert found["ms_at_one_per_cycle"] == pytest.approx(found["instructions"] / 120e3)
    assert main(["bench", folder, "--layers"]) == 0
    assert "instructions per inference, counted on mps2-an386" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--threads", "2"], "threads: 2; without an operating system one worker runs the model"),
        (["run", "--level", "x86"], "has no level 'x86'"),
        (["bench", "--roofline", "r.svg"], "runs in an emulator, which has no peak: no roofline"),
        (["bench", "--runs", "0"], "runs must be 1 or more, got 0"),
    ],
)
def test_options_that_mean_nothing_there(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(made(tmp_path).folder)
    assert main([words[0], folder, *words[1:]]) == 1
    assert message in capsys.readouterr().err


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = made(tmp_path)
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if "qemu" in name else which(name))
    with pytest.raises(EdgecError, match=r"runs here in an emulator \(qemu-system-arm\): apt install qemu-system-arm"):
        Firmware(bundle)
    monkeypatch.setattr(shutil, "which", lambda name: None if "gcc" in name else which(name))
    monkeypatch.setattr(tools, "find_spec", lambda name: None)
    with pytest.raises(EdgecError, match=r"no C compiler for target 'cortex-m4' .*apt install gcc-arm-none-eabi"):
        Firmware(bundle)


def test_a_fault_of_the_core_is_reported(tmp_path: Path) -> None:
    firmware = Firmware(made(tmp_path, first=FAULT))
    with pytest.raises(EdgecError, match="failed in qemu-system-arm: fault at 0000[0-9a-f]{4}, called from"):
        firmware.run([{"x": X}])


def test_a_bundle_without_a_known_machine(tmp_path: Path) -> None:
    bundle = made(tmp_path)
    text = bundle.folder.joinpath("tiny.json").read_text().replace("thumbv7em-none-eabihf", "riscv32-none-elf")
    bundle.folder.joinpath("tiny.json").write_text(text)
    with pytest.raises(EdgecError, match="compiled for riscv32-none-elf, of which no target description here knows"):
        Firmware(read_bundle(bundle.folder))
