"""Sums of bytes that become real numbers on AArch64: one multiply-add of their bits, and functions behind it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.interpret import run
from edgec.compiler.ir import Value
from edgec.compiler.op import build, const
from edgec.compiler.registry import ROWS, Problem
from edgec.compiler.rescale.bounds import FEW_BITS, Reach, narrows, reach, short
from tests.support.accuracy import ulps
from tests.support.emulated import emulate
from tests.support.harness import chain
from tests.support.integers import numbers
from tests.unit.arm.test_code import assembly
from tests.unit.arm.test_int8 import CORES

pytestmark = pytest.mark.arm
KINDS = ["i8[1, 32, 9, 10]", "i8[24, 32, 1, 1]", "i32[24]", "f32[24, 1, 1]"]


def real(*args: Value, op: str = "Edgec.ConvInteger", swish: bool = False, **attrs: Any) -> Value:
    *operands, multiplier = args
    x = build("Mul", build("Cast", build(op, *operands, **attrs), to="f32"), multiplier)
    return build("Mul", x, build("Sigmoid", x)) if swish else x


def divided(*args: Value, swish: bool = False, byte: int = -5) -> Value:
    """Bytes by a scale and a zero point."""
    x = real(*args[:4], zero=3, swish=swish)
    y = build("Mul", x, args[4]) if len(args) > 4 else x
    return build("QuantizeLinear", y, const(np.float32(0.0473)), const(np.int8(byte)))


def gated(*args: Value, byte: int = -5) -> Value:
    """Bytes of x sigmoid(x) in steps, by a multiplier of each channel."""
    x = real(*args[:4], zero=3)
    limits = {"to": "i8", "zero": byte, "low": -128, "high": 127}
    return build("Edgec.Rescale", build("Mul", x, build("Edgec.NearSigmoid", x)), args[4], zeros=(0,), **limits)


def known(problem: Problem, arrays: Sequence[Any]) -> Problem:
    return replace(problem, reach=reach(problem.body, [const(a) for a in arrays]))


CASES: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "convolution": ("conv_int8_sdot", KINDS, {"zero": -128}),
    "of pairs": ("conv_int8_smull", KINDS, {"zero": 3}),
    "of eights": ("conv_int8_smmla", KINDS, {"zero": 3}),
    "one number": ("conv_int8_sdot", [*KINDS[:3], "f32[1, 1, 1]"], {"zero": 3}),
    "matrix": ("matmul_int8_sdot", ["i8[9, 40]", "i8[40, 20]", "i32[20]", "f32[20]"], {"a_zero": 7}),
    "sliding": (
        "depthwise_int8_slide",
        ["i8[1, 24, 9, 10]", "i8[24, 1, 3, 3]", "i32[24]", "f32[24, 1, 1]"],
        {"zero": -5, "group": 24, "pads": (1, 1, 1, 1)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_multiply_add_gives_the_products_bits(case: str, tmp_path: Path) -> None:
    row, kinds, attrs = CASES[case]
    op = "Edgec.MatMulInteger" if "a_zero" in attrs else "Edgec.ConvInteger"
    where, core = CORES.get(row.split("_")[2], CORES["sdot"])
    problem = chain(kinds, lambda *v: real(*v, op=op, **attrs), (), where)
    arrays = numbers([v.type for v in problem.body.inputs])
    arrays[2][:] = np.linspace(-1e6, 1e6, arrays[2].size)
    arrays[3] = short(np.float32(1e-4) + abs(arrays[3] % 1))
    bounded = known(problem, arrays)
    assert np.isfinite(bounded.reach.real)
    choice = ROWS[row].choices(bounded)[0]
    assert choice.get("fl") == 5
    np.testing.assert_array_equal(emulate(bounded, choice, arrays, tmp_path, core), run(problem.body, arrays)[0])


def loading_slowly(problem: Problem) -> Problem:
    """For a core on which loads cost what they save."""
    cpu = replace(problem.target.cpu, load_per_cycle=0.5, unscaled_loads=False, loads_beside=False)
    return replace(problem, target=replace(problem.target, cpu=cpu))


@pytest.mark.parametrize(("on", "kept"), [("cortex-a53", 0), ("cortex-a55", 5), ("rpi4", 5), ("cortex-a78", 5)])
def test_sums_become_real_by_multiply_adds_where_loads_pay(on: str, kept: int) -> None:
    """On Cortex-A55 too, where a load begins beside a product, though it takes as long as two."""
    problem = chain(KINDS, lambda *v: real(*v, zero=3), (), on)
    arrays = numbers([v.type for v in problem.body.inputs])
    arrays[3] = short(arrays[3])
    row = "conv_int8_smull" if on in ("cortex-a53", "rpi4") else "conv_int8_sdot"
    assert ROWS[row].choices(known(problem, arrays))[0].get("fl") == kept


@pytest.mark.parametrize("why", ["multipliers of 24 bits", "sums beyond 22 bits", "a core that loads slowly"])
def test_other_sums_are_converted(why: str) -> None:
    problem = chain(KINDS, lambda *v: real(*v, zero=3), (), "rpi5")
    problem = loading_slowly(problem) if "core" in why else problem
    arrays = numbers([v.type for v in problem.body.inputs])
    arrays[3] = short(arrays[3])
    if "multipliers" in why:
        arrays[3][5] = np.nextafter(arrays[3][5], np.float32(9))
    elif "sums" in why:
        arrays[2][5] = 1 << 22
    assert ROWS["conv_int8_sdot"].choices(known(problem, arrays))[0].get("fl") == 0


def test_short_numbers_lie_next_to_given_ones() -> None:
    x = np.random.default_rng(0).lognormal(size=1000).astype(np.float32)
    near = short(x)
    assert (abs(near.astype(np.float64) / x - 1) <= 2.0**-FEW_BITS).all() and (near != x).any()
    np.testing.assert_array_equal(near.astype(np.float64) * (3 << 22), (near * np.float32(3 << 22)).astype(np.float64))


@pytest.mark.parametrize("far", [80.0, 500.0])
def test_swish_behind_sums_is_accurate(far: float, tmp_path: Path) -> None:
    """Where constants keep x within limits, and where they do not."""
    problem = chain(KINDS, lambda *v: real(*v, zero=0, swish=True), (), "rpi5")
    arrays = numbers([v.type for v in problem.body.inputs])
    arrays[2][:] = np.linspace(-60000, 60000, 24)
    arrays[3][:] = short(far / known(problem, arrays).reach.sums)
    bounded = known(problem, arrays)
    assert bounded.reach.real == pytest.approx(far, rel=1e-6)
    choice = ROWS["conv_int8_sdot"].choices(bounded)[0]
    sums = problem.anchor.results
    x = (run(replace(problem.body, outputs=sums), arrays)[0].astype(np.float32) * arrays[3]).astype(np.float64)
    have = emulate(bounded, choice, arrays, tmp_path, "cortex-a76")
    with np.errstate(over="ignore"):
        error = ulps(have, x / (1 + np.exp(-x)))
    assert abs(x).max() > 0.5 * far
    assert error[x > -20].max() <= 5 and error[x > -86].max() <= 7


@pytest.mark.parametrize("far", [80.0, 500.0])
def test_swish_behind_sums_is_limited_where_it_must_be(far: float) -> None:
    problem = chain(KINDS, lambda *v: real(*v, zero=0, swish=True), (), "cortex-a78")
    _, code = assembly(problem, "conv_int8_sdot", within=Reach(1e6, 1e4, real=far))
    assert not re.search(r"\bscvtf\b", code)
    assert bool(re.search(r"\bfmax\b", code)) == (far > 86)


def test_numbers_that_stay_whole_are_loaded_once_for_all_vectors() -> None:
    """Of a turn that computes 24 functions; what products overwrite is loaded for each four."""
    problem = chain([*KINDS, KINDS[3]], gated, (), "cortex-a78")
    _, code = assembly(problem, "conv_int8_sdot", within=Reach(1e6, 1e4, real=500.0))
    loops = [block for block in re.split(r"^\.LBB\w+:", code, flags=re.M) if block.count("\tfmax\t") > 4]
    assert loops
    for block in loops:
        for limit in ("fmax", "fmin"):
            numbers = set(re.findall(rf"\t{limit}\tv\d+\.4s, v\d+\.4s, (v\d+)\.4s", block))
            assert len(numbers) == 1, numbers


@pytest.mark.parametrize("byte", [-5, -128, 4])
@pytest.mark.parametrize("far", [700.0, 2000.0])
def test_bytes_of_real_numbers_are_limited_as_they_are_narrowed(byte: int, far: float, tmp_path: Path) -> None:
    """Where constants keep them within 16 bits; else before."""
    problem = chain(KINDS, lambda *v: divided(*v, byte=byte), (), "rpi5")
    arrays = numbers([v.type for v in problem.body.inputs])
    arrays[2][:] = np.linspace(-60000, 60000, 24)
    arrays[3][:] = short(far / known(problem, arrays).reach.sums)
    bounded = known(problem, arrays)
    assert bounded.reach.steps == pytest.approx(far / 0.0473, rel=1e-6) and narrows(bounded.reach) == (far < 1500)
    choice = ROWS["conv_int8_sdot"].choices(bounded)[0]
    want = run(problem.body, arrays)[0]
    assert want.min() == -128 and want.max() == 127
    np.testing.assert_array_equal(emulate(bounded, choice, arrays, tmp_path, "cortex-a76"), want)


@pytest.mark.parametrize("byte", [-5, 4])
@pytest.mark.parametrize("far", [50.0, 500.0, 5000.0])
def test_bytes_of_gates_are_the_interpreters(byte: int, far: float, tmp_path: Path) -> None:
    """Within what an exponential takes, within 16 bits, and beyond both."""
    problem = chain([*KINDS, KINDS[3]], lambda *v: gated(*v, byte=byte), (), "rpi5")
    arrays = numbers([v.type for v in problem.body.inputs])
    arrays[2][:] = np.linspace(-60000, 60000, 24)
    arrays[3][:] = short(far / known(problem, arrays).reach.sums)
    arrays[4][:] = np.linspace(7, 20, 24)[:, None, None]
    bounded = known(problem, arrays)
    assert bounded.reach.steps == pytest.approx(20 * far, rel=0.01) and narrows(bounded.reach) == (far < 1000)
    choice = ROWS["conv_int8_sdot"].choices(bounded)[0]
    want = run(problem.body, arrays)[0]
    assert len(np.unique(want)) > (50 if far < 1000 else 10)
    np.testing.assert_array_equal(emulate(bounded, choice, arrays, tmp_path, "cortex-a76"), want)


@pytest.mark.parametrize("make", [lambda *v: divided(*v, swish=True), gated])
def test_bytes_of_gates_are_narrowed_in_few_instructions(make: Any) -> None:
    problem = chain([*KINDS, KINDS[3]], make, (), "cortex-a78")
    arrays = numbers([v.type for v in problem.body.inputs])
    arrays[3][:] = short(50 / known(problem, arrays).reach.sums)
    arrays[4][:] = 2 if make is not gated else 2 / 0.0473
    bounded = known(problem, arrays)
    assert bounded.reach.steps == pytest.approx(100 / 0.0473, rel=1e-4)
    _, code = assembly(problem, "conv_int8_sdot", within=bounded.reach)
    assert "sqxtn" in code and not re.search(r"\bf(max|min|cmeq|cmge)\b", code)


def slid(*args: Value, stride: int = 1) -> Value:
    """Bytes of x sigmoid(x) in steps, behind a depthwise window."""
    attrs = {"zero": -5, "group": args[1].shape[0], "pads": (1, 1, 1, 1), "strides": (stride, stride)}
    x = real(*args[:4], **attrs)
    limits = {"to": "i8", "zero": 3, "low": -128, "high": 127}
    return build("Edgec.Rescale", build("Mul", x, build("Edgec.NearSigmoid", x)), args[4], zeros=(0,), **limits)


def sliding(channels: int) -> list[str]:
    each = f"f32[{channels}, 1, 1]"
    return [f"i8[1, {channels}, 9, 11]", f"i8[{channels}, 1, 3, 3]", f"i32[{channels}]", each, each]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("where", ["rpi5", "cortex-a55", "slow loads"])
def test_gates_behind_sliding_windows_are_the_interpreters(where: str, stride: int, tmp_path: Path) -> None:
    """Also of the last four channels of twenty, and of columns that are left over."""
    slow = where == "slow loads"
    problem = chain(sliding(20), lambda *v: slid(*v, stride=stride), (), "rpi5" if slow else where)
    problem = loading_slowly(problem) if slow else problem
    arrays = numbers([v.type for v in problem.body.inputs])
    arrays[2][:] = np.linspace(-6000, 6000, 20)
    arrays[3][:] = short(50 / known(problem, arrays).reach.sums)
    arrays[4][:] = np.linspace(7, 20, 20)[:, None, None]
    bounded, want = known(problem, arrays), run(problem.body, arrays)[0]
    choice = ROWS["depthwise_int8_slide"].choices(bounded)[0]
    assert len(np.unique(want)) > 50
    np.testing.assert_array_equal(emulate(bounded, choice, arrays, tmp_path, "cortex-a76"), want)


def test_long_code_behind_sliding_windows_stands_once() -> None:
    """For the three columns of a turn, and for those that are left over: written out for each, it filled registers."""
    _, code = assembly(
        chain(sliding(24), slid, (), "cortex-a78"), "depthwise_int8_slide", within=Reach(1e4, 1e4, real=50.0)
    )
    vectors = 2 * 2  # rows, and four of eight channels
    assert len(re.findall(r"\bfcvtns\b", code)) == 2 * vectors
