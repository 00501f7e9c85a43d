"""Winograd's F(4x4, 3x3) in integers: what a filter, a tile of the input and one of products are transformed by.

An output tile is A^T [(G g G^T) . (B^T d B)] A (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
2016). For the points 0, 1, -1, 2, -2 and infinity B^T holds integers. Rows of G are multiplied by 24, its last one by
3, which makes integers of them too, and the last column of A^T by 8: so outputs are SCALE = 24 * 24 times too large.
As they are sums of integers, the division is exact, also of their lowest 32 bits: 9 has an inverse there, and 64 is a
shift, which leaves 26 bits. So sums may wrap around anywhere, as long as outputs keep within `MOST`.

Magnitudes: a filter of bytes grows to 12 * 12 * 128 at most, differences of bytes to 10 * 10 * 255: both fit 16 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

OUT, TAPS = 4, 3  # pixels and taps of an axis
SIDE = OUT + TAPS - 1  # inputs of an axis
POSITIONS = SIDE * SIDE
SCALE = 24 * 24
SHIFT = 6  # SCALE is 9 << SHIFT
INVERSE = pow(9, -1, 1 << 32)
MOST = 1 << 31 - SHIFT  # magnitude of an output: less, or the negative number itself


class Arithmetic(Protocol[T]):
    """Operations on vectors."""

    def add(self, a: T, b: T) -> T: ...
    def subtract(self, a: T, b: T) -> T: ...
    def shift(self, a: T, bits: int) -> T: ...


def filters(on: Arithmetic[Any], g: Sequence[Any]) -> list[Any]:
    """G g for three taps: six."""
    g0, g1, g2 = g
    outer, inner = on.shift(on.add(g0, g2), 2), on.shift(g1, 2)
    far, middle = on.add(g0, on.shift(g2, 2)), on.shift(g1, 1)
    return [
        on.add(on.shift(g0, 2), on.shift(g0, 1)),
        on.add(outer, inner),
        on.subtract(outer, inner),
        on.add(far, middle),
        on.subtract(far, middle),
        on.add(g2, on.shift(g2, 1)),
    ]


def inputs(on: Arithmetic[Any], d: Sequence[Any]) -> list[Any]:
    """B^T d for six elements, the second and the third with the other sign, as G has them: six."""
    even, odd = on.subtract(on.shift(d[2], 2), d[4]), on.subtract(on.shift(d[1], 2), d[3])
    far, step = on.subtract(d[4], d[2]), on.shift(on.subtract(d[3], d[1]), 1)
    return [
        on.add(on.shift(on.subtract(d[0], d[2]), 2), far),
        on.add(even, odd),
        on.subtract(even, odd),
        on.add(far, step),
        on.subtract(far, step),
        on.subtract(on.subtract(d[5], d[3]), on.shift(step, 1)),
    ]


def outputs(on: Arithmetic[Any], m: Sequence[Any]) -> list[Any]:
    """A^T m for six products: four outputs, 24 times too large."""
    near, near_odd = on.add(m[1], m[2]), on.subtract(m[1], m[2])
    far, far_odd = on.add(m[3], m[4]), on.subtract(m[3], m[4])
    return [
        on.add(on.add(m[0], near), far),
        on.add(near_odd, on.shift(far_odd, 1)),
        on.add(near, on.shift(far, 2)),
        on.add(near_odd, on.shift(on.add(far_odd, m[5]), 3)),
    ]
