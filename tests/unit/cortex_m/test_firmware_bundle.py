"""What bundles for boards without an operating system hold, and need of the program around them."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgec.compiler.budget import budget
from edgec.compiler.bundle import Bundle, elf, firmware, read_bundle, write_bundle
from edgec.compiler.cli import main
from edgec.compiler.errors import EdgecError
from edgec.compiler.target import find_target
from edgec.compiler.toolchain import toolchain
from tests.support import handmade
from tests.support.emulated import needs_board
from tests.support.handmade import expected, program

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


def test_what_a_program_takes_is_in_header_manifest_and_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = made(tmp_path)
    assert bundle.footprint is not None
    flash, ram = bundle.footprint["flash"], bundle.footprint["ram"]
    assert flash["weights"] == bundle.weights_bytes and flash["code"] + flash["tables"] == bundle.code_bytes
    assert 500 < flash["runtime"] < 4000  # with tanhf
    assert ram["arena"] == bundle.arena_bytes and ram["model"] == 48 and 200 < ram["stack"] < 400
    for parts in (flash, ram):
        assert parts["bytes"] == sum(size for part, size in parts.items() if part != "bytes")
    assert (bundle.flash_bytes, bundle.ram_bytes) == (flash["bytes"], ram["bytes"])
    header = bundle.header.read_text()
    assert f"#define TINY_FLASH_BYTES {flash['bytes']}u" in header and f"TINY_STACK_BYTES {ram['stack']}u" in header
    assert f"stack {ram['stack']:,}" in (bundle.folder / "report.html").read_text()
    assert main(["inspect", str(bundle.folder)]) == 0
    said = capsys.readouterr().out
    assert f"flash       {flash['bytes']:,} bytes: code {flash['code']:,}, tables" in said
    assert f"RAM         {ram['bytes']:,} bytes: arena {ram['arena']:,}, model 48, stack {ram['stack']:,}" in said


def test_a_model_that_needs_more_stack_than_there_is(tmp_path: Path) -> None:
    kind = replace(find_target("cortex-m4"), stack_bytes=100)
    with pytest.raises(
        EdgecError, match=r"^tiny: needs \d{3} bytes of stack, and cortex-m4 gives it 100 \(stack_bytes\)$"
    ):
        write_bundle(program(tmp_path, kind), kind, tmp_path / "out")


def test_limits_count_all_that_a_program_takes(tmp_path: Path) -> None:
    kind = find_target("cortex-m4")
    whole = made(tmp_path)
    with pytest.raises(EdgecError, match="flash .* above max_flash"):
        write_bundle(program(tmp_path, kind), kind, tmp_path / "b", budget(max_flash=whole.flash_bytes - 1))
    with pytest.raises(EdgecError, match="ram .* above max_ram"):
        write_bundle(program(tmp_path, kind), kind, tmp_path / "b", budget(max_ram=whole.ram_bytes - 1))
    write_bundle(program(tmp_path, kind), kind, tmp_path / "b", budget(None, whole.flash_bytes, whole.ram_bytes))


def test_damaged_sizes_in_a_manifest(tmp_path: Path) -> None:
    bundle = made(tmp_path)
    for wrong, message in (
        ({"flash": 3, "ram": {}}, "footprint.flash is not a table"),
        ({**bundle.footprint, "ram": {**bundle.footprint["ram"], "stack": "much"}}, "footprint.ram.stack is no number"),
    ):
        (bundle.folder / "tiny.json").write_text(json.dumps({**bundle.manifest, "footprint": wrong}))
        with pytest.raises(EdgecError, match=message):
            read_bundle(bundle.folder)


def test_a_model_is_looked_at_before_it_is_compiled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(handmade.onnx_model(), tmp_path / "tiny.onnx")
    words = ["inspect", str(tmp_path / "tiny.onnx"), "--target", "cortex-m4", "--dim", "n=2"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["target"] == "cortex-m4" and found["weights_bytes"] >= 32 and found["arena_bytes"] >= 32
    assert found["cycles"] == sum(step["cycles"] for step in found["steps"]) > 0
    assert found["ms"] == pytest.approx(found["cycles"] / 120e3, rel=0.1)
    assert main(words) == 0
    assert "cycles at 120 MHz" in capsys.readouterr().out
    assert main(["inspect", str(made(tmp_path).folder), "--target", "cortex-m4"]) == 1
    assert "is a bundle, compiled for one; expected a model" in capsys.readouterr().err
