"""Maps that read at computed positions: Gather, GatherElements, GatherND (negative indices count from the back),
ReverseSequence.
"""

from __future__ import annotations

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import op
from .common import Tensor, axis_in, require

_INDEX = frozenset({"i32", "i64"})


def _gather(x: Type, indices: Type, axis: int) -> tuple[Type, ...]:
    require(indices, _INDEX, "indices")
    at = axis_in(axis, len(x.shape))
    return (Type(x.dtype, (*x.shape[:at], *indices.shape, *x.shape[at + 1 :])),)


def _gather_elements(x: Type, indices: Type, axis: int) -> tuple[Type, ...]:
    require(indices, _INDEX, "indices")
    at = axis_in(axis, len(x.shape))
    fits = len(x.shape) == len(indices.shape)
    if not fits or any(m > n for k, (n, m) in enumerate(zip(x.shape, indices.shape, strict=True)) if k != at):
        raise IRError(f"indices {indices} do not fit {x}")
    return (Type(x.dtype, indices.shape),)


def gather_elements(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """out[i][j] = x[indices[i][j]][j] for axis 0; other axes of `indices` may be shorter than those of `x`."""
    at = axis % x.ndim
    cut = tuple(slice(None) if k == at else slice(n) for k, n in enumerate(indices.shape))
    return np.take_along_axis(x[cut], indices.astype(np.int64), at)


def _gather_nd(x: Type, indices: Type, batch_dims: int) -> tuple[Type, ...]:
    require(indices, _INDEX, "indices")
    b = batch_dims
    if not indices.shape or not 0 <= b < min(len(x.shape), len(indices.shape)) or x.shape[:b] != indices.shape[:b]:
        raise IRError(f"indices {indices} do not fit {x} with batch_dims {b}")
    depth = indices.shape[-1]
    if not 1 <= depth <= len(x.shape) - b:
        raise IRError(f"indices {indices} address {depth} axes of {x} after {b} batch axes")
    return (Type(x.dtype, (*indices.shape[:-1], *x.shape[b + depth :])),)


def gather_nd(x: Tensor, indices: Tensor, batch_dims: int) -> Tensor:
    """The last axis of `indices` addresses the axes of `x` that follow the batch axes."""
    batch: tuple[Tensor, ...] = np.indices(indices.shape[:batch_dims], sparse=True)
    extra = indices.ndim - 1 - batch_dims
    lead = tuple(np.reshape(i, (*i.shape, *(1,) * extra)) for i in batch)
    return np.asarray(x[(*lead, *np.moveaxis(indices, -1, 0))])


def _reversed(x: Type, lengths: Type, time_axis: int, batch_axis: int) -> tuple[Type, ...]:
    require(lengths, _INDEX, "sequence_lens")
    time, batch = axis_in(time_axis, len(x.shape)), axis_in(batch_axis, len(x.shape))
    if {time, batch} != {0, 1} or lengths.shape != (x.shape[batch],):
        raise IRError(
            f"lengths {lengths} of sequences along axis {time} do not fit axis {batch} of {x}; expected 0 and 1"
        )
    return (Type(x.dtype, x.shape),)


def reverse_sequence(x: Tensor, lengths: Tensor, time_axis: int, batch_axis: int) -> Tensor:
    """Elements before a sequence's length in reverse order, the rest as they are. Lengths are cut to 0 .. all of it."""
    time = time_axis % x.ndim
    places = np.arange(x.shape[time])[:, None]
    length = np.clip(lengths.astype(np.int64), 0, x.shape[time])[None]
    source = np.where(places < length, length - 1 - places, places)
    source = source if time == 0 else source.T
    return np.take_along_axis(x, source.reshape(*source.shape, *(1,) * (x.ndim - 2)), time)


op("Gather", 2, _gather, lambda x, indices, axis: np.take(x, indices, axis), attrs={"axis": 0})
op("GatherElements", 2, _gather_elements, gather_elements, attrs={"axis": 0})
op("GatherND", 2, _gather_nd, gather_nd, attrs={"batch_dims": 0})
op("ReverseSequence", 2, _reversed, reverse_sequence, attrs={"time_axis": 0, "batch_axis": 1})
