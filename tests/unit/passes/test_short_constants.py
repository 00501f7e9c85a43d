"""Multipliers and biases of quantized layers in 16 bits: the same numbers, and kernels give the interpreter's bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.errors import IRError
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import build, const
from edgec.compiler.pipeline import parse_pipeline, run_pipeline
from edgec.compiler.registry import ROWS, choices
from edgec.compiler.session import Session
from edgec.compiler.target import find_target
from edgec.targets.build_jobs import Job, build_job
from edgec.targets.codegen_llvm import object_bytes
from edgec.targets.measure import Measured, with_layouts
from tests.support.arm_bits import arrays_of
from tests.support.byte_convolutions import convolution
from tests.support.emulated import emulate
from tests.support.harness import TARGETS, chain
from tests.support.integers import numbers, same_bits
from tests.support.short import shortened
from tests.unit.cortex_m import test_kernels as cortex
from tests.unit.cortex_m import test_mve as mve
from tests.unit.kernels import test_bytes as by_dots
from tests.unit.kernels import test_int8 as int8
from tests.unit.kernels import test_sparse as sparse

RNG = np.random.default_rng(3)


def layer(op: str, multiplier: Any, bias: Any) -> Graph:
    """A layer of six channels with these constants."""
    shapes = {"Edgec.ConvInteger": ((1, 5, 4, 4), (6, 5, 3, 3)), "Edgec.MatMulInteger": ((3, 17), (17, 6))}[op]
    x = Value(Node("Input", (), (Type("u8", shapes[0]),), {}, "x"))
    w = const(RNG.integers(-128, 128, shapes[1]).astype(np.int8), "w")
    each = np.asarray(multiplier, np.float32).reshape((6, 1, 1) if op == "Edgec.ConvInteger" else 6)
    sums = build(op, x, w, const(np.asarray(bias, np.int32)))
    return Graph("g", (x,), (build("Edgec.Rescale", sums, const(each), zeros=(0,), to="u8", low=0, high=255),))


def shorter(graph: Graph, target: str | None = None) -> tuple[Graph, list[str], int]:
    """The graph with short constants, the types of multipliers and biases, and by how much the latter are moved."""
    session = Session(target=find_target(target) if target else None, verify=3)
    made = run_pipeline(graph, parse_pipeline("short-constants"), session)
    rescaling = made.outputs[0].node
    sums = rescaling.args[0].node
    return made, [v.type.dtype for v in (rescaling.args[1], sums.args[2])], int(str(sums.attrs.get("shift", 0)))


SHORT = np.array([1.5, 1.0078125, 2, 3, 1.25, 1.9921875]) / 1024
BIAS = np.array([40_000, -131_072, 131_068, 0, 4, -4])


@pytest.mark.parametrize("op", ["Edgec.ConvInteger", "Edgec.MatMulInteger"])
def test_constants_that_16_bits_hold_are_stored_so(op: str) -> None:
    graph = layer(op, SHORT, BIAS)
    made, kinds, shift = shorter(graph)
    assert (kinds, shift) == (["bf16", "i16"], 2)
    x = RNG.integers(0, 256, graph.inputs[0].shape).astype(np.uint8)
    np.testing.assert_array_equal(run(made, [x])[0], run(graph, [x])[0])


@pytest.mark.parametrize(
    ("multiplier", "bias", "kinds"),
    [
        (SHORT * (1 + 2.0**-10), BIAS, ["f32", "i16"]),
        (SHORT, BIAS + np.array([0, 0, 0, 2, 0, 0]), ["bf16", "i32"]),
        (SHORT, BIAS + np.array([0, 0, 4, 0, 0, 0]), ["bf16", "i32"]),
        (SHORT, np.array([2**31 - 1, 0, 0, 0, 0, 0]), ["bf16", "i32"]),
    ],
)
def test_others_are_left_as_they_are(multiplier: Any, bias: Any, kinds: list[str]) -> None:
    assert shorter(layer("Edgec.ConvInteger", multiplier, bias))[1] == kinds


@pytest.mark.parametrize(
    ("target", "short"),
    [("x86", True), ("x86-avx512", True), ("x86-amx", True), ("cortex-m4", True), ("cortex-m55", True)]
    + [("rpi5", True), ("armv7", True), ("cortex-m0plus", False), ("cuda", False)],
)
def test_targets_whose_kernels_widen_them(target: str, short: bool) -> None:
    kinds = shorter(layer("Edgec.MatMulInteger", SHORT, BIAS), target)[1]
    assert kinds == (["bf16", "i16"] if short else ["f32", "i32"])


def two_layers(stride: int, many: int = 8) -> Graph:
    """Of two convolutions, 3x3, the second has a bias that 16 bits do not hold, and strides of its own."""
    x = y = Value(Node("Input", (), (Type("i8", (1, many, 9, 9)),), {}, "x"))
    for strides, bias in (((1, 1), 4), ((stride, stride), 70_001)):
        w = const(RNG.integers(-127, 128, (many, many, 3, 3)).astype(np.int8))
        sums = build("Edgec.ConvInteger", y, w, const(np.full(many, bias, np.int32)), strides=strides, zero=0)
        each = const(np.full((many, 1, 1), 0.001, np.float32))
        y = build("Edgec.Rescale", sums, each, zeros=(0,), to="i8", low=-128, high=127)
    return Graph("g", (x,), (y,))


@pytest.mark.parametrize(
    ("target", "stride", "many", "kinds"),
    [
        ("cortex-m4", 1, 8, ["i32", "i32"]),  # one kernel
        ("cortex-m4", 2, 8, ["i16", "i32"]),  # two in any case
        ("cortex-m4", 1, 600, ["i16", "i32"]),  # whose code costs less than 16 bits more of each bias
        ("cortex-m55", 1, 8, ["i16", "i32"]),  # whose layers share no code
    ],
)
def test_layers_that_can_share_code_have_biases_of_one_type(
    target: str, stride: int, many: int, kinds: list[str]
) -> None:
    made = run_pipeline(
        two_layers(stride, many), parse_pipeline("short-constants"), Session(target=find_target(target))
    )
    assert [n.args[2].type.dtype for n in made.nodes() if n.op == "Edgec.ConvInteger"] == kinds


def test_only_biases_of_16_bits_are_moved() -> None:
    sums = layer("Edgec.MatMulInteger", SHORT, BIAS).outputs[0].node.args[0].node
    with pytest.raises(IRError, match="moved"):
        build(sums.op, *sums.args, shift=2)


def test_one_number_for_all_channels_has_32_bits() -> None:
    graph = layer("Edgec.MatMulInteger", SHORT, BIAS)
    sums = graph.outputs[0].node.args[0]
    one = build(sums.node.op, *sums.node.args[:2], const(np.array([4], np.int32)))
    y = build("Edgec.Rescale", one, const(np.float32(0.5)), zeros=(0,), to="u8", low=0, high=255)
    assert shorter(replace(graph, outputs=(y,)))[1] == ["f32", "i32"]


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("case", int8.DENSE[:6] + int8.ONE_CHANNEL[:4] + int8.POINTWISE, ids=str)
def test_convolutions(case: int8.Case, where: str) -> None:
    problem = shortened(case.problem(where))
    int8.check(problem, int8.fast(problem)[:2])


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("then", ["", "Add", "Float"])
def test_products(then: str, where: str) -> None:
    problem = shortened(int8.Product((3, 5, 40), 24, 9, then=then).problem(where))
    int8.check(problem, int8.fast(problem)[:2])


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize(("then", "zero"), [("", 0), ("add", 7), ("table", 200)])
def test_depthwise(then: str, zero: int, where: str, tmp_path: Path) -> None:
    problem = shortened(by_dots.depthwise((1, 112, 5, 6), 3, where, then=then, pads=(1, 1, 1, 1), zero=zero))
    for row in dict.fromkeys([by_dots.DOTS[where], *(c.row for c in choices(problem))]):
        by_dots.same(problem, row, tmp_path)


@pytest.mark.parametrize("where", TARGETS)
def test_code_for_any_convolution(where: str, tmp_path: Path) -> None:
    def body(x: Value, w: Value, b: Value, m: Value) -> Value:
        sums = build("Edgec.ConvInteger", x, w, b, zero=7)
        return build("Edgec.Rescale", sums, m, zeros=(0,), to="u8", zero=3, low=3, high=250)

    kinds = ["u8[1, 20, 6, 5]", "i8[24, 20, 1, 1]", "i32[24]", "f32[24, 1, 1]"]
    same_bits(shortened(chain(kinds, body, where=where)), "generic_contract", tmp_path)


@pytest.mark.parametrize("where", TARGETS)
@pytest.mark.parametrize("case", [sparse.BYTES[1], sparse.BYTES[6], sparse.BYTES[7]], ids=str)
def test_products_with_many_zeros(case: sparse.Case, where: str) -> None:
    problem, arrays = sparse.integers(case, where, 77)
    problem = shortened(problem)
    arrays = [arrays[1] if k == 1 else a for k, a in enumerate(numbers([v.type for v in problem.body.inputs]))]
    want, offers = run(problem.body, arrays)[0], sparse.one_of_each(problem)
    assert offers
    for choice in offers:
        np.testing.assert_array_equal(Measured(problem, choice, arrays).run(parts=2), want, err_msg=str(choice))


@pytest.mark.parametrize("problem", [int8.Case((1, 64, 9, 11), 48, (1, 1)), int8.Product((40, 64), 48)], ids=str)
@pytest.mark.parametrize("zero", [0, 7])
def test_tiles_of_amx_are_built(problem: int8.Case | int8.Product, zero: int) -> None:
    """This may be no CPU that runs them."""
    short = shortened(replace(problem, zero=zero).problem("x86-amx"))
    choice = next(c for c in choices(short) if "amx" in c.row)
    made = ROWS[choice.row].emit(with_layouts(short, choice), choice, "kern")
    assert object_bytes([("kern", made.function)], short.target)


M_DENSE = ["pointwise", "pointwise, whole tiles", "padded", "first layer", "residual, whole tiles", "residual of bytes"]


@pytest.mark.arm
@pytest.mark.parametrize("shift", [0, 2, 16])
@pytest.mark.parametrize("case", M_DENSE)
def test_convolutions_on_cortex_m(case: str, shift: int, tmp_path: Path) -> None:
    cortex.same_bits(shortened(cortex.conv("dsp", **cortex.DENSE[case]), shift), "conv_int8_dsp", tmp_path)


def test_layers_share_code_however_far_biases_are_moved() -> None:
    made = []
    for shift in (0, 2, 4, 16):
        p = replace(shortened(cortex.conv("dsp", **cortex.DENSE["pointwise, whole tiles"]), shift), shared=True)
        made.append(build_job(Job("k", p, ROWS["conv_int8_dsp"].choices(p)[0]), p.target).code)
    assert made[0] == made[1] == made[2] != made[3]


@pytest.mark.arm
@pytest.mark.parametrize("case", ["3x3", "5x5, strided", "residual", "many channels"])
def test_depthwise_on_cortex_m(case: str, tmp_path: Path) -> None:
    problem = shortened(cortex.conv("dsp", **cortex.DEPTHWISE[case]))
    cortex.same_bits(problem, choices(problem)[0].row, tmp_path)


@pytest.mark.arm
@pytest.mark.parametrize(("rows", "columns"), [("1", 24), ("7", 20), ("1", 5)])
def test_products_on_cortex_m(rows: str, columns: int, tmp_path: Path) -> None:
    problem = shortened(cortex.product("dsp", rows, 40, columns))
    cortex.same_bits(problem, choices(problem)[0].row, tmp_path)


@pytest.mark.arm
@pytest.mark.parametrize("case", ["pointwise", "pointwise, 17 inputs", "pointwise, 12 inputs", "groups, pointwise"])
def test_convolutions_on_helium(case: str, tmp_path: Path) -> None:
    mve.same_bits(shortened(mve.conv(**mve.DENSE[case])), "conv_int8_mve", tmp_path)


@pytest.mark.arm
def test_depthwise_and_products_on_helium(tmp_path: Path) -> None:
    problem = shortened(convolution("cortex-m55", "1, 10, 6, 5", "10, 1, 3, 3", group=10, pads=(1, 1, 1, 1)))
    mve.same_bits(problem, choices(problem)[0].row, tmp_path)
    mve.same_bits(shortened(mve.product("3", 40, 18, zero=0)), "matmul_int8_mve", tmp_path)


ARMV7: dict[str, dict[str, Any]] = {
    "pointwise": {"x": "1, 20, 6, 5", "w": "24, 20, 1, 1"},
    "padded": {"x": "1, 9, 7, 8", "w": "13, 9, 3, 3", "pads": (1, 1, 1, 1)},
    "depthwise": {"x": "1, 19, 6, 5", "w": "19, 1, 3, 3", "pads": (1, 1, 1, 1), "group": 19},
    "residual": {"x": "1, 16, 6, 5", "w": "16, 16, 1, 1", "then": "add"},
    "table": {"x": "1, 16, 6, 5", "w": "20, 16, 1, 1", "then": "table"},
    "one axis": {"x": "1, 12, 30", "w": "10, 12, 5", "pads": (2, 2)},
}


@pytest.mark.arm
@pytest.mark.parametrize("case", ARMV7)
def test_convolutions_on_32_bit_arm(case: str, tmp_path: Path) -> None:
    problem = shortened(convolution("armv7", **ARMV7[case]))
    arrays = arrays_of(problem)
    for choice in choices(problem)[:2]:
        got = emulate(problem, choice, arrays, tmp_path, "cortex-a7")
        np.testing.assert_array_equal(got, run(problem.body, arrays)[0], str(choice))


@pytest.mark.arm
@pytest.mark.parametrize("rows", [1, 7])
def test_products_on_32_bit_arm(rows: int, tmp_path: Path) -> None:
    problem = shortened(int8.Product((rows, 40), 10).problem("armv7"))
    arrays = arrays_of(problem)
    for choice in choices(problem)[:2]:
        got = emulate(problem, choice, arrays, tmp_path, "cortex-a7")
        np.testing.assert_array_equal(got, run(problem.body, arrays)[0], str(choice))
