"""Means and covariances that are gathered sample by sample."""

from __future__ import annotations

import numpy as np

from edgec.compiler.covariance import Covariance
from edgec.compiler.quantize.rounding import rounded_weights


def far_from_zero(samples: int = 3, inputs: int = 192) -> list[np.ndarray]:
    """Columns that hardly vary beside their means, which are of all sizes, of one sample after the other."""
    rng = np.random.default_rng(0)
    mean = np.exp(2 * rng.standard_normal((1, inputs, 1)))
    return [np.float32(mean * (1 + 1e-3 * rng.standard_normal((1, inputs, 197)))) for _ in range(samples)]


def test_what_varies_is_not_lost_beside_the_means() -> None:
    samples = far_from_zero()
    found = Covariance.over(map(Covariance.of, samples))
    whole = np.concatenate(samples, 2)[0].astype(np.float64)
    want = np.cov(whole, bias=True)
    assert found.count == whole.shape[1]
    assert np.abs(found.matrix()[0] - want).max() < 1e-3 * want.diagonal().max()
    assert np.allclose(found.second_moment()[0], whole @ whole.T / whole.shape[1], rtol=1e-6)


def test_weights_are_rounded_where_inputs_hardly_vary() -> None:
    same = [np.repeat(far_from_zero(1)[0][..., :1], 197, axis=2)] * 4
    rows = np.random.default_rng(1).standard_normal((1, 8, 192))
    step = np.abs(rows).max(2) / 127
    integers = rounded_weights(rows, step, Covariance.over(map(Covariance.of, same)))
    assert np.abs(integers).max() <= 127
    assert np.abs(integers * step[..., None] - rows).max() < 16 * step.max()
