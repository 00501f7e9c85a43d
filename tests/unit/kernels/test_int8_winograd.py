"""Convolutions of bytes by Winograd's method give the bits of the direct sum, at the ends of what bytes hold too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.interpret import run
from edgec.compiler.ir import Array, Value
from edgec.compiler.op import build
from edgec.compiler.registry import ROWS, Choice, Problem, choices
from edgec.targets.kernels.conv.shape import geometry
from edgec.targets.kernels.int8 import winograd_transform as winograd
from edgec.targets.kernels.int8.tiles import WORDS
from edgec.targets.kernels.int8.winograd_rows import NAME, SLICE, plans, slices
from edgec.targets.measure import Measured
from tests.support.harness import chain
from tests.unit.kernels import test_int8 as direct
from tests.unit.kernels.test_int8 import Case, check

SAME = (1, 1, 1, 1)
CASES = [
    Case((1, 16, 8, 8), 16, (3, 3), pads=SAME),
    Case((1, 24, 9, 13), 40, (3, 3), pads=SAME, zero=128, then="Add"),
    Case((2, 33, 5, 7), 56, (3, 3), pads=(2, 0, 1, 3), zero=255, then="Table"),
    Case((1, 300, 3, 5), 17, (3, 3), then="Twice"),
    Case((1, 16, 21, 34), 24, (3, 3), pads=SAME, zero=3, then="Tables"),
    Case((1, 5, 9, 9), 16, (3, 3), pads=SAME, zero=3),
    Case((1, 17, 11, 6), 16, (3, 3), pads=(0, 2, 0, 2), then="Sums"),
]


def offers(problem: Problem) -> list[Choice]:
    return list(ROWS[NAME].choices(problem))


class Numpy:
    """The transforms' operations on arrays."""

    def add(self, a: Array, b: Array) -> Array:
        return a + b

    def subtract(self, a: Array, b: Array) -> Array:
        return a - b

    def shift(self, a: Array, bits: int) -> Array:
        return a << bits


def both_axes(transform: Any, x: Array) -> Array:
    down = np.stack(transform(Numpy(), list(x)))
    return np.stack(transform(Numpy(), list(down.T))).T


@pytest.mark.parametrize("ends", [False, True], ids=["any", "ends"])
def test_transforms_are_a_convolution_and_keep_to_16_bits(ends: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        g = rng.choice([-128, 127], (3, 3)) if ends else rng.integers(-128, 128, (3, 3))
        d = rng.choice([-255, 255], (6, 6)) if ends else rng.integers(-255, 256, (6, 6))
        filters, inputs = both_axes(winograd.filters, g), both_axes(winograd.inputs, d)
        assert max(abs(filters).max(), abs(inputs).max()) < 1 << 15
        direct = np.lib.stride_tricks.sliding_window_view(d, (3, 3))
        want = np.einsum("hwij,ij->hw", direct, g)
        np.testing.assert_array_equal(both_axes(winograd.outputs, filters * inputs), winograd.SCALE * want)


def test_an_output_comes_back_from_its_lowest_bits() -> None:
    for y in (0, 1, -1, 12345, -winograd.MOST, winograd.MOST - 1):
        low = winograd.SCALE * y * winograd.INVERSE % (1 << 32)
        assert (low - (low >> 31 << 32)) >> winograd.SHIFT == y
    assert SLICE * 9 * 255 * 128 < winograd.MOST < (SLICE + 16) * 9 * 255 * 128


@pytest.mark.parametrize(("case", "threads"), [*((case, 1) for case in CASES), (CASES[1], 3)], ids=str)
def test_the_first_choice_gives_the_bits(case: Case, threads: int) -> None:
    problem = case.problem("x86", threads)
    check(problem, offers(problem)[:1], parts=3)


def test_every_choice_gives_the_bits() -> None:
    problem = CASES[0].problem("x86", 2)
    found = offers(problem)
    assert len({c.config for c in found}) == len(found) > 1
    check(problem, found, parts=2)


@pytest.mark.parametrize(("channels", "zero"), [(SLICE, 0), (2 * SLICE + 1, 0), (SLICE + 1, 255)], ids=str)
def test_the_greatest_sums_are_right(channels: int, zero: int) -> None:
    """Products wrap around there, and what one slice adds up to is all that 26 bits hold."""
    problem = Case((1, channels, 6, 6), 16, (3, 3), pads=SAME, zero=zero, then="Sums").problem("x86")
    assert slices(geometry(problem)) == -(-channels // SLICE)
    kinds = [(v.shape, v.type.dtype) for v in problem.body.inputs]
    assert [dtype for _, dtype in kinds] == ["u8", "i8", "i32", "f32"]
    rest = [np.arange(16, dtype=np.int32), np.ones(kinds[3][0], np.float32)]
    for w in (-128, 127):
        arrays = [np.full(kinds[0][0], 255 - zero, np.uint8), np.full(kinds[1][0], w, np.int8), *rest]
        got = Measured(problem, offers(problem)[0], arrays).run()
        np.testing.assert_array_equal(got, run(problem.body, arrays)[0])
        assert abs(got).max() > 9 * channels * 255 * 126


def test_real_functions_follow_the_sums() -> None:
    """Long code, which stands once, in a loop over pixels."""

    def body(x: Value, w: Value, b: Value, m: Value) -> Value:
        sums = build("Edgec.ConvInteger", x, w, b, pads=SAME, zero=7)
        return build("Sigmoid", build("Mul", build("Cast", sums, to="f32"), m))

    problem = chain(["u8[1, 20, 6, 9]", "i8[24, 20, 3, 3]", "i32[24]", "f32[24, 1, 1]"], body, [], "x86")
    rng = np.random.default_rng(0)
    arrays: list[Array] = [rng.integers(0, 256, (1, 20, 6, 9)).astype(np.uint8)]
    arrays += [rng.integers(-128, 128, (24, 20, 3, 3)).astype(np.int8), rng.integers(-99, 99, 24).astype(np.int32)]
    arrays.append(np.full((24, 1, 1), 2**-16, np.float32))
    got = Measured(problem, offers(problem)[0], arrays).run()
    np.testing.assert_allclose(got, run(problem.body, arrays)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", [CASES[1], CASES[3]], ids=str)
def test_nothing_outside_is_touched(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "fast", offers)
    direct.test_nothing_outside_counts_or_is_touched(case, "x86", tmp_path)


@pytest.mark.parametrize(("channels", "size"), [(16, 32), (64, 8), (64, 56), (256, 14), (512, 7)])
def test_it_is_chosen_and_reads_the_weights_of_the_direct_sum(channels: int, size: int) -> None:
    """Bytes: transformed they would take seven times their room."""
    problem = Case((1, channels, size, size), channels, (3, 3), pads=SAME).problem("x86")
    found = choices(problem)
    assert found[0].row == NAME
    assert found[0].layouts_in[1] == "OHWI16o2i"


def test_no_unit_is_empty() -> None:
    for threads in range(1, 9):
        for outputs in (16, 48, 64, 80, 112, 512):
            for size in (7, 14, 30, 56):
                problem = Case((1, 16, size, size), outputs, (3, 3), pads=SAME).problem("x86", threads)
                for plan in plans(geometry(problem), problem.target.cpu, WORDS, threads):
                    wide = -(-outputs // 16)
                    assert (plan.parts - 1) * -(-wide // plan.parts) < wide


def test_rows_say_why_they_refuse() -> None:
    def why(case: Case, where: str = "x86") -> object:
        return ROWS[NAME].accepts(case.problem(where))

    assert why(CASES[0], "x86-avx512") == "a direct sum takes four products of bytes at a time"
    assert why(CASES[0], "arm") == "needs AVX512VNNI or AVX2"
    assert why(replace(CASES[0], strides=(2, 2))) == "needs a 3x3 window of stride 1"
    assert why(replace(CASES[0], kernel=(1, 1))) == "needs a 3x3 window of stride 1"
    assert why(replace(CASES[0], x=(1, 3, 8, 8))) == "needs more than 4 input channels and 16 output channels"
    assert why(replace(CASES[0], x=(1, 64, 8, 8), outputs=64, group=2)) == "needs two spatial axes and one group"
    assert why(Case((1, 16, 50), 16, (3,), pads=(1, 1))) == "needs two spatial axes and one group"
