"""GELU by polynomials that a permutation picks, behind sums of whole vectors and of halves on AVX-512."""

from __future__ import annotations

from math import erf

import numpy as np
import pytest

from edgec.compiler.ir import Graph
from edgec.compiler.op import build
from edgec.compiler.registry import ROWS, Choice, Problem
from edgec.targets import built_for, codegen_llvm
from edgec.targets.measure import Measured, with_layouts
from tests.support.convolutions import Case
from tests.support.harness import target

FORMS, ERF = ("none", "tanh"), np.vectorize(erf)


def behind_a_convolution(channels: int, form: str) -> tuple[Problem, Choice]:
    """A convolution that leaves each element as it is, and GELU."""
    plain = Case((1, channels, 40, 25), channels, (1, 1), group=channels).problem(target("x86-avx512"))
    out = build("Gelu", plain.body.outputs[0], approximate=form)
    problem = Problem(Graph("body", plain.body.inputs, (out,)), plain.target, 1, plain.constants)
    return problem, ROWS["conv_f32_depthwise"].choices(problem)[0]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("channels", [8, 16, 24, 21])
def test_each_lane_gets_the_polynomial_of_its_interval(channels: int, form: str) -> None:
    problem, choice = behind_a_convolution(channels, form)
    x = np.random.default_rng(1).permutation(np.linspace(-7, 7, channels * 1000, dtype=np.float32))
    ones, zeros = np.ones((channels, 1, 1, 1), np.float32), np.zeros(channels, np.float32)
    have = Measured(problem, choice, [x.reshape(1, channels, 40, 25), ones, zeros]).run().reshape(-1)
    wide = x.astype(np.float64)
    inner = np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)) if form == "tanh" else ERF(wide * np.sqrt(0.5))
    error = np.abs(have - 0.5 * wide * (1 + inner)) / np.abs(wide)
    assert error.max() <= (5e-7 if channels == 21 else 1.7e-7), (error.max(), x[error.argmax()])


@pytest.mark.parametrize("channels", [8, 16])
def test_vectors_and_halves_pick_coefficients(channels: int) -> None:
    problem, choice = behind_a_convolution(channels, "none")
    with built_for.core(problem.target.cpu):
        made = ROWS[choice.row].emit(with_layouts(problem, choice), choice, "kern")
    code = codegen_llvm.build([("kern", made.function)], problem.target).inspect_source("asm")
    assert "vpermps" in code
