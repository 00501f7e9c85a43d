"""Elementwise operators compute what ONNX Runtime computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from tests.support.meaning import check, f32, ints
from tests.support.one_node import K


@pytest.mark.parametrize(
    "op",
    """Abs Neg Ceil Floor Round Sign Exp Reciprocal Sin Cos Tan Atan Sinh Cosh Tanh Asinh Erf Sigmoid Relu HardSwish
    Softplus Softsign Mish LeakyRelu Elu Selu Celu HardSigmoid ThresholdedRelu Gelu""".split(),
)
def test_unary(op: str) -> None:
    check(op, f32(3, 5) * 3)


@pytest.mark.parametrize("op", ["Sqrt", "Log", "Acosh"])
def test_unary_of_positive_numbers(op: str) -> None:
    check(op, np.abs(f32(3, 5)) + 1)


@pytest.mark.parametrize("op", ["Asin", "Acos", "Atanh"])
def test_unary_within_one(op: str) -> None:
    check(op, np.clip(f32(3, 5), -0.9, 0.9))


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("LeakyRelu", {"alpha": 0.3}),
        ("Elu", {"alpha": 2.0}),
        ("Selu", {"alpha": 1.5, "gamma": 2.0}),
        ("Celu", {"alpha": 0.5}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("ThresholdedRelu", {"alpha": 0.3}),
        ("Gelu", {"approximate": "tanh"}),
    ],
)
def test_unary_attributes(op: str, attrs: dict[str, Any]) -> None:
    check(op, f32(3, 5) * 3, **attrs)


def test_infinities_and_not_a_number() -> None:
    x = np.asarray([1, np.inf, -np.inf, np.nan], np.float32)
    check("IsNaN", x)
    check("IsInf", x)
    check("IsInf", x, detect_negative=0)
    check("Relu", x[:3])
    check("Sigmoid", x[:3])
    check("Round", np.asarray([-2.5, -0.5, 0.5, 1.5, 2.5], np.float32))


def test_logic() -> None:
    a, b = f32(2, 3) > 0, f32(3) > 0
    check("Not", a)
    for op in ("And", "Or", "Xor"):
        check(op, a, b)
    for op in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"):
        check(op, ints(0, 3, 2, 3), ints(0, 3, 3))
    check("Where", a, f32(2, 3), f32(3))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow"])
def test_binary(op: str) -> None:
    check(op, np.abs(f32(2, 1, 3)) + 0.1, f32(4, 1))
    if op != "Pow":
        check(op, ints(-9, 9, 2, 3), np.asarray([3, -2, 1], np.int32))


def test_minimum_and_maximum_of_several() -> None:
    for op in ("Min", "Max", "Sum", "Mean"):
        check(op, f32(2, 3), f32(3), f32(2, 1))


def test_modulo() -> None:
    a, b = np.asarray([-7, 7, -7, 7], np.int32), np.asarray([3, -3, -3, 3], np.int32)
    check("Mod", a, b)
    check("Mod", a, b, fmod=1)
    check("Mod", f32(4) * 5, f32(4), fmod=1)


def test_powers_of_mixed_types() -> None:
    check("Pow", np.abs(f32(3)), K(np.asarray([2, 3, 1], np.int64)))
    check("Pow", ints(1, 5, 3), ints(0, 3, 3))
    check("Pow", ints(1, 5, 3), K(np.float32(2.0)))


def test_bits() -> None:
    a, b = ints(0, 99, 4, to=np.uint8), ints(0, 8, 4, to=np.uint8)
    check("BitShift", a, b, direction="LEFT")
    check("BitShift", a, b, direction="RIGHT")
    for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        check(op, a, b)
    check("BitwiseNot", a)


def test_prelu() -> None:
    check("PRelu", f32(1, 3, 2, 2), K(f32(3, 1, 1)))
    check("PRelu", f32(2, 3), f32(3))


def test_clip() -> None:
    check("Clip", f32(9), K(np.float32(-0.5)), K(np.float32(0.5)))
    check("Clip", f32(9), None, K(np.float32(0.5)))
    check("Clip", f32(9), np.asarray(-0.5, np.float32), K(np.float32(0.5)))
    check("Clip", ints(-9, 9, 9), K(np.int32(-2)))
    check("Clip", ints(-9, 9, 9, to=np.int64), K(np.int64(-2)))
    check("Clip", ints(0, 9, 9, to=np.uint64), None, K(np.uint64(5)))
    check("Clip", f32(9), opset=6, min=-0.5, max=0.5)


@pytest.mark.parametrize("to", [np.float16, np.float64, np.int8, np.int32, np.int64, np.bool_])
def test_cast(to: Any) -> None:
    check("Cast", np.asarray([-3.7, 0, 0.2, 5.9], np.float32), to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(to)))


def test_bit_cast() -> None:
    check("BitCast", f32(2, 3), to=onnx.TensorProto.INT32, opset=26)
    check("BitCast", ints(-9, 9, 5, to=np.int64), to=onnx.TensorProto.DOUBLE, opset=26)


def test_half_precision_rounds_once() -> None:
    x = f32(2, 8).astype(np.float16)
    for op in ("Exp", "Tanh", "Softmax"):
        check(op, x, tolerance=2e-3)
    check("MatMul", x, K(f32(8, 3).astype(np.float16)), tolerance=4e-3)
