"""A target's description: every value is checked where it is read, the core where code is generated."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import edgec
from edgec.compiler.cli import main
from edgec.compiler.errors import EdgecError
from edgec.compiler.target import FOLDER, find_target, read_target

A72 = (FOLDER / "rpi4.toml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (r"cores = \d+", 'cores = "four"', "[cpu]: cores = 'four': expected a whole number above zero"),
        (r"cores = \d+", "cores = -4", "[cpu]: cores = -4: expected a whole number above zero"),
        (r"cores = \d+", "cores = 0", "[cpu]: cores = 0: expected a whole number above zero"),
        (
            r"vector_registers = \d+",
            "vector_registers = 0",
            "[cpu]: vector_registers = 0: expected a whole number above",
        ),
        (r"fma_latency = \d+", "fma_latency = 0", "[cpu]: fma_latency = 0: expected a whole number above zero"),
        (r"l1d = \d+", "l1d = -1", "[cpu]: l1d = -1: expected a whole number that is not negative"),
        (r"ghz = [\d.]+", "ghz = 0", "[cpu]: ghz = 0: expected a number above zero"),
        (r"ghz = [\d.]+", "ghz = -1.5", "[cpu]: ghz = -1.5: expected a number above zero"),
        (r"ghz = [\d.]+", "ghz = inf", "[cpu]: ghz = inf: expected a number above zero"),
        (r"ghz = [\d.]+", "ghz = nan", "[cpu]: ghz = nan: expected a number above zero"),
        (r"vector_bits = \d+", "vector_bits = 0", "[cpu]: vector_bits = 0: expected 32, 64, 128, 256 ..."),
        (r"vector_bits = \d+", "vector_bits = 65536", "[cpu]: vector_bits = 65536: expected 32, 64, 128, 256 ..."),
        (r"triple", "pointer_bits = 48\ntriple", "pointer_bits = 48: expected 32 or 64"),
        (r"triple", "align = 0\ntriple", "align = 0: expected 1, 2, 4, 8 ... bytes"),
        (r"triple", "align = 3\ntriple", "align = 3: expected 1, 2, 4, 8 ... bytes"),
        (r"triple", "stack_bytes = -1\ntriple", "stack_bytes: -1; expected a size such as 128K or 1.5M"),
        (r"triple", "gpu = 7\ntriple", "[gpu]: 7: expected a table"),
        (r"triple", "machine = []\ntriple", "[machine]: []: expected a table"),
        (r"triple", "programs = 1\ntriple", "unknown key 'programs'"),
        (r"vector_bits = \d+", "vector_bits = 100", "[cpu]: vector_bits = 100: expected 32, 64, 128, 256 ..."),
        (r"isa = .*", 'isa = ["NEONN"]', "[cpu]: isa: unknown feature 'NEONN'; did you mean 'NEON'?"),
        (r"isa = .*", "isa = [7]", "[cpu]: isa = [7]: expected a list of texts"),
        (r"triple = .*", "triple = 7", "triple = 7: expected a text"),
        (r"vector_bits", "vector_bit", "[cpu]: unknown key 'vector_bit'; did you mean 'vector_bits'?"),
        (r"l1d = .*", "", "[cpu]: missing l1d"),
    ],
)
def test_values_that_cannot_be(old: str, new: str, why: str) -> None:
    text, count = re.subn(old, new, A72, count=1)
    assert count == 1
    with pytest.raises(EdgecError, match=re.escape(f"mine: {why}")):
        read_target(text, "mine")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"cortex-a72"', '"cortex-a7345"', "target rpi4: mcpu: LLVM knows no 'cortex-a7345' of aarch64"),
        ('"aarch64-unknown-linux-gnu"', '"aarch99-linux"', "target rpi4: triple: LLVM knows no architecture 'aarch99'"),
    ],
)
def test_cores_that_there_are_not(tmp_path: Path, old: str, new: str, why: str) -> None:
    assert old in A72
    (tmp_path / "mine.toml").write_text(A72.replace(old, new))
    with pytest.raises(EdgecError, match=re.escape(why)):
        edgec.compile("examples/digits/digits.onnx", target=str(tmp_path / "mine.toml"), out=tmp_path / "out")


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("multiprocessors", 0, "[gpu]: multiprocessors = 0: expected a whole number above zero"),
        ("archs", [], "[gpu]: archs = []: expected a list of one text or more"),
        ("shared", -1, "[gpu]: shared = -1: expected a whole number above zero"),
        ("others", [], "[gpu]: unknown key 'others'"),
    ],
)
def test_devices_that_cannot_be(key: str, value: object, why: str) -> None:
    device = {"archs": ["sm_87"], "multiprocessors": 16, "ghz": 1.3, key: value}
    lines = "\n".join(f"{name} = {given!r}" for name, given in device.items())
    with pytest.raises(EdgecError, match=re.escape(f"mine: {why}")):
        read_target(f"{A72}\n[gpu]\n{lines}\n", "mine")


def test_memory_of_a_board_that_cannot_be() -> None:
    board = (FOLDER / "cortex-m4.toml").read_text()
    text = re.sub(r"ram = \[.*\]", "ram = [0x20000000, 0]", board)
    assert text != board
    with pytest.raises(EdgecError, match=r"\[machine\]: ram = .*: expected an address and a number of bytes above"):
        read_target(text, "mine")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(EdgecError, match="mine.toml: not valid TOML: invalid start byte at byte 8"):
        find_target(path)


def test_another_device_differs_in_what_its_table_says() -> None:
    gpu = find_target("cuda").gpu
    assert gpu is not None
    assert all(other.archs == (arch,) and not other.others for arch, other in gpu.others)


def test_the_file_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "cortex-m4"]) == 0
    assert str(FOLDER / "cortex-m4.toml") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("vendor", "family", "halves"),
    [("AuthenticAMD", 25, True), ("AuthenticAMD", 26, False), ("GenuineIntel", 6, False)],
)
def test_a_core_may_multiply_512_bits_in_two_steps(vendor: str, family: int, halves: bool) -> None:
    """Zen 4 does; Zen 5 and Intel's cores do not."""
    from edgec.targets.host import multiplies_halves

    one = f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: 17\nmodel name\t: some CPU\n"
    assert multiplies_halves(one + "\n" + one) is halves
