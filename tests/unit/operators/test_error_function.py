"""The error function of arrays is that of the C library, element by element."""

import math

import numpy as np
import pytest

from edgec.compiler.ops.error_function import BLOCK, error_function
from edgec.compiler.ops.unary import erf

EDGES = [0.84375, 1.25, 1 / 0.35, 6.0]


def expected(x):
    return np.asarray([math.erf(v) for v in x.reshape(-1)], np.float64).reshape(x.shape)


def test_is_within_two_units_in_the_last_place_everywhere():
    near = [np.nextafter(edge, toward) for edge in EDGES for toward in (-np.inf, np.inf)]
    x = np.concatenate([np.linspace(-7, 7, 20_001), np.geomspace(1e-300, 1e3, 5_000), EDGES, near])
    x = np.concatenate([x, -x])
    want = expected(x)
    assert (np.abs(error_function(x) - want) <= 2 * np.spacing(np.abs(want))).all()


def test_special_values_and_signs():
    got = error_function(np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1e300]))
    np.testing.assert_array_equal(got, [0.0, -0.0, 1.0, -1.0, np.nan, 5e-324, 1.0])
    assert np.signbit(got).tolist()[:2] == [False, True]


@pytest.mark.parametrize("shape", [(), (0, 3), (2, BLOCK // 2 + 1), (3, 5, 7)])
def test_any_shape(shape):
    x = np.random.default_rng(1).standard_normal(shape)
    np.testing.assert_allclose(error_function(x), expected(x), rtol=5e-16)
    turned = x.T
    assert error_function(turned).shape == turned.shape
    np.testing.assert_array_equal(error_function(turned), error_function(x).T)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_shorter_types_get_the_rounded_value(dtype):
    x = (np.random.default_rng(2).standard_normal(50_000) * 2).astype(dtype)
    got = erf(x)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, expected(x.astype(np.float64)).astype(dtype))
