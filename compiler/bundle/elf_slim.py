"""Makes an object as small as its code: drops debug tables, and sections that no strong symbol of it leads to.

LLVM writes debug tables for every kernel, whose names count what one process has compiled so far, and two conversions
of half precision that few kernels call: the first would make bundles differ, the second would lie on the device for
nothing. So would tables that say how to unwind the stack (.ARM.exidx), and the kilobytes of code that these refer to.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .elf import Section, sections, text_at

_SYMTAB, _STRTAB, _RELA, _NOBITS, _REL, _GROUP = 2, 3, 4, 8, 9, 17
_ALLOC, _LINK_ORDER = 2, 0x80
_GLOBAL, _FILE = 1, 4
_RESERVED = 0xFF00  # section numbers from here on are no sections
_UNWINDING = (".ARM.exidx", ".ARM.extab")


@dataclass(frozen=True)
class _Entry:
    """A symbol; `index` is its number, `at` the offset of its entry in the file."""

    index: int
    at: int
    name: str
    bind: int
    kind: int
    section: int


def slim_files(work: Path, objects: Sequence[str], renamed: Callable[[str], str]) -> None:
    """Objects for flash: with what they need alone, in sections that a linker script can place."""
    for path in (work / obj for obj in objects):
        path.write_bytes(slim(path.read_bytes(), renamed))


def slim(data: bytes, renamed: Callable[[str], str] = str) -> bytes:
    """The object without what its strong symbols do not need, with new names for its sections. Objects with section
    groups stay as they are."""
    table = sections(data)
    if any(s.kind == _GROUP for s in table):
        return data
    entries = list(_entries(data, table))
    kept = _reached(data, table, entries)
    wanted = {e.index for s in _relocations(table, kept) for e in _targets(data, s, entries)}
    symbols = [e for e in entries if _stays(e, kept, wanted)]
    return _Writer(data, table, sorted(kept), symbols, renamed).file()


def _wide(data: bytes) -> bool:
    return data[4] == 2


def _entries(data: bytes, table: Sequence[Section]) -> Iterator[_Entry]:
    (symtab,) = (s for s in table if s.kind == _SYMTAB)
    step = 24 if _wide(data) else 16
    for index, at in enumerate(range(symtab.offset, symtab.offset + symtab.size, step)):
        (name,) = struct.unpack_from("<I", data, at)
        info, _, section = struct.unpack_from("<BBH", data, at + (4 if _wide(data) else 12))
        text = text_at(data, table[symtab.link].offset + name)
        yield _Entry(index, at, text, info >> 4, info & 15, section)


def _relocation_size(data: bytes, kind: int) -> int:
    return {(_RELA, True): 24, (_RELA, False): 12, (_REL, True): 16, (_REL, False): 8}[kind, _wide(data)]


def _targets(data: bytes, section: Section, entries: Sequence[_Entry]) -> Iterator[_Entry]:
    """Symbols that the entries of a relocation section refer to."""
    for at in range(section.offset, section.offset + section.size, _relocation_size(data, section.kind)):
        yield entries[_symbol_of(data, at)]


def _symbol_of(data: bytes, at: int) -> int:
    if _wide(data):
        return int(struct.unpack_from("<Q", data, at + 8)[0]) >> 32
    return int(struct.unpack_from("<I", data, at + 4)[0]) >> 8


def _relocations(table: Sequence[Section], kept: set[int]) -> list[Section]:
    return [s for s in table if s.kind in (_RELA, _REL) and s.info in kept]


def _reached(data: bytes, table: Sequence[Section], entries: Sequence[_Entry]) -> set[int]:
    """Numbers of the sections that stay, apart from tables that are written anew."""
    tables = (0, _SYMTAB, _STRTAB, _RELA, _REL)
    kept = {e.section for e in entries if e.bind == _GLOBAL and 0 < e.section < _RESERVED}
    kept |= {
        i for i, s in enumerate(table)
        if not s.flags & _ALLOC and s.kind not in tables and not s.name.startswith((".debug", ".comment"))
    }  # fmt: skip
    while True:
        found = {e.section for s in _relocations(table, kept) for e in _targets(data, s, entries)}
        found |= {i for i, s in enumerate(table) if s.flags & _LINK_ORDER and s.link in kept and _stays_beside(s)}
        if (found := {i for i in found if 0 < i < _RESERVED}) <= kept:
            return kept
        kept |= found


def _stays_beside(section: Section) -> bool:
    return not section.name.startswith(_UNWINDING)


def _stays(entry: _Entry, kept: set[int], wanted: set[int]) -> bool:
    if entry.index == 0 or entry.index in wanted:
        return True
    return entry.kind != _FILE and entry.section in kept


class _Writer:
    """Lays the chosen sections and symbols out in a new file, with new numbers."""

    def __init__(
        self,
        data: bytes,
        table: Sequence[Section],
        kept: Sequence[int],
        symbols: Sequence[_Entry],
        renamed: Callable[[str], str],
    ) -> None:
        self.data, self.table, self.symbols, self.renamed = data, table, symbols, renamed
        self.wide = _wide(data)
        moved = _relocations(table, set(kept))
        self.section = {old: new for new, old in enumerate([0, *kept])}
        self.symbol = {entry.index: new for new, entry in enumerate(symbols)}
        self.symtab = 1 + len(kept) + len(moved)
        self.strings = bytearray(1)
        self.out = bytearray(data[: 64 if self.wide else 52])
        self.headers = [bytes(64 if self.wide else 40)]
        for old in kept:
            self._copy(table[old])
        for section in moved:
            self._put(section, self._renumbered(section), self.symtab, self.section[section.info])

    def file(self) -> bytes:
        old = next(s for s in self.table if s.kind == _SYMTAB)
        names = Section(".strtab", 0, _STRTAB, 0, 0, 0, 0)
        self._put(old, self._symbols(), self.symtab + 1, sum(e.bind == 0 for e in self.symbols))
        self._name(".strtab")
        self._put(names, bytes(self.strings), 0, 0)
        self._align(8)
        at = len(self.out)
        self.out += b"".join(self.headers)
        struct.pack_into("<Q" if self.wide else "<I", self.out, 0x28 if self.wide else 0x20, at)
        struct.pack_into("<2H", self.out, 0x3C if self.wide else 0x30, len(self.headers), self.symtab + 1)
        return bytes(self.out)

    def _copy(self, section: Section) -> None:
        content = b"" if section.kind == _NOBITS else self.data[section.offset : section.offset + section.size]
        link = self.section.get(section.link, 0) if section.flags & _LINK_ORDER else 0
        self._put(section, content, link, section.info, section.size)

    def _renumbered(self, section: Section) -> bytes:
        content = bytearray(self.data[section.offset : section.offset + section.size])
        for at in range(0, section.size, _relocation_size(self.data, section.kind)):
            new = self.symbol[_symbol_of(self.data, section.offset + at)]
            if self.wide:
                struct.pack_into("<I", content, at + 12, new)
            else:
                struct.pack_into("<I", content, at + 4, new << 8 | content[at + 4])
        return bytes(content)

    def _symbols(self) -> bytes:
        content, step = bytearray(), 24 if self.wide else 16
        for entry in self.symbols:
            one = bytearray(self.data[entry.at : entry.at + step])
            struct.pack_into("<I", one, 0, self._name(entry.name))
            struct.pack_into("<H", one, 6 if self.wide else 14, self.section.get(entry.section, entry.section))
            content += one
        return bytes(content)

    def _put(self, section: Section, content: bytes, link: int, info: int, size: int | None = None) -> None:
        """Append a section's bytes and its header."""
        form = "<2I4Q2I2Q" if self.wide else "<10I"
        old = struct.unpack_from(form, self.data, section.at) if section.at else (0, 0, 0, 0, 0, 0, 0, 0, 1, 0)
        self._align(max(old[8], 1))
        where, length = len(self.out), len(content) if size is None else size
        self.out += content
        row = (
            self._name(self._new_name(section)),
            section.kind,
            section.flags,
            0,
            where,
            length,
            link,
            info,
            old[8],
            old[9],
        )
        self.headers.append(struct.pack(form, *row))

    def _new_name(self, section: Section) -> str:
        prefix = next(
            (p for p in (".rela", ".rel") if section.kind in (_RELA, _REL) and section.name.startswith(p)), ""
        )
        return prefix + self.renamed(section.name.removeprefix(prefix))

    def _align(self, align: int) -> None:
        self.out += bytes(-len(self.out) % align)

    def _name(self, text: str) -> int:
        """Offset of a text in the one string table."""
        wanted = text.encode() + b"\0"
        if (at := self.strings.find(b"\0" + wanted)) >= 0:
            return at + 1
        if not text:
            return 0
        self.strings += wanted
        return len(self.strings) - len(wanted)
