"""Constant matrices in blocks that end where the matrix does, so that none is padded with columns that nobody needs.

A layout `U2:JK20j4k` begins like `JK20j4k`, blocks of 20 columns whose rows are groups of 4 products. But its last
block has the columns that are left, and K is padded to a multiple of 2 only: the last group of a row may have 2
products. Whoever multiplies reads whole vectors, which may end behind the constant: `BEYOND` elements there can be
read, and are anything.
"""

from __future__ import annotations

from math import prod

import numpy as np

from .ir import Array

BEYOND = 32
Blocks = tuple[tuple[int, int], ...]  # (axis, size)


def fits(order: tuple[int, ...], blocks: Blocks, unit: int) -> bool:
    """Whether the blocks are those of the outermost and of the innermost axis, the latter of whole units."""
    return (
        len(order) > 1
        and [axis for axis, _ in blocks] == [order[0], order[-1]]
        and unit > 0
        and blocks[1][1] % unit == 0
    )


def elements(shape: tuple[int, ...], inner: int, unit: int) -> int:
    """All that is stored, and what lies behind it; `inner` is the axis of products."""
    return prod(n + -n % unit if axis == inner else n for axis, n in enumerate(shape)) + BEYOND


def pack(array: Array, order: tuple[int, ...], blocks: Blocks, unit: int) -> Array:
    """The constant in memory; what lies behind it is zero here."""
    (_, wide), (_, each) = blocks
    rows = array.transpose(order)
    rows = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, -rows.shape[-1] % unit)])
    rows = rows.reshape(len(rows), prod(rows.shape[1:-1]), rows.shape[-1])
    whole = rows.shape[-1] // each * each
    parts = []
    for block in (rows[begin : begin + wide] for begin in range(0, len(rows), wide)):
        groups = block[..., :whole].reshape(*block.shape[:2], whole // each, each).transpose(1, 2, 0, 3)
        last = block[..., whole:].transpose(1, 0, 2)
        halves = [part.reshape(part.shape[0], prod(part.shape[1:])) for part in (groups, last)]
        parts.append(np.concatenate(halves, 1).reshape(-1))
    return np.concatenate([*parts, np.zeros(BEYOND, array.dtype)])
