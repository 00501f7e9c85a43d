"""Convolutions, products, pooling and quantized operators compute what ONNX Runtime computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.meaning import check, f32, i64, ints
from tests.support.one_node import K

CONVS = [
    ((1, 4, 7, 6), (6, 4, 3, 3), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ((2, 4, 7, 6), (6, 2, 3, 2), {"group": 2, "strides": [2, 1], "auto_pad": "SAME_UPPER"}),
    ((1, 4, 7, 6), (8, 1, 3, 3), {"group": 4, "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ((1, 4, 7), (5, 4, 3), {"auto_pad": "VALID"}),
    ((1, 2, 4, 5, 6), (3, 2, 2, 3, 1), {}),
    ((1, 4, 5, 5), (3, 4, 1, 1), {"strides": [2, 2]}),
]


@pytest.mark.parametrize(("x", "w", "attrs"), CONVS)
def test_convolution(x: tuple[int, ...], w: tuple[int, ...], attrs: dict[str, Any]) -> None:
    check("Conv", f32(*x), K(f32(*w)), K(f32(w[0])), **attrs)
    check("Conv", f32(*x), K(f32(*w)), **attrs)


TRANSPOSED = [
    {"strides": [2, 2], "pads": [1, 0, 1, 2], "output_padding": [1, 0]},
    {"strides": [2, 3], "group": 2, "dilations": [2, 1]},
    {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"strides": [2, 2], "output_shape": [9, 8]},
]


@pytest.mark.parametrize("attrs", TRANSPOSED)
def test_transposed_convolution(attrs: dict[str, Any]) -> None:
    check("ConvTranspose", f32(1, 4, 4, 4), K(f32(4, 3, 3, 3)), K(f32(3 * attrs.get("group", 1))), **attrs)


@pytest.mark.parametrize(("a", "b"), [((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((3,), (2, 3, 4)), ((2, 3), (3,))])
def test_matrix_product(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check("MatMul", f32(*a), f32(*b))


def test_general_matrix_product() -> None:
    check("Gemm", f32(3, 2), K(f32(4, 3)), K(f32(4)), transA=1, transB=1, alpha=0.5, beta=2.0)
    check("Gemm", f32(2, 3), f32(3, 4), alpha=0.5)


@pytest.mark.parametrize("equation", ["ij,jk->ik", "bij,bkj->bik", "ij,ij->", "ij->ji", "bhi,hij->bhj"])
def test_einsum(equation: str) -> None:
    sizes = {"i": 2, "j": 3, "k": 4, "b": 2, "h": 5}
    terms = equation.split("->")[0].split(",")
    check("Einsum", *(f32(*(sizes[ch] for ch in term)) for term in terms), equation=equation)


POOLS: list[dict[str, Any]] = [
    {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "dilations": [2, 2]},
    {"kernel_shape": [12, 3], "strides": [12, 2], "pads": [1, 0, 2, 0], "ceil_mode": 1},
]


@pytest.mark.parametrize("attrs", POOLS)
def test_pooling(attrs: dict[str, Any]) -> None:
    check("MaxPool", f32(1, 2, 7, 8), **attrs)
    check("AveragePool", f32(1, 2, 7, 8), **attrs)
    if "ceil_mode" not in attrs:
        check("AveragePool", f32(1, 2, 7, 8), count_include_pad=1, **attrs)


@pytest.mark.parametrize("attrs", POOLS)
@pytest.mark.parametrize("order", [0, 1])
def test_positions_in_windows(attrs: dict[str, Any], order: int) -> None:
    check("MaxPool", f32(2, 3, 7, 8), results=2, opset=12, storage_order=order, **attrs)
    check("MaxPool", ints(0, 3, 2, 3, 7, 8).astype(np.float32), results=2, opset=12, storage_order=order, **attrs)


@pytest.mark.parametrize("attrs", POOLS)
@pytest.mark.parametrize("p", [1, 2, 3])
def test_norms_of_windows(attrs: dict[str, Any], p: int) -> None:
    check("LpPool", f32(1, 2, 7, 8), opset=18, p=p, **attrs)


def test_positions_in_volumes() -> None:
    check(
        "MaxPool", f32(2, 2, 4, 5, 6), results=2, opset=12, storage_order=1, kernel_shape=[2, 3, 2], strides=[1, 2, 1]
    )
    check("MaxPool", f32(2, 2, 9), results=2, opset=12, kernel_shape=[3], pads=[1, 2], strides=[2])


def test_undoing_windows() -> None:
    places = i64(5, 7, 13, 15).reshape(1, 1, 2, 2)
    check("MaxUnpool", f32(1, 1, 2, 2), places, opset=11, kernel_shape=[2, 2], strides=[2, 2])
    check("MaxUnpool", f32(1, 1, 2, 2), places, K(i64(1, 1, 4, 4)), opset=11, kernel_shape=[2, 2], strides=[2, 2])
    check("Col2Im", f32(2, 18, 20), K(i64(6, 7)), K(i64(3, 3)), opset=18)
    check("Col2Im", f32(2, 12, 12), K(i64(5, 6)), K(i64(2, 2)), opset=18, strides=[2, 2], pads=[1, 1, 0, 2])
    attrs = {"dilations": [3, 2], "pads": [0, 1, 1, 0], "strides": [1, 2]}
    check("Col2Im", f32(1, 6, 8), K(i64(6, 7)), K(i64(2, 3)), opset=18, **attrs)
    check("Col2Im", f32(1, 8, 12), K(i64(3, 4, 3)), K(i64(2, 2, 2)), opset=18)


def test_global_pooling() -> None:
    for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
        check(op, f32(2, 3, 4, 5))
    check("LpPool", f32(1, 2, 6, 6), kernel_shape=[3, 3], strides=[2, 2], p=3, tolerance=1e-4)


@pytest.mark.parametrize("to", [np.int8, np.uint8, np.int16, np.uint16])
def test_quantization(to: Any) -> None:
    zero, scales = np.asarray([3, 0, 5], to), np.asarray([0.1, 0.02, 1.5], np.float32)
    check("QuantizeLinear", f32(2, 3) * 9, K(np.float32(0.1)), K(to(3)))
    check("QuantizeLinear", f32(2, 3) * 9, K(scales), K(zero), axis=1)
    check("DequantizeLinear", ints(0, 100, 2, 3, to=to), K(scales), K(zero), axis=-1)
    check("DequantizeLinear", ints(0, 100, 2, 3, to=to), K(np.float32(0.1)))


def test_quantized_operators() -> None:
    one, u8 = K(np.float32(0.05)), K(np.uint8(7))
    x, w = ints(0, 255, 1, 2, 5, 5, to=np.uint8), K(ints(0, 255, 3, 2, 3, 3, to=np.uint8))
    check("QLinearConv", x, one, u8, w, one, u8, K(np.float32(0.9)), u8, K(ints(-99, 99, 3)), pads=[1, 1, 1, 1])
    a, b = ints(0, 255, 2, 3, to=np.uint8), K(ints(0, 255, 3, 4, to=np.uint8))
    check("QLinearMatMul", a, one, u8, b, one, u8, K(np.float32(0.3)), u8)
    check("MatMulInteger", a, b, u8, u8)
    check("ConvInteger", x, w, u8)
