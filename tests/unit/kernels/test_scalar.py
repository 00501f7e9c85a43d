"""Scalar operators: accuracy of the vector functions against f64, special numbers, element types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.op import evaluate
from edgec.targets import mathlib
from edgec.targets.scalar import SCALAR
from tests.support.accuracy import EXACT, SPECIAL, erf, points, ulps
from tests.support.harness import check, execute, one, sample


@pytest.mark.parametrize("where", ["x86-avx512", "x86"])
@pytest.mark.parametrize("op", EXACT)
def test_vector_functions_are_accurate(op: str, where: str, tmp_path: Path) -> None:
    fn, low, high, bound = EXACT[op]
    x = points(low, high)
    (have,) = execute(one(op, f"f32[{x.size}]", where=where), "generic_map", [x], tmp_path)
    error = ulps(have, fn(x.astype(np.float64)))
    print(op, "greatest error", error.max(), "ulp at", x[error.argmax()])
    assert error.max() <= bound, (error.max(), x[error.argmax()])


def test_the_exponential_of_a_range_is_accurate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCALAR, "Exp", mathlib.exp_within)
    x = points(-87, 88)
    (have,) = execute(one("Exp", f"f32[{x.size}]", where="x86"), "generic_map", [x], tmp_path)
    assert ulps(have, np.exp(x.astype(np.float64))).max() <= 2
    ends = np.asarray([-1e30, -88, 89, np.inf, np.nan], np.float32)
    (have,) = execute(one("Exp", "f32[5]", where="x86"), "generic_map", [ends], tmp_path)
    low, high = np.exp(-87.0), np.exp(88.0)
    np.testing.assert_allclose(have, np.asarray([low, low, high, high, np.nan]), rtol=1e-6)


@pytest.mark.parametrize(
    "form, where, bound",
    [("none", "x86", 2.5e-7), ("tanh", "x86", 5e-7), ("none", "x86-avx512", 1.7e-7), ("tanh", "x86-avx512", 1.7e-7)],
)
@pytest.mark.parametrize("extra", [0, 8])
def test_gelu_is_accurate(form: str, where: str, bound: float, extra: int, tmp_path: Path) -> None:
    """The error in shares of |x|, which is what the result's factor 0.5 (1 + f) is off by."""
    x = points(-20, 20)
    x = x[: x.size // 16 * 16 - 16 + extra]  # whole vectors, or one half
    wide = x.astype(np.float64)
    inner = np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)) if form == "tanh" else erf(wide * np.sqrt(0.5))
    (have,) = execute(one("Gelu", f"f32[{x.size}]", where=where, approximate=form), "generic_map", [x], tmp_path)
    error = np.abs(have - 0.5 * wide * (1 + inner)) / np.abs(wide).clip(1e-30)
    assert error.max() <= bound, (error.max(), x[error.argmax()])


@pytest.mark.parametrize(
    "op",
    [
        "Exp",
        "Log",
        "Tanh",
        "Sigmoid",
        "Erf",
        "Sin",
        "Cos",
        "Asin",
        "Acos",
        "Relu",
        "Abs",
        "Neg",
        "Sign",
        "Sqrt",
        "Round",
        "IsNaN",
        "IsInf",
        "Softplus",
        "Mish",
    ],
)
def test_special_numbers(op: str, tmp_path: Path) -> None:
    p = one(op, f"f32[{SPECIAL.size}]")
    (have,) = execute(p, "generic_map", [SPECIAL], tmp_path)
    (want,) = evaluate(p.anchor, [SPECIAL])
    far = (np.abs(SPECIAL) > 1e8) & np.isfinite(SPECIAL) & np.isin(op, ["Sin", "Cos"])
    np.testing.assert_allclose(have[~far].astype(np.float64), want[~far].astype(np.float64), rtol=2e-6, atol=1e-37)


@pytest.mark.parametrize("op", ["Min", "Max"])
def test_extremes_keep_nan(op: str, tmp_path: Path) -> None:
    a = np.asarray([np.nan, 1, 2, np.nan], np.float32)
    b = np.asarray([1, np.nan, 3, np.nan], np.float32)
    (have,) = execute(one(op, "f32[4]", "f32[4]"), "generic_map", [a, b], tmp_path)
    np.testing.assert_array_equal(have, np.asarray([np.nan, np.nan, 3 if op == "Max" else 2, np.nan], np.float32))


BINARY = ("Add", "Sub", "Mul", "Div", "Min", "Max", "Equal", "Less", "GreaterOrEqual")


@pytest.mark.parametrize("kind", ["f64", "f16", "bf16", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64"])
@pytest.mark.parametrize("op", BINARY)
def test_binary_operators_of_every_type(op: str, kind: str, tmp_path: Path) -> None:
    p = one(op, f"{kind}[37]", f"{kind}[37]")
    rng = np.random.default_rng(5)
    a, b = (sample(rng, v.type) for v in p.body.inputs)
    check(p, "generic_map", tmp_path, [a, np.where(b == 0, b + 1, b).astype(b.dtype)])  # division by zero is undefined


@pytest.mark.parametrize("kind", ["i8", "u8", "i32", "i64", "f32"])
@pytest.mark.parametrize("fmod", [0, 1])
def test_remainders(kind: str, fmod: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    low = 0 if kind[0] == "u" else -9
    from edgec.compiler.dtypes import dtype

    a, b = (rng.integers(low, 10, 50).astype(dtype(kind).numpy) for _ in range(2))
    b[b == 0] = 3
    check(one("Mod", f"{kind}[50]", f"{kind}[50]", fmod=fmod), "generic_map", tmp_path, [a, b])


@pytest.mark.parametrize("where", ["x86-avx512", "x86"])
def test_remainders_of_floats_are_exact(where: str, tmp_path: Path) -> None:
    """Short quotients and long ones, next to integers, signs of zero, what is no number."""
    rng = np.random.default_rng(6)
    a, b = (rng.standard_normal((3, 4000)).astype("f4") for _ in "ab")
    a[0] *= 10.0 ** rng.integers(-3, 12, 4000)
    near = (b[1] * rng.integers(1, 1 << 30, 4000)).astype("f4").view("i4") + rng.integers(-2, 3, 4000)
    a[1] = near.astype("i4").view("f4")
    special = np.asarray([0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3e38, 1, -4, 2, 0.1], "f4")
    a[2, :144], b[2, :144] = np.repeat(special, 12), np.tile(special, 12)
    with np.errstate(invalid="ignore"):
        want = np.fmod(a, b)
    (have,) = execute(one("Mod", "f32[3, 4000]", "f32[3, 4000]", fmod=1, where=where), "generic_map", [a, b], tmp_path)
    np.testing.assert_array_equal(have, want)
    np.testing.assert_array_equal(np.signbit(have)[~np.isnan(want)], np.signbit(want)[~np.isnan(want)])


@pytest.mark.parametrize("kind", ["i8", "u8", "i32", "u64"])
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shifts_by_the_width_or_more(kind: str, direction: str, tmp_path: Path) -> None:
    from edgec.compiler.dtypes import dtype

    low, numpy = (0 if kind[0] == "u" else -100), dtype(kind).numpy
    a = np.random.default_rng(3).integers(low, 100, 40).astype(numpy)
    by = np.arange(40).astype(numpy) * 2
    check(one("BitShift", f"{kind}[40]", f"{kind}[40]", direction=direction), "generic_map", tmp_path, [a, by])


@pytest.mark.parametrize("source", ["f32", "f64", "f16", "bf16", "i8", "u8", "i32", "i64", "bool"])
@pytest.mark.parametrize("to", ["f32", "f64", "f16", "bf16", "i8", "u8", "i32", "u32", "i64", "bool"])
def test_casts(source: str, to: str, tmp_path: Path) -> None:
    from edgec.compiler.dtypes import dtype

    rng = np.random.default_rng(4)
    x = (rng.random(50) < 0.5) if source == "bool" else (rng.integers(0, 90, 50) * 0.7).astype(dtype(source).numpy)
    check(one("Cast", f"{source}[50]", to=to), "generic_map", tmp_path, [x])


@pytest.mark.parametrize("kind", ["f32", "f64", "f16", "bf16"])
def test_what_is_not_zero_is_true(kind: str, tmp_path: Path) -> None:
    from edgec.compiler.dtypes import dtype

    x = np.asarray([0.0, -0.0, 1.0, -2.0, np.nan, np.inf, -np.inf]).astype(dtype(kind).numpy)
    check(one("Cast", f"{kind}[7]", to="bool"), "generic_map", tmp_path, [x])


@pytest.mark.parametrize("kind", ["i8", "u8", "i16", "u16"])
def test_quantization_rounds_to_even_and_saturates(kind: str, tmp_path: Path) -> None:
    from edgec.compiler.dtypes import dtype

    x = np.concatenate([np.arange(-40, 40) * 0.25, [1e9, -1e9, np.inf, -np.inf]]).astype(np.float32)
    zero = np.asarray(3, dtype(kind).numpy)
    for scale in (0.5, 1e-3, 0.25):
        check(
            one("QuantizeLinear", f"f32[{x.size}]", "f32[]", f"{kind}[]"),
            "generic_map",
            tmp_path,
            [x, np.float32(scale), zero],
        )


ACTIVATIONS: list[tuple[str, dict[str, Any]]] = [
    *((op, {}) for op in "LeakyRelu Selu HardSigmoid ThresholdedRelu Gelu HardSwish Mish Softsign".split()),
    ("Celu", {"alpha": 2.0}),
    ("Gelu", {"approximate": "tanh"}),
    ("Clip", {"min": -1.0, "max": 0.5}),
]


@pytest.mark.parametrize("op, attrs", ACTIVATIONS)
def test_activations(op: str, attrs: Any, tmp_path: Path) -> None:
    x = np.linspace(-12, 12, 1001).astype(np.float32)
    check(one(op, "f32[1001]", **attrs), "generic_map", tmp_path, [x], 2e-6)
    check(one(op, "f64[1001]", **attrs), "generic_map", tmp_path, [x.astype(np.float64)])
