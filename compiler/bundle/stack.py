"""Decides how much stack a linked program needs from some functions on: by its machine code, along all calls.

Every instruction is followed from a function's entry on, with the bytes that the stack has grown by; where ways meet,
the larger number goes on. What cannot be followed is an `Unclear`, never a guess.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from .elf import Section, sections, symbols
from .thumb import Code, Effect, Unclear

_EXECUTABLE, _ALLOC, _NOBITS = 4, 2, 8
# What compilers for Thumb-1 call to jump through a table behind the call: bytes of an entry, whether it has a sign.
_CASES = {
    f"__gnu_thumb1_case_{kind}": row
    for kind, row in {"uqi": (1, False), "sqi": (1, True), "uhi": (2, False), "shi": (2, True)}.items()
}
_NOWHERE = 1 << 32
_ENDLESS = 1 << 24  # bytes: a loop pushes


@dataclass
class _Walk:
    """What is found out of one function: the most that it uses itself, and its calls with the use at each."""

    most: int = 0
    calls: list[tuple[int, int]] = field(default_factory=list)  # (bytes, address)
    through: list[int] = field(default_factory=list)  # bytes


class Program:
    """A linked program for Thumb."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.code = [s for s in sections(data) if s.flags & _ALLOC and s.flags & _EXECUTABLE and s.kind != _NOBITS]
        table = [s for s in symbols(data) if s.defined]
        self.names = {s.value & ~1: s.name for s in table if s.is_function}
        self.places = {s.name: s.value & ~1 for s in table if s.is_function}
        self.starts = sorted(self.names)
        marks = {s.value: s.name[1] for s in table if s.name.startswith(("$t", "$d", "$a"))}
        self.marks = sorted(marks.items())
        self.reader = Code(cache(self.word), self.table)
        self.walks: dict[int, _Walk] = {}
        self.words: set[int] = set()

    def stack(self, entries: Iterable[str], kernels: Collection[str], dispatching: Collection[str]) -> int:
        """The most bytes that any of the functions `entries` needs; those `dispatching` may call any of `kernels`."""
        targets = [self.places[name] for name in sorted(kernels)]
        known: dict[int, int] = {}
        return max(self._need(self.places[name], targets, dispatching, known, ()) for name in entries)

    def _need(
        self,
        at: int,
        targets: Sequence[int],
        dispatching: Collection[str],
        known: dict[int, int],
        callers: tuple[int, ...],
    ) -> int:
        if at in known:
            return known[at]
        if at in callers:
            raise Unclear(f"{self._name(at)} calls itself")
        walk = self.walk(at)
        if walk.through and self._name(at) not in dispatching:
            raise Unclear(f"{self._name(at)} calls through a register")
        calls = [*walk.calls, *((used, target) for used in walk.through for target in targets)]
        needs = (used + self._need(to, targets, dispatching, known, (*callers, at)) for used, to in calls)
        known[at] = max(walk.most, *needs) if calls else walk.most
        return known[at]

    def walk(self, entry: int) -> _Walk:
        """Follow a function from its entry (or a place within) to all its ends."""
        if entry in self.walks:
            return self.walks[entry]
        order = self._instructions(entry)
        number = {at: i for i, at in enumerate(order)}
        if entry not in number:
            raise Unclear(f"{self._name(entry)}: no instruction at {entry:#x}")
        walk, used, waiting = _Walk(), {entry: 0}, [entry]
        calls: dict[int, int] = {}
        while waiting:
            at = waiting.pop()
            effect = self._effect(at, order, number[at])
            now = used[at] + effect.moves
            walk.most = max(walk.most, now, used[at])
            if walk.most > _ENDLESS:
                raise Unclear(f"{self._name(at)}: the stack grows in a loop")
            if row := _CASES.get(self.names.get(effect.calls or 0, "")):
                effect = replace(effect, calls=None, jumps=tuple(self.table(at, *row)), ends=True)
            if effect.calls in number and effect.calls != order[0]:  # Thumb-1 has no other branch that reaches so far
                effect = replace(effect, calls=None, jumps=(effect.calls,), ends=True)
            if effect.calls is not None:
                calls[effect.calls] = max(calls.get(effect.calls, 0), now)
            if effect.through:
                walk.through.append(now)
            within = self._pointed_to(number) if effect.within else ()
            for to in (*effect.jumps, *within, *(() if effect.ends else (at + effect.bytes,))):
                if to not in number:  # another function goes on
                    calls[to] = max(calls.get(to, 0), now)
                elif now > used.get(to, -1):
                    used[to] = now
                    waiting.append(to)
        walk.calls = [(count, to) for to, count in calls.items()]
        self.walks[entry] = walk
        return walk

    def _effect(self, at: int, order: Sequence[int], number: int) -> Effect:
        try:
            return self.reader.effect(at, order[max(number - 8, 0) : number])
        except Unclear as error:
            raise Unclear(f"{self._name(at)}: {error}") from None

    def _instructions(self, inside: int) -> list[int]:
        """Addresses of the instructions of the function around an address, without the data between them."""
        index = bisect_right(self.starts, inside) - 1
        start = self.starts[index] if index >= 0 else inside
        section = self._section(start)
        end = min([*self.starts[index + 1 : index + 2], section.address + section.size])
        found, at = [], start
        while at < end:
            if self._kind(at) != "t":
                at = self._code_after(at)
                continue
            found.append(at)
            at += 4 if self.word(at) >> 11 in (0b11101, 0b11110, 0b11111) else 2
        return found

    def _pointed_to(self, places: Collection[int]) -> list[int]:
        """The places that words of the program hold the addresses of."""
        if not self.words:
            kept = [s for s in sections(self.data) if s.flags & _ALLOC and s.kind != _NOBITS]
            for section in kept:
                part = self.data[section.offset : section.offset + section.size // 4 * 4]
                self.words.update(word & ~1 for (word,) in struct.iter_unpack("<I", part))
        return [at for at in places if at in self.words]

    def _kind(self, at: int) -> str:
        index = bisect_right(self.marks, (at, "~")) - 1
        return self.marks[index][1] if index >= 0 else "t"

    def _code_after(self, at: int) -> int:
        """Where code begins again behind data."""
        index = bisect_right(self.marks, (at, "~"))
        return next((where for where, kind in self.marks[index:] if kind == "t"), _NOWHERE)

    def table(self, at: int, size: int = 0, signed: bool = False) -> list[int]:
        """Where a tbb or tbh at an address (or a call that does the same, of entries of `size`) goes on: the table
        behind it ends where code begins again."""
        size = size or (2 if self.word(at + 2) & 0x10 else 1)
        end = self._code_after(at + 4)
        whole = b"".join(self.word(place).to_bytes(2, "little") for place in range(at + 4, end, 2))
        entries = [int.from_bytes(whole[i : i + size], "little", signed=signed) for i in range(0, end - at - 4, size)]
        return [to for entry in entries if not at + 4 <= (to := at + 4 + 2 * entry) < end]  # the rest fills up

    def word(self, at: int) -> int:
        section = self._section(at)
        where = section.offset + at - section.address
        return int.from_bytes(self.data[where : where + 2], "little")

    def _section(self, at: int) -> Section:
        for section in self.code:
            if section.address <= at < section.address + section.size + 2:
                return section
        raise Unclear(f"no code at {at:#x}")

    def _name(self, at: int) -> str:
        index = bisect_right(self.starts, at) - 1
        return self.names[self.starts[index]] if index >= 0 else f"{at:#x}"
