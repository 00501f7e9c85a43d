"""What follows sums of bytes on AArch64 gives the interpreter's bits: limits, tables, one multiply-add, reciprocals."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.interpret import run
from edgec.compiler.ir import Value
from edgec.compiler.op import build, const
from edgec.compiler.problems import signature
from edgec.compiler.registry import ROWS, choices
from edgec.compiler.rescale.bounds import reach
from edgec.targets.kernels.arm.tail import table_parts
from edgec.targets.reciprocal import exact
from tests.support.arm_bits import CORES, FULL, arrays_of, conv, same_bits
from tests.support.emulated import emulate
from tests.support.harness import chain
from tests.support.integers import numbers
from tests.support.short import shortened
from tests.unit.arm.test_code import assembly

pytestmark = pytest.mark.arm


@pytest.mark.parametrize("then", ["rectified", "rectified table"])
@pytest.mark.parametrize("method", CORES)
def test_rectified_sums_give_the_bits(method: str, then: str, tmp_path: Path) -> None:
    same_bits(conv(method, "1, 16, 8, 9", "20, 16, 3, 3", then), f"conv_int8_{method}", method, tmp_path)


ENDS = {(0, 0): (0, 0), (16, 0): (1, 0), (82, 0): (5, 0), (66, 35): (4, 2), (15, 130): (0, 8), (201, 15): (12, 0),
        (255, 0): (15, 0)}  # fmt: skip


@pytest.mark.parametrize("ends", ENDS)
def test_ends_of_a_table_that_are_all_one_are_not_read(ends: tuple[int, int], tmp_path: Path) -> None:
    """(entries that equal the one after them, those that equal the one before them): sixteenths left out."""
    below, above = ends
    problem = conv("sdot", "1, 16, 8, 9", "20, 16, 1, 1", "table")
    arrays = arrays_of(problem)
    table = np.arange(256, dtype=np.uint8).view(np.int8) * np.int8(3)
    table[:below], table[256 - above :] = table[below], table[255 - above]
    arrays[-1][:] = table
    arrays[0][:] = numbers([problem.body.inputs[0].type])[0]
    known = replace(problem, reach=reach(problem.body, [const(a) for a in arrays]))
    assert known.reach.ends == ENDS[ends]
    assert ("sixteenths" in signature(known)) == any(ENDS[ends])
    choice = ROWS["conv_int8_sdot"].choices(known)[0]
    want = run(problem.body, arrays)[0]
    assert len(np.unique(want)) > 99 or max(ends) > 99
    np.testing.assert_array_equal(emulate(problem, choice, arrays, tmp_path, CORES["sdot"][1]), want)


@pytest.mark.parametrize("ends", [(0, 0), (3, 0), (0, 9), (9, 0), (15, 0), (5, 2)])
@pytest.mark.parametrize("signed", [True, False])
def test_parts_of_a_table(signed: bool, ends: tuple[int, int]) -> None:
    zero = 8 if signed else 0
    parts = table_parts(ends, zero)
    covered = [block for first, blocks in parts for block in range(first, first + blocks)]
    assert covered == list(range(ends[0], 16 - ends[1]))
    assert all(0 < blocks <= 4 and not first < zero < first + blocks for first, blocks in parts)


ONCE = ["once", "once wide", "once table", "once add"]


@pytest.mark.parametrize("then", ONCE)
@pytest.mark.parametrize("method", CORES)
def test_sums_that_are_rescaled_once_give_the_bits(method: str, then: str, tmp_path: Path) -> None:
    case = {"pads": (1, 1, 1, 1), "limits": (0, -128, 99)}
    problem = conv(method, "1, 16, 8, 9", "21, 16, 3, 3", then, **case)
    same_bits(problem, f"conv_int8_{method}", method, tmp_path)
    assert ROWS[f"conv_int8_{method}"].choices(problem)[0].get("fl") == 4


@pytest.mark.parametrize("then", ONCE)
@pytest.mark.parametrize("row", ["depthwise_int8_slide", "depthwise_int8_sdot", "depthwise_int8_smlal"])
def test_so_do_those_of_depthwise_windows(row: str, then: str, tmp_path: Path) -> None:
    core = "smull" if row.endswith("smlal") else "sdot"
    case = {"pads": (1, 1, 1, 1), "limits": (0, -90, 127), "group": 22}
    same_bits(conv(core, "1, 22, 9, 12", "22, 1, 3, 3", then, **case), row, core, tmp_path)


@pytest.mark.parametrize("method", CORES)
def test_so_do_those_of_products(method: str, tmp_path: Path) -> None:
    def body(a: Value, b: Value, bias: Value, m: Value, c: Value) -> Value:
        sums = build("Edgec.MatMulInteger", a, b, bias, a_zero=-5)
        return build("Edgec.RescaleOnce", sums, m, c, to="i8", low=-128, high=127, bits=16)

    problem = chain(["i8[9, 48]", "i8[48, 40]", "i32[40]", "f32[40]", "f32[40]"], body, (), CORES[method][0])
    same_bits(problem, f"matmul_int8_{method}", method, tmp_path)


DIRECT = ["once direct", "once direct wide", "once direct table", "once direct add"]


@pytest.mark.parametrize("then", [*DIRECT, "rescale", "add"])
@pytest.mark.parametrize("method", CORES)
def test_short_constants_give_the_bits(method: str, then: str, tmp_path: Path) -> None:
    case = {"pads": (1, 1, 1, 1), "limits": (6, -128, 99)}
    problem = shortened(conv(method, "1, 16, 8, 9", "21, 16, 3, 3", then, **case))
    same_bits(problem, f"conv_int8_{method}", method, tmp_path)
    direct = {6} if then in DIRECT else {0, 2}
    assert ROWS[f"conv_int8_{method}"].choices(problem)[0].get("fl") in direct


@pytest.mark.parametrize("then", [*DIRECT, "rescale", "add"])
@pytest.mark.parametrize("row", ["depthwise_int8_slide", "depthwise_int8_sdot", "depthwise_int8_smlal"])
def test_so_do_those_of_depthwise_windows_with_short_constants(row: str, then: str, tmp_path: Path) -> None:
    core = "smull" if row.endswith("smlal") else "sdot"
    case = {"pads": (1, 1, 1, 1), "limits": (6, -90, 127), "group": 22}
    same_bits(shortened(conv(core, "1, 22, 9, 12", "22, 1, 3, 3", then, **case)), row, core, tmp_path)


@pytest.mark.parametrize("method", CORES)
def test_so_do_those_of_products_with_short_constants(method: str, tmp_path: Path) -> None:
    def body(a: Value, b: Value, bias: Value, m: Value) -> Value:
        sums = build("Edgec.MatMulInteger", a, b, bias, a_zero=-5)
        return build("Edgec.RescaleOnce", sums, m, to="i8", zero=4, low=-128, high=127, bits=16)

    problem = shortened(chain(["i8[9, 48]", "i8[48, 42]", "i32[42]", "f32[42]"], body, (), CORES[method][0]))
    same_bits(problem, f"matmul_int8_{method}", method, tmp_path)


def test_code_for_any_layer_rescales_once(tmp_path: Path) -> None:
    problem = shortened(conv("sdot", "1, 3, 8, 9", "21, 3, 3, 3", "once direct", limits=(6, -128, 99)))
    same_bits(problem, "generic_contract", "sdot", tmp_path)


FAR: dict[str, dict[str, Any]] = {
    "floats hold the sums": {"inner": 128, "bias": 10_000, "multiplier": 0.4, "fl": 1},
    "16 bits hold the results": {"inner": 128, "bias": 10_000, "multiplier": 1 / 130, "fl": 2},
    "ties, odd zero point": {"inner": 7, "bias": 1, "multiplier": 0.125, "fl": 2, "zero": 3},
    "ties, even zero point": {"inner": 7, "bias": 1, "multiplier": 0.125, "fl": 3, "zero": -128},
    "limits": {"inner": 7, "bias": 1, "multiplier": 0.125, "fl": 3, "zero": -100, "low": -100, "high": 99},
    "unsigned": {"inner": 7, "bias": 1, "multiplier": 0.125, "fl": 2, "zero": 3, "low": 0, "high": 255, "to": "u8"},
    "too far": {"inner": 130, "bias": 10_000, "multiplier": 0.4, "fl": 0},
}


@pytest.mark.parametrize("case", FAR)
def test_sums_in_the_bits_of_floats_reach_their_bounds(case: str, tmp_path: Path) -> None:
    """Pixels of extreme bytes, by extreme weights: the largest sums of both signs that constants allow."""
    inner, bias, multiplier, fl, *_ = FAR[case].values()
    attrs = {**FULL, **{k: v for k, v in FAR[case].items() if k in FULL}}

    def body(a: Value, b: Value, c: Value, m: Value) -> Value:
        return build("Edgec.Rescale", build("Edgec.ConvInteger", a, b, c, zero=127), m, zeros=(0,), **attrs)

    kinds = [f"i8[1, {inner}, 4, 9]", f"i8[32, {inner}, 1, 1]", "i32[32]", "f32[32, 1, 1]"]
    problem = chain(kinds, body, (), "rpi5")
    arrays = numbers([v.type for v in problem.body.inputs])
    arrays[0][..., :2, :] = -128
    arrays[1][::2] = 127
    arrays[1][1::4] = -128
    arrays[2][:] = np.where(np.arange(32) % 2, bias, -bias)
    arrays[3][:] = multiplier
    known = replace(problem, reach=reach(problem.body, [const(a) for a in arrays]))
    sums = [n.results[0] for n in problem.body.nodes() if n.op == "Edgec.ConvInteger"]
    assert known.reach.sums == np.abs(run(replace(problem.body, outputs=tuple(sums)), arrays)[0]).max()
    choice = ROWS["conv_int8_sdot"].choices(known)[0]
    assert choice.get("fl") == fl
    want = run(problem.body, arrays)[0]
    np.testing.assert_array_equal(emulate(problem, choice, arrays, tmp_path, "cortex-a76"), want)


@pytest.mark.parametrize("where", ["rpi5", "armv7"])
@pytest.mark.parametrize("kind", ["i8", "u8"])
@pytest.mark.parametrize("scale", [0.0078431377, 1 / 3, 0.25, 3.7])
def test_bytes_by_a_reciprocal_are_those_of_a_division(scale: float, kind: str, where: str, tmp_path: Path) -> None:
    step = np.float32(scale)
    halves = ((np.arange(-300, 300) + 0.5) * step).astype(np.float32)
    near = [np.nextafter(halves, np.float32(s), dtype=np.float32) for s in (-np.inf, np.inf)]
    odd = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, -0.0, 1e-30], np.float32)
    x = np.concatenate([halves, *near, odd])
    zero = const(np.int8(-5) if kind == "i8" else np.uint8(114))

    def body(a: Value) -> Value:
        return build("QuantizeLinear", a, const(step), zero)

    problem = chain([f"f32[1, {x.size}]"], body, (), where)
    want = run(problem.body, [x[None]])[0]
    choice = choices(problem)[0]
    np.testing.assert_array_equal(emulate(problem, choice, [x[None]], tmp_path), want)


def test_a_scale_whose_quotients_might_differ_is_divided_by() -> None:
    assert all(map(exact, (0.0078431377, 0.25)))
    assert not any(map(exact, (0.0, -1.0, 1e-30, 1e30, float("inf"), float("nan"))))


@pytest.mark.parametrize("where", ["rpi5", "rpi4"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("planes", [True, False])
def test_images_become_bytes(planes: bool, channels: int, where: str, tmp_path: Path) -> None:
    """Whole registers of pixels, and those that are left over."""

    def body(x: Value) -> Value:
        y = x if planes else build("Transpose", x, perm=(0, 3, 1, 2))
        return build("QuantizeLinear", y, const(np.float32(0.02)), const(np.int8(-5)))

    shape = (2, channels, 9, 11) if planes else (2, 9, 11, channels)
    problem = chain([f"f32{list(shape)}"], body, (), where)
    x = (np.random.default_rng(0).standard_normal(shape) * 3).astype(np.float32)
    x.flat[:4] = [np.nan, np.inf, -np.inf, 1e30]
    choice = ROWS["image_int8"].choices(problem)[0]
    want = run(problem.body, [x])[0]
    np.testing.assert_array_equal(emulate(problem, choice, [x], tmp_path, CORES["sdot"][1]), want)


def test_pixels_of_planes_are_dealt_sixteen_at_a_time() -> None:
    def body(x: Value) -> Value:
        return build("QuantizeLinear", x, const(np.float32(0.02)), const(np.int8(-5)))

    _, code = assembly(chain(["f32[1, 3, 64, 64]"], body, (), "cortex-a78"), "image_int8")
    assert re.search(r"\bst4\s+{ v\d+\.16b", code)
