"""Rows of reductions, windows and products."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.onnx.versions import CUBE, FLAGS, I8, I32, IMAGE, U8, K, Row, f32, i64, ints, scalar


def reductions() -> Iterator[Row]:
    for op in "Sum Mean Max Min Prod SumSquare L1 L2 LogSum LogSumExp".split():
        name, change = f"Reduce{op}", 13 if op == "Sum" else 18
        x = np.abs(CUBE) if op == "LogSum" else CUBE
        yield from (Row(name, (x,), attrs) for attrs in ({}, {"keepdims": 0}))
        yield from (
            Row(name, (x,), attrs, until=change - 1) for attrs in ({"axes": [1]}, {"axes": [0, 2], "keepdims": 0})
        )
        yield Row(name, (x,), {"axes": [-1]}, since=11, until=change - 1)
        for axes, attrs in (
            (i64(1), {}),
            (i64(-1, 0), {"keepdims": 0}),
            (i64(), {}),
            (i64(), {"noop_with_empty_axes": 1}),
        ):
            yield Row(name, (x, axes), attrs, since=change)
        yield Row(name, (x,), {"noop_with_empty_axes": 1}, since=change)
        yield Row(name, (np.asarray(np.abs(f32())),))
        if op not in ("LogSum", "LogSumExp"):
            yield Row(name, (I32,))
    yield from (Row(op, (FLAGS, i64(1)), since=20) for op in ("ReduceMax", "ReduceMin"))
    yield from (Row(op, (U8, i64(1)), since=18) for op in ("ReduceMax", "ReduceMin"))
    ties = np.asarray([[1, 3, 3, 0], [2, 2, 1, 2]], np.float32)
    for op in ("ArgMax", "ArgMin"):
        yield from (Row(op, (ties,), attrs) for attrs in ({}, {"axis": 1}, {"axis": 1, "keepdims": 0}))
        yield Row(op, (ties,), {"axis": -1}, since=11)
        yield Row(op, (ties,), {"axis": 1, "select_last_index": 1}, since=12)
        yield Row(op, (I32,), {"axis": 1})
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        yield from (Row(op, (CUBE,), attrs) for attrs in ({}, {"axis": 0}, {"axis": 1}, {"axis": 2}))
        yield from (Row(op, (CUBE,), attrs, since=11) for attrs in ({"axis": -1}, {"axis": -2}))
    for attrs in ({}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}):
        yield from (Row("CumSum", (CUBE, axis), attrs) for axis in (i64(1), scalar(-1, np.int32)))
    yield Row("CumSum", (I32, scalar(0, np.int64)))


def windows() -> Iterator[Row]:
    w, bias = f32(6, 4, 3, 3), f32(6)
    for attrs in (
        {},
        {"pads": [1, 0, 1, 2], "strides": [2, 1]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "VALID"},
        {"dilations": [2, 1], "kernel_shape": [3, 3]},
    ):
        yield from (Row("Conv", args, attrs) for args in ((IMAGE, K(w), K(bias)), (IMAGE, K(w))))
    yield Row("Conv", (IMAGE, K(f32(4, 2, 3, 3))), {"group": 2})
    yield Row("Conv", (f32(1, 2, 9), K(f32(3, 2, 4))), {"strides": [2]})
    for attrs in (
        {},
        {"strides": [2, 3], "pads": [1, 0, 1, 1]},
        {"strides": [2, 3], "output_padding": [1, 2]},
        {"dilations": [2, 1], "group": 2},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "VALID", "strides": [2, 2]},
        {"output_shape": [10, 9], "strides": [2, 2]},
        {"output_shape": [12, 12], "strides": [2, 2], "output_padding": [1, 1]},
    ):
        shape = (4, 3, 3, 3) if "group" not in attrs else (4, 2, 3, 3)
        yield Row("ConvTranspose", (f32(1, 4, 5, 5), K(f32(*shape))), attrs)
    for op in ("MaxPool", "AveragePool", "LpPool"):
        for attrs in (
            {},
            {"strides": [2, 2], "pads": [1, 0, 1, 1]},
            {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
            {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
            {"auto_pad": "VALID", "strides": [2, 1]},
        ):
            yield Row(op, (IMAGE,), {"kernel_shape": [3, 2], **attrs})
        ceiled: list[dict[str, Any]] = [{"strides": [2, 2]}, {"strides": [3, 3], "pads": [1, 1, 1, 1]}]
        for attrs in ceiled if op != "LpPool" else ():
            yield Row(op, (IMAGE,), {"kernel_shape": [3, 2], "ceil_mode": 1, **attrs}, since=10)
        attrs = {"kernel_shape": [3, 2], "ceil_mode": 1, "auto_pad": "VALID", "strides": [2, 2]}
        for fn in {"MaxPool": [np.max], "AveragePool": [np.mean]}.get(op, ()):
            yield Row(op, (IMAGE,), attrs, since=10, meaning=lambda x, fn=fn: fn(_valid(x), (-2, -1)))
        dilated = {"MaxPool": 10, "AveragePool": 19, "LpPool": 18}[op]
        yield Row(op, (IMAGE,), {"kernel_shape": [2, 2], "dilations": [2, 3], "pads": [1, 1, 0, 0]}, since=dilated)
    yield Row("AveragePool", (IMAGE,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1})
    yield Row("LpPool", (IMAGE,), {"kernel_shape": [3, 3], "p": 3})
    yield from (Row(op, (IMAGE,)) for op in ("GlobalAveragePool", "GlobalMaxPool"))
    yield Row("GlobalLpPool", (IMAGE,), until=21)
    yield from (Row("GlobalLpPool", (IMAGE,), {"p": p}, until=21) for p in (1, 3))
    yield Row(
        "GlobalLpPool",
        (IMAGE,),
        {"p": 3},
        since=22,
        meaning=lambda x: (abs(x) ** 3).sum((2, 3), keepdims=True) ** (1 / 3),
    )


def _valid(x: Any) -> Any:
    """Windows that lie within the image; ceil_mode adds none to them."""
    return np.lib.stride_tricks.sliding_window_view(x, (3, 2), (2, 3))[:, :, ::2, ::2]


def products() -> Iterator[Row]:
    a, b = f32(3, 2), f32(2, 4)
    yield from (Row("Gemm", (a, b, c)) for c in (f32(4), f32(3, 4), f32(3, 1), f32(1), f32(1, 4), f32()))
    yield Row("Gemm", (a, b), since=11)
    yield Row("Gemm", (a.T.copy(), K(b.T.copy()), f32(4)), {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0})
    yield from (Row("MatMul", args) for args in ((a, b), (f32(5, 3, 2), b), (f32(2), b), (a, f32(2)), (f32(2), f32(2))))
    yield Row("MatMul", (f32(2, 1, 3, 2), f32(5, 2, 4)))
    yield Row("MatMul", (I32, ints(-9, 9, 3, 4, to=np.int32)), since=9)
    left, right = ints(0, 200, 3, 4, to=np.uint8), ints(-99, 99, 4, 2, to=np.int8)
    zeros = (scalar(7, np.uint8), scalar(-3, np.int8))
    yield from (Row("MatMulInteger", (left, right, *zeros[:k])) for k in range(3))
    x, w = ints(0, 200, 1, 2, 5, 5, to=np.uint8), K(ints(0, 200, 3, 2, 3, 3, to=np.uint8))
    yield Row("ConvInteger", (x, w, scalar(9, np.uint8)), {"pads": [1, 1, 1, 1]})
    yield from (Row("Einsum", (a, b), {"equation": e}) for e in ("ij,jk->ik", "ij,jk", "...j,jk->...k"))


def quantized() -> Iterator[Row]:
    x, scale, zero = 9 * f32(2, 3), scalar(0.1), scalar(120, np.uint8)
    yield from (Row("QuantizeLinear", (x, *rest)) for rest in ((scale,), (scale, zero), (scale, scalar(3, np.int8))))
    yield from (Row("DequantizeLinear", args) for args in ((U8, scale), (U8, scale, zero), (I8, scale), (I32, scale)))
    scales, zeros = K(np.asarray([0.1, 0.2, 0.05], np.float32)), K(np.asarray([1, 2, 3], np.uint8))
    pair, ends = K(scales.value[:2]), K(zeros.value[:2])
    for axis, s, z in ((1, scales, zeros), (0, pair, ends), (-1, scales, zeros)):
        yield Row("QuantizeLinear", (x, s, z), {"axis": axis}, since=13)
        yield Row("DequantizeLinear", (U8, s, z), {"axis": axis}, since=13)
    yield Row("QLinearMatMul", (U8, scale, zero, K(ints(0, 99, 3, 4, to=np.uint8)), scale, zero, scalar(0.5), zero))
    w = K(ints(0, 99, 3, 2, 3, 3, to=np.uint8))
    image = ints(0, 200, 1, 2, 5, 5, to=np.uint8)
    yield Row("QLinearConv", (image, scale, zero, w, scale, zero, scalar(9.0), zero, K(ints(-99, 99, 3, to=np.int32))))
