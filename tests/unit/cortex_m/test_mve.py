"""Kernels for Helium give the interpreter's bits: run on an emulated Cortex-M55."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.interpret import run
from edgec.compiler.ir import Value
from edgec.compiler.op import build, const
from edgec.compiler.registry import ROWS, Problem, choices
from tests.support.byte_convolutions import convolution
from tests.support.emulated_m import emulate
from tests.support.harness import chain
from tests.support.integers import numbers

pytestmark = pytest.mark.arm
FULL = {"to": "i8", "zero": -7, "low": -128, "high": 127}
WHERE = "cortex-m55"


def conv(x: str, w: str, where: str = WHERE, **given: Any) -> Problem:
    return convolution(where, x, w, **given)


def product(rows: str, inner: int, columns: int, zero: int = -5, where: str = WHERE) -> Problem:
    def body(a: Value, b: Value, bias: Value, m: Value) -> Value:
        return build("Edgec.Rescale", build("Edgec.MatMulInteger", a, b, bias, a_zero=zero), m, zeros=(0,), **FULL)

    kinds = [f"i8[{rows}, {inner}]", f"i8[{inner}, {columns}]", f"i32[{columns}]", f"f32[{columns}]"]
    return chain(kinds, body, (), where)


def same_bits(problem: Problem, row: str, folder: Path, kept: int = 4) -> None:
    """Random numbers and runs of the extremes, in every choice that a row offers."""
    accepted = ROWS[row].accepts(problem)
    assert accepted is True, accepted
    arrays = numbers([v.type for v in problem.body.inputs])
    for a in arrays:
        if a.dtype == np.int8 and a.ndim > 1:
            a.reshape(-1)[: a.size // 3] = -128
    want = run(problem.body, arrays)[0]
    for choice in ROWS[row].choices(problem)[:kept]:
        np.testing.assert_array_equal(emulate(problem, choice, arrays, folder), want, str(choice))


DENSE: dict[str, dict[str, Any]] = {
    "pointwise": {"x": "1, 64, 5, 5", "w": "64, 64, 1, 1", "zero": 0},
    "pointwise, few inputs": {"x": "1, 8, 5, 7", "w": "16, 8, 1, 1"},
    "pointwise, 12 inputs": {"x": "1, 12, 3, 3", "w": "17, 12, 1, 1", "zero": 0},
    "pointwise, 17 inputs": {"x": "2, 17, 3, 5", "w": "5, 17, 1, 1", "zero": 7},
    "pointwise, 100 inputs": {"x": "1, 100, 2, 2", "w": "3, 100, 1, 1"},
    "pointwise, 256 inputs": {"x": "1, 256, 3, 3", "w": "12, 256, 1, 1", "zero": 3},
    "one channel in and out": {"x": "1, 1, 4, 4", "w": "1, 1, 1, 1", "zero": 1},
    "groups": {"x": "1, 16, 7, 9", "w": "32, 4, 3, 3", "group": 4, "pads": (1, 1, 1, 1)},
    "groups, pointwise": {"x": "2, 24, 5, 5", "w": "8, 12, 1, 1", "group": 2, "zero": 3},
    "groups, strided": {"x": "1, 40, 9, 8", "w": "8, 20, 1, 1", "group": 2, "strides": (2, 2), "zero": 0},
    "groups, dilated": {"x": "1, 16, 9, 9", "w": "8, 8, 3, 3", "group": 2, "dilations": (2, 2), "pads": (2, 2, 2, 2)},
    "groups, many channels": {"x": "1, 136, 5, 4", "w": "8, 68, 3, 3", "group": 2, "pads": (1, 0, 1, 0), "zero": 0},
    "groups, one axis": {"x": "1, 16, 20", "w": "16, 4, 5", "group": 4, "pads": (2, 2)},
    "groups, a residual": {"x": "1, 8, 6, 6", "w": "8, 4, 3, 3", "group": 2, "pads": (1, 1, 1, 1), "then": "add"},
    "strided pointwise": {"x": "1, 16, 9, 8", "w": "32, 16, 1, 1", "strides": (2, 2), "zero": 3},
    "padded pointwise": {"x": "1, 16, 4, 4", "w": "8, 16, 1, 1", "pads": (1, 1, 1, 1), "zero": 3},
    "first layer of sounds": {
        "x": "1, 1, 49, 10", "w": "64, 1, 10, 4", "pads": (4, 1, 5, 1), "strides": (2, 2), "zero": 83,
    },
    "first layer of images": {"x": "1, 3, 16, 16", "w": "8, 3, 3, 3", "pads": (0, 0, 1, 1), "strides": (2, 2)},
    "3x3": {"x": "1, 16, 8, 8", "w": "16, 16, 3, 3", "pads": (1, 1, 1, 1)},
    "3x3, inside": {"x": "1, 16, 6, 7", "w": "4, 16, 3, 3", "zero": 0},
    "3x3, odd": {"x": "2, 5, 6, 7", "w": "3, 5, 3, 3", "pads": (1, 1, 1, 1), "zero": -3},
    "one tap by one channel": {"x": "1, 1, 6, 7", "w": "6, 1, 3, 3", "pads": (1, 1, 1, 1), "zero": 127},
    "two taps": {"x": "1, 2, 1, 9", "w": "6, 2, 1, 2", "zero": 127},
    "dilated": {"x": "1, 17, 11, 9", "w": "12, 17, 3, 3", "pads": (2, 2, 2, 2), "dilations": (2, 2), "zero": -3},
    "far outside": {"x": "1, 4, 3, 3", "w": "5, 4, 3, 3", "pads": (4, 4, 4, 4), "dilations": (3, 3), "zero": 9},
    "one axis": {"x": "1, 40, 30", "w": "24, 40, 3", "strides": (2,), "pads": (1, 1), "zero": 11},
    "one axis, few": {"x": "1, 3, 21", "w": "5, 3, 3", "dilations": (2,), "zero": 0},
    "residual": {"x": "1, 16, 8, 8", "w": "32, 16, 3, 3", "pads": (1, 1, 1, 1), "then": "add"},
    "residual, odd": {"x": "1, 16, 3, 3", "w": "5, 16, 1, 1", "then": "add"},
    "table": {"x": "1, 16, 4, 4", "w": "6, 16, 1, 1", "then": "table"},
    "real numbers": {"x": "1, 16, 4, 4", "w": "10, 16, 1, 1", "then": "real"},
}  # fmt: skip


@pytest.mark.parametrize("case", DENSE)
def test_a_convolution_gives_the_bits(case: str, tmp_path: Path) -> None:
    same_bits(conv(**DENSE[case]), "conv_int8_mve", tmp_path)


@pytest.mark.parametrize("shape", [("1", 640, 128, 0), ("1", 64, 12, 5), ("5", 17, 10, -128), ("2, 3", 3, 1, 127)])
def test_a_product_gives_the_bits(shape: tuple[str, int, int, int], tmp_path: Path) -> None:
    same_bits(product(*shape), "matmul_int8_mve", tmp_path)


@pytest.mark.parametrize("w", ["16, 16, 1, 1", "16, 1, 3, 3"])
def test_a_residual_may_be_written_over(w: str, tmp_path: Path) -> None:
    """Pixels are no multiple of any tile's: the last tile must not add to a pixel twice."""
    depthwise = {"group": 16, "pads": (1, 1, 1, 1)} if ", 3" in w else {}
    problem = conv("1, 16, 7, 7", w, then="add", **depthwise)
    row = "depthwise_int8_mve" if depthwise else "conv_int8_mve"
    residual = 4
    arrays = numbers([v.type for v in problem.body.inputs])
    want = run(problem.body, arrays)[0]
    for columns in (1, 2, 3, 4, 5):
        choice = replace(ROWS[row].choices(problem)[0], config=(("mt", columns), ("taps", 3 if columns < 5 else 1)))
        room = 4096  # for any of them
        got = emulate(problem, replace(choice, scratch_bytes=room), arrays, tmp_path, residual)
        np.testing.assert_array_equal(got, want, str(choice))


@pytest.mark.parametrize(("row", "case"), [("conv", "3x3, odd"), ("conv", "residual"), ("depthwise", "strided")])
def test_small_code_gives_the_bits(row: str, case: str, tmp_path: Path) -> None:
    problem = conv(**(DENSE if row == "conv" else DEPTHWISE)[case])
    same_bits(replace(problem, target=replace(problem.target, small=True)), f"{row}_int8_mve", tmp_path)


REAL: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "3x3 depthwise": ("conv_f32_depthwise", "1, 6, 7, 5", "6, 1, 3, 3", {"pads": (1, 1, 1, 1), "group": 6}),
    "strided depthwise": ("conv_f32_depthwise", "2, 4, 6, 9", "4, 1, 3, 3", {"strides": (2, 2), "group": 4}),
    "3x3": ("conv_f32_tile", "1, 3, 9, 7", "10, 3, 3, 3", {"pads": (0, 1, 1, 1), "strides": (2, 2)}),
    "pointwise": ("conv_f32_pointwise", "1, 8, 5, 7", "20, 8, 1, 1", {}),
}


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("case", REAL)
def test_convolutions_of_f32_are_close(case: str, small: bool, tmp_path: Path) -> None:
    """Their edges have less code there than on larger cores, and less still where code is to be small."""
    row, x, w, attrs = REAL[case]
    kinds = [f"f32[{x}]", f"f32[{w}]", f"f32[{int(w.partition(',')[0])}]"]
    problem = chain(kinds, lambda *v: build("Relu", build("Conv", *v, **attrs)), (), WHERE)
    problem = replace(problem, target=replace(problem.target, small=small))
    assert ROWS[row].accepts(problem) is True
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(v.shape).astype(np.float32) for v in problem.body.inputs]
    want = run(problem.body, arrays)[0]
    for choice in ROWS[row].choices(problem)[:2]:
        got = emulate(problem, choice, arrays, tmp_path)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max(), err_msg=str(choice))


def test_rows_say_why_they_refuse() -> None:
    dense = {"x": "1, 16, 8, 8", "w": "16, 16, 3, 3"}
    assert ROWS["conv_int8_mve"].accepts(conv(**dense, where="cortex-m4")) == "needs MVE"
    assert ROWS["conv_int8_mve"].accepts(conv("1, 16, 8, 8", "24, 4, 3, 3", group=4)) == (
        "has groups whose channels are no multiples of 4"
    )


def test_rows_for_helium_are_chosen() -> None:
    assert choices(conv(**DENSE["pointwise"]))[0].row == "conv_int8_mve"
    assert choices(product("1", 640, 128))[0].row == "matmul_int8_mve"
    real = chain(["f32[1, 640]", "f32[640, 128]"], lambda a, b: build("MatMul", a, b), (), WHERE)
    assert choices(real)[0].row == "matmul_f32_packed"


DEPTHWISE: dict[str, dict[str, Any]] = {
    "3x3": {"x": "1, 24, 7, 13", "w": "24, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 24},
    "3x3, five columns": {"x": "1, 8, 25, 5", "w": "8, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 8},
    "strided": {"x": "2, 19, 15, 10", "w": "19, 1, 3, 3", "pads": (0, 0, 1, 1), "strides": (2, 2), "group": 19},
    "5x5": {"x": "1, 12, 7, 7", "w": "12, 1, 5, 5", "pads": (2, 2, 2, 2), "group": 12, "zero": 0},
    "small": {"x": "1, 16, 2, 1", "w": "16, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 16, "zero": 127},
    "dilated": {
        "x": "1, 5, 9, 8", "w": "5, 1, 3, 3", "pads": (2, 3, 2, 1), "dilations": (2, 3), "group": 5, "zero": 4,
    },
    "one axis": {"x": "1, 17, 33", "w": "17, 1, 3", "pads": (1, 1), "group": 17, "zero": 4},
    "one axis in two": {"x": "1, 40, 30, 1", "w": "40, 1, 3, 1", "group": 40},
    "leaps": {"x": "1, 4, 12, 13", "w": "4, 1, 2, 2", "strides": (3, 5), "group": 4},
    "wide": {"x": "1, 4, 12, 13", "w": "4, 1, 4, 7", "pads": (1, 3, 2, 3), "strides": (1, 3), "group": 4},
    "residual": {"x": "1, 3, 9, 6", "w": "3, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 3, "then": "add"},
    "table": {"x": "1, 6, 4, 5", "w": "6, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 6, "then": "table"},
    "one channel": {"x": "1, 1, 4, 5", "w": "1, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 1},
    "real numbers": {"x": "1, 65, 5", "w": "65, 1, 3", "pads": (1, 2), "group": 65, "zero": 127, "then": "real"},
}  # fmt: skip


@pytest.mark.parametrize("case", DEPTHWISE)
def test_a_depthwise_convolution_gives_the_bits(case: str, tmp_path: Path) -> None:
    same_bits(conv(**DEPTHWISE[case]), "depthwise_int8_mve", tmp_path)


POOLS: dict[str, dict[str, Any]] = {
    "whole image": {"x": "1, 20, 5, 7", "kernel_shape": (5, 7)},
    "padded": {"x": "2, 6, 5, 7", "kernel_shape": (3, 3), "pads": (1, 1, 1, 1), "strides": (2, 1)},
    "dilated": {"x": "1, 4, 9, 7", "kernel_shape": (2, 2), "dilations": (3, 2)},
    "one axis": {"x": "1, 5, 11", "kernel_shape": (3,), "strides": (2,), "pads": (1, 1)},
    "beyond the end": {"x": "1, 5, 6, 6", "kernel_shape": (3, 3), "strides": (2, 2), "ceil_mode": 1},
    "one channel": {"x": "1, 1, 6, 6", "kernel_shape": (2, 2), "strides": (2, 2)},
}


@pytest.mark.parametrize("case", POOLS)
def test_sums_over_windows_give_the_bits(case: str, tmp_path: Path) -> None:
    attrs = dict(POOLS[case])

    def body(x: Value, m: Value) -> Value:
        return build("Edgec.Rescale", build("Edgec.SumPool", x, zero=-9, **attrs), m, zeros=(0,), **FULL)

    same_bits(chain([f"i8[{attrs.pop('x')}]", "f32[1]"], body, (), WHERE), "pool_int8_mve", tmp_path)


@pytest.mark.parametrize("case", POOLS)
@pytest.mark.parametrize("kind", ["i8", "u8"])
def test_maxima_over_windows_give_the_bits(case: str, kind: str, tmp_path: Path) -> None:
    attrs = dict(POOLS[case])
    problem = chain([f"{kind}[{attrs.pop('x')}]"], lambda x: build("MaxPool", x, **attrs), (), WHERE)
    same_bits(problem, "pool_int8_mve", tmp_path)


@pytest.mark.parametrize("shape", ["1, 6, 5, 5", "37", "1, 3, 9"])
@pytest.mark.parametrize("kinds", [("i8", "i8"), ("u8", "i8")])
def test_a_table_gives_the_bits(shape: str, kinds: tuple[str, str], tmp_path: Path) -> None:
    x, table = kinds
    problem = chain([f"{x}[{shape}]", f"{table}[256]"], lambda a, b: build("Edgec.Table", a, b), (), WHERE)
    same_bits(problem, "table_int8_mve", tmp_path)


@pytest.mark.parametrize("parts", [(4, 8, 5), (20, 3), (4, 4)])
def test_channels_are_joined(parts: tuple[int, ...], tmp_path: Path) -> None:
    kinds = [f"i8[2, {n}, 3, 5]" for n in parts]
    same_bits(chain(kinds, lambda *x: build("Concat", *x, axis=1), (), WHERE), "concat_int8_mve", tmp_path)


def test_a_conversion_times_a_power_of_two_is_right(tmp_path: Path) -> None:
    """In two loops, for which LLVM keeps numbers that occur in both in registers."""

    def body(x: Value, y: Value) -> tuple[Value, ...]:
        half, zero = const(np.float32(0.5)), const(np.int8(0))
        return (
            build("Mul", build("Cast", x, to="f32"), half),
            build("DequantizeLinear", y, half, zero),
        )

    for k in range(2):
        problem = chain(["i32[3, 40]", "i8[5, 31]"], lambda x, y, k=k: body(x, y)[k], (), WHERE)
        same_bits(problem, "generic_map", tmp_path)
