"""Short loads of vectors are re-encoded where a core prefers it, and nothing else is."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from edgec.compiler.bundle.elf import sections
from edgec.compiler.registry import ROWS
from edgec.targets import built_for, codegen_llvm
from edgec.targets.unscaled import unscaled
from tests.support.byte_convolutions import convolution

# (ldr, ldur) as an assembler encodes them; the last ones stay: an offset of 256, x1, str
PAIRS = [
    (0x3DC03CE3, 0x3CCF00E3),  # q3, [x7, #240]
    (0xFD400429, 0xFC408029),  # d9, [x1, #8]
    (0xBD400029, 0xBC400029),  # s9, [x1]
    (0x7D400441, 0x7C402041),  # h1, [x2, #2]
    (0x3D43FC41, 0x3C4FF041),  # b1, [x2, #255]
    (0x3DC04041, 0x3DC04041),
    (0xF9400041, 0xF9400041),
    (0x3D800041, 0x3D800041),
]


def elf(words: list[int], filled: list[int]) -> bytes:
    """An object with code, and places in it that a linker fills in."""
    code = struct.pack(f"<{len(words)}I", *words)
    rela = b"".join(struct.pack("<3Q", at, 0, 0) for at in filled)
    headers = [(0, 0, 0, 0, 0, 0), (1, 6, 64, len(code), 0, 0), (4, 0, 64 + len(code), len(rela), 0, 1)]
    at = 64 + len(code) + len(rela)
    table = b"".join(struct.pack("<2I4Q2I2Q", 0, kind, flags, 0, start, size, link, info, 4, 0)
                     for kind, flags, start, size, link, info in headers)  # fmt: skip
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<2HI3QI6H", 1, 183, 1, 0, 0, at, 0, 64, 0, 0, 64, 3, 0)
    return head + code + rela + table


def code_of(data: bytes) -> list[int]:
    return [
        word
        for s in sections(data)
        if s.flags & 4
        for (word,) in struct.iter_unpack("<I", data[s.offset : s.offset + s.size])
    ]


def test_short_offsets_are_not_scaled() -> None:
    before, after = map(list, zip(*PAIRS, strict=True))
    assert code_of(unscaled(elf(before, []))) == after


def test_what_a_linker_fills_in_stays() -> None:
    assert code_of(unscaled(elf([PAIRS[0][0]] * 3, [4]))) == [PAIRS[0][1], PAIRS[0][0], PAIRS[0][1]]


@pytest.mark.parametrize("wanted", [True, False])
def test_a_target_says_whether_it_prefers_them(wanted: bool) -> None:
    problem = convolution("rpi5", "1, 32, 16, 16", "48, 32, 1, 1")
    assert problem.target.cpu.unscaled_loads
    cpu = replace(problem.target.cpu, unscaled_loads=wanted)
    problem = replace(problem, target=replace(problem.target, cpu=cpu))
    choice = ROWS["conv_int8_sdot"].choices(problem)[0]
    with built_for.core(cpu):
        made = ROWS["conv_int8_sdot"].emit(problem, choice, "kern")
    code = code_of(codegen_llvm.object_bytes([("kern", made.function)], problem.target))
    short = [w for w in code if w & 0xFFC00000 == 0x3DC00000 and 0 < w >> 10 & 0xFFF < 16]
    assert (not short) == wanted
