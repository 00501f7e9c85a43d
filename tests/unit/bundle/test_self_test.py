"""The self-test of a bundle: right where nothing is wrong, and otherwise it names the first step that is."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgec
from edgec.compiler.bundle import Bundle, elf, firmware
from edgec.compiler.cli import main
from edgec.compiler.errors import EdgecError
from edgec.compiler.golden import fnv1a
from edgec.compiler.target import find_target
from edgec.compiler.toolchain import toolchain
from tests.support.emulated import needs_board
from tests.support.handmade import onnx_model

PROGRAM = """
#include <stdio.h>
#include "tiny.h"
EC_ALIGNAS(TINY_ARENA_ALIGN) static uint8_t arena[TINY_ARENA_BYTES];
static uint8_t *wild(void) { return arena; }
static int broken;
static ec_status dispatch(void *backend, const ec_model *model, const ec_step *step)
{
    const ec_status status = ec_step_run(model, step);
    if (step == &model->desc->steps[broken])
        ((uint8_t *)backend)[TINY_SPOILED] ^= 16;
    return status;
}
int main(int argc, char **argv)
{
    ec_model model;
    uint32_t step = 99;
    (void)argv;
    if (ec_open(&model, &tiny_desc, arena, sizeof arena) < 0) return 1;
    if (ec_selftest(NULL, &tiny_golden, &step) != EC_ERR_ARG) return 2;
    if (ec_selftest(&model, NULL, &step) != EC_ERR_ARG) return 2;
    for (int i = 0; i < (int)sizeof arena; i++) arena[i] = 0x55;
    for (int again = 0; again < 2; again++)
        if (ec_selftest(&model, &tiny_golden, &step) != EC_OK || step != model.desc->n_steps) return 3;
    if (argc == 1) return 0;
    broken = (int)model.desc->n_steps - 1;
    ec_set_dispatch(&model, dispatch, wild());
    if (ec_selftest(&model, &tiny_golden, &step) != EC_ERR_DIFFERS) return 4;
    printf("%u %s", (unsigned)step, step < model.desc->n_steps ? model.desc->steps[step].name : "-");
    return model.next != 0;
}
"""


def compiled(folder: Path, target: str = "host", **options: object) -> Bundle:
    return edgec.compile(onnx_model(), target, folder / "out", name="tiny", dims={"n": 2}, **options)  # type: ignore[arg-type]


def run(bundle: Bundle, folder: Path, *arguments: str) -> str:
    (folder / "main.c").write_text(PROGRAM)
    spoiled = bundle.manifest["outputs"][0]["offset"]
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{bundle.folder}", f"-DTINY_SPOILED={spoiled}"]
    subprocess.run(["cc", *flags, "main.c", bundle.static_library, "-lm", "-o", "main"], cwd=folder, check=True)
    return subprocess.run(["./main", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_a_program_on_this_machine(tmp_path: Path) -> None:
    bundle = compiled(tmp_path, self_test=True)
    assert run(bundle, tmp_path) == ""
    step, name = run(bundle, tmp_path, "break").split()
    assert int(step) == len(bundle.steps) - 1 and name == bundle.steps[-1]["name"]
    assert bundle.manifest["self_test"]["steps"] == list(range(len(bundle.steps)))


def test_inputs_may_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(onnx_model(), tmp_path / "tiny.onnx")
    np.savez(tmp_path / "x.npz", x=np.full((2, 4), 0.25, np.float32))
    words = [
        "compile",
        tmp_path / "tiny.onnx",
        "--dim",
        "n=2",
        "-o",
        tmp_path / "out",
        "--self-test",
        tmp_path / "x.npz",
    ]
    assert main([str(word) for word in words]) == 0
    assert "of flash where ec_selftest is linked" in capsys.readouterr().out
    assert np.float32(0.25).tobytes() * 8 in (tmp_path / "out" / "libtiny.a").read_bytes()
    np.savez(tmp_path / "x.npz", y=np.zeros(3, np.float32))
    assert main([str(word) for word in words]) == 1
    assert "x.npz: input 'x' has shape [3]; expected N samples of [2, 4]" in capsys.readouterr().err


def test_inputs_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "x.npz", x=np.full((2, 4), 0.25, np.float32))
    opened, load = [], np.load
    monkeypatch.setattr(np, "load", lambda path, *rest, **more: opened.append(path) or load(path, *rest, **more))
    compiled(tmp_path, self_test=tmp_path / "x.npz")
    assert len(opened) == 1


def test_inputs_that_are_missing_are_known_before_the_work(tmp_path: Path) -> None:
    stages: list[str] = []
    with pytest.raises(EdgecError, match=r"none\.npz: no such file"):
        edgec.compile(
            onnx_model(),
            dims={"n": 2},
            out=tmp_path,
            self_test=tmp_path / "none.npz",
            progress=lambda stage, *_: stages.append(stage),
        )
    assert set(stages) == {"import"}


def test_nothing_of_it_is_in_a_bundle_that_did_not_ask(tmp_path: Path) -> None:
    bundle = compiled(tmp_path)
    assert bundle.manifest["self_test"] is None and "golden" not in bundle.header.read_text()


@pytest.mark.parametrize(("target", "message"), [("x86-multi", "has several levels"), ("cuda", "on a GPU")])
def test_targets_without_a_self_test(target: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(EdgecError, match=f"^self_test: {target} .*{message}"):
        compiled(tmp_path, target, self_test=True)


def test_the_digest_is_fnv1a() -> None:
    assert (fnv1a(b""), fnv1a(b"a"), fnv1a(b"foobar")) == (0x811C9DC5, 0xE40C292C, 0xBF9CF968)


# ---- In firmware

CHECK = """
#include "tiny.h"
#include "semihost.h"
EC_ALIGNAS(TINY_ARENA_ALIGN) static uint8_t arena[TINY_ARENA_BYTES];
int main(void)
{
    ec_model model;
    uint32_t step;
    if (ec_open(&model, &tiny_desc, arena, sizeof arena) != EC_OK) return 90;
    const ec_status status = ec_selftest(&model, &tiny_golden, &step);
    return status == EC_OK ? 0 : status == EC_ERR_DIFFERS ? 10 + (int)step : 91;
}
"""


def on_board(bundle: Bundle, folder: Path, spoil: Callable[[bytearray], None] | None = None, script: str = "") -> int:
    """What a firmware's main returns, which runs the self-test; the file may be changed before it is loaded."""
    target = find_target(bundle.manifest["target"])
    assert target.machine is not None
    sources = shutil.copytree(firmware.SOURCES, folder / "firmware", dirs_exist_ok=True)
    (sources / "main.c").write_text(CHECK)
    (sources / "firmware.ld").write_text(script or firmware.linker_script(target.machine))
    chain = toolchain(target)
    units = ("main.c", "semihost.c", "startup.c", "ticks.c")
    objects = chain.compile(units, sources, ("-std=c11", f"-I{bundle.folder}", "-I."))
    flags = ("-nostartfiles", "-static", "-Wl,-T,firmware.ld,--gc-sections")
    chain.link("check.elf", [*objects, str(bundle.static_library)], sources, flags)
    data = bytearray((sources / "check.elf").read_bytes())
    if spoil:
        spoil(data)
    (sources / "check.elf").write_bytes(data)
    command = ["qemu-system-arm", "-M", target.machine.name, "-display", "none", "-monitor", "none", "-serial", "none"]
    command += ["-semihosting-config", "enable=on,target=native", "-kernel", "check.elf"]
    return subprocess.run(command, cwd=sources, check=False, timeout=60).returncode


@pytest.mark.firmware
@pytest.mark.parametrize("board", ["cortex-m0plus", "cortex-m4", "cortex-m55"])
def test_firmware_finds_the_step_that_a_lost_bit_spoils(board: str, tmp_path: Path) -> None:
    needs_board()
    bundle = compiled(tmp_path, board, self_test=True)
    assert on_board(bundle, tmp_path) == 0

    def flip(data: bytearray) -> None:
        at = elf.file_offset(bytes(data), elf.address_of(bytes(data), "tiny_weights"))
        data[at + 6] ^= 1  # of the second weight

    reads = next(i for i, step in enumerate(bundle.steps) if "Mul_0" in step["origin"])
    assert on_board(bundle, tmp_path, flip) == 10 + reads


@pytest.mark.firmware
def test_firmware_finds_weights_that_were_never_loaded(tmp_path: Path) -> None:
    needs_board()
    bundle = compiled(tmp_path, "cortex-m4", self_test=True)
    machine = find_target("cortex-m4").machine
    assert machine is not None
    script = firmware.linker_script(machine)
    others = "EXCLUDE_FILE(*weights*)"
    moved = script.replace("*(.bss .bss.*", "*(.rodata.edgec.tiny.weights) *(.bss .bss.*")
    moved = moved.replace("*(.rodata .rodata.*)", f"*({others} .rodata {others} .rodata.*)")
    reads = next(i for i, step in enumerate(bundle.steps) if "Mul_0" in step["origin"])
    assert on_board(bundle, tmp_path, script=moved) == 10 + reads
