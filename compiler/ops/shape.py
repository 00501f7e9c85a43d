"""Maps that move whole elements: Reshape, Transpose, Expand, Tile, DepthToSpace, SpaceToDepth, Trilu."""

from __future__ import annotations

from math import prod

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import REQUIRED, op
from .common import Ints, Tensor, broadcast


def reshaped(x: Type, shape: Ints) -> tuple[Type, ...]:
    """Target shapes are final: no -1, no 0 that stands for "keep"."""
    if prod(shape) != prod(x.shape) or any(n < 0 for n in shape):
        raise IRError(f"{x} does not reshape to {list(shape)}")
    return (Type(x.dtype, tuple(shape)),)


def _transposed(x: Type, perm: Ints) -> tuple[Type, ...]:
    if sorted(perm) != list(range(len(x.shape))):
        raise IRError(f"perm {list(perm)} is not an order of the axes of {x}")
    return (Type(x.dtype, tuple(x.shape[a] for a in perm)),)


def _expanded(x: Type, shape: Ints) -> tuple[Type, ...]:
    if broadcast(x.shape, tuple(shape)) != tuple(shape):
        raise IRError(f"{x} does not expand to {list(shape)}")
    return (Type(x.dtype, tuple(shape)),)


def _tiled(x: Type, repeats: Ints) -> tuple[Type, ...]:
    if len(repeats) != len(x.shape) or any(r < 0 for r in repeats):
        raise IRError(f"repeats {list(repeats)} do not fit {x}")
    return (Type(x.dtype, tuple(n * r for n, r in zip(x.shape, repeats, strict=True))),)


def _to_space(x: Type, blocksize: int, mode: str) -> tuple[Type, ...]:
    if len(x.shape) != 4 or blocksize < 1 or x.shape[1] % blocksize**2:
        raise IRError(f"{x} cannot be spread in blocks of {blocksize}")
    if mode not in ("DCR", "CRD"):
        raise IRError(f"mode {mode!r} is unknown; expected DCR or CRD")
    n, c, h, w = x.shape
    return (Type(x.dtype, (n, c // blocksize**2, h * blocksize, w * blocksize)),)


def depth_to_space(x: Tensor, blocksize: int, mode: str) -> Tensor:
    """Channels become blocks of pixels; mode DCR: the block index is the outer part of the channel, CRD: the inner."""
    n, c, h, w = x.shape
    b = blocksize
    if mode == "DCR":
        return x.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)
    return x.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // b**2, h * b, w * b)


def _to_depth(x: Type, blocksize: int) -> tuple[Type, ...]:
    if len(x.shape) != 4 or blocksize < 1 or x.shape[2] % blocksize or x.shape[3] % blocksize:
        raise IRError(f"{x} cannot be gathered in blocks of {blocksize}")
    n, c, h, w = x.shape
    return (Type(x.dtype, (n, c * blocksize**2, h // blocksize, w // blocksize)),)


def space_to_depth(x: Tensor, blocksize: int) -> Tensor:
    """Blocks of pixels become channels; the block index is the outer part of the channel."""
    n, c, h, w = x.shape
    b = blocksize
    return x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


def _matrices(x: Type, upper: int, k: int) -> tuple[Type, ...]:
    if len(x.shape) < 2:
        raise IRError(f"{x} has no matrices")
    return (Type(x.dtype, x.shape),)


op("Reshape", 1, reshaped, lambda x, shape: x.reshape(shape), attrs={"shape": REQUIRED})
op("Transpose", 1, _transposed, lambda x, perm: np.ascontiguousarray(x.transpose(perm)), attrs={"perm": REQUIRED})
op("Expand", 1, _expanded, lambda x, shape: np.broadcast_to(x, shape), attrs={"shape": REQUIRED})
op("Tile", 1, _tiled, lambda x, repeats: np.tile(x, repeats), attrs={"repeats": REQUIRED})
op("DepthToSpace", 1, _to_space, depth_to_space, attrs={"blocksize": REQUIRED, "mode": "DCR"})
op("SpaceToDepth", 1, _to_depth, space_to_depth, attrs={"blocksize": REQUIRED})
op("Trilu", 1, _matrices, lambda x, upper, k: np.triu(x, k) if upper else np.tril(x, k), attrs={"upper": 1, "k": 0})
