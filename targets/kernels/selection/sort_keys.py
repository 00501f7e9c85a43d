"""Keys of elements: integers in whose order greater is better, of which no two in a row are equal.

A key of up to 32 bits shares a word with the element's index, lower ones being better; one of 64 bits has it beside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from ... import tir
from ...conversions import is_float
from ...floats import bind, kind
from ...tir import Expr, Stmt, lit
from ..plain_lines import Line

INDEX_BITS = 31
_LAST = 2**INDEX_BITS - 1
Entry = tuple[Expr, ...]  # word, and for keys of 64 bits the index


def key(x: Expr, bits: int, largest: bool) -> Expr:
    """Of an element as it is held: i64, from 0 where it has up to 32 bits."""
    ordered = _of_float(x, bits) if is_float(x) else _of_integer(x, bits)
    if largest:
        return ordered
    return lit(-1 if bits == 64 else (1 << bits) - 1, "int64") - ordered


def _of_integer(x: Expr, bits: int) -> Expr:
    signed = kind(x).startswith("int")
    if bits == 64:
        return x if signed else tirx.Cast("int64", x) ^ lit(-(2**63), "int64")
    return tirx.Cast("int64", x) + lit(1 << (bits - 1), "int64") if signed else tirx.Cast("int64", x)


def _of_float(x: Expr, bits: int) -> Expr:
    """Sign and magnitude as one number, so that -0 is 0; NaN above all. A bf16 comes as f32: its low bits are zero."""
    width = int(kind(x).removeprefix("float"))
    word = f"int{width}"
    top, infinity = 2 ** (width - 1) - 1, {16: 0x7C00, 32: 0x7F800000, 64: 0x7FF << 52}[width]

    def ordered(b: Expr) -> Expr:
        signed = tirx.Select(b < lit(0, word), lit(-top - 1, word) - b, b)
        known = tirx.Select((b & lit(top, word)) > lit(infinity, word), lit(top, word), signed)
        if width == 64:
            return known
        return (tirx.Cast("int64", known) + lit(top + 1, "int64")) >> lit(width - bits, "int64")

    return bind(tirx.reinterpret(word, x), ordered)


@dataclass(frozen=True)
class Keys:
    """Entries of the rows of a line."""

    line: Line
    bits: int
    largest: bool

    @property
    def packed(self) -> bool:
        return self.bits <= 32

    @property
    def parts(self) -> int:
        """Arrays that hold entries."""
        return 1 if self.packed else 2

    def entry(self, base: Expr, at: Expr) -> Entry:
        """Of element `at` of the row that begins at `base`."""
        value = key(self.line.load(base + at), self.bits, self.largest)
        if not self.packed:
            return value, at
        low = lit(_LAST, "int64") - tirx.Cast("int64", at)
        return ((value << lit(INDEX_BITS, "int64")) + low,)

    def index(self, entry: Entry) -> Expr:
        if not self.packed:
            return entry[1]
        return tirx.Cast("int32", lit(_LAST, "int64") - (entry[0] & lit(_LAST, "int64")))

    def key_of(self, entry: Entry) -> Expr:
        return entry[0] >> lit(INDEX_BITS, "int64") if self.packed else entry[0]

    def better(self, a: Entry, b: Entry) -> Expr:
        if self.packed:
            return a[0] > b[0]
        return tirx.Or(a[0] > b[0], tirx.And(tirx.EQ(a[0], b[0]), a[1] < b[1]))

    def worst(self) -> Entry:
        """What is better than no element."""
        return (lit(-1, "int64"),) if self.packed else (lit(-(2**63), "int64"), tir.i32(_LAST))


@dataclass(frozen=True)
class Entries:
    """An array of entries."""

    buffers: tuple[Any, ...]

    def load(self, at: Expr | int) -> Entry:
        return tuple(tir.load(b, at) for b in self.buffers)

    def store(self, entry: Entry, at: Expr | int) -> Stmt:
        return tir.seq(tir.store(b, x, at) for b, x in zip(self.buffers, entry, strict=True))

    def move(self, to: Expr | int, source: Expr | int) -> Stmt:
        return self.store(self.load(source), to)


def named(entry: Entry) -> tuple[Entry, Stmt]:
    """An entry that is computed once, and the statement that does."""
    pairs = [tir.let(x, "entry") for x in entry]
    return tuple(x for x, _ in pairs), tir.seq(s for _, s in pairs)


def with_named(entry: Entry, fn: Callable[[Entry], Stmt]) -> Stmt:
    known, bind_it = named(entry)
    return tir.seq(bind_it, fn(known))
