"""Loads of vectors with short offsets in the form that does not scale them, for cores to which it is less work.

On Cortex-A76 `ldr` of a vector from a register and an offset takes an operation of an integer pipe beside the load's
own, and `ldur`, which does the same for offsets below 256, does not (Arm Neoverse N1 Software Optimization Guide, ASIMD
and FP load instructions). LLVM takes `ldr` wherever an offset allows both.
"""

from __future__ import annotations

import struct

from edgec.compiler.bundle.elf import sections

_EXECUTABLE, _RELA = 4, 4
_SCALED, _SCALED_BITS = 0x3F400000, 0x3D400000  # ldr of a vector register, unsigned offset
_MOST = 256
_KEPT, _UNSCALED = 0xC08003FF, 0x3C400000  # size and registers; ldur


def unscaled(data: bytes) -> bytes:
    """An object for AArch64 with such loads. What the linker fills in stays."""
    made, table = bytearray(data), sections(data)
    filled = {
        (section.info, struct.unpack_from("<Q", data, at)[0])
        for section in table
        if section.kind == _RELA
        for at in range(section.offset, section.offset + section.size, 24)
    }
    for number, section in enumerate(table):
        if section.flags & _EXECUTABLE:
            for at in range(0, section.size, 4):
                (word,) = struct.unpack_from("<I", data, section.offset + at)
                if (number, at) not in filled and (new := _again(word)) is not None:
                    struct.pack_into("<I", made, section.offset + at, new)
    return bytes(made)


def _again(word: int) -> int | None:
    """A load in the other form; None for anything else."""
    if word & _SCALED != _SCALED_BITS:
        return None
    size, whole = word >> 30, word >> 23 & 1
    if whole and size:
        return None
    offset = (word >> 10 & 0xFFF) << (4 if whole else size)
    return word & _KEPT | _UNSCALED | offset << 12 if offset < _MOST else None
