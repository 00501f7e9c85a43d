"""Rows of elementwise operators and conversions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.onnx.versions import CUBE, FLAGS, I8, I32, U8, Row, X, f32, ints, scalar


def elementwise() -> Iterator[Row]:
    for op in """Abs Neg Ceil Floor Sign Exp Sin Cos Tan Atan Sinh Cosh Tanh Asinh Erf Sigmoid Relu HardSwish Softplus
        Softsign Mish Round Reciprocal Identity Gelu Swish LeakyRelu Elu Selu Celu HardSigmoid Shrink""".split():
        yield Row(op, (X,))
    yield Row("ThresholdedRelu", (X,), since=10)
    for op in ("Sqrt", "Log", "Acosh"):
        yield Row(op, (np.abs(X) + 1,))
    for op in ("Asin", "Acos", "Atanh"):
        yield Row(op, (np.clip(X, -0.9, 0.9),))
    for op, attrs in (
        ("LeakyRelu", {"alpha": 0.3}),
        ("Elu", {"alpha": 2.0}),
        ("Selu", {"alpha": 1.5, "gamma": 2.0}),
        ("Celu", {"alpha": 0.5}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("Gelu", {"approximate": "tanh"}),
        ("Swish", {"alpha": 0.5}),
        ("Shrink", {"bias": 0.3, "lambd": 0.2}),
    ):
        yield Row(op, (X,), attrs)
    yield Row("ThresholdedRelu", (X,), {"alpha": 0.3}, since=10)
    yield from (Row(op, (I32,)) for op in ("Abs", "Neg", "Identity"))
    yield from (Row(op, (I32,), since=since) for op, since in (("Sign", 9), ("Relu", 14)))
    yield Row("Not", (FLAGS,))
    for value in (X, np.asarray([1, np.inf, -np.inf, np.nan], np.float32)):
        yield Row("IsNaN", (value,))
        yield from (Row("IsInf", (value,), attrs) for attrs in ({}, {"detect_negative": 0}, {"detect_positive": 0}))
    yield from (Row(op, (np.asarray([1, np.inf, np.nan], np.float16),), since=20) for op in ("IsNaN", "IsInf"))


def pairs() -> Iterator[Row]:
    for op in ("Add", "Sub", "Mul", "Div"):
        yield from (Row(op, args) for args in ((X, f32(3)), (f32(2, 1), f32(1, 4)), (X, f32()), (f32(3), f32(4, 2, 3))))
        yield Row(op, (I32, ints(1, 5, 3, to=np.int32)))
        yield Row(op, (U8, ints(1, 5, 3, to=np.uint8)), since=14)
    for op in ("And", "Or", "Xor"):
        yield from (Row(op, args) for args in ((FLAGS, ~FLAGS), (FLAGS, FLAGS[0]), (FLAGS[:, :1], FLAGS[0])))
    yield from (Row("Equal", (a, a[:1])) for a in (I32, FLAGS))
    yield from (Row("Equal", (X, X[:1]), since=11) for _ in "1")
    for op, since in (("Less", 9), ("Greater", 9), ("LessOrEqual", 12), ("GreaterOrEqual", 12)):
        yield Row(op, (X, X[0]))
        yield Row(op, (I32, I32[0]), since=since)
    yield from (Row("Where", args) for args in ((FLAGS, X, f32(3)), (FLAGS[0], X, f32()), (FLAGS, I32, I32[0])))
    yield from (Row("Pow", (np.abs(X), b)) for b in (X, scalar(2.0), f32(3)))
    yield from (Row("Pow", a, since=12) for a in ((X, scalar(3, np.int32)), (I32, scalar(2.0)), (I32, abs(I32) % 4)))
    b = np.where(I32 == 0, 2, I32)
    yield from (Row("Mod", (a, b)) for a in (ints(-20, 20, 2, 3, to=np.int32), I32[0]))
    yield from (Row("Mod", (5 * X, f32(3)), {"fmod": 1}) for _ in "1")
    yield Row("Mod", (5 * X, np.asarray([2, -1.5, 3], np.float32)), since=28)
    yield Row("Mod", (ints(-20, 20, 2, 3, to=np.int32), b), {"fmod": 1})
    for way in ("LEFT", "RIGHT"):
        yield Row("BitShift", (U8, ints(0, 8, 3, to=np.uint8)), {"direction": way})
        yield Row("BitShift", (U8, np.asarray([7, 8, 200], np.uint8)), {"direction": way}, since=28)
        yield Row("BitShift", (I8 * 9, np.asarray([1, -1, 9], np.int8)), {"direction": way}, since=28)
    yield from (Row(op, (I32, ints(-9, 9, 3, to=np.int32))) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"))
    yield Row("BitwiseNot", (I32,))
    yield from (Row("PRelu", (CUBE, s)) for s in (f32(4), f32(3, 1), f32(1), f32(2, 3, 4)))
    yield Row("PRelu", (I32, ints(1, 5, 3, to=np.int32)), since=9)
    for op in ("Sum", "Mean", "Min", "Max"):
        yield from (Row(op, args) for args in ((X,), (X, f32(2, 3)), (X, f32(2, 3), f32(2, 3))))
        yield Row(op, (X, f32(3), f32(2, 1)), since=8)
    yield from (Row(op, (I32, I32[0]), since=12) for op in ("Min", "Max"))
    yield from (Row(op, (U8, U8[0]), since=12) for op in ("Min", "Max"))


def conversions() -> Iterator[Row]:
    yield from (Row("Clip", (X,), attrs, until=10) for attrs in ({}, {"min": -0.5}, {"max": 0.5, "min": -0.3}))
    for args in ((X,), (X, scalar(-0.5)), (X, None, scalar(0.5)), (X, f32(), scalar(2.0)), (X, f32(), f32())):
        yield Row("Clip", args, since=11)
    yield Row("Clip", (I32, scalar(-3, np.int32), scalar(4, np.int32)), since=12)
    yield from (Row("Clip", (X, *limits), since=13) for limits in ((scalar(1), scalar(-1)), (f32() + 9, f32() - 9)))
    for to in (1, 2, 6, 7, 9, 10, 11):
        yield from (Row("Cast", (x,), {"to": to}) for x in (np.abs(3 * X), U8, FLAGS))
    yield from (Row("CastLike", (X, like)) for like in (I32, FLAGS, f32().astype(np.float16)))
    for until, mask in ((9, np.ones_like(X)), (11, np.ones_like(FLAGS))):
        since = 10 if until == 11 else 7
        yield Row("Dropout", (X,), {"ratio": 0.3}, since, until, 2, meaning=lambda x, mask=mask: (x, mask))
    yield from (Row("Dropout", (X, *rest), since=12, results=2) for rest in ((), (scalar(0.3),)))
    yield Row("Dropout", (X, scalar(0.5), scalar(False, np.bool_)), since=12, results=2)
    yield Row("Dropout", (X, scalar(0.0), scalar(True, np.bool_)), {"seed": 3}, since=12, results=2)
