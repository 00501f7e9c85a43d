"""What bundles for boards without an operating system hold, and need of the program around them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgec.compiler.bundle import Bundle, elf, firmware, write_bundle
from edgec.compiler.errors import EdgecError
from edgec.compiler.target import find_target
from edgec.compiler.toolchain import toolchain
from tests.unit import handmade
from tests.unit.emulated import needs_board
from tests.unit.handmade import expected, program

pytestmark = pytest.mark.firmware
BOARDS = ("cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
X = np.linspace(-2, 2, 8, dtype=np.float32).reshape(2, 4)
# Everything that a program calls to use a model, on a model without kernels.
SMALL = """
#include "edgec/edgec.h"
static const ec_io ios[] = {{"x", {EC_ARENA, 0}, 4, EC_F32, 0, -1, NULL, 0.0f, 0, {EC_ARENA, 0}}};
static const ec_desc desc = {
    .abi = EC_ABI, .arena_bytes = 4, .inputs = ios, .outputs = ios, .n_inputs = 1, .n_outputs = 1};
static uint8_t arena[4];
void reset(void);
void reset(void)
{
    ec_model model;
    if (ec_open(&model, &desc, arena, sizeof arena) == EC_OK && ec_input(&model, 0).data && ec_run(&model) == EC_OK)
        arena[1] = (uint8_t)ec_step_next(&model) + *(uint8_t *)ec_output(&model, 0).data;
}
"""


@pytest.fixture(autouse=True)
def board() -> None:
    needs_board()


def made(folder: Path, name: str = "cortex-m4") -> Bundle:
    kind = find_target(name)
    return write_bundle(program(folder, kind), kind, folder / "out")


def members(archive: Path, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    subprocess.run(["arm-none-eabi-ar", "x", archive.resolve()], cwd=folder, check=True)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", BOARDS)
def test_all_is_constant_and_nothing_unwinds(name: str, tmp_path: Path) -> None:
    bundle = made(tmp_path, name)
    for library in ("libtiny.a", "libedgec.a"):
        for data in members(bundle.folder / library, tmp_path / library).values():
            for section in elf.sections(data):
                assert not section.name.startswith((".ARM.ex", ".data", ".bss", ".got", ".debug")), section
                assert not section.flags & 1, section  # writable


def test_sections_have_names_of_their_own(tmp_path: Path) -> None:
    objects = members(made(tmp_path).static_library, tmp_path / "objects")
    names = {s.name for data in objects.values() for s in elf.sections(data) if s.flags & 2 and s.size}
    assert all(
        n.startswith((".text.edgec.tiny", ".rodata.edgec.tiny", ".text.edgec_runtime.", ".rodata.edgec_runtime."))
        for n in names
    ), names
    assert {".text.edgec.tiny.scale", ".rodata.edgec.tiny.weights", ".rodata.edgec.tiny.desc"} <= names
    assert ".text.edgec_runtime.ec_open" in names


@pytest.mark.parametrize("name", BOARDS)
def test_the_core_of_the_runtime_is_small(name: str, tmp_path: Path) -> None:
    """Of a linked program: what opens a model, runs it whole or by steps, and finds its inputs and outputs."""
    bundle, chain = made(tmp_path, name), toolchain(find_target(name))
    (tmp_path / "small.c").write_text(SMALL)
    chain.compile(["small.c"], tmp_path, ["-std=c11", f"-I{bundle.folder}"])
    flags = ("-nostdlib", "-static", "-Wl,--gc-sections,-e,reset")
    chain.link("small.elf", ["small.o", str(bundle.folder / "libedgec.a")], tmp_path, flags)
    whole, own = ((tmp_path / f).read_bytes() for f in ("small.elf", "small.o"))
    assert 300 < elf.stored_bytes(whole) - elf.stored_bytes(own) < 1100


def elsewhere(bundle: Bundle, board: str, monkeypatch: pytest.MonkeyPatch) -> firmware.Firmware:
    """The bundle on the machine of another target."""
    target = replace(firmware.target_of(bundle), machine=find_target(board).machine)
    monkeypatch.setattr(firmware, "target_of", lambda bundle: target)
    return firmware.Firmware(bundle)


@pytest.mark.parametrize(
    ("name", "machine"),
    [
        ("cortex-m4", "cortex-m0plus"),
        ("cortex-m7", "cortex-m4"),
        ("cortex-m55", "cortex-m33"),
        ("cortex-m33", "cortex-m4"),
    ],
)
def test_another_core_is_refused(name: str, machine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = find_target(name)
    bundle = write_bundle(replace(program(tmp_path, kind), isa=tuple(sorted(kind.cpu.isa))), kind, tmp_path / "out")
    assert firmware.Firmware(bundle).run([{"x": X}])
    with pytest.raises(EdgecError, match="this CPU lacks an instruction set that the model uses"):
        elsewhere(bundle, machine, monkeypatch).run([{"x": X}])


def test_code_for_a_lesser_core_runs_on_a_greater_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = elsewhere(made(tmp_path), "cortex-m55", monkeypatch).run([{"x": X}])
    np.testing.assert_allclose(found["y/out"], expected(X), rtol=1e-6)


def test_floating_point_that_is_not_switched_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = shutil.copytree(firmware.SOURCES, tmp_path / "firmware")
    text = (sources / "startup.c").read_text()
    (sources / "startup.c").write_text(text.replace("|= 0xFu << 20", "|= 0"))
    monkeypatch.setattr(firmware, "SOURCES", sources)
    kind = find_target("cortex-m4")
    bundle = write_bundle(replace(program(tmp_path, kind), isa=("FPU",)), kind, tmp_path / "out")
    with pytest.raises(EdgecError, match="this CPU lacks an instruction set that the model uses"):
        firmware.Firmware(bundle).run([{"x": X}])


@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m4"])
def test_ziglang_takes_the_place_of_a_missing_compiler(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda program: None if "none-eabi" in program else which(program))
    simple = handmade.KERNELS.replace("#include <math.h>", "").replace("tanhf(x[i])", "x[i]")
    monkeypatch.setattr(handmade, "KERNELS", simple)  # it has no mathematical functions
    kind = find_target(name)
    assert "ziglang" in toolchain(kind).cc
    (found,) = firmware.Firmware(made(tmp_path, name)).run([{"x": X}])
    np.testing.assert_array_equal(found["y/out"], 2 * X * handmade.WEIGHTS)
