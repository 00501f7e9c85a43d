"""Constants without their zeros: which blocks of a matrix [outputs, inputs] are stored, and how they lie in memory.

A layout `S16x1k96p2n311:OIHW` keeps the blocks of 16 outputs times 1 input that are not all zero, 311 of them. The
matrix is cut into slices of 96 blocks of inputs; a row of blocks of the first slice follows the other, then those of
the next slice. In memory: the values of one block after the other, for each row (i32, one more than there are rows)
where it begins, and for each block (u16) which of its slice it is. Rows are filled up with zeros to a multiple of `p`
blocks. Blocks of several inputs are bytes, which are multiplied several at a time; others are f32.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from .errors import IRError
from .ir import Array

MOST_INPUTS = 1 << 16
_ROWS = {"OIHW": 0, "OIW": 0, "KJ": 1}  # the axis of outputs; that of inputs is the other of the first two
_TEXT = re.compile(r"S(\d+)x(\d+)k(\d+)p(\d+)n(\d+):([A-Z]+)")


@dataclass(frozen=True)
class SparseForm:
    """`outputs` x `inputs` are the elements of a block, `slice` are blocks along the inputs, `count` blocks are stored,
    each row's a multiple of `pad`."""

    outputs: int
    inputs: int
    slice: int
    pad: int
    count: int
    letters: str

    def __str__(self) -> str:
        return f"S{self.outputs}x{self.inputs}k{self.slice}p{self.pad}n{self.count}:{self.letters}"

    @property
    def name(self) -> str:
        """The text without the number of blocks, which differs from constant to constant."""
        return f"S{self.outputs}x{self.inputs}k{self.slice}p{self.pad}:{self.letters}"

    @property
    def order(self) -> tuple[int, ...]:
        return tuple(range(len(self.letters)))

    @property
    def element(self) -> int:
        """Bytes of a value."""
        return 4 if self.inputs == 1 else 1

    def rows(self, shape: tuple[int, ...]) -> int:
        """Rows of blocks of all slices."""
        outputs, inputs = shape[_ROWS[self.letters]], shape[1 - _ROWS[self.letters]]
        return -(-outputs // self.outputs) * -(-inputs // (self.inputs * self.slice))

    def starts_at(self) -> int:
        """Byte offset of where rows begin."""
        return self.count * self.outputs * self.inputs * self.element

    def index_at(self, shape: tuple[int, ...]) -> int:
        """Byte offset of the blocks' places."""
        return self.starts_at() + 4 * (self.rows(shape) + 1)

    def elements(self, shape: tuple[int, ...]) -> int:
        """All that is stored, in elements."""
        size = self.index_at(shape) + 2 * self.count
        return -(-size // 4) * 4 // self.element

    def pack(self, array: Array) -> Array:
        """The constant in memory, as elements."""
        live, blocks = _blocks(array, self.letters, self.outputs, self.inputs, self.slice)
        counts = _padded(live, self.pad)
        if int(counts.sum()) != self.count or array.dtype.itemsize != self.element:
            raise IRError(f"layout {str(self)!r} does not fit a constant with {int(counts.sum())} such blocks")
        index: Any = np.zeros(self.count, np.uint16)
        values: Any = np.zeros((self.count, self.outputs, self.inputs), array.dtype)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        for row, start, end in zip(range(len(live)), starts, starts[1:], strict=False):
            (places,) = np.nonzero(live[row])
            index[start : start + len(places)] = places
            index[start + len(places) : end] = places[-1:]
            values[start : start + len(places)] = blocks[row, places]
        parts = (values.tobytes(), starts.tobytes(), index.tobytes())
        whole = b"".join(parts).ljust(self.elements(array.shape) * self.element, b"\0")
        return np.frombuffer(whole, array.dtype)


def named_form(text: str) -> SparseForm | None:
    """The layout of a text, where it is one of these."""
    match = _TEXT.fullmatch(text)
    if not match:
        return None
    *sizes, letters = match.groups()
    outputs, inputs, part, pad, count = map(int, sizes)
    if letters not in _ROWS or not (outputs and inputs and part and pad) or count % pad:
        raise IRError(f"layout {text!r}: names no form of blocks")
    return SparseForm(outputs, inputs, part, pad, count, letters)


def sparse_form(array: Array, letters: str, outputs: int, inputs: int = 1, part: int = 0, pad: int = 1) -> SparseForm:
    """The layout that keeps what a constant has in blocks of this size, in slices of `part` of them; 0: in one."""
    part = part or -(-array.shape[1 - _ROWS[letters]] // inputs)
    live, _ = _blocks(array, letters, outputs, inputs, part)
    return SparseForm(outputs, inputs, part, pad, int(_padded(live, pad).sum()), letters)


def fits(shape: tuple[int, ...], letters: str) -> bool:
    """Whether a constant of this shape is a matrix that can be compressed."""
    inputs = shape[1 - _ROWS[letters]]
    return prod(shape[2:]) == 1 and 0 < inputs <= MOST_INPUTS


def _blocks(array: Array, letters: str, outputs: int, inputs: int, part: int) -> tuple[Any, Any]:
    """Which blocks hold something [rows of all slices, columns], and all of them [rows, columns, outputs, inputs]."""
    if not fits(array.shape, letters):
        raise IRError(f"a constant {list(array.shape)} is no matrix that can be compressed")
    matrix: Any = array.reshape(array.shape[:2])
    matrix = matrix.T if _ROWS[letters] else matrix
    rows, slices = -(-matrix.shape[0] // outputs), -(-matrix.shape[1] // (inputs * part))
    whole = np.zeros((rows * outputs, slices * part * inputs), array.dtype)
    whole[: matrix.shape[0], : matrix.shape[1]] = matrix
    blocks = whole.reshape(rows, outputs, slices, part, inputs).transpose(2, 0, 3, 1, 4)
    blocks = blocks.reshape(slices * rows, part, outputs, inputs)
    return (blocks != 0).any((2, 3)), blocks


def _padded(live: Any, pad: int) -> Any:
    """How many blocks of each row are stored."""
    return -(-live.sum(1) // pad) * pad
