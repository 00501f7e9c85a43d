"""Maps that cut, join and pad: Concat, Split, Slice, Pad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import REQUIRED, op
from .casts import cast
from .common import Ints, Tensor, axis_in, check_axes, dtype_of, equal_types

PAD_MODES = ("constant", "reflect", "edge", "wrap")


def concatenated(*types: Type, axis: int) -> tuple[Type, ...]:
    """Result type of Concat."""
    equal_types(*types)
    first = types[0]
    at = axis_in(axis, len(first.shape))
    for t in types[1:]:
        if (*t.shape[:at], *t.shape[at + 1 :]) != (*first.shape[:at], *first.shape[at + 1 :]):
            raise IRError(f"{first} and {t} differ outside axis {axis}")
    return (Type(first.dtype, (*first.shape[:at], sum(t.shape[at] for t in types), *first.shape[at + 1 :])),)


def _split(x: Type, axis: int, split: Ints) -> tuple[Type, ...]:
    at = axis_in(axis, len(x.shape))
    if sum(split) != x.shape[at] or any(n < 0 for n in split):
        raise IRError(f"parts {list(split)} do not add up to axis {axis} of {x}")
    return tuple(Type(x.dtype, (*x.shape[:at], n, *x.shape[at + 1 :])) for n in split)


def split_parts(x: Tensor, axis: int, split: Sequence[int]) -> tuple[Tensor, ...]:
    """The parts, in order."""
    return tuple(np.split(x, np.cumsum(split)[:-1], axis))


def _sliced(x: Type, starts: Ints, ends: Ints, axes: Ints, steps: Ints) -> tuple[Type, ...]:
    check_axes(axes, len(x.shape))
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise IRError("starts, ends, axes and steps differ in length")
    shape = list(x.shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        n = x.shape[axis]
        if step == 0 or (step > 0 and not (0 <= start <= n and 0 <= end <= n)):
            raise IRError(f"slice {start}:{end}:{step} is outside axis {axis} of {x}")
        if step < 0 and not (-1 <= start < n and end >= -1):
            raise IRError(f"slice {start}:{end}:{step} is outside axis {axis} of {x}")
        shape[axis] = len(range(start, end, step))
    return (Type(x.dtype, tuple(shape)),)


def slice_of(x: Tensor, starts: Ints, ends: Ints, axes: Ints, steps: Ints) -> Tensor:
    """Bounds are literal: with a negative step an end of -1 lies before the first element."""
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        empty = not len(range(start, end, step))
        index[axis] = slice(0, 0) if empty else slice(start, None if end < 0 else end, step)
    return x[tuple(index)]


def _padded(x: Type, pads: Ints, mode: str, value: float) -> tuple[Type, ...]:
    rank = len(x.shape)
    if mode not in PAD_MODES:
        raise IRError(f"mode {mode!r} is unknown; expected one of {', '.join(PAD_MODES)}")
    if len(pads) != 2 * rank:
        raise IRError(f"{len(pads)} pads for {x}; expected {2 * rank}")
    shape = tuple(n + pads[k] + pads[k + rank] for k, n in enumerate(x.shape))
    kept = tuple(n + min(pads[k], 0) + min(pads[k + rank], 0) for k, n in enumerate(x.shape))
    if any(n < 0 for n in kept):
        raise IRError(f"pads {list(pads)} cut more than all of {x}")
    if mode != "constant" and any(n == 0 and m > 0 for n, m in zip(kept, shape, strict=True)):
        raise IRError(f"{x} has nothing to pad with in mode {mode}")
    return (Type(x.dtype, shape),)


def pad(x: Tensor, pads: Ints, mode: str, value: float) -> Tensor:
    """Pads of all axes, begins first. A negative pad cuts, before anything is added."""
    rank = x.ndim
    cut = tuple(slice(max(-pads[k], 0), n - max(-pads[k + rank], 0)) for k, n in enumerate(x.shape))
    add = [(max(pads[k], 0), max(pads[k + rank], 0)) for k in range(rank)]
    extra: dict[str, Any] = {"constant_values": cast(np.asarray(value), dtype_of(x))} if mode == "constant" else {}
    return np.pad(x[cut], add, mode=mode, **extra)  # type: ignore[call-overload, no-any-return]


_SLICE = {"starts": REQUIRED, "ends": REQUIRED, "axes": REQUIRED, "steps": REQUIRED}
op("Concat", (1, -1), concatenated, lambda *xs, axis: np.concatenate(xs, axis), attrs={"axis": REQUIRED})
op("Split", 1, _split, split_parts, attrs={"axis": 0, "split": REQUIRED})
op("Slice", 1, _sliced, slice_of, attrs=_SLICE)
op("Pad", 1, _padded, pad, attrs={"pads": REQUIRED, "mode": "constant", "value": 0.0})
