"""Biases make up for mean errors where that lowers the error behind the functions, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgec.compiler.cores import shared_out
from edgec.compiler.ir import Array, Node, Type, Value
from edgec.compiler.quantize.bias import helpful
from edgec.compiler.quantize.held import storing
from edgec.compiler.quantize.walk import Walk


def relu(x: Array) -> Array:
    return np.asarray(np.maximum(x, 0))


def kept(real: Array, rough: Array, shift: list[float], function: Callable[[Array], Array]) -> list[float]:
    """What is left of a shift of each channel."""
    value = Value(Node("Input", (), (Type("f32", real.shape),), {}, "x"))
    with storing() as store, shared_out() as cores:
        walk = Walk(cores, {}, store, {value: [real]}, {value: [rough]})
        return list(helpful([function], walk, value, 1, np.array(shift)))


def test_a_shift_is_judged_by_all_elements_that_it_lets_through() -> None:
    real = np.full((1, 2, 100), -0.1, np.float32)
    real[:, :, 0] = 5.0
    rough = real - np.float32(0.5)  # all are too small
    assert kept(real, rough, [0.5, 0.5], relu) == [0.5, 0.5]
    rough[:, 0, 1:] = -0.1  # the one that passes is: a shift would let 99 others through
    assert kept(real, rough, [0.5, 0.5], relu) == [0.0, 0.0]


def test_a_shift_into_what_a_function_is_not_defined_for_is_none() -> None:
    real = np.full((1, 2, 4), 1.0, np.float32)
    rough = np.stack([real[:, 0] + 0.2, real[:, 1] - 1], 1)  # 1.2, and 0, of which there is no logarithm
    assert kept(real, rough, [-2.0, 0.5], np.log) == [0.0, 0.5]
