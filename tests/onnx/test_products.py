"""Products of two inputs through the whole compiler: sizes at which a layout is the same bytes as another."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

import edgec.backend

SHAPES = [
    ((8, 5), (5, 16)),
    ((32, 2), (2, 32)),
    ((1,), (1, 16)),
    ((2, 2, 8, 13), (13, 32)),
    ((1, 1, 5, 5), (1, 1, 5, 1)),
]


@pytest.mark.parametrize(("a", "b"), SHAPES, ids=str)
def test_product(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal(a).astype("f4"), rng.standard_normal(b).astype("f4")
    (z,) = edgec.backend.run_node(helper.make_node("MatMul", ["x", "y"], ["z"]), [x, y])
    np.testing.assert_allclose(z, x @ y, rtol=1e-5, atol=1e-5)
