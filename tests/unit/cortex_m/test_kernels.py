"""Kernels of bytes for Cortex-M give the interpreter's bits, with and without the DSP extension.

Code for microcontrollers runs as a user's program on an emulated Cortex-A, which knows the same instructions.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.interpret import run
from edgec.compiler.ir import Value
from edgec.compiler.layout import layout
from edgec.compiler.op import build, const
from edgec.compiler.registry import ROWS, Problem, choices
from edgec.targets.build_jobs import Job, build_job
from edgec.targets.kernels.cortex_m.conv_rows import tile_of
from edgec.targets.kernels.cortex_m.depthwise_rows import plan_of
from tests.support.byte_convolutions import Limits
from tests.support.cortex_convolutions import CORES, DENSE, DEPTHWISE, WIDTHS, conv, small
from tests.support.emulated import emulate, laid
from tests.support.harness import chain
from tests.support.integers import numbers

pytestmark = pytest.mark.arm


def product(
    core: str, rows: str, inner: int, columns: int, limits: Limits = (-7, -128, 127), then: str = "rescale"
) -> Problem:
    """A matrix product with constant weights, and a Rescale."""

    def body(a: Value, b: Value, bias: Value, m: Value) -> Value:
        sums = build("Edgec.MatMulInteger", a, b, bias, a_zero=-5)
        factor = const(np.float32(0.0021)) if then == "one" else m
        y = build("Edgec.Rescale", sums, factor, zeros=(0,), to="i8", zero=limits[0], low=limits[1], high=limits[2])
        return build("DequantizeLinear", y, const(np.float32(0.25)), const(np.int8(-7))) if then == "real" else y

    kinds = [f"i8[{rows}, {inner}]", f"i8[{inner}, {columns}]", f"i32[{columns}]", f"f32[{columns}]"]
    return replace(chain(kinds, body, (), CORES[core]), constants=frozenset({1, 2, 3}))


def same_bits(problem: Problem, row: str, folder: Path, over: int = -1) -> None:
    """In every layout that the row offers, and with numbers from a table where layers may share the code; the result
    may be written over an input."""
    form = ROWS[row].form
    if not problem.shared and form and form(problem):
        same_bits(replace(problem, shared=True), row, folder, over)
    accepted = ROWS[row].accepts(problem)
    assert accepted is True, accepted
    arrays = numbers([v.type for v in problem.body.inputs])
    for a in arrays:
        if a.dtype == np.int8 and a.ndim > 1:  # runs of the extremes
            a.reshape(-1)[: a.size // 3] = -128
    want = run(problem.body, arrays)[0]
    for choice in ROWS[row].choices(problem):
        got = emulate(problem, choice, arrays, folder, "cortex-a15", over)
        np.testing.assert_array_equal(got, want, f"{choice} {choice.layouts_in[0]}")


GROUPS: dict[str, dict[str, Any]] = {
    "padded": {"x": "1, 16, 7, 9", "w": "24, 4, 3, 3", "group": 4, "pads": (1, 1, 1, 1)},
    "pointwise": {"x": "2, 24, 5, 5", "w": "12, 12, 1, 1", "group": 2, "zero": 3},
    "strided, one multiplier": {"x": "1, 8, 9, 9", "w": "4, 4, 1, 1", "group": 2, "strides": (2, 2), "then": "one"},
    "dilated": {"x": "1, 16, 9, 9", "w": "8, 8, 3, 3", "group": 2, "dilations": (2, 2), "pads": (2, 2, 2, 2)},
    "many channels": {"x": "1, 136, 5, 4", "w": "4, 68, 3, 3", "group": 2, "pads": (1, 0, 1, 0), "zero": 0},
    "one axis": {"x": "1, 16, 20", "w": "16, 4, 5", "group": 4, "pads": (2, 2)},
    "residual": {"x": "1, 16, 6, 6", "w": "20, 8, 3, 3", "group": 2, "pads": (1, 1, 1, 1), "then": "add to it"},
    "table": {"x": "1, 8, 6, 5", "w": "12, 4, 3, 3", "group": 2, "then": "table"},
    "two outputs": {"x": "1, 32, 6, 5", "w": "16, 4, 3, 3", "group": 8, "pads": (1, 1, 1, 1)},
}  # fmt: skip


@pytest.mark.parametrize("case", list(GROUPS))
@pytest.mark.parametrize("optimize", ["speed", "size"])
def test_a_convolution_with_groups_gives_the_bits(case: str, optimize: str, tmp_path: Path) -> None:
    problem = conv("dsp", **GROUPS[case])
    same_bits(small(problem) if optimize == "size" else problem, "conv_int8_dsp", tmp_path)


SAME: list[dict[str, Any]] = [
    {"x": "1, 32, 9, 9", "w": "40, 32, 1, 1", "limits": (-7, -128, 127), "zero": 3},
    {"x": "1, 64, 3, 4", "w": "6, 64, 1, 1", "limits": (11, -128, 127), "zero": 5},
    {"x": "1, 128, 6, 2", "w": "64, 128, 1, 1", "limits": (-1, -128, 127)},
]
SAME_WINDOWS: list[dict[str, Any]] = [
    {"x": f"1, {c}, {size}", "w": f"{o}, {c}, 3, 3", "pads": (1, 1, 1, 1), "zero": zero}
    for c, o, size, zero in [(16, 8, "9, 13", -128), (32, 10, "12, 6", 4), (48, 16, "21, 18", 0)]
]
SAME_DEPTHWISE: list[dict[str, Any]] = [
    {"x": f"1, {c}, {size}", "w": f"{c}, 1, 3, 3", "pads": (1, 1, 1, 1), "group": c, "zero": zero}
    for c, size, zero in [(24, "12, 12", 4), (7, "8, 8", -128), (9, "16, 16", 7)]
]


@pytest.mark.parametrize("optimize", ["speed", "size"])
@pytest.mark.parametrize("layers", [SAME, SAME_WINDOWS, SAME_DEPTHWISE])
def test_layers_that_differ_in_numbers_have_one_code(layers: list[dict[str, Any]], optimize: str) -> None:
    """Their objects are equal, their tables are not."""
    made = []
    for layer in layers:
        problem = replace(conv("dsp", **layer), shared=True)
        problem = small(problem) if optimize == "size" else problem
        row = next(r for r in ("depthwise_int8_dsp", "conv_int8_dsp") if ROWS[r].accepts(problem) is True)
        form, choice = ROWS[row].form, ROWS[row].choices(problem)[0]
        assert form
        made.append((form(problem), build_job(Job("k", laid(problem, choice), choice), problem.target)))
    assert len({form for form, _ in made}) == 1
    assert len({built.code for _, built in made}) == 1
    assert len({built.numbers for _, built in made}) == len(layers)


def cases(table: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """On both cores; real numbers need the FPU, or a library for floats."""
    return [
        (name, core) for name, case in table.items() for core in CORES if (core, case.get("then")) != ("thumb", "real")
    ]


@pytest.mark.parametrize(("case", "core"), cases(DENSE))
def test_a_convolution_gives_the_bits(case: str, core: str, tmp_path: Path) -> None:
    same_bits(conv(core, **DENSE[case]), f"conv_int8_{core}", tmp_path)


@pytest.mark.parametrize(("case", "core"), cases(DEPTHWISE))
def test_a_depthwise_convolution_gives_the_bits(case: str, core: str, tmp_path: Path) -> None:
    same_bits(conv(core, **DEPTHWISE[case]), f"depthwise_int8_{core}", tmp_path)


PRODUCTS: dict[str, dict[str, Any]] = {
    "one row": {"rows": "1", "inner": 640, "columns": 128},
    "one row, two columns at a time": {"rows": "1", "inner": 64, "columns": 10, "limits": (-128, -128, 127)},
    "one row, columns left over": {"rows": "1", "inner": 64, "columns": 5},
    "one row, one multiplier": {"rows": "1", "inner": 128, "columns": 12, "then": "one"},
    "one row, real numbers": {"rows": "1", "inner": 64, "columns": 10, "then": "real"},
    "rows": {"rows": "5", "inner": 64, "columns": 40},
    "rows, one multiplier": {"rows": "4", "inner": 64, "columns": 6, "then": "one"},
    "rows, columns left over": {"rows": "7", "inner": 8, "columns": 3},
    "several axes": {"rows": "2, 3", "inner": 12, "columns": 6},
    "four products": {"rows": "1", "inner": 4, "columns": 4},
    "one row, products left over": {"rows": "1", "inner": 39, "columns": 12, "limits": (-128, -128, 127)},
    "rows, products left over": {"rows": "7", "inner": 53, "columns": 10},
    "few rows, one product left over": {"rows": "2", "inner": 65, "columns": 3, "then": "one"},
    "three products": {"rows": "5", "inner": 3, "columns": 6},
    "one row, columns of two products more": {"rows": "1", "inner": 42, "columns": 20},
    "rows, columns of two products more": {"rows": "5", "inner": 10, "columns": 6, "then": "real"},
    "two products, an even number of columns": {"rows": "4", "inner": 2, "columns": 4},
    "one product, an even number of columns": {"rows": "3", "inner": 1, "columns": 2},
    "two products": {"rows": "4", "inner": 2, "columns": 5},
    "one product": {"rows": "3", "inner": 1, "columns": 4},
}  # fmt: skip


@pytest.mark.parametrize(("case", "core"), cases(PRODUCTS))
def test_a_product_gives_the_bits(case: str, core: str, tmp_path: Path) -> None:
    same_bits(product(core, **PRODUCTS[case]), f"matmul_int8_{core}", tmp_path)


@pytest.mark.parametrize(("inner", "columns", "held"), [(42, 20, 42), (41, 20, 42), (43, 20, 44), (42, 3, None)])
def test_columns_are_padded_to_two_products(inner: int, columns: int, held: int | None) -> None:
    """Not to four, where one or two are left over and columns come in pairs."""
    problem = product("dsp", "1", inner, columns)
    (choice,) = ROWS["matmul_int8_dsp"].choices(problem)
    stored = layout(choice.layouts_in[1], 2)
    bytes_held = prod(stored.physical((inner, columns))) - stored.beyond
    assert bytes_held == (columns * held if held else 44 * 4)


@pytest.mark.parametrize(("kind", "zero"), [("u8", 0), ("u8", 117), ("u8", 255), ("i8", -128), ("i8", 11)])
@pytest.mark.parametrize("layout", ["", "NHWC"])
def test_real_numbers_become_bytes(kind: str, zero: int, layout: str, tmp_path: Path) -> None:
    """Halves go to even numbers, what is too large becomes the limit, NaN zero; channels may come to lie innermost."""
    scale, whole = const(np.float32(0.25)), const(np.array(zero, {"u8": np.uint8, "i8": np.int8}[kind]))
    problem = chain(["f32[1, 3, 9, 20]"], lambda x: build("QuantizeLinear", x, scale, whole), (), "cortex-m4")
    x = np.random.default_rng(3).normal(0, 30, (1, 3, 9, 20)).astype("f4")
    x[:, :2] = np.rint(x[:, :2] * 8) / 8  # halves of a step
    x[0, 1, 0, :6] = [np.inf, -np.inf, np.nan, -0.0, 1e-40, 3e38]
    choice = next(c for c in ROWS["generic_map"].choices(problem) if c.layouts_out == (layout,))
    got = emulate(problem, choice, [x], tmp_path, "cortex-a15")
    np.testing.assert_array_equal(got, run(problem.body, [x])[0])


@pytest.mark.parametrize("limits", [(-7, -128, 127), (5, 5, 127), (-128, -128, 90), (9, -100, 90)])
def test_bytes_are_multiplied_and_rescaled(limits: Limits, tmp_path: Path) -> None:
    """By a generic row: a gate of its own for each channel."""

    def body(a: Value, b: Value) -> Value:
        product = build("Edgec.MulInteger", a, b, a_zero=-3, b_zero=-128)
        factor = const(np.float32(0.0107))
        return build(
            "Edgec.Rescale", product, factor, zeros=(0,), to="i8", zero=limits[0], low=limits[1], high=limits[2]
        )

    same_bits(chain(["i8[1, 10, 5, 7]", "i8[1, 10, 1, 1]"], body, (), "cortex-m4"), "generic_map", tmp_path)


POOLS: dict[str, dict[str, Any]] = {
    "2x2": {"x": "1, 16, 8, 8", "kernel_shape": (2, 2), "strides": (2, 2)},
    "3x3, padded": {"x": "2, 6, 9, 7", "kernel_shape": (3, 3), "pads": (1, 1, 1, 1)},
    "strided, one side": {"x": "1, 20, 8, 9", "kernel_shape": (3, 3), "strides": (2, 2), "pads": (0, 0, 1, 1)},
    "beyond the end": {"x": "1, 8, 7, 7", "kernel_shape": (2, 2), "strides": (2, 2), "pads": (0, 0, 1, 1)},
    "large": {"x": "1, 5, 12, 11", "kernel_shape": (7, 5), "pads": (3, 2, 3, 2)},
    "whole image": {"x": "1, 12, 5, 5", "kernel_shape": (5, 5)},
    "rows far apart": {"x": "1, 260, 4, 20", "kernel_shape": (3, 3), "pads": (1, 1, 1, 1)},
    "one axis": {"x": "1, 9, 20", "kernel_shape": (3,), "strides": (2,), "pads": (1, 1)},
}


@pytest.mark.parametrize("case", list(POOLS))
@pytest.mark.parametrize("optimize", ["speed", "size"])
@pytest.mark.parametrize("op", ["MaxPool", "MaxPool of u8", "Edgec.SumPool"])
def test_pooling_gives_the_bits(case: str, op: str, optimize: str, tmp_path: Path) -> None:
    attrs = dict(POOLS[case])
    kind = "u8" if op.endswith("u8") else "i8"

    def body(x: Value) -> Value:
        if op.startswith("MaxPool"):
            return build("MaxPool", x, **attrs)
        sums = build("Edgec.SumPool", x, zero=-7, **attrs)
        return build("Edgec.Rescale", sums, const(np.float32(0.11)), zeros=(0,), to="i8", zero=3, low=-128, high=100)

    problem = chain([f"{kind}[{attrs.pop('x')}]"], body, (), "cortex-m4")
    same_bits(small(problem) if optimize == "size" else problem, "pool_int8_dsp", tmp_path)


ADDED = {"add": 4, "add to it": 4, "add bytes": 4}  # where the residual stands among the inputs


@pytest.mark.parametrize("then", ADDED)
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("w", ["6, 8, 1, 1", "5, 8, 1, 1", "8, 1, 3, 3"])
def test_a_residual_may_be_written_over(w: str, core: str, then: str, tmp_path: Path) -> None:
    """Pixels and channels are no multiples of a tile's: none may be added to twice."""
    depthwise = {"group": 8, "pads": (1, 1, 1, 1)} if w.endswith("3") else {}
    row = f"{'depthwise' if depthwise else 'conv'}_int8_{core}"
    for size in WIDTHS:
        problem = conv(core, f"2, 8, {size}", w, then=then, **depthwise)
        arrays = numbers([v.type for v in problem.body.inputs])
        want = run(problem.body, arrays)[0]
        for choice in ROWS[row].choices(problem):
            assert choice.layouts_in[ADDED[then]] == choice.layouts_out[0]
            got = emulate(problem, choice, arrays, tmp_path, "cortex-a15", ADDED[then])
            np.testing.assert_array_equal(got, want, f"{size} {choice}")


@pytest.mark.parametrize("shape", [(1, 8, 6), (5, 8, 3)])
def test_a_product_is_added_in_place(shape: tuple[int, int, int], tmp_path: Path) -> None:
    rows, inner, columns = shape

    def body(a: Value, b: Value, bias: Value, m: Value, residual: Value) -> Value:
        sums, two = build("Edgec.MatMulInteger", a, b, bias, a_zero=-5), const(np.float32(0.31))
        return build("Edgec.Rescale", residual, sums, two, m, zeros=(5, 0), to="i8", zero=9, low=-100, high=90)

    kinds = [f"i8[{rows}, {inner}]", f"i8[{inner}, {columns}]", f"i32[{columns}]", f"f32[{columns}]"]
    for core in CORES:
        made = chain([*kinds, f"i8[{rows}, {columns}]"], body, (), CORES[core])
        same_bits(replace(made, constants=frozenset({1, 2, 3})), f"matmul_int8_{core}", tmp_path, 4)


SMALL = [
    "pointwise", "channels left over", "padded", "first layer", "one channel, tall", "two channels", "dilated rows",
    "one axis", "residual times a number", "residual of bytes", "table",
]  # fmt: skip


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("case", SMALL)
def test_a_small_convolution_gives_the_bits(case: str, core: str, tmp_path: Path) -> None:
    same_bits(small(conv(core, **DENSE[case])), f"conv_int8_{core}", tmp_path)


@pytest.mark.parametrize("case", ["3x3, even", "strided", "residual"])
def test_a_small_depthwise_convolution_gives_the_bits(case: str, tmp_path: Path) -> None:
    same_bits(small(conv("dsp", **DEPTHWISE[case])), "depthwise_int8_dsp", tmp_path)


@pytest.mark.parametrize("case", ["one row", "rows", "rows, columns left over"])
def test_a_small_product_gives_the_bits(case: str, tmp_path: Path) -> None:
    same_bits(small(product("dsp", **PRODUCTS[case])), "matmul_int8_dsp", tmp_path)


def test_rows_for_cortex_m_win_where_they_fit() -> None:
    """Against generic kernels, whose addresses cost more than their products."""
    for core in CORES:
        assert choices(conv(core, **DENSE["padded"]))[0].row == f"conv_int8_{core}"
        assert choices(conv(core, **DEPTHWISE["3x3"]))[0].row == f"depthwise_int8_{core}"
        assert choices(product(core, **PRODUCTS["rows"]))[0].row == f"matmul_int8_{core}"


@pytest.mark.parametrize("form", ["thumbv7m-none-eabi cortex-m3", "thumbv7em-none-eabi cortex-m4"])
@pytest.mark.parametrize("case", ["padded", "residual", "one channel"])
def test_cores_between_the_two_take_what_needs_less(case: str, form: str, tmp_path: Path) -> None:
    """A Cortex-M3 has no DSP extension, a Cortex-M4 may have no FPU."""
    problem = conv("thumb", **DENSE[case])
    triple, mcpu = form.split()
    isa = frozenset({"DSP"} if mcpu == "cortex-m4" else ())
    cpu = replace(problem.target.cpu, mcpu=mcpu, isa=isa, mattr=("+soft-float",) if isa else ())
    same_bits(replace(problem, target=replace(problem.target, triple=triple, cpu=cpu)), "conv_int8_thumb", tmp_path)


def test_lines_run_along_the_longer_axis() -> None:
    from edgec.targets.kernels.conv.shape import geometry

    assert plan_of(geometry(conv("dsp", **DEPTHWISE["a column"]))).swapped
    assert not plan_of(geometry(conv("dsp", **DEPTHWISE["strided"]))).swapped
    assert tile_of(geometry(conv("dsp", **DENSE["one pixel"]))).pixels == 1


def test_what_does_not_fit_is_refused_by_name() -> None:
    groups = conv("dsp", "1, 6, 5, 5", "8, 3, 1, 1", group=2)
    why = "has groups whose channels are no multiples of 4, or of 2 outputs"
    assert ROWS["conv_int8_dsp"].accepts(groups) == why
    assert ROWS["depthwise_int8_dsp"].accepts(groups) == "is not depthwise"
    assert ROWS["conv_int8_thumb"].accepts(groups) == "is for cores without the DSP extension or an FPU"
    assert ROWS["conv_int8_dsp"].accepts(conv("thumb", **DENSE["pointwise"])) == "needs DSP, FPU"
