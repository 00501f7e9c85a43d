"""Basic blocks of AArch64 machine code, and how one of their instructions becomes a counter.

An instruction is replaced by a jump to eight others: they add one to the block's counter, do what the instruction did
and jump back. Flags and registers stay as they were. Code that LLVM makes for Linux leaves the memory below the stack
pointer alone, which is where two registers wait meanwhile.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

WORD = 4
JUMP_WORDS = 8
COUNTER_BYTES = 8
_PAGE = 4096
_SAVE, _RESTORE = 0xA9BF47F0, 0xA8C147F0  # stp x16, x17, [sp, #-16]!; ldp x16, x17, [sp], #16
_ADD_ONE = 0x91000631  # add x17, x17, #1


@dataclass(frozen=True)
class Block:
    """Instructions that are always executed together. `counter`: address of the one that becomes a jump."""

    start: int
    end: int
    counter: int
    falls: bool  # whether the next block may follow it
    loops: bool  # whether it may follow itself


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def target_of(word: int, at: int) -> int | None:
    """Where a direct branch (not a call) leads."""
    if word >> 26 == 0b000101:
        return at + WORD * _signed(word & 0x3FFFFFF, 26)
    if word >> 24 == 0b01010100 or (word >> 25) & 0x3F == 0b011010:
        return at + WORD * _signed(word >> 5 & 0x7FFFF, 19)
    if (word >> 25) & 0x3F == 0b011011:
        return at + WORD * _signed(word >> 5 & 0x3FFF, 14)
    return None


def _leaves(word: int) -> bool:
    """b, br, ret: the next instruction does not follow."""
    return word >> 26 == 0b000101 or (word & 0xFE000000 == 0xD6000000 and word >> 21 & 0xF != 1)


def _movable(word: int) -> bool:
    """Whether an instruction does the same elsewhere: no branch or call, nothing relative to where it stands."""
    branch = (word >> 26) & 0x1F == 0b00101 or word & 0xFE000000 in (0xD6000000, 0x54000000)
    branch = branch or (word >> 25) & 0x3F in (0b011010, 0b011011)
    return not branch and (word >> 24) & 0x1F != 0b10000 and (word >> 24) & 0x3B != 0b011000


def blocks_of(code: bytes, address: int) -> list[Block]:
    """The blocks of a function that can be counted: those of a branch alone are left out."""
    words = struct.unpack(f"<{len(code) // WORD}I", code)
    end = address + WORD * len(words)
    leaders = {address}
    for i, word in enumerate(words):
        at = address + WORD * i
        to = target_of(word, at)
        if to is not None or _leaves(word):
            leaders |= {at + WORD} | ({to} if to is not None and address <= to < end else set())
    starts = sorted(leaders - {end})
    found = []
    for start, stop in zip(starts, [*starts[1:], end], strict=True):
        own = words[(start - address) // WORD : (stop - address) // WORD]
        places = [start + WORD * i for i, word in enumerate(own) if _movable(word)]
        if places:
            loops = target_of(own[-1], stop - WORD) == start
            found.append(Block(start, stop, places[0], not _leaves(own[-1]), loops))
    return found


def jump(at: int, to: int) -> bytes:
    """A branch to an address."""
    return struct.pack("<I", 0x14000000 | ((to - at) // WORD & 0x3FFFFFF))


def counting(original: bytes, block: Block, at: int, counter: int) -> bytes:
    """The instructions at `at` that count one execution of a block in 64 bits at `counter`, and go back."""
    pages, low = counter // _PAGE - at // _PAGE, counter % _PAGE // COUNTER_BYTES
    # adrp is the second instruction; none of them crosses a page, for there are eight and their place is aligned
    adrp = 0x90000010 | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
    words = [_SAVE, adrp, 0xF9400211 | low << 10, _ADD_ONE, 0xF9000211 | low << 10, _RESTORE]
    return struct.pack("<6I", *words) + original + jump(at + WORD * 7, block.counter + WORD)


def traces(blocks: Sequence[Block], counts: Sequence[int]) -> list[tuple[list[Block], int]]:
    """Blocks that follow each other and were executed equally often, as one piece of code each."""
    found: list[tuple[list[Block], int]] = []
    for block, count in zip(blocks, counts, strict=True):
        last = found[-1] if found else None
        if last and last[1] == count and last[0][-1].falls and not (last[0][-1].loops or block.loops):
            last[0].append(block)
        else:
            found.append(([block], count))
    return [(piece, count) for piece, count in found if count]
