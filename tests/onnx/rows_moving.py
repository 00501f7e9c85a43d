"""Rows of operators that move elements or make constants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.onnx.versions import CUBE, FAR, FLAGS, I8, I32, K, Row, X, f32, i64, ints, scalar


def rearranged() -> Iterator[Row]:
    yield from (Row("Reshape", (CUBE, shape)) for shape in (i64(4, 6), i64(-1), i64(0, -1), i64(2, 0, 2, 2)))
    yield Row("Reshape", (f32(1), i64()))
    yield from (Row("Reshape", (f32(0, 3), i64(3, 0)), {"allowzero": 1}, since=14) for _ in "1")
    yield from (Row("Flatten", (CUBE,), {"axis": axis}) for axis in (0, 1, 2, 3))
    yield Row("Flatten", (CUBE,))
    yield from (Row("Flatten", (CUBE,), {"axis": axis}, since=11) for axis in (-1, -3))
    ones = f32(1, 3, 1, 2)
    yield Row("Squeeze", (ones,))
    yield from (Row("Squeeze", (ones,), {"axes": axes}, until=12) for axes in ([0], [0, 2]))
    yield Row("Squeeze", (ones,), {"axes": [-2]}, since=11, until=12)
    yield from (Row("Squeeze", (ones, axes), since=13) for axes in (i64(2), i64(-2, 0)))
    yield from (Row("Unsqueeze", (X,), {"axes": axes}, until=12) for axes in ([0], [0, 3], [3, 1]))
    yield Row("Unsqueeze", (X,), {"axes": [-1]}, since=11, until=12)
    yield from (Row("Unsqueeze", (X, axes), since=13) for axes in (i64(0), i64(-1, 0), i64(3, 1)))
    yield from (Row("Transpose", (CUBE,), attrs) for attrs in ({}, {"perm": [1, 2, 0]}))
    yield from (Row("Concat", (CUBE, f32(2, 5, 4)), {"axis": 1}) for _ in "1")
    yield Row("Concat", (CUBE, f32(2, 3, 1), CUBE), {"axis": -1}, since=11)
    yield Row("Split", (f32(4, 6),), results=2, until=17)
    yield from (
        Row("Split", (f32(4, 6),), attrs, results=3, until=12)
        for attrs in ({"axis": 1}, {"axis": 1, "split": [1, 3, 2]})
    )
    yield from (Row("Split", (f32(4, 6), i64(1, 3, 2)), {"axis": axis}, results=3, since=13) for axis in (1, -1))
    yield from (Row("Split", (f32(7, 2),), {"num_outputs": n}, results=n, since=18) for n in (2, 3, 7))
    for attrs in (
        {"starts": [1], "ends": [FAR]},
        {"starts": [0, -3], "ends": [1, -1], "axes": [0, 2]},
        {"starts": [-9], "ends": [9], "axes": [1]},
    ):
        yield Row("Slice", (CUBE,), attrs, until=9)
        axes = (K(np.asarray(attrs["axes"])),) if "axes" in attrs else ()
        yield Row("Slice", (CUBE, K(np.asarray(attrs["starts"])), K(np.asarray(attrs["ends"])), *axes), since=10)
    for start, end, axis, step in ((-1, -FAR, 2, -1), (3, 0, 2, -2), (0, 9, 1, 2), (9, -9, 2, -1), (1, 1, 0, 1)):
        yield Row("Slice", (CUBE, i64(start), i64(end), i64(axis), i64(step)), since=10)
    yield Row("Slice", (CUBE, i64(1), i64(3), i64(-1)), since=11)


def moved() -> Iterator[Row]:
    pads = [0, 1, 2, 1, 0, 1]
    for mode, amounts in (("constant", pads), ("reflect", pads), ("edge", pads), ("constant", [0, -1, 1, 0, 0, -2])):
        yield Row("Pad", (CUBE,), {"mode": mode, "pads": amounts}, until=10)
        yield Row("Pad", (CUBE, i64(*amounts)), {"mode": mode}, since=11)
    yield Row("Pad", (CUBE,), {"pads": pads, "value": 1.5}, until=10)
    yield from (Row("Pad", (x, i64(1, 0, 0, 2), scalar(3, x.dtype)), since=11) for x in (X, I32, I8))
    yield Row("Pad", (CUBE, i64(1, 2, 0, 1), None, i64(-1, 0)), since=18)
    yield Row("Pad", (CUBE, i64(1, 5, 0, 1), None, i64(2, 1)), {"mode": "wrap"}, since=19)
    yield from (Row("Expand", (f32(3, 1), shape)) for shape in (i64(3, 4), i64(2, 3, 1), i64(1), i64(3, 1)))
    yield from (Row("Tile", (X, repeats)) for repeats in (i64(2, 1), i64(1, 3)))
    for axis in (0, 1, -1):
        yield Row("Gather", (CUBE, ints(0, 2, 3, 2)), {"axis": axis})
        yield Row("Gather", (CUBE, scalar(1, np.int32)), {"axis": axis})
        yield Row("GatherElements", (CUBE, ints(-2, 2, 2, 3, 4)), {"axis": axis})
    yield Row("Gather", (CUBE, ints(-2, 2, 3)), since=11)
    yield Row("GatherND", (CUBE, ints(-2, 2, 2, 2)))
    yield Row("GatherND", (CUBE, ints(0, 2, 3, 1, 3)))
    yield Row("GatherND", (CUBE, ints(-3, 3, 2, 1)), {"batch_dims": 1}, since=12)
    yield from (
        Row("Trilu", (CUBE, *k), {"upper": u})
        for k in ((), (scalar(1, np.int64),), (scalar(-2, np.int64),))
        for u in (0, 1)
    )
    yield Row("DepthToSpace", (f32(1, 8, 2, 3),), {"blocksize": 2})
    yield from (Row("DepthToSpace", (f32(1, 8, 2, 3),), {"blocksize": 2, "mode": m}, since=11) for m in ("DCR", "CRD"))
    yield Row("SpaceToDepth", (f32(1, 2, 4, 6),), {"blocksize": 2})
    yield from (Row("SpaceToDepth", (f32(1, 2, 4, 6),), {"blocksize": 2, "mode": m}, since=28) for m in ("DCR", "CRD"))
    for mode in ("nearest", "linear"):
        yield Row("Upsample", (f32(1, 1, 2, 3),), {"mode": mode, "scales": [1.0, 1.0, 2.0, 3.0]}, until=8)
        scales = K(np.asarray([1, 1, 2, 3], np.float32))
        yield Row("Upsample", (f32(1, 1, 2, 3), scales), {"mode": mode}, since=9, until=9)
    yield Row("Upsample", (f32(1, 1, 2, 3), scales), since=10, meaning=lambda x, _: x.repeat(2, 2).repeat(3, 3))


def constants() -> Iterator[Row]:
    yield from (Row("Shape", (x,)) for x in (CUBE, f32()))
    ends: list[dict[str, Any]] = [
        {"start": 1},
        {"start": -1},
        {"end": 2},
        {"start": -9, "end": -1},
        {"start": 2, "end": 1},
    ]
    yield from (Row("Shape", (CUBE,), attrs, since=15) for attrs in ends)
    yield from (Row("Size", (x,)) for x in (CUBE, f32(), f32(0, 3)))
    yield from (Row("ConstantOfShape", (shape,)) for shape in (i64(2, 3), i64(), i64(0, 2)))
    yield from (Row("EyeLike", (X,), attrs) for attrs in ({}, {"k": 1}, {"k": -1, "dtype": 6}))
    yield from (Row("EyeLike", (I32,), attrs) for attrs in ({}, {"dtype": 11}))
    for start, limit, delta in ((0, 5, 1), (5, 0, -2), (3, 3, 1), (0, 7, 3)):
        yield from (
            Row("Range", tuple(scalar(n, kind) for n in (start, limit, delta))) for kind in (np.int64, np.float32)
        )
    yield Row("Range", (scalar(0.5), scalar(2.0), scalar(0.25)))
    yield from (Row("NonZero", (K(x),)) for x in (I32, FLAGS))
    yield Row("NonZero", (scalar(3),), meaning=lambda x: np.empty((0, 1), np.int64))  # ONNX Runtime: one row
    values = K(np.asarray([0.5, 3], np.float32))
    for axis in (-1, 0, 1):
        yield Row("OneHot", (ints(0, 4, 2, 3), scalar(4, np.int64), values), {"axis": axis})
    yield Row("OneHot", (ints(-4, 6, 2, 3), scalar(4, np.int64), values), since=11)
    yield Row("OneHot", (np.asarray([0, -1, 4, 2]), scalar(4, np.int64), values), until=10, meaning=_hot_from_zero)
    yield Row("OneHot", (np.asarray([0.0, 2.0], np.float32), K(np.asarray([3.0], np.float32)), values))


def _hot_from_zero(indices: Any, depth: Any, values: Any) -> Any:
    """Before opset 11, negative positions count nothing."""
    return np.where(indices[:, None] == np.arange(depth.item()), values[1], values[0])
