"""Functions that end in a division, on NEON where it is made of estimates: accuracy, limits, special numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulated import emulate
from test_generic_harness import one
from test_scalar import EXACT, SPECIAL, points, ulps

from edgec.compiler.op import evaluate
from edgec.compiler.registry import ROWS

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
