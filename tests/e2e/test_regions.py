"""Models on boards with little memory: some rows at a time, in several regions; the bits of the interpreter."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import edgec
from edgec.compiler import toolchain as tools
from edgec.compiler.bundle import Bundle
from edgec.compiler.bundle.firmware import SOURCES, Firmware
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.ports import random_inputs
from edgec.compiler.session import Session
from edgec.compiler.target import find_target
from tests.support.emulated import needs_board

from .models import find

pytestmark = pytest.mark.firmware
BOARD = "cortex-m4"
REGIONS = """
[[memory]]
name = "FAST"
kind = "ram"
size = "12K"
cost = 0
address = 0x20200000

[[memory]]
name = "CODE"
kind = "ram"
size = "8K"
cost = 0
address = 0x20210000
holds = ["code"]

[[memory]]
name = "PSRAM"
kind = "ram"
size = "1M"
cost = 4
address = 0x21000000

[[memory]]
name = "NEAR"
kind = "flash"
size = "32K"
address = 0x00200000

[[memory]]
name = "FAR"
kind = "flash"
size = "1M"
cost = 8
address = 0x00300000
holds = ["weights"]
"""


def same_bits(bundle: Bundle, model: Path, inputs: int, firmware: Firmware | None = None) -> Firmware:
    """Firmware of a bundle that has answered as the interpreter does."""
    session = Session(target=find_target(BOARD))
    graph = import_model(model, notice=lambda text: None)
    graph = run_pipeline(graph, parse_pipeline("canonicalize, fold, integers"), session)
    firmware = firmware or Firmware(bundle)
    feeds = [random_inputs(firmware.inputs, seed) for seed in range(inputs)]
    for feed, got in zip(feeds, firmware.run(feeds), strict=True):
        for output, want in interpret(graph, feed).items():
            np.testing.assert_array_equal(got[output], want)
    return firmware


def test_person_detection_fits_into_45_kilobytes(tmp_path: Path) -> None:
    """Input and output included, which alone take 27,650 bytes."""
    needs_board()
    model = find("mlperf_vww_mbv1_025_int8")
    whole = edgec.compile(model, BOARD, tmp_path / "whole")
    bundle = edgec.compile(model, BOARD, tmp_path / "out", max_ram=46080)
    assert whole.arena_bytes > 45000 >= bundle.arena_bytes
    macs = [sum(step["macs"] for step in b.steps) for b in (whole, bundle)]
    assert macs[1] < 1.05 * macs[0]
    assert bundle.code_bytes < whole.code_bytes + 16 * 1024
    assert len(bundle.steps) < 70
    same_bits(bundle, model, 3)


def test_patches_of_floats_give_the_bits_of_the_whole(tmp_path: Path) -> None:
    needs_board()
    model = find("mlperf_ic_resnet8")
    bundles = [
        edgec.compile(model, BOARD, tmp_path / "whole"),
        edgec.compile(model, BOARD, tmp_path / "out", max_ram="110K"),
    ]
    assert bundles[0].arena_bytes > 110 * 1024 > bundles[1].arena_bytes
    found = []
    for bundle in bundles:
        firmware = Firmware(bundle)
        found.append(firmware.run([random_inputs(firmware.inputs, 0)])[0])
    for name, want in found[0].items():
        np.testing.assert_array_equal(found[1][name], want)


def test_a_model_runs_from_the_regions_that_it_was_planned_for(tmp_path: Path) -> None:
    needs_board()
    (tmp_path / "board.toml").write_text(REGIONS)
    model = find("mlperf_kws_dscnn_int8")
    bundle = edgec.compile(model, BOARD, tmp_path / "out", name="kws", memory=tmp_path / "board.toml")
    rows = {row["region"]: row for row in bundle.manifest["memory"]}
    assert rows["FAST"]["arena"] and rows["PSRAM"]["arena"] and rows["FAR"]["weights"] and rows["NEAR"]["weights"]
    assert rows["CODE"]["kernels"]
    firmware = same_bits(bundle, model, 2)  # without the script all lies in one RAM and one flash
    firmware.image = linked(firmware, bundle)
    at = symbols(firmware)
    assert at["kws_arena_PSRAM"] == 0x21000000
    assert at["arena"] == 0x20200000
    assert at["kws_weights_FAR"] == 0x00300000
    assert 0x00200000 <= at["kws_weights"] < 0x00208000
    for kernel in rows["CODE"]["kernels"]:
        assert 0x20210000 <= at[kernel] < 0x20212000
    same_bits(bundle, model, 2, firmware)


COPY = """int main(void)
{
    extern uint8_t kws_CODE_load[], kws_CODE_begin[], kws_CODE_end[];
    for (uint8_t *to = kws_CODE_begin, *from = kws_CODE_load; to < kws_CODE_end;)
        *to++ = *from++;
"""


def linked(firmware: Firmware, bundle: Bundle) -> str:
    """The firmware again with the model's script, its arena where the header says, kernels copied into their RAM."""
    unit = firmware.work / "main.c"
    text = unit.read_text()
    for old, new in (("arena[ARENA_BYTES];", "arena[ARENA_BYTES] KWS_ARENA_SECTION;"), ("int main(void)\n{\n", COPY)):
        assert old in text
        text = text.replace(old, new)
    unit.write_text(text)
    chain = tools.toolchain(find_target(BOARD))
    include = (f"-I{bundle.folder}", "-I.")
    units = ("main.c", "semihost.c", "startup.c", "ticks.c")
    objects = chain.compile(units, firmware.work, ("-std=c11", "-ffreestanding", *include, f"-I{SOURCES}"))
    script = bundle.folder / "kws.ld"
    flags = ("-nostartfiles", "-static", f"-Wl,-T,{script},-T,firmware.ld,--gc-sections")
    chain.link("regions.elf", [*objects, str(bundle.static_library)], firmware.work, flags)
    return "regions.elf"


def symbols(firmware: Firmware) -> dict[str, int]:
    nm = shutil.which("arm-none-eabi-nm")
    assert nm
    text = subprocess.run([nm, firmware.image], cwd=firmware.work, capture_output=True, text=True, check=True).stdout
    return {name: int(at, 16) & ~1 for at, _, name in (line.split() for line in text.splitlines() if line[0] != " ")}
