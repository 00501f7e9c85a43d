"""Limits of a search: what is better, what is missed, what binds, and which points no other beats."""

from __future__ import annotations

import pytest

from edgec.compiler.compress.search.limits import Figures, Limits, binding, limits_of, missed, pareto
from edgec.compiler.errors import EdgecError
from edgec.compiler.units import long_time

FAST, GOOD, SMALL = Figures(1.0, 300, 200, 0.05, 20.0), Figures(4.0, 500, 200, 0.001, 40.0), Figures(3.0, 100, 90, 0.02)


def test_limits_as_users_write_them() -> None:
    found = limits_of("20ms", "900K", "192KiB", 0.5)
    assert found == Limits(pytest.approx(20.0), 900 * 1024, 192 * 1024, 0.5)
    assert limits_of("900us", None, None, None).given() == {"latency": pytest.approx(0.9)}
    assert limits_of(None, "1.5M", None, 0).given() == {"flash": 1.5 * 1024**2, "drop": 0.0}


@pytest.mark.parametrize("drop", [-0.1, float("nan"), float("inf"), True, "1"])
def test_a_drop_that_is_none(drop: float) -> None:
    with pytest.raises(EdgecError, match="max_drop: .*expected a number that is not negative"):
        limits_of(None, None, None, drop)


def test_no_limit_at_all() -> None:
    with pytest.raises(EdgecError, match="no limit is given; expected one or more of --max-latency"):
        limits_of(None, None, None, None)


def test_time_of_a_search() -> None:
    assert [long_time("time", t) for t in ("10m", "90s", "1h", "15", 20)] == [600, 90, 3600, 15, 20]
    for bad in ("", "0", "-3m", "soon", "5 days", 0):
        with pytest.raises(EdgecError, match="time: .*expected a time such as 10m or 90s"):
            long_time("time", bad)


def test_within_limits_the_least_drop_is_best_and_without_any_the_least_time() -> None:
    points = [FAST, GOOD, SMALL]
    assert min(points, key=lambda f: Limits(flash=1000).key(f, 5.0)) == GOOD
    assert min(points, key=lambda f: Limits(flash=400).key(f, 5.0)) == SMALL
    assert min(points, key=lambda f: Limits(drop=0.1).key(f, 5.0)) == FAST
    assert min(points, key=lambda f: Limits(drop=0.01).key(f, 5.0)) == GOOD
    assert min(points, key=lambda f: Limits(ram=100).key(f, 5.0)) == SMALL


def test_slower_than_the_float_model_is_worse_than_any_drop_but_better_than_a_missed_limit() -> None:
    assert min([FAST, GOOD], key=lambda f: Limits(flash=1000).key(f, 2.0)) == FAST
    assert min([FAST, GOOD], key=lambda f: Limits(drop=0.01).key(f, 2.0)) == GOOD


def test_what_is_missed() -> None:
    limits = Limits(latency=2.0, flash=400, drop=0.0)
    assert limits.excess(GOOD) == {"latency": 1.0, "flash": 0.25, "drop": pytest.approx(0.1)}
    assert missed(limits, GOOD) == (
        "--max-latency 2ms by 2ms, --max-flash 400 bytes by 100 bytes, --max-drop 0 by 0.001"
    )


def test_the_limit_that_binds_is_the_one_without_which_another_would_be_better() -> None:
    points = [("fast", FAST), ("good", GOOD), ("small", SMALL)]
    assert binding(Limits(flash=400, ram=1000), points, SMALL, 5.0) == {"flash": "good"}
    assert binding(Limits(drop=0.01), points, GOOD, 5.0) == {"drop": "fast"}
    assert binding(Limits(ram=1000), points, GOOD, 5.0) == {"ram": None}
    assert binding(Limits(ram=1000), points, Figures(1.0, 1, 1), 5.0) == {}


def test_pareto() -> None:
    beaten = Figures(3.5, 120, 90, 0.02)
    points = [("fast", FAST), ("beaten", beaten), ("good", GOOD), ("small", SMALL), ("again", SMALL)]
    assert pareto(points) == ["fast", "good", "small"]
