"""Convolution kernels give the operator's meaning, over odd shapes, strides, paddings, channels and epilogues."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest

import edgec.compiler.ops
import edgec.targets.kernels  # noqa: F401
from edgec.compiler.compare.reference import in_float64
from edgec.compiler.interpret import run
from edgec.compiler.registry import ROWS, Choice, Problem, choices
from edgec.targets.build_jobs import Job, build_job
from edgec.targets.kernels.conv import depthwise_rows
from edgec.targets.kernels.conv.rows import tile_of
from edgec.targets.kernels.conv.shape import Axis, geometry, segments
from edgec.targets.kernels.conv.tiles import units
from edgec.targets.kernels.conv.winograd_rows import plans
from edgec.targets.kernels.cost import fits_registers
from edgec.targets.measure import with_layouts
from tests.support.convolutions import Case, arrays_for, check
from tests.support.emulated import emulate
from tests.support.harness import target

FAST = {"conv_f32_tile", "conv_f32_pointwise", "conv_f32_depthwise", "conv_f32_winograd"}


DENSE = [
    Case((1, 3, 23, 17), 8, (7, 7), (2, 2), (3, 3, 3, 3), then="Relu"),
    Case((1, 24, 9, 13), 40, (3, 3), pads=(1, 1, 1, 1), then="Add"),
    Case((2, 40, 14, 30), 24, (3, 3), (2, 2), (0, 0, 1, 1), then="Clip"),
    Case((1, 1, 28, 28), 3, (5, 5), pads=(2, 2, 2, 2)),
    Case((1, 17, 11, 11), 33, (3, 3), dilations=(2, 2), pads=(2, 2, 2, 2), then="Mul"),
    Case((1, 112, 7, 7), 112, (3, 3), pads=(1, 1, 1, 1), then="Add"),
    Case((1, 6, 5, 40), 20, (3, 1), pads=(4, 0, 4, 0)),
    Case((1, 32, 3, 3), 16, (3, 3)),
    Case((1, 8, 6, 6), 48, (1, 1), (2, 2), then="Relu"),
    Case((1, 64, 10, 9), 64, (3, 3), pads=(1, 1, 1, 1), group=2, then="Relu"),
    Case((1, 24, 10, 9), 24, (3, 3), pads=(1, 1, 1, 1), group=3, then="Add"),
    Case((1, 32, 11, 9), 32, (3, 3), (2, 2), (1, 1, 1, 1), group=8, then="Mul"),
    Case((1, 18, 7, 9), 36, (3, 3), pads=(1, 1, 1, 1), group=3, then="Relu"),
    Case((2, 20, 6, 7), 60, (1, 1), group=5, then="Clip"),
    Case((1, 20, 50), 40, (9,), (2,), (4, 4), then="Relu"),
    Case((1, 3, 90), 9, (40,), (2,), (20, 19), then="Relu"),
    Case((1, 20, 6, 5), 8, (9, 7), pads=(4, 3, 4, 3)),
    Case((1, 2, 3, 21), 5, (17, 19), pads=(8, 9, 8, 9), then="Add"),
    Case((1, 8, 3, 3), 8, (19, 23), pads=(12, 11, 12, 11)),
    Case((1, 5, 2, 2), 5, (3, 3), pads=(2, 2, 2, 2)),
    Case((1, 12, 1, 3), 20, (1, 1), (1, 2), (0, 1, 1, 1)),
]
POINTWISE = [
    Case((1, 3, 13, 13), 1, (1, 1), then="Relu"),
    Case((2, 24, 7, 7), 144, (1, 1), then="Add"),
    Case((1, 112, 5, 31), 40, (1, 1), then="Mul"),
    Case((1, 40, 1, 1), 1001, (1, 1)),
    Case((1, 17, 1, 30), 16, (1, 1), then="Clip"),
]
SPLIT = [  # reductions too long for one slice of weights in the L1 cache
    Case((1, 300, 9, 13), 40, (3, 3), (2, 2), (1, 1, 1, 1), then="Add"),
    Case((2, 512, 7, 7), 72, (1, 1), then="Relu"),
    Case((1, 1536, 5, 30), 24, (1, 1), then="Mul"),
    Case((1, 288, 7, 7), 20, (3, 3), pads=(1, 1, 1, 1), then="Clip"),
    Case((1, 512, 14, 14), 33, (1, 1), (2, 2)),
]
WINOGRAD = [
    Case((1, 16, 12, 12), 16, (3, 3), pads=(1, 1, 1, 1), then="Relu"),
    Case((2, 20, 13, 9), 40, (3, 3), pads=(1, 1, 1, 1), then="Add"),
    Case((1, 5, 30, 31), 24, (3, 3), pads=(0, 0, 1, 1), then="Mul"),
    Case((1, 40, 8, 10), 36, (3, 3), then="Clip"),
    Case((1, 9, 3, 4), 5, (3, 3), pads=(2, 2, 2, 2)),
]
DEPTHWISE = [
    Case((1, 24, 15, 13), 24, (3, 3), (1, 1), (1, 1, 1, 1), group=24, then="Clip"),
    Case((2, 8, 15, 30), 8, (3, 3), (2, 2), (0, 0, 1, 1), group=8, then="Add"),
    Case((1, 40, 7, 7), 40, (5, 5), (1, 1), (2, 2, 2, 2), group=40, then="Relu"),
    Case((1, 16, 9, 40), 16, (7, 7), (2, 2), (3, 3, 3, 3), group=16),
    Case((1, 20, 12, 12), 20, (3, 3), (1, 1), (4, 4, 4, 4), (4, 4), group=20, then="Mul"),
    Case((1, 17, 33), 17, (3,), (1,), (1, 1), group=17, then="Relu"),
    Case((1, 20, 90), 20, (33,), group=20, then="Relu"),
    Case((2, 18, 61), 18, (16,), (2,), dilations=(3,), group=18, then="Add"),
    Case((1, 24, 40, 45), 24, (21, 31), pads=(10, 0, 10, 0), group=24, then="Clip"),
    Case((1, 24, 15, 13), 24, (3, 3), (1, 1), (1, 1, 1, 1), group=24, then="+"),
    Case((1, 24, 9, 21), 24, (5, 5), (1, 1), (2, 2, 2, 2), group=24, then="+Add"),
    Case((2, 40, 7, 7), 40, (3, 3), (2, 2), (1, 1, 1, 1), group=40, then="+Mul"),
    Case((1, 17, 33), 17, (3,), (1,), (1, 1), group=17, then="+"),
]


def fast_choices(problem: Problem) -> list[Choice]:
    return [c for c in choices(problem) if c.row in FAST]


@pytest.mark.parametrize("case", DENSE + POINTWISE + DEPTHWISE, ids=str)
def test_the_first_choice_of_each_layout_gives_the_meaning_on_avx512(case: Case) -> None:
    problem = case.problem(target("x86-avx512"))
    first = {c.layouts_in[0]: c for c in reversed(fast_choices(problem))}
    assert first
    check(problem, list(first.values()))


@pytest.mark.parametrize("case", SPLIT, ids=str)
def test_a_split_reduction_gives_the_meaning(case: Case) -> None:
    for on in ("x86", "x86-avx512"):
        problem = case.problem(target(on))
        split = [c for c in fast_choices(problem) if "kp" in dict(c.config) and c.get("kp") > 1]
        assert split
        check(problem, [next(c for c in split if c.get("cf") == order) for order in {c.get("cf") for c in split}])


@pytest.mark.parametrize("case", WINOGRAD, ids=str)
def test_winograd_tiles_give_the_meaning(case: Case) -> None:
    for on, threads in (("x86", 1), ("x86-avx512", 1), ("arm", 2)):
        problem = case.problem(target(on), threads)
        offers = [c for c in fast_choices(problem) if c.row == "conv_f32_winograd"]
        assert {c.get("m") for c in offers} <= {2, 4} and offers
        if on != "arm":
            check(problem, offers)


LONG = [
    Case((1, 288, 7, 9), 24, (1, 1)),
    Case((1, 32, 9, 9), 16, (3, 3), (2, 2), (1, 1, 1, 1)),
    Case((1, 512, 7, 9), 72, (1, 1)),
    Case((1, 24, 15, 13), 24, (3, 3), pads=(1, 1, 1, 1), group=24),
    Case((1, 24, 15, 13), 24, (5, 5), pads=(2, 2, 2, 2), group=24),
]


@pytest.mark.parametrize("case", LONG, ids=str)
def test_a_large_bias_does_not_make_sums_coarse(case: Case) -> None:
    """A result is off by little more than half a unit in the last place of the bias: one rounding, not one per step."""
    from edgec.targets.measure import Measured

    for on in ("x86", "x86-avx512"):
        problem = case.problem(target(on))
        x, w, bias = arrays_for(problem)
        x, bias = x / 64, np.sign(bias) * np.float32(100)
        want = run(in_float64(problem.body), [a.astype(np.float64) for a in (x, w, bias)])[0]
        for choice in {c.get("kp") if "kp" in dict(c.config) else 1: c for c in fast_choices(problem)}.values():
            got = Measured(problem, choice, [x, w, bias]).run(parts=2)
            assert np.abs(got - want).max() < 0.75 * np.spacing(np.float32(100)), choice


def test_no_unit_of_a_winograd_convolution_is_empty() -> None:
    for threads in range(1, 9):
        for outputs in (16, 48, 64, 80, 112, 512):
            for size in (7, 14, 30, 56):
                problem = Case((1, 8, size, size), outputs, (3, 3), pads=(1, 1, 1, 1)).problem(target("x86"), threads)
                for plan in plans(geometry(problem), problem.target.cpu, threads):
                    tiles = -(-outputs // 16)
                    assert (plan.parts - 1) * -(-tiles // plan.parts) < tiles


def test_winograd_needs_filters_that_are_known() -> None:
    problem = replace(WINOGRAD[0].problem(target("x86")), constants=frozenset({2}))
    assert ROWS["conv_f32_winograd"].accepts(problem) == "needs constant filters"
    strided = Case((1, 16, 12, 12), 16, (3, 3), (2, 2), (1, 1, 1, 1)).problem(target("x86"))
    assert ROWS["conv_f32_winograd"].accepts(strided) == "needs a 3x3 window of stride 1"


@pytest.mark.parametrize(
    "case", [DENSE[1], DENSE[4], DENSE[5], DENSE[9], POINTWISE[1], *DEPTHWISE[::2], *DEPTHWISE[-3:]], ids=str
)
def test_the_first_choice_gives_the_meaning_on_avx2(case: Case) -> None:
    problem = case.problem(target("x86"), threads=2)
    check(problem, fast_choices(problem)[:1])


@pytest.mark.parametrize("case", [*DEPTHWISE, Case((1, 8, 40, 9), 8, (7, 7), pads=(3, 3, 3, 3), group=8)], ids=str)
def test_bands_of_a_plane_give_the_meaning(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depthwise_rows, "BAND_US", 1e-6)
    problem = case.problem(target("x86"), threads=4)
    offers = [c for c in fast_choices(problem) if c.row == "conv_f32_depthwise"]
    assert len(case.kernel) == 1 or max(c.get("hb") for c in offers) > 1
    check(problem, offers[:1] + offers[-1:], parts=7)


def test_planes_are_cut_only_where_threads_have_few() -> None:
    few, many = Case((1, 8, 96, 96), 8, (3, 3), group=8), Case((1, 512, 14, 14), 512, (3, 3), group=512)
    for case, threads, cut in ((few, 1, False), (few, 2, True), (many, 2, False)):
        offers = ROWS["conv_f32_depthwise"].choices(case.problem(target("x86"), threads))
        assert all((c.get("hb") > 1) == cut for c in offers)


def test_unequal_shares_are_avoided() -> None:
    """Tiles of 24 of the 64 channels are best for one thread; they would be three tasks for two."""
    case = Case((1, 32, 16, 16), 64, (3, 3), (2, 2), (0, 0, 1, 1), then="Relu")
    tasks = {}
    for threads in (1, 2):
        problem = case.problem(target("x86"), threads)
        offers = ROWS["conv_f32_tile"].choices(problem)
        tasks[threads] = prod(units(geometry(problem), tile_of(min(offers, key=lambda c: c.cost_us))))
    assert tasks[1] % 2 == 1 and tasks[2] % 2 == 0


@pytest.mark.parametrize("case", [DENSE[1], POINTWISE[1], DEPTHWISE[0]], ids=str)
def test_the_first_choice_gives_the_meaning_on_arm(case: Case) -> None:
    from edgec.targets.measure import Built

    compiler, emulator = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64-static")
    if not compiler or not emulator:
        pytest.skip("needs a cross compiler and an emulator for aarch64")
    problem = case.problem(target("arm"))
    arrays = arrays_for(problem)
    want = run(problem.body, arrays)[0]
    got = Built(problem, fast_choices(problem)[0], arrays).emulate(compiler, emulator)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


@pytest.mark.arm
@pytest.mark.parametrize(
    "case",
    [
        Case((1, 24, 9, 13), 40, (3, 3), pads=(1, 1, 1, 1), then="Add"),
        Case((1, 17, 11, 11), 33, (3, 3), pads=(1, 1, 1, 1)),
        Case((2, 64, 30, 30), 16, (3, 3), then="Relu"),
    ],
    ids=str,
)
def test_transformed_products_by_lane_give_the_meaning(case: Case, tmp_path: Path) -> None:
    """Sums of two vectors of channels, and a vector of four numbers of each row, fit the registers."""
    problem = case.problem(target("cortex-a78"))
    arrays = arrays_for(problem)
    want = run(problem.body, arrays)[0]
    for choice in ROWS["conv_f32_winograd"].choices(problem):
        assert fits_registers(problem.target.cpu, choice.get("mt"), 2, True)
        got = emulate(problem, choice, arrays, tmp_path)
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * np.abs(want).max(), err_msg=str(choice))


@pytest.mark.arm
@pytest.mark.parametrize(
    "case",
    [
        Case((1, 3, 9, 13), 10, (3, 3), (2, 2), (1, 1, 1, 1), then="Clip"),
        Case((2, 3, 6, 17), 9, (5, 5), (1, 1), (2, 2, 2, 2)),
        Case((1, 2, 5, 3), 5, (2, 2)),
        Case((1, 3, 9, 21), 6, (7, 7), (2, 2), (3, 3, 3, 3), then="Relu"),
        Case((1, 8, 6, 7), 20, (3, 3), (1, 1), (1, 1, 1, 1), then="Relu"),
        Case((1, 12, 5, 11), 40, (1, 1)),
        Case((1, 4, 5, 80), 6, (3, 33), (1, 2), (1, 16, 1, 16)),
        Case((1, 16, 9, 9), 16, (3, 3), (2, 2), (1, 1, 1, 1), group=4),
    ],
    ids=str,
)
def test_tiles_that_multiply_by_lane_give_the_meaning(case: Case) -> None:
    """Pixels read four at a time, along channels or along rows, with what is left at the ends."""
    from edgec.targets.measure import Built

    compiler, emulator = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64-static")
    if not compiler or not emulator:
        pytest.skip("needs a cross compiler and an emulator for aarch64")
    problem = case.problem(target("cortex-a78"))
    arrays = arrays_for(problem)
    want = run(problem.body, arrays)[0]
    rows = [c for c in fast_choices(problem) if c.row in ("conv_f32_tile", "conv_f32_pointwise")]
    for layout in dict.fromkeys(c.layouts_in for c in rows):
        choice = next(c for c in rows if c.layouts_in == layout)
        got = Built(problem, choice, arrays).emulate(compiler, emulator)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max(), err_msg=str(choice))


def test_code_does_not_grow_with_the_window() -> None:
    """At edges neither, where pixels read nothing at some taps: LLVM did not end with a window of 256."""
    sizes = []
    for taps in (100, 400):
        problem = Case((1, 1, 1, 3000), 1, (1, taps), (1, 2), (0, taps // 2, 0, taps // 2)).problem(target("rpi5"))
        choice = fast_choices(problem)[0]
        sizes.append(len(build_job(Job("k", with_layouts(problem, choice), choice), problem.target).code))
    assert sizes[1] < 5 * sizes[0] and sizes[1] < 80_000, sizes


def test_every_tile_of_a_small_convolution_gives_the_meaning() -> None:
    problem = Case((1, 20, 8, 9), 40, (3, 3), (1, 1), (1, 1, 1, 1), then="Relu").problem(target("x86-avx512"))
    check(problem, fast_choices(problem))


@pytest.mark.parametrize(("channels", "halves"), [(24, True), (33, True), (8, True), (28, False), (48, False)])
def test_few_channels_at_the_end_take_half_vectors_of_512_bits(channels: int, halves: bool) -> None:
    from edgec.targets import built_for

    problem = Case((1, 16, 9, 11), channels, (1, 1)).problem(target("x86-avx512"))
    choice = next(c for c in fast_choices(problem) if c.row == "conv_f32_pointwise")
    with built_for.core(problem.target.cpu):
        code = str(ROWS[choice.row].emit(with_layouts(problem, choice), choice, "kern").function)
    assert (re.search(r"Broadcast\(x\w*, 8\)", code) is not None) is halves


@pytest.mark.parametrize("channels", [8, 24])
def test_half_vectors_stay_in_registers_before_long_code(channels: int) -> None:
    """Sums are copied for it as wide as they were computed: none is put together with what lies behind it."""
    from edgec.targets import built_for
    from edgec.targets.codegen_llvm import build

    problem = Case((1, 3, 57, 57), channels, (3, 3), (2, 2), then="+").problem(target("x86-avx512"))
    choice = next(c for c in fast_choices(problem) if c.row == "conv_f32_tile")
    with built_for.core(problem.target.cpu):
        made = ROWS[choice.row].emit(with_layouts(problem, choice), choice, "kern")
    code = build([("kern", made.function)], problem.target).inspect_source("asm")
    assert re.search(r"vfmadd\d+ps.*ymm", code) and "vinsertf64x4" not in code


@pytest.mark.parametrize("steps", [1, 2])
def test_a_half_vector_costs_less_where_it_is_one_step_of_two(steps: int) -> None:
    """Where 512 bits are multiplied in two steps; elsewhere a half takes as long as a whole."""
    on = target("x86-avx512")
    on = replace(on, cpu=replace(on.cpu, fma_per_cycle=2.0 / steps))
    us = {}
    for outputs in (8, 16):
        problem = Case((1, 64, 40, 40), outputs, (1, 1)).problem(on)
        us[outputs] = min(c.cost_us for c in ROWS["conv_f32_pointwise"].choices(problem))
    assert (us[8] < 0.8 * us[16]) is (steps == 2)


def test_choices_do_not_depend_on_the_run() -> None:
    problem = DENSE[5].problem(target("x86-avx512"))
    assert fast_choices(problem) == fast_choices(DENSE[5].problem(target("x86-avx512")))


def test_a_register_tile_never_spills() -> None:
    for name in ("x86-avx512", "x86", "arm"):
        on = target(name)
        for choice in (c for c in fast_choices(DENSE[5].problem(on)) if c.row != "conv_f32_winograd"):
            held = choice.get("mt") * choice.get("rt") * choice.get("nv") + choice.get("nv") + 1
            assert held <= on.cpu.vector_registers


def test_rows_say_why_they_refuse() -> None:
    on = target("x86-avx512")
    grouped = Case((1, 24, 9, 9), 18, (3, 3), group=3).problem(on)
    assert ROWS["conv_f32_tile"].accepts(grouped) == "output channels per group are no multiple of 4"
    assert ROWS["conv_f32_depthwise"].accepts(grouped) == "needs one filter per channel"
    assert ROWS["conv_f32_tile"].accepts(POINTWISE[1].problem(on)) == "conv_f32_pointwise does this"
    assert "whole images" in str(ROWS["conv_f32_pointwise"].accepts(DENSE[1].problem(on)))
    volume = Case((1, 4, 5, 5, 5), 4, (3, 3, 3)).problem(on)
    assert "spatial axes" in str(ROWS["conv_f32_tile"].accepts(volume))


def test_tiles_of_an_axis_are_cut_where_padding_touches_them() -> None:
    rng = np.random.default_rng(3)
    for _ in range(500):
        size, kernel, stride, dilation = (int(rng.integers(1, n)) for n in (40, 8, 4, 4))
        pad, after, tile = (int(rng.integers(0, 5)) for _ in range(3))
        out = (size + pad + after - (kernel - 1) * dilation - 1) // stride + 1
        if out < 1:
            continue
        axis = Axis(size, out, kernel, stride, dilation, pad)
        found = [(s.start + i * s.length, s.length, s.edge) for s in segments(axis, tile + 1) for i in range(s.count)]
        want = [(start, min(tile + 1, out - start)) for start in range(0, out, tile + 1)]
        assert [f[:2] for f in found] == want
        for start, length, edge in found:
            assert edge == (not (axis.inside(start, 0) and axis.inside(start + length - 1, kernel - 1)))
