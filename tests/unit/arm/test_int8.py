"""Int8 kernels for AArch64 give the interpreter's bits, on cores with and without dot products."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgec
from edgec.compiler.bundle.emulate import Emulated
from edgec.compiler.bundle.manifest import read_bundle
from edgec.compiler.errors import EdgecError
from edgec.compiler.interpret import run
from edgec.compiler.ir import Value
from edgec.compiler.layout import layout, physical_shape, storage_bytes
from edgec.compiler.op import build
from edgec.compiler.registry import ROWS, Problem, choices
from edgec.targets.kernels.arm.bytes import METHODS, plans
from edgec.targets.kernels.arm.conv_rows import window_of
from edgec.targets.measure import with_layouts
from tests.support.arm_bits import CORES, FULL, arrays_of, conv, same_bits, with_constants
from tests.support.byte_convolutions import convolution
from tests.support.emulated import emulate, needs_emulator
from tests.support.harness import chain, for_size, target

pytestmark = pytest.mark.arm
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
    "wide window": {"x": "1, 20, 90", "w": "8, 20, 40", "pads": (20, 19), "strides": (2,), "zero": 3},
    "wide window, few channels": {"x": "1, 3, 4, 61", "w": "9, 3, 3, 33", "pads": (1, 16, 1, 16), "zero": -7},
    "wider than the input": {"x": "1, 16, 3, 5", "w": "8, 16, 5, 19", "pads": (2, 12, 2, 12), "zero": 0},
    "residual": {"x": "1, 16, 8, 8", "w": "32, 16, 3, 3", "pads": (1, 1, 1, 1), "then": "add"},
    "table": {"x": "1, 16, 8, 8", "w": "20, 16, 1, 1", "then": "table"},
    "real numbers": {"x": "1, 16, 8, 8", "w": "20, 16, 1, 1", "then": "real"},
    "real numbers, channels left over": {"x": "1, 17, 8, 8", "w": "21, 17, 1, 1", "then": "real"},
    "20 outputs": {"x": "1, 27, 10, 1", "w": "20, 27, 5, 2", "pads": (0, 0, 1, 1), "strides": (2, 2), "then": "add"},
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


ONE_CHANNEL: dict[str, dict[str, Any]] = {
    "digits": {"x": "1, 1, 28, 28", "w": "8, 1, 5, 5", "pads": (2, 2, 2, 2), "zero": -128},
    "keywords": {"x": "1, 1, 49, 10", "w": "64, 1, 10, 4", "pads": (4, 1, 5, 1), "strides": (2, 2), "zero": 83},
    "zero point 0": {"x": "1, 1, 30, 33", "w": "20, 1, 3, 3", "pads": (1, 1, 1, 1), "zero": 0},
    "strided": {"x": "2, 1, 21, 90", "w": "12, 1, 3, 3", "pads": (0, 0, 1, 1), "strides": (2, 2), "then": "add"},
    "narrow": {"x": "1, 1, 9, 4", "w": "7, 1, 3, 7", "pads": (1, 3, 1, 3), "zero": -7},
    "windows outside": {"x": "1, 1, 5, 9", "w": "3, 1, 3, 2", "pads": (4, 5, 4, 5), "zero": 99, "then": "real"},
    "one axis": {"x": "1, 1, 300", "w": "33, 1, 13", "pads": (6, 6), "strides": (3,), "then": "table"},
    "wide": {"x": "1, 1, 402", "w": "33, 1, 130", "strides": (10,)},
    "wide, padded": {"x": "1, 1, 6, 40", "w": "16, 1, 4, 30", "pads": (2, 15, 2, 15), "strides": (1, 10), "threads": 2},
}  # fmt: skip


@pytest.mark.parametrize("method", ["sdot", "smull"])
@pytest.mark.parametrize("case", ONE_CHANNEL)
def test_a_convolution_over_one_channel_gives_the_bits(case: str, method: str, tmp_path: Path) -> None:
    problem = conv(method, **ONE_CHANNEL[case])
    same_bits(problem, f"conv_int8_columns_{method}", method, tmp_path, kept=2)
    assert choices(problem)[0].row == f"conv_int8_columns_{method}"


def test_rows_of_one_channel_say_why_they_refuse() -> None:
    row = ROWS["conv_int8_columns_sdot"]
    two = conv("sdot", x="1, 2, 9, 9", w="8, 2, 3, 3")
    assert row.accepts(two) == "needs one channel, and windows of neighbours in a row"
    assert row.accepts(conv("sdot", x="1, 1, 9, 3", w="8, 1, 3, 3")) == "needs rows of 4 pixels"
    wide = conv("sdot", x="1, 1, 4, 99", w="8, 1, 3, 80", pads=(0, 40, 0, 40))
    assert row.accepts(wide) == "the window is too wide to be written out for its edges"


@pytest.mark.parametrize("method", CORES)
@pytest.mark.parametrize(
    "shape", ["5, 64, 40", "1, 100, 33", "3, 23, 10", "17, 48, 64", "1, 42, 20", "1, 41, 9", "1, 31, 10"]
)
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
    "7x7": {"x": "1, 24, 9, 9", "w": "24, 1, 7, 7", "pads": (3, 3, 3, 3), "group": 24, "threads": 2},
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


@pytest.mark.parametrize("method", ["smlal", "sdot"])
@pytest.mark.parametrize("case", ["3x3", "5x5", "one axis", "strided by 3", "residual", "threads"])
def test_so_does_one_that_is_made_for_size(case: str, method: str, tmp_path: Path) -> None:
    core = "sdot" if method == "sdot" else "smull"
    same_bits(for_size(conv(core, **DEPTHWISE[case])), f"depthwise_int8_{method}", core, tmp_path)


SLIDE: dict[str, dict[str, Any]] = {
    "3x3": DEPTHWISE["3x3"],
    "strided": DEPTHWISE["strided"],
    "zero point 127": {"x": "1, 16, 4, 4", "w": "16, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 16, "zero": 127},
    "zero point 0": {"x": "2, 40, 7, 7", "w": "40, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 40, "zero": 0},
    "strided, padded": {"x": "1, 16, 11, 9", "w": "16, 1, 3, 3", "pads": (1, 1, 1, 1), "strides": (2, 2), "group": 16},
    "no padding": {"x": "1, 16, 6, 8", "w": "16, 1, 3, 3", "group": 16},
    "much padding": {"x": "1, 16, 3, 6", "w": "16, 1, 3, 3", "pads": (2, 1, 2, 2), "group": 16},
    "2x3": {"x": "1, 12, 6, 8", "w": "12, 1, 2, 3", "pads": (1, 1, 0, 1), "strides": (2, 1), "group": 12},
    "3x2": {"x": "1, 12, 6, 9", "w": "12, 1, 3, 2", "pads": (1, 0, 1, 0), "strides": (1, 2), "group": 12},
    "rectified": {**DEPTHWISE["3x3"], "then": "rectified"},
    "rectified table": {**DEPTHWISE["table"], "then": "rectified table"},
    "residual": DEPTHWISE["residual"],
    "table": DEPTHWISE["table"],
    "real": {**DEPTHWISE["table"], "then": "real"},
    "rows first": {"x": "1, 44, 40, 40", "w": "44, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 44, "zero": 3},
    "threads": {"x": "1, 16, 60, 60", "w": "16, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 16, "threads": 8},
}  # fmt: skip


@pytest.mark.parametrize("case", SLIDE)
def test_a_depthwise_convolution_that_slides_gives_the_bits(case: str, tmp_path: Path) -> None:
    same_bits(conv("sdot", **SLIDE[case]), "depthwise_int8_slide", "sdot", tmp_path)


@pytest.mark.parametrize("kind", ["i8", "u8"])
@pytest.mark.parametrize("size", [3, 13])
def test_maxima_of_bytes(size: int, kind: str, tmp_path: Path) -> None:
    def body(x: Value) -> Value:
        attrs = {"kernel_shape": (size, size), "strides": (1, 2), "pads": (size // 2,) * 4}
        return build("MaxPool", x, **attrs)

    same_bits(chain([f"{kind}[2, 37, 14, 15]"], body, (), "rpi5"), "pool_int8_greatest", "sdot", tmp_path)


def test_rows_say_why_they_refuse() -> None:
    dense = {"x": "1, 16, 8, 8", "w": "16, 16, 3, 3"}
    assert ROWS["conv_int8_sdot"].accepts(conv("smull", **dense)) == "needs DOTPROD"
    assert ROWS["conv_int8_smmla"].accepts(conv("sdot", **dense)) == "needs I8MM"
    assert ROWS["conv_int8_smull"].accepts(conv("smull", "1, 16, 8, 8", "16, 4, 3, 3", group=4)) == "has groups"
    depthwise = conv("smull", **{**DEPTHWISE["small"], "x": "1, 4, 8, 8", "w": "4, 1, 3, 3", "group": 4})
    assert ROWS["depthwise_int8_smlal"].accepts(depthwise) == "needs one filter per channel, of more than 4"


def test_a_tile_never_needs_more_registers_than_there_are() -> None:
    for name, method in METHODS.items():
        for case in DENSE.values():
            problem = conv(name, **case)
            for plan in plans(problem, method, window_of(problem)):
                assert method.registers(plan.columns, plan.vectors) <= problem.target.cpu.vector_registers


def test_the_best_multiplication_of_a_core_is_chosen() -> None:
    def first(where: str, method: str, x: str, w: str, **attrs: Any) -> str:
        return choices(replace(conv(method, x, w, **attrs), target=target(where)))[0].row

    for where, want in (("rpi4", "smull"), ("cortex-a55", "sdot"), ("rpi5", "sdot"), ("arm-i8mm", "smmla")):
        assert first(where, "sdot", "1, 64, 28, 28", "64, 64, 3, 3") == f"conv_int8_{want}"
    assert first("arm-i8mm", "sdot", "1, 3, 28, 28", "64, 3, 3, 3") == "conv_int8_sdot"
    for where, want in (("rpi4", "smlal"), ("rpi5", "slide")):
        assert first(where, "sdot", "1, 64, 28, 28", "64, 1, 3, 3", group=64) == f"depthwise_int8_{want}"


def test_a_core_without_dot_products_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_emulator()
    rng = np.random.default_rng(0)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 8]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "relu.onnx")
    edgec.compile(tmp_path / "relu.onnx", target="rpi5", out=tmp_path / "out")
    run_it = Emulated(read_bundle(tmp_path / "out"))
    given = {"x": rng.standard_normal((1, 8)).astype(np.float32)}
    monkeypatch.setenv("QEMU_CPU", "cortex-a76")
    np.testing.assert_array_equal(run_it.trace(given, [])[0]["y"], np.maximum(given["x"], 0))
    monkeypatch.setenv("QEMU_CPU", "cortex-a53")
    with pytest.raises(EdgecError, match="instruction set"):
        run_it.trace(given, [])


def stored(problem: Problem, row: str) -> list[int]:
    """Bytes of the weights, for each choice of a row; what is read behind them is not theirs."""
    weights = problem.anchor.args[1].type
    texts = [c.layouts_in[1] or "" for c in ROWS[row].choices(problem)]
    return [storage_bytes(replace(weights, layout=t)) - layout(t, len(weights.shape)).beyond for t in texts]


@pytest.mark.parametrize("method", CORES)
def test_weights_are_padded_to_what_is_multiplied_at_once(method: str) -> None:
    each = METHODS[method].each
    for inputs, outputs in ((8, 16), (24, 16), (24, 10), (26, 21)):
        problem = with_constants(conv(method, x=f"1, {inputs}, 9, 9", w=f"{outputs}, {inputs}, 3, 3"))
        inner, found = -(-inputs // each) * each * 9, stored(problem, f"conv_int8_{method}")
        whole = outputs if method != "smull" else -(-outputs // 8) * 8  # where rows of whole vectors pay
        assert min(found) == whole * inner and (method == "smull" or set(found) == {outputs * inner})


@pytest.mark.parametrize("method", CORES)
def test_weights_that_are_read_once_are_not_padded(method: str) -> None:
    for rows, inner, columns in ((1, 42, 20), (1, 256, 10), (1, 20, 10)):
        kinds = [f"i8[{rows}, {inner}]", f"i8[{inner}, {columns}]", f"i32[{columns}]"]
        product = chain(kinds, lambda *v: build("Edgec.MatMulInteger", *v), (), CORES[method][0])
        row = f"matmul_int8_{method}"
        assert set(stored(with_constants(product), row)) == {inner * columns}
        assert max(stored(product, row)) >= inner * -(-columns // 4) * 4


@pytest.mark.parametrize("method", CORES)
def test_weights_that_are_computed_are_padded(method: str, tmp_path: Path) -> None:
    kinds = ["i8[1, 42]", "i8[42, 10]", "i32[10]"]
    product = chain(kinds, lambda *v: build("Edgec.MatMulInteger", *v), (), CORES[method][0])
    arrays = arrays_of(product)
    choice = ROWS[f"matmul_int8_{method}"].choices(product)[0]
    assert not layout(choice.layouts_in[1] or "", 2).unit
    got = emulate(product, choice, arrays, tmp_path, CORES[method][1])
    np.testing.assert_array_equal(got, run(product.body, arrays)[0])


@pytest.mark.parametrize("method", ["sdot", "smull"])
def test_weights_of_one_channel_are_those_of_its_columns(method: str) -> None:
    problem = with_constants(conv(method, **ONE_CHANNEL["keywords"]))
    assert set(stored(problem, f"conv_int8_columns_{method}")) == {64 * 40}


@pytest.mark.parametrize(("where", "bytes_of"), [("rpi5", 9), ("x86-avx512", 9)])
def test_filters_of_depthwise_windows_are_not_padded(where: str, bytes_of: int) -> None:
    problem = convolution(where, "1, 32, 9, 9", "32, 1, 3, 3", pads=(1, 1, 1, 1), group=32)
    choice = choices(problem)[0]
    weight = with_layouts(problem, choice).body.inputs[1].type
    assert prod(physical_shape(weight)) == bytes_of * 32, choice
