"""What compiled kernels cost on a core that is not here: blocks of machine code, counters, llvm-mca."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

import edgec
from edgec.compiler.cli import main
from edgec.compiler.errors import EdgecError
from edgec.compiler.modelled import mca
from edgec.compiler.modelled.blocks import Block, blocks_of, counting, jump, target_of, traces
from edgec.compiler.modelled.counted import Counting
from edgec.compiler.ports import Port, random_inputs
from edgec.compiler.target import find_target
from edgec.compiler.toolchain import emulator, toolchain

# mov x8, #0; loop: add x8, x8, #1; cmp x8, x0; b.ne loop; cbz x1, end; bl far; adrp x2, 0; end: ret
WORDS = [0xD2800008, 0x91000508, 0xEB00011F, 0x54FFFFC1, 0xB4000061, 0x94000100, 0x90000002, 0xD65F03C0]


def code(words: list[int]) -> bytes:
    return struct.pack(f"<{len(words)}I", *words)


def test_blocks_begin_where_branches_lead_and_end() -> None:
    blocks = blocks_of(code(WORDS), 0x1000)
    assert [(b.start, b.end) for b in blocks] == [(0x1000, 0x1004), (0x1004, 0x1010)]
    assert [b.loops for b in blocks] == [False, True]
    assert [b.counter for b in blocks] == [0x1000, 0x1004]


def test_what_is_relative_to_its_place_is_not_moved() -> None:
    call, page, literal, plain = 0x94000100, 0x90000002, 0x58000040, 0x91000508
    (block,) = blocks_of(code([call, page, literal, plain]), 0)
    assert block.counter == 12


def test_branches_lead_back_and_forth() -> None:
    assert target_of(0x54FFFFC1, 0x100C) == 0x1004
    assert target_of(struct.unpack("<I", jump(0x2000, 0x1F00))[0], 0x2000) == 0x1F00
    assert target_of(0x94000100, 0) is None  # a call comes back


def test_a_counter_keeps_the_instruction_and_goes_back() -> None:
    block = Block(0x1000, 0x1010, 0x1004, True, False)
    words = struct.unpack("<8I", counting(code([0x91000508]), block, 0x8000, 0x25010))
    assert words[6] == 0x91000508
    assert target_of(words[7], 0x8000 + 28) == 0x1008
    assert words[1] >> 29 & 3 | (words[1] >> 5 & 0x7FFFF) << 2 == 0x25 - 0x8
    assert (words[2] >> 10 & 0xFFF) * 8 == 0x10


def test_blocks_that_go_together_are_one_piece() -> None:
    blocks = [Block(0, 8, 0, True, False), Block(8, 16, 8, True, False), Block(16, 24, 16, True, True)]
    assert traces(blocks, [2, 2, 9]) == [(blocks[:2], 2), ([blocks[2]], 9)]
    assert traces(blocks, [2, 2, 2]) == [(blocks[:2], 2), ([blocks[2]], 2)]
    assert traces(blocks, [0, 1, 0]) == [([blocks[1]], 1)]


def test_unknown_cores_are_named() -> None:
    with pytest.raises(EdgecError, match="--model-cpu cortex-a77: not modelled; did you mean 'cortex-a7[268]'"):
        mca.core("cortex-a77")


def test_a_missing_tool_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(EdgecError, match="llvm-mca is not installed; needed is LLVM 19.* apt-get install llvm-19"):
        mca.tool("llvm-mca")


def test_old_tools_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/llvm-mca" if name == "llvm-mca" else None)
    monkeypatch.setattr(mca, "_output", lambda command, text=None: "Debian LLVM version 14.0.6\n")
    with pytest.raises(EdgecError, match="llvm-mca is older than LLVM 19"):
        mca.tool("llvm-mca")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> edgec.Bundle:
    target = find_target("cortex-a78")
    try:
        toolchain(target)
    except EdgecError as error:
        pytest.skip(str(error))
    if emulator(target) is None:
        pytest.skip("needs qemu-user")
    model = Path(__file__).parents[3] / "examples" / "digits" / "digits.onnx"
    return edgec.compile(model, target=target.name, out=tmp_path_factory.mktemp("modelled") / "digits")


@pytest.mark.arm
def test_every_kernel_is_counted_and_equally_each_time(bundle: edgec.Bundle) -> None:
    counted = Counting(bundle)
    ports = [Port(p["name"], p["dtype"], tuple(p["shape"])) for p in bundle.manifest["inputs"]]
    feed = random_inputs(ports)
    counts = counted.count(feed)
    again = counted.count(feed)
    assert (counts.steps == again.steps).all()
    assert counts.steps.shape[0] == len(bundle.steps)
    assert (counts.steps.sum(axis=1)[[bool(s["macs"]) for s in bundle.steps]] > 0).all()
    entries = [counts.steps[:, k.first].sum() for k in counts.kernels if k.blocks]
    assert np.min(entries) >= 1


@pytest.mark.arm
def test_shares_are_of_the_peak(bundle: edgec.Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        mca.tool("llvm-mca"), mca.tool("llvm-objdump")
    except EdgecError as error:
        pytest.skip(str(error))
    assert main(["bench", str(bundle.folder), "--model-cpu", "cortex-a78", "--ghz", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["llvm_model"] == "neoverse-n2" and 0.2 < found["arithmetic_steps"] <= 1.0
    for row in found["layers"]:
        assert row["peak_share"] <= 1.01
        assert 0 < row["pipe_cycles"] <= row["cycles"]
        assert row["ms"] == pytest.approx(row["cycles"] / 2e6)
        if (
            row["macs"] and "winograd" not in row["kernel"]
        ):  # an instruction does four; first terms may be products without an addition, which do not count
            assert 0.7 * row["macs"] <= 4 * 2 * row["issue_cycles"] <= 2.5 * row["macs"]
    assert main(["bench", str(bundle.folder), "--model-cpu", "cortex-a72"]) == 0
    assert "% of the peak" in capsys.readouterr().out


@pytest.mark.arm
def test_the_rate_of_multiply_adds_is_that_of_the_pipes() -> None:
    try:
        model = {name: mca.Model(mca.core(name)) for name in ("cortex-a78", "cortex-a72")}
    except EdgecError as error:
        pytest.skip(str(error))
    lines = [
        "fmla\tv6.4s, v1.4s, v12.s[3]",
        "fmla\tv7.4s, v1.4s, v12.s[0]",
        "add\tx0, x1, x2",
        "umull\tv5.2d, v2.2s, v3.2s",
        "mls\tv3.2s, v4.2s, v2.2s",
        "sdot\tv1.4s, v2.16b, v3.4b[1]",
    ]
    forms = model["cortex-a78"].products(lines)
    assert forms == {"fmla\tv.4s, v.4s, v.s[0]": 2, "sdot\tv.4s, v.16b, v.4b[0]": 1}
    assert [model["cortex-a78"].issue(form) for form in forms] == [0.5, 0.5]
    assert model["cortex-a72"].issue("fmla\tv.4s, v.4s, v.s[0]") == 1.0


@pytest.mark.arm
def test_two_pipes_of_64_bits_share_a_product() -> None:
    try:
        model = mca.Model(mca.core("cortex-a55"))
    except EdgecError as error:
        pytest.skip(str(error))
    forms = [
        "fmla\tv.4s, v.4s, v.s[0]",
        "fmla\tv.4s, v.4s, v.4s",
        "sdot\tv.4s, v.16b, v.4b[0]",
        "udot\tv.4s, v.16b, v.16b",
    ]
    assert [round(model.issue(form), 2) for form in forms] == [1.0] * 4
    tile = [f"fmla\tv{i}.4s, v20.4s, v21.s[1]" for i in range(16)]
    loads = [f"ldr\tq{22 + i}, [x0, #{16 * i}]" for i in range(8)]
    beside = [line for i in range(8) for line in (tile[2 * i], loads[i], tile[2 * i + 1])]
    dots = [line.replace("fmla", "sdot").replace("v20.4s", "v20.16b").replace(".s[", ".4b[") for line in beside]
    assert [round(taken) for taken, _ in model.cycles([tile, beside, dots])] == [16, 16, 16]


@pytest.mark.arm
def test_pipes_are_the_least_that_code_takes() -> None:
    try:
        model = mca.Model(mca.core("cortex-a78"))
    except EdgecError as error:
        pytest.skip(str(error))
    apart = [f"fmla\tv{i}.4s, v28.4s, v29.4s" for i in range(16)]
    chain = ["fmla\tv0.4s, v28.4s, v29.4s"] * 16
    (apart_taken, apart_least), (chain_taken, chain_least) = model.cycles([apart, chain])
    assert apart_least == chain_least == 8.0
    assert apart_taken == pytest.approx(8, abs=0.2) and chain_taken > 30
