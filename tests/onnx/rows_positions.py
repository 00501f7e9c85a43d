"""Rows of operators that write or read at computed positions, order elements, or undo windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.onnx.versions import CUBE, FLAGS, K, Row, X, f32, i64, ints, scalar

PLANES = f32(2, 2, 4, 4)
REDUCTIONS = ("none", "add", "mul", "max", "min")


def at(*places: Any) -> Any:
    """Indices that the model is fed."""
    return np.asarray(places, np.int64)


def scattered() -> Iterator[Row]:
    for axis in (0, 1, 2, -1):
        few, new = np.broadcast_to(at([[0]], [[1]]), (2, 2, 1)), f32(2, 2, 1)
        few = few if axis == 0 else few * 0
        yield Row("Scatter", (CUBE, few[:, :1], new[:, :1]), {"axis": axis}, since=9, until=10)
        yield Row("ScatterElements", (CUBE, few[:, :1], new[:, :1]), {"axis": axis}, since=11)
    yield Row("ScatterElements", (X, at([0, -1, -2]), f32(1, 3)), since=11)
    yield Row("ScatterElements", (FLAGS, np.zeros((1, 3), np.int32), np.ones((1, 3), np.bool_)), since=11)
    for reduction in REDUCTIONS:
        since = 18 if reduction in ("max", "min") else 16
        attrs = {"reduction": reduction}
        same = np.zeros((2, 3, 1), np.int64)
        yield Row("ScatterElements", (CUBE, same, f32(2, 3, 1)), {**attrs, "axis": 2}, since=since)
        rows = at([0], [1], [1]) if reduction != "none" else at([1], [-2])
        yield Row("ScatterND", (CUBE, rows, f32(len(rows), 3, 4)), attrs, since=since)
    yield Row("ScatterND", (CUBE, at([[0, 1]], [[1, -1]]), f32(2, 1, 4)), since=11)
    yield Row("ScatterND", (CUBE, K(at([[1, 0, 3], [0, 2, 0]])), f32(1, 2)), since=11)
    cache, update = f32(2, 3, 6, 4), f32(2, 3, 2, 4)
    yield Row("TensorScatter", (cache, update, at(1, 4)), since=24)
    yield Row("TensorScatter", (cache, update, at(5, 11)), {"mode": "circular"}, since=24)
    yield Row("TensorScatter", (f32(2, 6, 3), f32(2, 4, 3)), {"axis": 1}, since=24)
    yield Row("ReverseSequence", (f32(4, 3, 2), at(4, 1, 3)), since=10)
    yield Row("ReverseSequence", (f32(3, 4), at(1, 2, 4)), {"time_axis": 1, "batch_axis": 0}, since=10)


def ordered() -> Iterator[Row]:
    some: Any = np.asarray([[3, 1, 3, 2], [0, 0, 5, 5]], np.float32)
    for axis in (0, 1):
        yield Row("TopK", (some,), {"axis": axis, "k": 2}, until=9, results=2)
        yield Row("TopK", (some, i64(2)), {"axis": axis}, since=10, results=2)
        yield Row("TopK", (some, i64(2)), {"axis": axis, "largest": 0}, since=11, results=2)
    yield Row("TopK", (CUBE, i64(3)), results=2, since=10)
    yield from (Row("TopK", (ints(0, 9, 3, 5, to=t), i64(4)), results=2, since=11) for t in (np.int64, np.uint8))
    yield from (
        Row("CumProd", (CUBE, scalar(1, np.int64)), {"exclusive": e, "reverse": r}, since=26)
        for e, r in ((0, 1), (1, 0))
    )
    yield Row("Det", (f32(3, 3),), since=11)
    yield Row("Det", (f32(2, 2, 4, 4),), since=11)


def unwindowed() -> Iterator[Row]:
    square = {"kernel_shape": [2, 2], "strides": [2, 2]}
    yield from (Row("MaxPool", (PLANES,), {**square, "storage_order": k}, since=8, results=2) for k in (0, 1))
    yield Row("MaxPool", (PLANES,), {"kernel_shape": [3, 3], "ceil_mode": 1, "strides": [2, 2]}, since=10, results=2)
    places = at(5, 7, 13, 15).reshape(1, 1, 2, 2)
    yield Row("MaxUnpool", (f32(1, 1, 2, 2), places), square, since=9)
    yield Row("MaxUnpool", (f32(1, 1, 2, 2), places, i64(1, 1, 4, 4)), square, since=9)
    yield Row("Col2Im", (f32(1, 8, 6), i64(3, 4), i64(2, 2)), since=18)
    yield Row("Col2Im", (f32(1, 8, 4), i64(4, 4), i64(2, 2)), {"strides": [2, 2]}, since=18)
    grams = {"mode": "TF", "min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 1}
    grams |= {"ngram_counts": [0, 2], "ngram_indexes": [0, 1, 2, 3], "pool_int64s": [1, 2, 1, 2, 2, 1]}
    yield Row("TfIdfVectorizer", (ints(1, 4, 2, 9, to=np.int64),), grams, since=9)
