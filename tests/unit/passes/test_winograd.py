"""Filters in Winograd's domain: the three matrices together are a convolution, and a layout names the domain."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.compiler.errors import IRError
from edgec.compiler.ir import Type
from edgec.compiler.layout import pack, physical_shape, same_bytes, unpack
from edgec.compiler.winograd import matrices, transform_filters


@pytest.mark.parametrize("m", [2, 4])
def test_the_matrices_convolve(m: int) -> None:
    rng = np.random.default_rng(5)
    outputs, filters, inputs = matrices(m)
    d, g = rng.standard_normal((m + 2, m + 2)), rng.standard_normal((3, 3))
    direct = np.array([[np.sum(d[i : i + 3, j : j + 3] * g) for j in range(m)] for i in range(m)])
    tile = outputs @ ((filters @ g @ filters.T) * (inputs @ d @ inputs.T)) @ outputs.T
    np.testing.assert_allclose(tile, direct, atol=1e-10)


@pytest.mark.parametrize(("m", "bound"), [(2, 1e-6), (4, 4e-6)])
def test_rounding_in_f32_stays_within_the_stated_bound(m: int, bound: float) -> None:
    rng = np.random.default_rng(6)
    outputs, _, inputs = (x.astype(np.float32) for x in matrices(m))
    d = np.maximum(rng.standard_normal((50, 256, m + 2, m + 2)), 0).astype(np.float32)
    g = rng.standard_normal((8, 256, 3, 3)).astype(np.float32)
    want = sum(
        np.einsum("tcij,oc->toij", d[:, :, a : a + m, b : b + m].astype(np.float64), g[:, :, a, b].astype(np.float64))
        for a in range(3)
        for b in range(3)
    )
    product = np.einsum("tcij,ocij->toij", inputs @ d @ inputs.T, transform_filters(g, m))
    got = outputs @ product @ outputs.T
    assert np.abs(got - want).max() <= bound * np.abs(want).max()


def test_a_layout_names_the_domain() -> None:
    w = np.random.default_rng(7).standard_normal((20, 5, 3, 3)).astype(np.float32)
    packed = pack(w, "F4:OHWI16o")
    assert packed.shape == physical_shape(Type("f32", w.shape, "F4:OHWI16o")) == (2, 6, 6, 5, 16)
    np.testing.assert_array_equal(packed[1, 2, 3, 4, :4], transform_filters(w, 4)[16:, 4, 2, 3])
    assert not packed[1, :, :, :, 4:].any()
    assert not same_bytes(Type("f32", w.shape, "F4:OHWI16o"), "OHWI16o")


def test_what_no_layout_can_be() -> None:
    with pytest.raises(IRError, match="tiles of 2 or 4"):
        physical_shape(Type("f32", (4, 4, 3, 3), "F3:OIHW"))
    with pytest.raises(IRError, match="do not come back"):
        unpack(np.zeros((1, 6, 6, 4, 16), np.float32), "F4:OHWI16o", (4, 4, 3, 3))
