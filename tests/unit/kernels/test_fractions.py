"""Functions that end in a division, on NEON where it is made of estimates: accuracy, limits, special numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.op import evaluate
from edgec.compiler.registry import ROWS
from tests.support.accuracy import EXACT, SPECIAL, points, ulps
from tests.support.convolutions import Case
from tests.support.emulated import emulate, laid
from tests.support.harness import one, target

pytestmark = pytest.mark.arm
CORES = ["rpi5", "armv7"]
OPS = ["Sigmoid", "Tanh", "Softplus", "Mish"]


def of(op: str, x: Any, where: str, folder: Path, **attrs: Any) -> Any:
    p = one(op, f"f32[{x.size}]", where=where, **attrs)
    return emulate(p, ROWS["generic_map"].choices(p)[0], [x], folder)


@pytest.mark.parametrize("where", CORES)
@pytest.mark.parametrize("op", ["Sigmoid", "Tanh", "Softplus"])
def test_fractions_are_accurate(op: str, where: str, tmp_path: Path) -> None:
    fn, low, high, bound = EXACT[op]
    x = points(max(low, -20.0), min(high, 20.0))
    if where == "armv7":  # which flushes denormal numbers, and with them what remains of a division of small ones
        x = x[np.abs(x) > 1e-20]
    have = of(op, x, where, tmp_path)
    error = ulps(have, fn(x.astype(np.float64)))
    assert error.max() <= bound, (error.max(), x[error.argmax()])


@pytest.mark.parametrize("where", CORES)
def test_a_sigmoid_of_what_is_far_below_is_as_good(where: str, tmp_path: Path) -> None:
    x = np.linspace(-86 if where == "rpi5" else -60, -20, 5000, dtype=np.float32)
    error = ulps(of("Sigmoid", x, where, tmp_path), 1 / (1 + np.exp(-x.astype(np.float64))))
    assert error.max() <= 7, (error.max(), x[error.argmax()])


@pytest.mark.parametrize("where", CORES)
@pytest.mark.parametrize("op", ["Sigmoid", "Tanh"])
def test_nothing_passes_the_limit(op: str, where: str, tmp_path: Path) -> None:
    x = np.linspace(-20, 40, 30001, dtype=np.float32)
    have = of(op, x, where, tmp_path)
    assert np.abs(have).max() == 1.0
    assert (have[x > 18] == 1.0).all()


@pytest.mark.parametrize("where", CORES)
@pytest.mark.parametrize("op", OPS)
def test_special_numbers(op: str, where: str, tmp_path: Path) -> None:
    (want,) = evaluate(one(op, f"f32[{SPECIAL.size}]", where=where).anchor, [SPECIAL])
    have = of(op, SPECIAL, where, tmp_path)
    np.testing.assert_allclose(have.astype(np.float64), want.astype(np.float64), rtol=2e-6, atol=1e-37)
    zero = SPECIAL == 0
    np.testing.assert_array_equal(np.signbit(have[zero]), np.signbit(want[zero]))


def behind(x: Any, where: str, folder: Path, then: str = "+") -> Any:
    """x sigmoid(x), or another function, behind a convolution that leaves x as it is."""
    p = Case((1, 8, 2, x.size // 16), 8, (1, 1), group=8, then=then).problem(target(where))
    choice = ROWS["conv_f32_depthwise"].choices(p)[0]
    arrays = [x.reshape(p.anchor.args[0].shape), np.ones((8, 1, 1, 1), np.float32), np.zeros(8, np.float32)]
    return emulate(p, choice, arrays, folder).reshape(-1)


@pytest.mark.parametrize("where", ["cortex-a78", "rpi4", "rpi5"])
def test_swish_is_accurate(where: str, tmp_path: Path) -> None:
    x = np.concatenate([np.linspace(-20, 20, 20000), np.linspace(-86, 86, 13600)]).astype(np.float32)
    wide = x.astype(np.float64)
    error = ulps(behind(x, where, tmp_path), wide / (1 + np.exp(-wide)))
    assert error[x > -20].max() <= 5, (error.max(), x[error.argmax()])
    assert error.max() <= 7, (error.max(), x[error.argmax()])


@pytest.mark.parametrize("where", ["cortex-a78", "rpi4", "rpi5"])
def test_a_sigmoid_of_numbers_that_are_read_is_as_good(where: str, tmp_path: Path) -> None:
    x = np.concatenate([np.linspace(-20, 20, 20000), np.linspace(-86, 86, 13600)]).astype(np.float32)
    have = behind(x, where, tmp_path, "Sigmoid")
    error = ulps(have, 1 / (1 + np.exp(-x.astype(np.float64))))
    assert error[x > -20].max() <= 4, (error.max(), x[error.argmax()])
    assert error.max() <= 7, (error.max(), x[error.argmax()])
    assert have.max() == 1.0 and (have[x > 18] == 1.0).all()
    far = np.resize(np.asarray([np.inf, np.nan, 3e38, 100, -np.inf, -100, -3e38, 1e-38, 0.0], np.float32), 144)
    want = np.select([np.isnan(far), far < -80, far > 80], [np.nan, 0, 1], 0.5).astype(np.float32)
    np.testing.assert_allclose(behind(far, where, tmp_path, "Sigmoid"), want, atol=5e-38)


@pytest.mark.parametrize("where", ["cortex-a78", "rpi4"])
def test_swish_of_special_numbers(where: str, tmp_path: Path) -> None:
    x = np.resize(np.asarray([np.inf, np.nan, 3e38, 1e38, 100, -100, -3e38, 1e-38, 0.0], np.float32), 144)
    want = np.where(x < -80, 0, np.where(x > 80, x, x / 2)).astype(np.float32)
    np.testing.assert_allclose(behind(x, where, tmp_path), want, rtol=2e-7, atol=5e-36)


@pytest.mark.parametrize("then", ["+", "Sigmoid"])
@pytest.mark.parametrize("where, read", [("cortex-a78", True), ("rpi4", True), ("rpi5", True), ("cortex-a53", False)])
def test_numbers_to_add_to_are_read_where_loads_cost_least(where: str, read: bool, then: str) -> None:
    from edgec.targets import built_for
    from edgec.targets.codegen_llvm import build

    p = Case((1, 16, 8, 32), 16, (1, 1), group=16, then=then).problem(target(where))
    row = ROWS["conv_f32_depthwise"]
    with built_for.core(p.target.cpu):
        made = row.emit(laid(p, row.choices(p)[0]), row.choices(p)[0], "kern")
    code = build([("kern", made.function)], p.target).inspect_source("asm")
    many = len(re.findall(r"frecpe", code)), len(re.findall(r"frecps", code))
    assert many[1] == (0 if read else 1) * many[0] and many[0]
    if read:  # three copies of a register for each vector otherwise
        assert len(re.findall(r"mov\s+v\d+\.16b", code)) < many[0]


@pytest.mark.parametrize("where", CORES)
@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7, 9, 23])
def test_any_number_of_lanes(count: int, where: str, tmp_path: Path) -> None:
    x = np.linspace(-3, 3, count, dtype=np.float32)
    for op in OPS:
        (want,) = evaluate(one(op, f"f32[{count}]", where=where).anchor, [x])
        np.testing.assert_allclose(of(op, x, where, tmp_path), want, rtol=2e-6, err_msg=op)


@pytest.mark.parametrize("where", CORES)
def test_gelu_by_tanh_is_accurate(where: str, tmp_path: Path) -> None:
    x = points(-20, 20)
    wide = x.astype(np.float64)
    have = of("Gelu", x, where, tmp_path, approximate="tanh")
    inner = np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3))
    error = np.abs(have - 0.5 * wide * (1 + inner)) / np.abs(wide).clip(1e-30)
    assert error.max() <= 5e-7, (error.max(), x[error.argmax()])
    ends = np.asarray([np.inf, np.nan, 1e30, -1e30], np.float32)
    np.testing.assert_allclose(of("Gelu", ends, where, tmp_path, approximate="tanh")[:3], ends[:3])


@pytest.mark.parametrize("where, estimate, division", [("rpi5", "frecpe", "fdiv"), ("armv7", "vrecpe", "vdiv")])
def test_vectors_are_not_divided(where: str, estimate: str, division: str) -> None:
    from edgec.targets import built_for
    from edgec.targets.codegen_llvm import build

    p = one("Sigmoid", "f32[4096]", where=where)
    with built_for.core(p.target.cpu):
        made = ROWS["generic_map"].emit(p, ROWS["generic_map"].choices(p)[0], "kern")
    code = build([("kern", made.function)], p.target).inspect_source("asm")
    assert estimate in code
    assert division not in code
