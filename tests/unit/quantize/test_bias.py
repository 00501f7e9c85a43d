"""Biases make up for mean errors where that lowers the error behind the functions, and nowhere else."""

from __future__ import annotations

import numpy as np

from edgec.compiler.cores import shared_out
from edgec.compiler.ir import Node, Type, Value
from edgec.compiler.quantize.reconstruct import Walk, helps


def relu(x: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return np.asarray(np.maximum(x, 0))


def test_a_shift_is_judged_by_all_elements_that_it_lets_through() -> None:
    value = Value(Node("Input", (), (Type("f32", (1, 3, 100)),), {}, "x"))
    real = np.full((1, 3, 100), -0.1, np.float32)
    real[:, :, 0] = 5.0
    rough = real.copy()
    rough[:, 0, 0] = 4.5  # the one that passes is too small: a shift by 0.5 would let 99 others through
    rough[:, 1] -= 0.5  # all are
    with shared_out() as cores:
        walk = Walk(cores, {}, {value: [real]}, {value: [rough]})
        found = helps([relu], walk, value, 1, np.array([0.5, 0.5, 0.0]))
    assert list(found) == [False, True, False]


def test_a_shift_into_what_a_function_is_not_defined_for_is_none() -> None:
    value = Value(Node("Input", (), (Type("f32", (1, 2, 4)),), {}, "x"))
    real = np.full((1, 2, 4), 1.0, np.float32)
    rough = np.stack([real[:, 0] + 0.2, real[:, 1] - 1], 1)  # 1.2, and 0, of which there is no logarithm
    with shared_out() as cores:
        walk = Walk(cores, {}, {value: [real]}, {value: [rough]})
        assert list(helps([np.log], walk, value, 1, np.array([-2.0, 0.5]))) == [False, True]
