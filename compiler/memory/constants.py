"""The read-only region of a program: where its constants lie."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from ..ir import Value
from ..layout import layout, pack
from ..op import const_array
from ..program import Ref
from .placement import Constant

LINE = 64
SMALL = 1024  # bytes from which on it does not matter what lies free before a constant
GRAIN = 16  # bytes to whose multiples constants of that size begin, at least


class Weights:
    """Packed constants, each once.

    One begins at a multiple of the power of two that divides its size, so that vectors which it consists of lie each in
    one line of `line` bytes; a small one at a multiple of `grain` at least. What stays free between two is for smaller
    ones. What a kernel may read behind a constant is the next one, or zeros at the end.
    """

    def __init__(self, line: int = LINE, grain: int = GRAIN) -> None:
        self.line, self.grain = line, grain
        self.data = bytearray()
        self.at: dict[bytes, int] = {}
        self.parts: list[Constant] = []
        self.gaps: list[tuple[int, int]] = []  # from .. to
        self.read = 0  # what kernels read ends here at the latest

    def place(self, value: Value) -> Ref:
        array = const_array(value)
        beyond = layout(value.type.layout, array.ndim).beyond * array.itemsize
        packed = pack(array, value.type.layout).tobytes()
        packed = packed[: len(packed) - beyond]
        key = hashlib.sha256(packed).digest()
        if key not in self.at:
            self.at[key] = begin = self._room(len(packed))
            self.parts.append(Constant(value.node.name, begin, len(packed) + beyond))
            self.data[begin : begin + len(packed)] = packed
        self.read = max(self.read, self.at[key] + len(packed) + beyond)
        return Ref("weights", self.at[key])

    def _room(self, size: int) -> int:
        """Where so many bytes may begin, which are there then: in the first gap that holds them, or at the end."""
        step = min(self.line, max(self.grain if size < SMALL else GRAIN, size & -size))
        for k, (start, stop) in enumerate(self.gaps):
            begin = start + -start % step
            if begin + size <= stop:
                rest = [(start, begin), (begin + size, stop)]
                self.gaps[k : k + 1] = [(low, high) for low, high in rest if low < high]
                return begin
        end = len(self.data)
        begin = end + -end % step
        if end < begin:
            self.gaps.append((end, begin))
        self.data += bytes(begin + size - end)
        return begin

    def words(self, name: str, numbers: Sequence[int]) -> Ref:
        """Place numbers that a kernel's code reads, as i32."""
        packed = struct.pack(f"<{len(numbers)}i", *numbers)
        key = hashlib.sha256(b"words" + packed).digest()
        if key not in self.at:
            self.data += bytes(-len(self.data) % 4)
            self.at[key] = len(self.data)
            self.parts.append(Constant(name, len(self.data), len(packed)))
            self.data += packed
        return Ref("weights", self.at[key])

    def bytes(self) -> bytes:
        return bytes(self.data).ljust(self.read, b"\0")
