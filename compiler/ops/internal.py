"""Operators of our own: kernels that passes formed, memory layouts, selections of channels, and views that the planner
places without a copy.

Unlike all others most of these read and keep memory layouts. `arena` holds the planner's offsets, one per result.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import IRError
from ..ir import Graph, Type
from ..layout import layout
from ..op import REQUIRED, op
from .common import Tensor, axis_in
from .shape import reshaped
from .slicing import concatenated


def _kernel(*types: Type, body: Graph, **_: Any) -> tuple[Type, ...]:
    if len(types) != len(body.inputs):
        raise IRError(f"{len(types)} argument(s); the body has {len(body.inputs)} input(s)")
    for given, wanted in zip(types, body.inputs, strict=True):
        if (given.dtype, given.shape) != (wanted.type.dtype, wanted.type.shape):
            raise IRError(f"argument {given} does not fit the body's input {wanted.name!r}, {wanted.type}")
    return tuple(v.type for v in body.outputs)


def _run_kernel(*arrays: Tensor, body: Graph, **_: Any) -> tuple[Any, ...]:
    from ..interpret import run  # the interpreter reads this table

    return run(body, arrays)


def _laid_out(x: Type, to: str, **_: Any) -> tuple[Type, ...]:
    layout(to, len(x.shape))
    return (replace(x, layout=to),)


def _viewed(x: Type, shape: tuple[int, ...], to: str, **_: Any) -> tuple[Type, ...]:
    (t,) = reshaped(x, shape)
    layout(to, len(shape))
    return (replace(t, layout=to),)


def _turned(x: Type, perm: tuple[int, ...], to: str, **_: Any) -> tuple[Type, ...]:
    layout(to, len(x.shape))
    if sorted(perm) != list(range(len(x.shape))):
        raise IRError(f"perm {list(perm)} does not name each axis of {x} once")
    return (replace(x, shape=tuple(x.shape[a] for a in perm), layout=to),)


def _turn(x: Tensor, perm: tuple[int, ...], **_: Any) -> Tensor:
    """Contiguous, as a transpose is: numpy's sums go by how memory lies."""
    return np.ascontiguousarray(x.transpose(perm))


def _joined(*types: Type, axis: int, **_: Any) -> tuple[Type, ...]:
    (t,) = concatenated(*types, axis=axis)
    return (replace(t, layout=types[0].layout),)


def _join(*xs: Tensor, axis: int, **_: Any) -> Tensor:
    return np.concatenate(xs, axis)


def _selected(*types: Type, index: tuple[int, ...], **_: Any) -> tuple[Type, ...]:
    (t,) = concatenated(*(replace(t, layout="") for t in types), axis=1)
    if len(t.shape) < 2 or not index or min(index) < 0 or max(index) >= t.shape[1]:
        raise IRError(f"indices {list(index)} do not fit {t.shape[1]} channels")
    return (Type(t.dtype, (t.shape[0], len(index), *t.shape[2:])),)


def _select(*xs: Tensor, index: tuple[int, ...], **_: Any) -> Tensor:
    return np.take(np.concatenate(xs, 1), index, 1)


def _part(x: Type, axis: int, start: int, size: int, **_: Any) -> tuple[Type, ...]:
    at = axis_in(axis, len(x.shape))
    if start < 0 or size < 0 or start + size > x.shape[at]:
        raise IRError(f"part {start}:{start + size} is outside axis {axis} of {x}")
    return (Type(x.dtype, (*x.shape[:at], size, *x.shape[at + 1 :]), x.layout),)


def _part_of(x: Tensor, axis: int, start: int, size: int, **_: Any) -> Tensor:
    return np.take(x, range(start, start + size), axis)


op(
    "Edgec.Kernel",
    (0, -1),
    _kernel,
    _run_kernel,
    kind="other",
    attrs={
        "body": REQUIRED,
        "row": "",  # registry row, its tiles, its modelled time, and why it was chosen
        "config": "",
        "cost_us": 0.0,
        "why": "",
        "scratch": 0,  # bytes per worker; where the planner put the first one's, and for how many there is room
        "scratch_at": 0,
        "workers": 1,
        "arena": (),
    },
)
op("Edgec.Layout", 1, _laid_out, lambda x, **_: x, attrs={"to": "", "arena": ()})
op("Edgec.View", 1, _viewed, lambda x, shape, **_: x.reshape(shape), attrs={"shape": REQUIRED, "to": "", "arena": ()})
op("Edgec.Turn", 1, _turned, _turn, attrs={"perm": REQUIRED, "to": "", "arena": ()})
op("Edgec.Join", (1, -1), _joined, _join, attrs={"axis": REQUIRED, "arena": ()})
op("Edgec.Select", (1, -1), _selected, _select, attrs={"index": REQUIRED}, alone=True)  # channels of all arguments
op("Edgec.Part", 1, _part, _part_of, attrs={"axis": REQUIRED, "start": REQUIRED, "size": REQUIRED, "arena": ()})
