"""Memory layouts as text: how a logical tensor lies in memory, and the arithmetic between the two.

A layout names the axes outermost first; a trailing `<size><axis>` splits an axis into blocks of that size that lie
innermost: `NCHW16c` stores [N, C/16, H, W, 16]. The last block is padded: with anything in activations, with zeros in
packed constants. "" is row-major. A constant filter may also lie in Winograd's domain: in `F4:OHWI16o` the axes of its
taps are transformed from 3 to 4 + 2 elements before it is laid out. The axis letters of a layout, in logical order, are
those of the first alphabet that holds all of them: activations NCDHW, filters OIDHW, matrices BKJ, anything else
ABEFGMPQ. Constants with many zeros may be stored without them (sparse.py), others without padding (unpadded.py).
Constants of 4 and 2 bits may share bytes: in `Q4:JK16j8k` two neighbours of the innermost block do, lowest bits first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from math import prod

import numpy as np

from . import unpadded
from .dtypes import dtype
from .errors import IRError
from .ir import Array, Type
from .sparse import SparseForm, named_form
from .winograd import POINTS, TAPS, transform_filters

_KNOWN = 1 << 14  # shapes in a layout whose arithmetic is kept: a search asks thousands of times for each
ALPHABETS = ("NCDHW", "OIDHW", "BKJ", "ABEFGMPQ")


@dataclass(frozen=True)
class Layout:
    """`order`: logical axis of each outer dimension; `blocks`: (logical axis, size) of each inner one, in order.

    `tile`: output tile of Winograd's transform of the two last axes; 0 where there is none. `sparse`: how a constant
    lies without its zeros. `unit`: what the innermost axis is padded to multiples of where nothing else is padded.
    `bits`: of an element of which several share a byte; 0 where none do.
    """

    order: tuple[int, ...]
    blocks: tuple[tuple[int, int], ...]
    tile: int = 0
    sparse: SparseForm | None = None
    unit: int = 0
    bits: int = 0

    @property
    def plain(self) -> bool:
        """Whether its memory holds the elements themselves, each for itself, and padding."""
        return not (self.tile or self.sparse or self.unit or self.bits)

    @property
    def beyond(self) -> int:
        """Elements at the end that may be anything."""
        return unpadded.BEYOND if self.unit else 0

    def block(self, axis: int) -> int:
        """Product of the block sizes of an axis (1 where it is not split)."""
        return self._split.get(axis, 1)

    @cached_property
    def _split(self) -> dict[int, int]:
        return {axis: prod(size for a, size in self.blocks if a == axis) for axis, _ in self.blocks}

    def physical(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Dimensions in memory, outermost first, padding included."""
        if self.sparse:
            return (self.sparse.elements(shape),)
        if self.unit:
            return (unpadded.elements(shape, self.order[-1], self.unit),)
        if self.tile:
            shape = (*shape[:-2], self.tile + TAPS - 1, self.tile + TAPS - 1)
        outer = tuple(-(-shape[a] // self.block(a)) for a in self.order)
        inner = [size for _, size in self.blocks]
        if self.bits:
            inner[-1] = inner[-1] * self.bits // 8
        return outer + tuple(inner)


@cache
def layout(text: str, rank: int) -> Layout:
    """Parse a layout for tensors of `rank` axes."""
    if not text:
        return Layout(tuple(range(rank)), ())
    if (sparse := named_form(text)) and len(sparse.letters) == rank:
        return Layout(sparse.order, (), sparse=sparse)
    match = re.fullmatch(r"(?:F(\d):|U(\d):|Q(\d):)?([A-Z]+)((?:\d+[a-z])*)", text)
    tile, unit, bits = (int(match[k] or 0) if match else 0 for k in (1, 2, 3))
    letters = match[4] if match else ""
    alphabet = next((a for a in ALPHABETS if set(letters) <= set(a)), "")
    axes = [c for c in alphabet if c in letters]
    blocks = re.findall(r"(\d+)([a-z])", match[5]) if match else []
    if not match or len(axes) != rank or len(set(letters)) != rank or any(c.upper() not in letters for _, c in blocks):
        raise IRError(f"layout {text!r} does not fit a tensor of {rank} axes")
    if tile and (tile not in POINTS or axes != list("OIHW")):
        raise IRError(f"layout {text!r}: Winograd's transform is for filters OIHW, with tiles of 2 or 4")
    order = tuple(axes.index(c) for c in letters)
    sizes = tuple((axes.index(c.upper()), int(n)) for n, c in blocks)
    if match[2] and not unpadded.fits(order, sizes, unit):
        raise IRError(f"layout {text!r}: only blocks of the outermost and the innermost axis need no padding")
    if match[3] and (bits not in (2, 4) or not sizes or sizes[-1][1] * bits % 8):
        raise IRError(f"layout {text!r}: only blocks of whole bytes hold elements of 4 or 2 bits")
    return Layout(order, sizes, tile, unit=unit, bits=bits)


def physical_shape(t: Type) -> tuple[int, ...]:
    """Dimensions of a value in memory, padding included."""
    return _physical(t.shape, t.layout)


@lru_cache(_KNOWN)
def _physical(shape: tuple[int, ...], text: str) -> tuple[int, ...]:
    return layout(text, len(shape)).physical(shape)


def pack(array: Array, text: str) -> Array:
    """Lay a logical array out: the result has the physical shape; padding is zero."""
    lay = layout(text, array.ndim)
    if lay.bits:
        return joined_bits(pack(array, text.partition(":")[2]), lay.bits)
    if lay.sparse:
        return lay.sparse.pack(array)
    if lay.unit:
        return unpadded.pack(array, lay.order, lay.blocks, lay.unit)
    if lay.tile:
        array = transform_filters(array, lay.tile)
    if not lay.blocks:
        return np.ascontiguousarray(array.transpose(lay.order))
    padded = np.pad(array, [(0, -n % lay.block(a)) for a, n in enumerate(array.shape)])
    split: list[int] = []  # every axis becomes (outer, its blocks in order)
    place: dict[tuple[int, int], int] = {}
    for axis, n in enumerate(padded.shape):
        sizes = [size for a, size in lay.blocks if a == axis]
        for k, size in enumerate([n // prod(sizes), *sizes]):
            place[axis, k] = len(split)
            split.append(size)
    seen: dict[int, int] = {}
    order = [place[axis, 0] for axis in lay.order]
    for axis, _ in lay.blocks:
        seen[axis] = seen.get(axis, 0) + 1
        order.append(place[axis, seen[axis]])
    return np.ascontiguousarray(padded.reshape(split).transpose(order))


def joined_bits(array: Array, bits: int) -> Array:
    """Elements of few bits that lie in a byte each as bytes that neighbours share, the first in the lowest bits."""
    codes = array.astype(np.int8).view(np.uint8) & ((1 << bits) - 1)
    each = 8 // bits
    joined = codes[..., ::each].copy()
    for k in range(1, each):
        joined |= codes[..., k::each] << np.uint8(bits * k)
    return np.asarray(joined)


def unpack(array: Array, text: str, shape: tuple[int, ...]) -> Array:
    """The inverse of `pack`; `shape` is the logical shape."""
    lay = layout(text, len(shape))
    if not lay.plain:
        raise IRError(f"layout {text!r}: constants do not come back from it")
    indices = np.indices(lay.physical(shape), sparse=True)
    outer = len(lay.order)
    where: list[Array] = [indices[lay.order.index(a)] for a in range(len(shape))]
    for k, (axis, size) in enumerate(lay.blocks):
        where[axis] = where[axis] * size + indices[outer + k]  # type: ignore[operator]
    out = np.zeros(tuple(n + (-n % lay.block(a)) for a, n in enumerate(shape)), array.dtype)
    out[tuple(where)] = array.reshape(lay.physical(shape))
    return out[tuple(slice(n) for n in shape)]


def storage_bytes(t: Type) -> int:
    """Bytes of a value in memory, padding included."""
    return int(prod(physical_shape(t)) * dtype(t.dtype).bytes)


def packed_bytes(t: Type) -> int:
    """Bytes of a value whose elements lie bit by bit, without padding."""
    return -(-t.size * dtype(t.dtype).bits // 8)


def turned(perm: tuple[int, ...]) -> str:
    """The layout in which the transpose of a row-major value has that value's bytes; "" where no layout says so."""
    letters = {3: "NCW", 4: "NCHW", 5: "NCDHW"}.get(len(perm), "")
    return "".join(letters[perm.index(axis)] for axis in range(len(perm))) if letters else ""


def same_bytes(t: Type, other: str) -> bool:
    """Whether the value lies byte for byte the same in layout `other` as in its own."""
    return t.layout == other or _stretch(t.shape, t.layout) == _stretch(t.shape, other)


@lru_cache(_KNOWN)
def _stretch(shape: tuple[int, ...], text: str) -> tuple[tuple[int, int], ...] | str:
    """The physical dimensions longer than one as (logical axis, its elements per step), merged where adjacent."""
    lay = layout(text, len(shape))
    dims = [(a, lay.block(a), -(-shape[a] // lay.block(a))) for a in lay.order]
    if not lay.plain or any(shape[a] % lay.block(a) for a in lay.order):
        return text  # padded or transformed: equal to itself only
    left = {a: lay.block(a) for a in lay.order}
    for axis, size in lay.blocks:
        left[axis] //= size
        dims.append((axis, left[axis], size))
    merged: list[tuple[int, int, int]] = []
    for axis, step, count in dims:
        if count == 1:
            continue
        if merged and merged[-1][0] == axis and merged[-1][1] == step * count:
            merged[-1] = (axis, step, merged[-1][2] * count)
        else:
            merged.append((axis, step, count))
    return tuple((axis, step) for axis, step, _ in merged)


def contiguous(t: Type, axis: int, start: int, size: int) -> bool:
    """Whether elements start..start+size-1 of `axis` are one stretch of the value's memory, padding apart."""
    lay = layout(t.layout, len(t.shape))
    block = lay.block(axis)
    if lay.unit or start % block or (size % block and start + size != t.shape[axis]):
        return False
    before = lay.order[: lay.order.index(axis)]
    return all(-(-t.shape[a] // lay.block(a)) == 1 for a in before)


def stretch_offset(t: Type, axis: int, start: int) -> int:
    """Byte offset of element `start` of an axis for which `contiguous` holds."""
    lay = layout(t.layout, len(t.shape))
    dims = lay.physical(t.shape)
    inner = prod(dims[lay.order.index(axis) + 1 :])
    return start // lay.block(axis) * inner * dtype(t.dtype).bytes
