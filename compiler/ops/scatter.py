"""Writing at computed positions: ScatterElements, ScatterND, TensorScatter.

Updates happen in row-major order, so that of several at one position the last one counts. Negative indices count from
the back; an update whose index lies outside the tensor is dropped. With `shape`, the data are one element that fills
it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import op
from .common import ORDERED, Ints, Tensor, axis_in, equal_types, require

REDUCTIONS: dict[str, np.ufunc | None] = {
    "none": None,
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}
_INDEX = frozenset({"i32", "i64"})


def target(data: Type, shape: Ints) -> Ints:
    """Shape of what is written to."""
    if shape and data.size != 1:
        raise IRError(f"{data} does not fill {list(shape)}; expected one element")
    return tuple(shape) or data.shape


def _checked(data: Type, indices: Type, updates: Type, reduction: str, shape: Ints) -> Ints:
    require(indices, _INDEX, "indices")
    equal_types(data, updates)
    if reduction not in REDUCTIONS:
        raise IRError(f"reduction {reduction!r} is unknown; expected one of {', '.join(REDUCTIONS)}")
    if reduction != "none":
        require(data, ORDERED, f"what is folded by {reduction}")
    return target(data, shape)


def _scatter_elements(
    data: Type, indices: Type, updates: Type, axis: int, reduction: str, shape: Ints
) -> tuple[Type, ...]:
    wanted = _checked(data, indices, updates, reduction, shape)
    at = axis_in(axis, len(wanted))
    if not len(wanted) == len(indices.shape) == len(updates.shape):
        raise IRError(f"indices {indices} and updates {updates} do not have the {len(wanted)} axes of {list(wanted)}")
    for k, (n, i, u) in enumerate(zip(wanted, indices.shape, updates.shape, strict=True)):
        if (i != u and (i != 1 or k == at)) or (u > n and k != at):
            raise IRError(f"indices {indices} and updates {updates} do not fit {list(wanted)} along axis {k}")
    return (Type(data.dtype, wanted),)


def _scatter_nd(data: Type, indices: Type, updates: Type, reduction: str, shape: Ints) -> tuple[Type, ...]:
    wanted = _checked(data, indices, updates, reduction, shape)
    depth = indices.shape[-1] if indices.shape else 0
    if not 1 <= depth <= len(wanted):
        raise IRError(f"indices {indices} address {depth} axes of {list(wanted)}")
    if updates.shape != (*indices.shape[:-1], *wanted[depth:]):
        raise IRError(f"updates are {updates}; expected {[*indices.shape[:-1], *wanted[depth:]]}")
    return (Type(data.dtype, wanted),)


def _begin(data: Tensor, shape: Ints) -> Tensor:
    return np.full(shape, data.reshape(()), data.dtype) if shape else data.copy()


def _write(y: Tensor, at: tuple[Any, ...], updates: Tensor, reduction: str) -> Tensor:
    """Unbuffered: every update sees those before it."""
    fn: Any = REDUCTIONS[reduction]
    if fn is None:
        y[at] = updates
    else:
        fn.at(y, at, updates)
    return y


def _counted(index: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Positions from the front, and which of them exist."""
    wide = index.astype(np.int64)
    wide = np.where(wide < 0, wide + size, wide)
    return wide, (wide >= 0) & (wide < size)


def scatter_elements(data: Tensor, indices: Tensor, updates: Tensor, axis: int, reduction: str, shape: Ints) -> Tensor:
    """out[indices[i][j]][j] = updates[i][j] for axis 0; axes of `indices` of size one hold for all of the updates'."""
    y = _begin(data, shape)
    places: list[Tensor] = list(np.indices(updates.shape))
    at = axis % y.ndim
    places[at], kept = _counted(np.broadcast_to(indices, updates.shape), y.shape[at])
    return _write(y, tuple(p[kept] for p in places), updates[kept], reduction)


def scatter_nd(data: Tensor, indices: Tensor, updates: Tensor, reduction: str, shape: Ints) -> Tensor:
    """The last axis of `indices` addresses the first axes of the result; updates are slices of the rest."""
    y = _begin(data, shape)
    depth = indices.shape[-1]
    count = prod(indices.shape[:-1])
    flat, slices = indices.reshape(count, depth), updates.reshape(count, *y.shape[depth:])
    counted = [_counted(flat[:, k], y.shape[k]) for k in range(depth)]
    kept = np.logical_and.reduce([inside for _, inside in counted])
    return _write(y, tuple(place[kept] for place, _ in counted), slices[kept], reduction)


def _tensor_scatter(cache: Type, update: Type, write: Type, axis: int, mode: str) -> tuple[Type, ...]:
    require(write, _INDEX, "write_indices")
    equal_types(cache, update)
    at = axis_in(axis, len(cache.shape))
    sizes = update.shape[:at] + cache.shape[at : at + 1] + update.shape[at + 1 :]
    if at == 0 or sizes != cache.shape or update.shape[at] > cache.shape[at]:
        raise IRError(f"update {update} does not fit {cache} along axis {axis}")
    if write.shape != cache.shape[:1]:
        raise IRError(f"write_indices are {write}; expected one for each of {cache.shape[0]}")
    if mode not in ("linear", "circular"):
        raise IRError(f"mode {mode!r} is unknown; expected linear or circular")
    return (Type(cache.dtype, cache.shape),)


def tensor_scatter(cache: Tensor, update: Tensor, write: Tensor, axis: int, mode: str) -> Tensor:
    """Per sample, a run of positions along `axis` from write[sample] on; what leaves a linear cache is dropped."""
    y, at = cache.copy(), axis % cache.ndim
    size, count = cache.shape[at], update.shape[at]
    for sample, first in enumerate(map(int, write)):
        start = first % size if mode == "circular" else min(max(first, -count), size)
        places = start + np.arange(count)
        if mode == "circular":
            places %= size
        kept = (places >= 0) & (places < size)
        rows, new = np.moveaxis(y[sample], at - 1, 0), np.moveaxis(update[sample], at - 1, 0)
        rows[places[kept]] = new[kept]
    return y


def _row(name: str, infer: Callable[..., tuple[Type, ...]], meaning: Callable[..., Tensor], **attrs: Any) -> None:
    op(name, 3, infer, meaning, kind="other", attrs=attrs, alone=True, over=0)


def lines(shape: Ints, axis: int) -> tuple[int, int, int]:
    """Elements before, along and after an axis."""
    return prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])


_row("ScatterElements", _scatter_elements, scatter_elements, axis=0, reduction="none", shape=())
_row("ScatterND", _scatter_nd, scatter_nd, reduction="none", shape=())
_row("TensorScatter", _tensor_scatter, tensor_scatter, axis=-2, mode="linear")
