"""Ranges of 8 bits by each method, on distributions whose best ranges are known."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest

from edgec.compiler.errors import EdgecError
from edgec.compiler.quantize.observe import MOST, Observer
from edgec.compiler.quantize.ranges import METHODS, choose, error, rounded, scale_of
from tests.support.float_models import Array

COUNT, PARTS = 1 << 19, 16  # elements in all, and samples that they come in


def observed(quantile: Callable[[Array], Array]) -> Observer:
    """A distribution by its quantiles, evenly spaced, so that nothing is left to chance."""
    values = quantile((np.arange(COUNT) + 0.5) / COUNT)
    seen = Observer()
    for part in range(PARTS):
        seen.see(values[part::PARTS])
    return seen


@pytest.fixture(scope="module")
def uniform() -> Observer:
    return observed(lambda p: 2 * p - 1)


@pytest.fixture(scope="module")
def normal() -> Observer:
    return observed(lambda p: np.array([NormalDist().inv_cdf(x) for x in p]))


@pytest.fixture(scope="module")
def laplace() -> Observer:
    return observed(lambda p: -np.sign(p - 0.5) * np.log1p(-2 * np.abs(p - 0.5)))


@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_a_uniform_distribution_keeps_its_whole_range(uniform: Observer, method: str) -> None:
    s = choose(uniform, method)  # type: ignore[arg-type]
    assert s.low == pytest.approx(-1, abs=0.01) and s.high == pytest.approx(1, abs=0.01)
    assert s.scale == pytest.approx(2 / 255, rel=0.01)


def test_minmax_reaches_the_largest(laplace: Observer) -> None:
    s = choose(laplace, "minmax")
    assert s.high == pytest.approx(np.log(COUNT), abs=s.scale) and s.low == pytest.approx(-np.log(COUNT), abs=s.scale)


def test_percentile_leaves_out_one_in_ten_thousand(normal: Observer, laplace: Observer) -> None:
    assert choose(normal, "percentile").high == pytest.approx(NormalDist().inv_cdf(1 - 0.5e-4), rel=0.02)
    assert choose(laplace, "percentile").high == pytest.approx(-np.log(1e-4), rel=0.02)
    assert choose(normal, "percentile", percentile=98.0).high == pytest.approx(NormalDist().inv_cdf(0.99), rel=0.02)


def test_mse_clips_where_theory_says(normal: Observer, laplace: Observer) -> None:
    """Banner et al., "Post training 4-bit quantization of convolutional networks", 2019: 8 bits of a normal
    distribution reach 3.92 deviations, of Laplace's 9.89."""
    assert choose(normal, "mse").high == pytest.approx(3.92, rel=0.06)
    assert choose(laplace, "mse").high == pytest.approx(9.89, rel=0.06)


def test_entropy_gives_up_what_is_rare() -> None:
    seen = observed(lambda p: np.array([NormalDist().inv_cdf(0.5 + x / 2) for x in p]))
    seen.see(np.asarray([40.0]))
    s = choose(seen, "entropy")
    assert s.low == 0.0 and 3.5 < s.high < 12.0
    assert choose(seen, "minmax").high == pytest.approx(40.0, rel=0.01)


@pytest.mark.parametrize("kind", ["uniform", "normal", "laplace"])
def test_auto_is_as_good_as_the_best(kind: str, request: pytest.FixtureRequest) -> None:
    seen: Observer = request.getfixturevalue(kind)
    centres, counts = seen.histogram()
    found = {m: error(centres, counts, choose(seen, m)) for m in ("minmax", "percentile", "entropy", "mse", "auto")}  # type: ignore[arg-type]
    assert found["auto"] == min(found.values())


def test_auto_counts_errors_behind_the_function_that_reads(laplace: Observer) -> None:
    """Sigmoid hardly tells 6 from 12: range is better spent near zero."""

    def sigmoid(x: Array) -> Array:
        return np.asarray(1 / (1 + np.exp(-x)))

    centres, counts = laplace.histogram()
    plain, behind = choose(laplace, "auto"), choose(laplace, "auto", [sigmoid])
    assert behind.scale < plain.scale
    assert error(centres, counts, behind, [sigmoid]) < error(centres, counts, plain, [sigmoid])


def test_zero_is_exact() -> None:
    for low, high in ((-1.0, 3.0), (0.5, 2.0), (-7.0, -1.0), (0.0, 0.0), (-1e-38, 1e-38)):
        s = scale_of(low, high)
        assert 0 <= s.zero <= 255 and rounded(np.zeros(1), s)[0] == 0.0
        assert s.low <= 0.0 <= s.high and s.scale > 0


def test_the_order_of_samples_does_not_matter() -> None:
    parts = [np.random.default_rng(k + 3).normal(size=999) * 10.0**k for k in range(-3, 4)]
    one, two = Observer(), Observer()
    for part in parts:
        one.see(part)
    for part in reversed(parts):
        two.see(part)
    assert (one.least, one.largest, one.width) == (two.least, two.largest, two.width)
    assert one.counts.sum() == two.counts.sum() == 7 * 999


def test_joined_is_what_both_have_seen() -> None:
    rng = np.random.default_rng(0)
    a, b, both = Observer(), Observer(), Observer()
    for seen, values in ((a, rng.normal(size=5000)), (b, 40 * rng.normal(size=5000))):
        seen.see(values)
        both.see(values)
    joint = a.joined(b)
    assert (joint.least, joint.largest, joint.samples) == (both.least, both.largest, 2)
    np.testing.assert_array_equal(joint.counts, both.counts)


@pytest.mark.parametrize("channels", [2, 8, 12])
def test_a_large_sample_is_counted_in_all_channels(channels: int) -> None:
    values = np.full((MOST, channels), 1.0)
    values[:, channels - 1] = 100.0
    seen = Observer()
    seen.see(values)
    centres, counts = seen.histogram()
    assert counts.sum() <= MOST
    assert counts[centres > 50].sum() == pytest.approx(counts.sum() / channels, rel=0.01)


def test_what_is_always_zero_has_a_scale() -> None:
    seen = Observer()
    seen.see(np.zeros(10))
    for method in (*METHODS, "auto"):
        s = choose(seen, method)  # type: ignore[arg-type]
        assert (s.scale, s.zero) == (1.0, 0)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(EdgecError, match="calibration method 'minmx'; did you mean 'minmax'"):
        choose(Observer(), "minmx")  # type: ignore[arg-type]
