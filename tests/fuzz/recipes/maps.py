"""Operators that move elements: other shapes, orders, parts, copies; positions given by attributes or by data."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from edgec.compiler.dtypes import DTYPES
from edgec.compiler.ir import Type, Value
from edgec.compiler.ops.common import FLOATS

from ..draw import Draw, Unsuitable
from . import recipe

Ints = tuple[int, ...]


def tensor(d: Draw, least: int = 0) -> Value:
    """Anything of at least so many axes."""

    def otherwise() -> Type:
        return Type(d.dtype(), d.shape(max(least, d.choice((1, 2, 3, 4)))))

    return d.pick(lambda t: len(t.shape) >= least, otherwise)


def image(d: Draw, allowed: frozenset[str] = frozenset(DTYPES)) -> Value:
    return d.pick(
        lambda t: len(t.shape) == 4 and t.dtype in allowed,
        lambda: Type(d.dtype(allowed), d.shape(4)),
    )


def factors(d: Draw, total: int) -> Ints:
    """Sizes whose product is `total`, in any number up to five."""
    shape = [total]
    for _ in range(d.integer(0, 3)):
        at = d.integer(0, len(shape) - 1)
        by = d.choice([n for n in range(1, shape[at] + 1) if shape[at] % n == 0] or [1])
        shape[at : at + 1] = [by, shape[at] // by] if by else [shape[at]]
    while len(shape) < 5 and d.flag(0.2):
        shape.insert(d.integer(0, len(shape)), 1)
    return tuple(shape)


@recipe("Reshape", family="maps", weight=3)
def reshape(d: Draw, op: str) -> None:
    x = tensor(d)
    kind = d.integer(0, 3)
    if kind == 0 and len(x.shape) > 1:  # two neighbours become one
        at = d.integer(0, len(x.shape) - 2)
        shape = (*x.shape[:at], x.shape[at] * x.shape[at + 1], *x.shape[at + 2 :])
    elif kind == 1 and len(x.shape) < 5:
        at = d.integer(0, len(x.shape))
        shape = (*x.shape[:at], 1, *x.shape[at:])
    elif kind == 2:
        shape = tuple(n for n in x.shape if n != 1)
    else:
        shape = factors(d, x.type.size) if x.type.size else d.choice((x.shape, x.shape[::-1]))
    d.emit(op, x, shape=shape)


@recipe("Transpose", family="maps", weight=3)
def transpose(d: Draw, op: str) -> None:
    x = tensor(d, 2)
    rank = len(x.shape)
    perms = [tuple(d.shuffled(range(rank)))]
    if rank == 4:
        perms += [(0, 2, 3, 1), (0, 3, 1, 2), (0, 2, 1, 3)]
    if rank >= 2:
        perms.append((*range(rank - 2), rank - 1, rank - 2))
    d.emit(op, x, perm=d.choice(perms))


@recipe("Expand", family="maps")
def expand(d: Draw, op: str) -> None:
    x = tensor(d)
    shape = [d.size(9) if n == 1 and d.flag(0.8) else n for n in x.shape]
    while len(shape) < 5 and d.flag(0.3):
        shape.insert(0, d.size(4))
    d.emit(op, x, shape=tuple(shape))


@recipe("Tile", family="maps")
def tile(d: Draw, op: str) -> None:
    x = tensor(d, 1)
    d.emit(op, x, repeats=tuple(d.choice((1, 1, 2, 3)) for _ in x.shape))


@recipe("DepthToSpace", family="maps", weight=0.6)
def depth_to_space(d: Draw, op: str) -> None:
    b = d.choice((2, 3))
    x = d.pick(
        lambda t: len(t.shape) == 4 and t.shape[1] % (b * b) == 0,
        lambda: Type(d.dtype(), (1, b * b * d.integer(1, 4), d.size(9), d.size(9))),
    )
    d.emit(op, x, blocksize=b, mode=d.choice(("DCR", "CRD")))


@recipe("SpaceToDepth", family="maps", weight=0.6)
def space_to_depth(d: Draw, op: str) -> None:
    b = d.choice((2, 3))
    x = d.pick(
        lambda t: len(t.shape) == 4 and t.shape[2] % b == 0 and t.shape[3] % b == 0,
        lambda: Type(d.dtype(), (1, d.size(9), b * d.integer(1, 4), b * d.integer(1, 4))),
    )
    d.emit(op, x, blocksize=b)


@recipe("Trilu", family="maps", weight=0.6)
def trilu(d: Draw, op: str) -> None:
    d.emit(op, tensor(d, 2), upper=d.integer(0, 1), k=d.integer(-3, 3))


@recipe("Concat", family="maps", weight=3)
def concat(d: Draw, op: str) -> None:
    x = tensor(d, 1)
    axis = d.axis(x, negative=True)
    at = axis % len(x.shape)

    def joins(t: Type) -> bool:
        rest = (*t.shape[:at], *t.shape[at + 1 :])
        return t.dtype == x.type.dtype and len(t.shape) == len(x.shape) and rest == (*x.shape[:at], *x.shape[at + 1 :])

    def otherwise() -> Type:
        return Type(x.type.dtype, (*x.shape[:at], d.size(17), *x.shape[at + 1 :]))

    others = [d.pick(joins, otherwise) for _ in range(d.choice((0, 1, 1, 1, 2, 3)))]
    d.emit(op, *d.shuffled([x, *others]), axis=axis)


@recipe("Split", family="maps", weight=2)
def split(d: Draw, op: str) -> None:
    x = tensor(d, 1)
    axis = d.axis(x, negative=True)
    n = x.shape[axis]
    even = [k for k in (2, 3, 4) if n % k == 0]
    sizes = (n // (k := d.choice(even)),) * k if even and d.flag(0.7) else d.parts(n)
    d.emit_all(op, x, axis=axis, split=sizes)


@recipe("Slice", family="maps", weight=3)
def slice_(d: Draw, op: str) -> None:
    x = tensor(d, 1)
    axes = sorted(d.shuffled(range(len(x.shape)))[: d.choice((1, 1, 2, 3))])
    if d.flag(0.1):
        axes.reverse()
    bounds = [_bounds(d, x.shape[a]) for a in axes]
    starts, ends, steps = (tuple(column) for column in zip(*bounds, strict=True))
    d.emit(op, x, starts=starts, ends=ends, axes=tuple(axes), steps=steps)


def _bounds(d: Draw, n: int) -> tuple[int, int, int]:
    step = d.choice((1, 1, 1, 2, 3, -1, -2))
    low, high = sorted((d.integer(0, n), d.integer(0, n)))
    if low == high and n and d.flag(0.97):
        low, high = (low - 1, high) if low else (low, high + 1)
    if step > 0:
        return low, high, step
    return (high - 1, low - 1, step) if high > low else (0, -1, step)


@recipe("Pad", family="maps", weight=2)
def pad(d: Draw, op: str) -> None:
    x = tensor(d, 1)
    mode = d.choice(("constant", "constant", "constant", "reflect", "edge", "wrap"))
    pads = [d.choice((0, 0, 1, 2)) for _ in range(2 * len(x.shape))]
    if d.flag(0.2):
        at = d.integer(0, len(pads) - 1)
        pads[at] = -min(1, x.shape[at % len(x.shape)])
    cut = [n + min(b, 0) + min(e, 0) for n, b, e in zip(x.shape, pads, pads[len(x.shape) :], strict=False)]
    if mode in ("reflect", "wrap"):
        most = [n - 1 if mode == "reflect" else n for n in cut]
        pads = [min(p, max(most[k % len(cut)], 0)) for k, p in enumerate(pads)]
    value = float(d.choice((0, 0, 1, 3))) if mode == "constant" else 0.0
    if x.type.dtype == "bool":
        value = float(d.choice((0, 1, 3)))
    if value == 0 and mode == "constant" and x.type.dtype in FLOATS and d.flag(0.1):
        value = -1.5
    d.emit(op, x, pads=tuple(pads), mode=mode, value=value)


def positions(d: Draw, shape: Ints, n: int, constant: float = 0.6) -> Value:
    """Indices into `n` elements, some of them from the back."""
    if not n:
        raise Unsuitable("nothing to choose from")
    kind: Any = d.choice((np.int64, np.int64, np.int32))
    low = -n if d.flag(0.3) else 0
    found = d.arrays.integers(low, n, shape)
    if len(shape) == 1 and d.flag(0.2) and n >= shape[0]:
        found = np.arange(shape[0]) + d.integer(0, n - shape[0])
    return d.hold(np.asarray(found).astype(kind), constant)


@recipe("Gather", family="maps", weight=2)
def gather(d: Draw, op: str) -> None:
    x = tensor(d, 1)
    axis = d.axis(x, negative=True)
    d.emit(op, x, positions(d, d.shape(d.choice((0, 1, 1, 2)), most=12), x.shape[axis]), axis=axis)


@recipe("GatherElements", family="maps")
def gather_elements(d: Draw, op: str) -> None:
    x = tensor(d, 1)
    axis = d.axis(x, negative=True)
    at = axis % len(x.shape)
    shape = tuple(d.size(9) if k == at else d.integer(1, max(n, 1)) for k, n in enumerate(x.shape))
    d.emit(op, x, positions(d, shape, x.shape[at]), axis=axis)


@recipe("GatherND", family="maps")
def gather_nd(d: Draw, op: str) -> None:
    x = tensor(d, 1)
    rank = len(x.shape)
    batch = d.integer(0, min(2, rank - 1))
    depth = d.integer(1, rank - batch)
    lead = (*x.shape[:batch], *d.shape(d.choice((0, 1, 1)), most=6))
    if prod(lead) * prod(x.shape[batch:]) == 0:
        raise Unsuitable("nothing to choose from")
    columns = [d.arrays.integers(-n if d.flag(0.2) else 0, n, lead) for n in x.shape[batch : batch + depth]]
    d.emit(op, x, d.hold(np.stack(columns, -1).astype(np.int64), 0.6), batch_dims=batch)


@recipe("Resize", family="maps", weight=1.5)
def resize(d: Draw, op: str) -> None:
    mode = d.choice(("nearest", "linear", "linear", "cubic"))
    x = image(d, FLOATS) if mode != "nearest" or d.flag(0.7) else tensor(d, 1)
    if d.wild and mode != "nearest":
        raise Unsuitable("0 times infinity is no number, and may be left out")
    plain, by_scale = len(x.shape) == 4 and d.flag(0.95), d.flag(0.6)
    moves = [axis >= 2 if plain else d.flag(0.4) for axis in range(len(x.shape))]
    if by_scale:
        scales = [d.choice((2.0, 2.0, 0.5, 1.5, 3.0, 0.8, 1.0)) if m else 1.0 for m in moves]
        sizes = [int(np.float32(n) * np.float32(s)) for n, s in zip(x.shape, scales, strict=True)]
    else:
        sizes = [d.choice((n, 2 * n, d.size(16))) if m else n for n, m in zip(x.shape, moves, strict=True)]
        scales = [m / max(n, 1) for n, m in zip(x.shape, sizes, strict=True)]
    modes = ("half_pixel", "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
    attrs: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": d.choice(modes)}
    if mode == "nearest":
        attrs["nearest_mode"] = d.choice(("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"))
    if mode == "cubic":
        attrs |= {"cubic_coeff_a": d.choice((-0.75, -0.5)), "exclude_outside": d.integer(0, 1)}
    d.emit(op, x, sizes=tuple(sizes), scales=tuple(float(np.float32(s)) for s in scales), **attrs)
