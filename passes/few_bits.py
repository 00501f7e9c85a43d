"""A matrix in 4 bits: codes 0 .. 15 and one scale per block of a column, `w = (code - 8) * scale`."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.compiler.dtypes import dtype

BLOCK, MIDDLE, LARGEST = 32, 8, 15
TRIED = np.linspace(0.7, 1.1, 9)  # parts of the scale with which the largest weight of a block has the lowest code
LEAST = float(np.finfo(np.float16).tiny)  # a smaller scale would have few digits in f16


def as_blocks(array: Any) -> tuple[Any, Any]:
    """Codes [K, N] and scales [blocks, N] in f16 of a matrix, each scale that of the least squared error of some.

    The largest weight of a block gets code 0, which is 8 steps away from zero; on its other side there are 7.
    """
    rows, columns = array.shape
    blocks = -(-rows // BLOCK)
    padded = np.zeros((blocks * BLOCK, columns), np.float32)
    padded[:rows] = array
    parts = padded.reshape(blocks, BLOCK, columns)
    place = np.abs(parts).argmax(axis=1)[:, None]
    whole = np.take_along_axis(parts, place, axis=1)[:, 0] / -MIDDLE
    best = np.full((blocks, columns), np.inf)
    scales = np.zeros((blocks, columns), np.float16)
    for part in TRIED:
        tried = (whole * part).astype(np.float16)
        tried = np.where(np.abs(tried) < LEAST, np.float16(LEAST), tried)
        off = np.square((_codes(parts, tried) - np.float32(MIDDLE)) * tried[:, None] - parts, dtype=np.float64).sum(
            axis=1
        )
        better = off < best
        best[better], scales[better] = off[better], tried[better]
    codes = _codes(parts, scales).reshape(-1, columns)[:rows]
    return codes.astype(dtype("u4").numpy), scales


def _codes(parts: Any, scales: Any) -> Any:
    steps = np.rint(parts / scales[:, None].astype(np.float32)) + MIDDLE
    return np.clip(steps, 0, LARGEST).astype(np.uint8)


def widened(codes: Any, scales: Any) -> Any:
    """What codes and scales stand for."""
    along = np.repeat(scales.astype(np.float32), BLOCK, axis=0)[: len(codes)]
    return (codes.astype(np.float32) - MIDDLE) * along
