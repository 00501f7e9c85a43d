"""Reads ELF files: sizes of what a device must store, symbols, and new names for them (no binutils needed)."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass

_ALLOC = 2
_SYMTAB, _NOBITS, _DYNSYM = 2, 8, 11
_FUNC = 2
_KEPT = (".text", ".rodata", ".data", ".plt", ".init", ".fini", ".got")


@dataclass(frozen=True)
class Section:
    """A section header; `at` is the header's own offset in the file, `address` where the section lies in memory."""

    name: str
    at: int
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int = 0
    address: int = 0


@dataclass(frozen=True)
class Symbol:
    """A symbol-table entry; `at` is the entry's offset in the file, `value` an address or the offset in a section."""

    name: str
    at: int
    defined: bool
    is_global: bool
    is_function: bool = False
    value: int = 0
    size: int = 0


def sections(data: bytes | mmap.mmap) -> list[Section]:
    """Section headers of a little-endian ELF file."""
    if data[:4] != b"\x7fELF" or data[5] != 1:
        raise ValueError("not a little-endian ELF file")
    wide = data[4] == 2
    start = struct.unpack_from("<Q" if wide else "<I", data, 0x28 if wide else 0x20)[0]
    size, count, names = struct.unpack_from("<3H", data, 0x3A if wide else 0x2E)
    raw = []
    for at in range(start, start + size * count, size):
        name, kind = struct.unpack_from("<2I", data, at)
        flags, address, offset, length = struct.unpack_from("<4Q" if wide else "<4I", data, at + 8)
        link, info = struct.unpack_from("<2I", data, at + (40 if wide else 24))
        raw.append((name, at, kind, flags, offset, length, link, info, address))
    strings = raw[names][4]
    return [Section(text_at(data, strings + row[0]), *row[1:]) for row in raw]


def complete(data: bytes | mmap.mmap) -> bool:
    """Whether an ELF file holds all that its headers promise: the loader dies on one that was cut short."""
    try:
        held = all(s.offset + s.size <= len(data) for s in sections(data) if s.kind != _NOBITS)
        wide = data[4] == 2
        start = struct.unpack_from("<Q" if wide else "<I", data, 0x20 if wide else 0x1C)[0]
        size, count = struct.unpack_from("<2H", data, 0x36 if wide else 0x2A)
        at = [start + size * i for i in range(count)]
        parts = [struct.unpack_from("<Q16xQ" if wide else "<I8xI", data, i + (8 if wide else 4)) for i in at]
        return held and all(offset + length <= len(data) for offset, length in parts)
    except (ValueError, IndexError, struct.error):
        return False


def symbols(data: bytes, *, dynamic: bool = False) -> list[Symbol]:
    """Entries of the symbol table (or of the dynamic one), without the empty first."""
    table = sections(data)
    wide = data[4] == 2
    out = []
    for section in table:
        if section.kind == (_DYNSYM if dynamic else _SYMTAB):
            strings, step = table[section.link].offset, 24 if wide else 16
            for at in range(section.offset + step, section.offset + section.size, step):
                out.append(_symbol(data, at, strings, wide))
    return out


def functions(data: bytes) -> list[tuple[str, int, int]]:
    """(name, address, bytes) of the functions that a program defines, by address."""
    found = [(s.name, s.value, s.size) for s in symbols(data) if s.defined and s.is_function and s.size]
    return sorted(found, key=lambda row: row[1])


def address_of(data: bytes, name: str) -> int:
    """Where a program has a symbol."""
    return next(s.value for s in symbols(data) if s.name == name)


def file_offset(data: bytes, address: int) -> int:
    """Where in the file of a program the byte lies that it has at an address."""
    for s in sections(data):
        if s.flags & _ALLOC and s.kind != _NOBITS and s.address <= address < s.address + s.size:
            return address - s.address + s.offset
    raise ValueError(f"no section holds {address:#x}")


def _symbol(data: bytes, at: int, strings: int, wide: bool) -> Symbol:
    if wide:
        name, info, _, where, value, size = struct.unpack_from("<IBBHQQ", data, at)
    else:
        name, value, size, info, _, where = struct.unpack_from("<3IBBH", data, at)
    return Symbol(text_at(data, strings + name), at, where != 0, info >> 4 != 0, info & 15 == _FUNC, value, size)


def stored_bytes(data: bytes) -> int:
    """Bytes of code, constants and initialised data: what lies in flash."""
    return sum(s.size for s in sections(data) if s.flags & _ALLOC and s.kind != _NOBITS and s.name.startswith(_KEPT))


def rename(data: bytes, names: Mapping[str, str]) -> bytes:
    """The object with symbols renamed: a longer string table is put at the end of the file."""
    table = sections(data)
    wide = data[4] == 2
    out = bytearray(data)
    for section in table:
        if section.kind != _SYMTAB:
            continue
        strings = table[section.link]
        text = bytearray(data[strings.offset : strings.offset + strings.size])
        for symbol in symbols(data):
            if symbol.name in names:
                struct.pack_into("<I", out, symbol.at, len(text))
                text += names[symbol.name].encode() + b"\0"
        where = strings.at + (24 if wide else 16)
        struct.pack_into("<2Q" if wide else "<2I", out, where, len(out), len(text))
        out += text
    return bytes(out)


def text_at(data: bytes | mmap.mmap, at: int) -> str:
    return data[at : data.find(b"\0", at)].decode()
