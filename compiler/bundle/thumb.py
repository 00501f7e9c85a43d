"""Decides what one Thumb instruction does to the stack pointer, and where the core goes on after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

_SP, _LR, _PC = 13, 14, 15
_FRAME_POINTERS = (7, 11)
_BACK = 8  # instructions within which a register is given the constant that moves the stack pointer


class Unclear(ValueError):
    """An instruction moves the stack pointer by what only the running program knows."""


@dataclass(frozen=True)
class Effect:
    """`moves`: bytes that the stack grows by (negative: it shrinks); `ends`: the next instruction is not reached.

    `jumps`: where else it may go on, `within`: anywhere that constants of the program point to in this function;
    `calls`: a function that it calls, `through` a register: one that is not known.
    """

    bytes: int
    moves: int = 0
    jumps: tuple[int, ...] = ()
    calls: int | None = None
    through: bool = False
    within: bool = False
    ends: bool = False


@dataclass
class Code:
    """Machine code as words of 16 bits: `word(address)`. `table(address)`: what lies behind a jump through a table."""

    word: Callable[[int], int]
    table: Callable[[int], Sequence[int]] = field(default=lambda at: ())

    def effect(self, at: int, before: Sequence[int]) -> Effect:
        """Of the instruction at an address; `before`: addresses of those in front of it, the nearest last."""
        found = self._effect(at, before)
        if self._conditional(before):  # then it may also do nothing
            return replace(found, moves=max(found.moves, 0), ends=False)
        return found

    def _conditional(self, before: Sequence[int]) -> bool:
        """Whether an `it` in front makes the instruction depend on a condition."""
        for distance, at in enumerate(reversed(before[-4:])):
            word = self.word(at)
            if word & 0xFF00 == 0xBF00 and word & 15:
                return distance < 5 - (word & 15 & -(word & 15)).bit_length()
        return False

    def _effect(self, at: int, before: Sequence[int]) -> Effect:
        first = self.word(at)
        if first >> 11 not in (0b11101, 0b11110, 0b11111):
            return self._short(at, first, before)
        return self._long(at, first, self.word(at + 2), before)

    def _short(self, at: int, w: int, before: Sequence[int]) -> Effect:
        if w & 0xFE00 == 0xB400:
            return Effect(2, 4 * (w & 0x1FF).bit_count())
        if w & 0xFE00 == 0xBC00:
            return Effect(2, -4 * (w & 0x1FF).bit_count(), ends=bool(w & 0x100))
        if w & 0xFF00 == 0xB000:
            return Effect(2, 4 * (w & 0x7F) * (1 if w & 0x80 else -1))
        if w & 0xFF00 in (0x4400, 0x4600) and (w >> 4 & 8 | w & 7) == _SP:
            source = w >> 3 & 15
            return Effect(2, -self._constant(source, before) if w & 0x200 == 0 else self._assigned(source, before))
        if w & 0xFF87 == 0x4687:  # mov pc, register
            return Effect(2, ends=True, within=w >> 3 & 15 != _LR)
        if w & 0xFF87 == 0x4487:
            raise Unclear("a jump by a distance that was computed")
        if w & 0xFF00 == 0x4700:
            return Effect(2, ends=not w & 0x80, through=bool(w & 0x80) or w >> 3 & 15 != _LR)
        if w & 0xF000 == 0xD000 and w & 0x0E00 != 0x0E00:
            return Effect(2, jumps=(at + 4 + 2 * _signed(w & 0xFF, 8),))
        if w & 0xF800 == 0xE000:
            return Effect(2, jumps=(at + 4 + 2 * _signed(w & 0x7FF, 11),), ends=True)
        if w & 0xF500 == 0xB100:
            return Effect(2, jumps=(at + 4 + (w >> 3 & 0x40 | w >> 2 & 0x3E),))
        return Effect(2, ends=w & 0xFF00 == 0xDE00)

    def _long(self, at: int, a: int, b: int, before: Sequence[int]) -> Effect:
        if a & 0xF800 == 0xF000 and b & 0x8000:
            return _branch(at, a, b)
        if a & 0xFFF0 == 0xE8D0 and b & 0xFFE0 == 0xF000:  # tbb, tbh
            return Effect(4, jumps=tuple(self.table(at)), ends=True)
        if a & 0xFE00 in (0xE800, 0xEC00) and a & 15 == _SP and a & 0x20 and not _widens(a, b):
            return _stored(a, b)
        if a & 0xFF80 == 0xF800 or a & 0xFF00 in (0xF800, 0xF900):
            return _single(a, b)
        if a & 0xFE00 == 0xEA00 and b >> 8 & 15 == _SP:  # add, sub of registers
            if a & 0xFFEF not in (0xEB0D, 0xEBAD) or b & 0x70F0:
                raise Unclear(f"{a:04x} {b:04x}")
            return Effect(4, self._constant(b & 15, before) * (1 if a & 0xA0 == 0xA0 else -1))
        if a & 0xF800 == 0xF000 and not b & 0x8000 and b >> 8 & 15 == _SP:
            return Effect(4, _immediate(a, b))
        return Effect(4)

    def _constant(self, register: int, before: Sequence[int]) -> int:
        """What the instructions in front gave to a register."""
        low = None
        for at in reversed(before[-_BACK:]):
            a, b = self.word(at), self.word(at + 2)
            if a & 0xF800 == 0x2000 and a >> 8 & 7 == register:
                return a & 0xFF
            if a & 0xF800 == 0x4800 and a >> 8 & 7 == register:
                place = (at + 4 & ~3) + 4 * (a & 0xFF)
                return _signed(self.word(place) | self.word(place + 2) << 16, 32)
            if a & 0xFB70 == 0xF240 and b & 0x8000 == 0 and b >> 8 & 15 == register:
                half = (a & 15) << 12 | (a >> 10 & 1) << 11 | (b >> 12 & 7) << 8 | b & 0xFF
                if not a & 0x80:
                    return half | (low or 0) << 16
                low = half
            if a & 0xFBEF == 0xF04F and b & 0x8000 == 0 and b >> 8 & 15 == register:
                return _expanded(a, b)
        raise Unclear(f"the stack pointer moves by r{register}")

    def _assigned(self, register: int, before: Sequence[int]) -> int:
        """Of `mov sp, register`: what aligns the stack pointer, or brings it back from a frame pointer."""
        if register in _FRAME_POINTERS:
            return 0
        for at in reversed(before[-_BACK:]):
            a, b = self.word(at), self.word(at + 2)
            if a == 0xF36F and b >> 8 & 15 == register and b & 0x70C0 == 0:  # bfc register, #0, #n
                return (1 << (b & 31) + 1) - 4
            if a & 0xF83F == register * 9 and a == self.word(at - 2) & 0xF7FF and a >> 6:  # lsrs, lsls by the same
                return (1 << (a >> 6)) - 4
            if a & 0xF800 == 0xF000 and not b & 0x8000 and b >> 8 & 15 == register and a & 15 in _FRAME_POINTERS:
                return 0
            if a & 0xFE00 == 0x1E00 and a & 7 == register and a >> 3 & 7 in _FRAME_POINTERS:
                return 0
        raise Unclear(f"the stack pointer becomes r{register}")


def _branch(at: int, a: int, b: int) -> Effect:
    """Branches, calls and what else lies among them."""
    if b & 0xD000 in (0x9000, 0xD000):
        sign = a >> 10 & 1
        high = (~(b >> 13 ^ sign) & 1) << 23 | (~(b >> 11 ^ sign) & 1) << 22
        to = at + 4 + _signed(sign << 24 | high | (a & 0x3FF) << 12 | (b & 0x7FF) << 1, 25)
        return Effect(4, calls=to) if b & 0x4000 else Effect(4, jumps=(to,), ends=True)
    if b & 0xD000 == 0x8000 and a & 0x380 != 0x380:
        offset = (a >> 10 & 1) << 20 | (b >> 11 & 1) << 19 | (b >> 13 & 1) << 18 | (a & 0x3F) << 12 | (b & 0x7FF) << 1
        return Effect(4, jumps=(at + 4 + _signed(offset, 21),))
    if b & 0xF001 == 0xC001 and a & 0xFF80 == 0xF000:  # wls (forward) and le (backward): loops in hardware
        offset = (b >> 1 & 0x3FF) << 2 | (b >> 11 & 1) << 1
        return Effect(4, jumps=(at + 4 + (-offset if a & 15 == 15 else offset),))
    if a & 0xFFE0 == 0xF380 and b & 0xFFFE == 0x8808:
        raise Unclear("msr of a stack pointer")
    return Effect(4)


def _widens(a: int, b: int) -> bool:
    """Whether a vector is loaded or stored whose elements are narrower in memory: Helium gives the register of its
    address three bits, and the fourth to their size."""
    return a & 0xFE00 == 0xEC00 and b & 0x1E00 == 0x0E00 and b & 0x0180 != 0x0180


def _stored(a: int, b: int) -> Effect:
    """Several registers at once, with the stack pointer moved past them."""
    grows = a & 0x180 == 0x100
    if a & 0xFE40 == 0xE800:  # ldm, stm
        size = 4 * b.bit_count()
    elif a & 0xFE00 == 0xE800:  # ldrd, strd
        return Effect(4, 4 * (b & 0xFF) * (-1 if a & 0x80 else 1))
    elif b & 0x0E00 == 0x0A00:  # vldm, vstm
        size = 4 * (b & 0xFE if b & 0x100 else b & 0xFF)
    else:
        raise Unclear(f"{a:04x} {b:04x}")
    return Effect(4, size if grows else -size, ends=a & 0xFFF0 == 0xE8B0 and bool(b & 0x8000))


def _single(a: int, b: int) -> Effect:
    """A load or store of one register."""
    loads, register = a & 0x10, b >> 12
    moves = 0
    if a & 0x8F == 0x0D and b & 0x0900 == 0x0900:  # [sp, #n]! and [sp], #n
        moves = (b & 0xFF) * (-1 if b & 0x200 else 1)
    if loads and register == _SP and a & 0x60 == 0x40:
        raise Unclear("the stack pointer is loaded")
    leaves = bool(loads) and register == _PC and a & 0x60 == 0x40
    return Effect(4, moves, ends=leaves, through=leaves and a & 15 != _SP)


def _immediate(a: int, b: int) -> int:
    """add, sub of a constant with the stack pointer as result."""
    wide, kind, source = a & 0x200, a >> 5 & 15, a & 15
    size = (a >> 10 & 1) << 11 | (b >> 12 & 7) << 8 | b & 0xFF if wide else _expanded(a, b)
    if source in _FRAME_POINTERS and kind in (0b1000, 0b1101, 0b0000, 0b0101):
        return 0
    if source != _SP or kind not in ((0b0000, 0b0101) if wide else (0b1000, 0b1101)):
        raise Unclear(f"{a:04x} {b:04x}")
    return size if kind & 0b0101 == 0b0101 else -size


def _expanded(a: int, b: int) -> int:
    """A constant of the ARM architecture's twelve bits."""
    bits, low = (a >> 10 & 1) << 11 | (b >> 12 & 7) << 8 | b & 0xFF, b & 0xFF
    if bits >> 10:
        value, turn = low | 0x80, bits >> 7
        return (value >> turn | value << 32 - turn) & 0xFFFFFFFF
    return low * (1, 0x00010001, 0x01000100, 0x01010101)[bits >> 8]


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 else value
