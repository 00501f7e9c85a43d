"""Maps that read at computed positions: Gather, GatherElements, GatherND. Negative indices count from the back."""

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


op("Gather", 2, _gather, lambda x, indices, axis: np.take(x, indices, axis), attrs={"axis": 0})
op("GatherElements", 2, _gather_elements, gather_elements, attrs={"axis": 0})
op("GatherND", 2, _gather_nd, gather_nd, attrs={"batch_dims": 0})
