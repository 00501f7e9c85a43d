"""Int8 kernels for AArch64 give the interpreter's bits, on cores with and without dot products."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulated import emulate
from test_generic_harness import chain
from test_integer import numbers

from edgec.compiler.interpret import run
from edgec.compiler.ir import Value
from edgec.compiler.op import build
from edgec.compiler.registry import ROWS, Problem

pytestmark = pytest.mark.arm
CORES = {"sdot": ("rpi5", "cortex-a76"), "smmla": ("arm-i8mm", "max"), "smull": ("arm", "cortex-a53")}
FULL = {"to": "i8", "zero": -7, "low": -128, "high": 127}


def conv(
    method: str, x: str, w: str, then: str = "rescale", zero: int = -128, threads: int = 1, **attrs: Any
) -> Problem:
    """A convolution and what follows it: a Rescale, one with a residual tensor, a Table."""
    outputs = int(w.partition(",")[0])

    def body(a: Value, b: Value, bias: Value, m: Value, *more: Value) -> Value:
        sums = build("Edgec.ConvInteger", a, b, bias, zero=zero, **attrs)
        if then == "add":
            return build("Edgec.Rescale", sums, more[0], m, more[1], zeros=(0, 5), to="i8", zero=9, low=-100, high=90)
        y = build("Edgec.Rescale", sums, m, zeros=(0,), **FULL)
        return build("Edgec.Table", y, more[0]) if then == "table" else y

    rank = x.count(",") + 1
    per_channel = f"f32[{outputs}{', 1' * (rank - 2)}]"
    kinds = [f"i8[{x}]", f"i8[{w}]", f"i32[{outputs}]", per_channel]
    where = CORES[method][0]
    if then == "add":
        sums = chain(kinds, lambda a, b, c, m: build("Edgec.ConvInteger", a, b, c, **attrs), (), where).body.outputs[0]
        kinds += [f"i8{list(sums.shape)}", "f32[1]"]
    if then == "table":
        kinds.append("i8[256]")
    return chain(kinds, body, (), where, threads)


def arrays_of(problem: Problem) -> Sequence[Any]:
    arrays = numbers([v.type for v in problem.body.inputs])
    for a in arrays:
        if a.dtype == np.int8 and a.ndim > 1:  # runs of the extremes, of which sums of 16 bits would not hold two
            a.reshape(-1)[: a.size // 3] = -128
    return arrays


def same_bits(problem: Problem, row: str, method: str, folder: Path, kept: int = 1) -> None:
    accepted = ROWS[row].accepts(problem)
    assert accepted is True, accepted
    arrays = arrays_of(problem)
    want = run(problem.body, arrays)[0]
    for choice in ROWS[row].choices(problem)[:kept]:
        np.testing.assert_array_equal(emulate(problem, choice, arrays, folder, CORES[method][1]), want, str(choice))


DENSE: dict[str, dict[str, Any]] = {
    "pointwise": {"x": "1, 32, 9, 9", "w": "40, 32, 1, 1"},
    "channels left over": {"x": "2, 23, 7, 5", "w": "21, 23, 1, 1"},
    "padded": {"x": "1, 24, 9, 13", "w": "24, 24, 3, 3", "pads": (1, 1, 1, 1)},
    "padded, zero point 0": {"x": "1, 24, 9, 13", "w": "24, 24, 3, 3", "pads": (1, 1, 1, 1), "zero": 0},
    "padded on one side": {"x": "1, 16, 10, 12", "w": "16, 16, 3, 3", "pads": (0, 0, 1, 1), "strides": (2, 2)},
    "strided pointwise": {"x": "1, 40, 9, 9", "w": "16, 40, 1, 1", "strides": (2, 2), "zero": 3},
    "first layer": {"x": "1, 3, 32, 20", "w": "16, 3, 3, 3", "pads": (1, 1, 1, 1), "strides": (2, 2)},
    "first layer, 7x7": {"x": "1, 3, 23, 17", "w": "24, 3, 7, 7", "pads": (3, 3, 3, 3), "strides": (2, 2), "zero": 5},
    "narrow": {"x": "1, 4, 6, 2", "w": "8, 4, 3, 3", "pads": (1, 1, 1, 1), "zero": 0},
    "one channel": {"x": "1, 1, 12, 12", "w": "5, 1, 5, 5", "pads": (2, 2, 2, 2), "zero": 1},
    "dilated": {"x": "1, 17, 11, 11", "w": "12, 17, 3, 3", "pads": (2, 2, 2, 2), "dilations": (2, 2), "zero": -3},
    "one axis": {"x": "1, 20, 50", "w": "40, 20, 9", "pads": (4, 4), "strides": (2,)},
    "residual": {"x": "1, 16, 8, 8", "w": "32, 16, 3, 3", "pads": (1, 1, 1, 1), "then": "add"},
    "table": {"x": "1, 16, 8, 8", "w": "20, 16, 1, 1", "then": "table"},
    "threads": {"x": "1, 16, 40, 40", "w": "16, 16, 3, 3", "pads": (1, 1, 1, 1), "threads": 4},
    "threads, pointwise": {"x": "1, 16, 40, 40", "w": "24, 16, 1, 1", "threads": 3},
}  # fmt: skip


@pytest.mark.parametrize("method", CORES)
@pytest.mark.parametrize("case", DENSE)
def test_a_convolution_gives_the_bits(case: str, method: str, tmp_path: Path) -> None:
    problem = conv(method, **DENSE[case])
    if method == "smmla" and problem.body.inputs[0].shape[1] <= 4:
        assert ROWS["conv_int8_smmla"].accepts(problem) == "needs more than 4 input channels"
        return
    same_bits(problem, f"conv_int8_{method}", method, tmp_path, kept=2)


@pytest.mark.parametrize("method", CORES)
@pytest.mark.parametrize("shape", ["5, 64, 40", "1, 100, 33", "3, 23, 10", "17, 48, 64"])
def test_a_product_gives_the_bits(shape: str, method: str, tmp_path: Path) -> None:
    rows, inner, columns = shape.split(", ")

    def body(a: Value, b: Value, bias: Value, m: Value) -> Value:
        return build("Edgec.Rescale", build("Edgec.MatMulInteger", a, b, bias, a_zero=-5), m, zeros=(0,), **FULL)

    kinds = [f"i8[{rows}, {inner}]", f"i8[{inner}, {columns}]", f"i32[{columns}]", f"f32[{columns}]"]
    problem = chain(kinds, body, (), CORES[method][0])
    same_bits(problem, f"matmul_int8_{method}", method, tmp_path)


DEPTHWISE: dict[str, dict[str, Any]] = {
    "3x3": {"x": "1, 24, 15, 13", "w": "24, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 24},
    "strided": {"x": "2, 19, 15, 30", "w": "19, 1, 3, 3", "pads": (0, 0, 1, 1), "strides": (2, 2), "group": 19},
    "5x5": {"x": "1, 40, 7, 7", "w": "40, 1, 5, 5", "pads": (2, 2, 2, 2), "group": 40, "zero": 0},
    "small": {"x": "1, 16, 3, 3", "w": "16, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 16, "zero": 127},
    "one axis": {"x": "1, 17, 33", "w": "17, 1, 3", "pads": (1, 1), "group": 17, "zero": 4},
    "strided by 3": {"x": "1, 20, 12, 13", "w": "20, 1, 4, 7", "pads": (1, 3, 2, 3), "strides": (1, 3), "group": 20},
    "residual": {"x": "1, 16, 9, 12", "w": "16, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 16, "then": "add"},
    "table": {"x": "1, 22, 9, 12", "w": "22, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 22, "then": "table"},
    "threads": {"x": "1, 8, 60, 60", "w": "8, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 8, "threads": 4},
}  # fmt: skip


@pytest.mark.parametrize("method", ["smlal", "sdot"])
@pytest.mark.parametrize("case", DEPTHWISE)
def test_a_depthwise_convolution_gives_the_bits(case: str, method: str, tmp_path: Path) -> None:
    core = "sdot" if method == "sdot" else "smull"
    same_bits(conv(core, **DEPTHWISE[case]), f"depthwise_int8_{method}", core, tmp_path, kept=2)
