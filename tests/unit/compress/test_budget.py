"""Limits of time, flash and RAM: how they are written, and what is said of a model that exceeds them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgec.compiler.budget import ANY, Budget, Measures, budget
from edgec.compiler.errors import EdgecError
from edgec.compiler.target import find_target
from edgec.compiler.target_flags import with_aim
from edgec.compiler.unfit import advice
from edgec.compiler.units import Limit, show_bytes, show_seconds
from tests.support.handmade import program


@pytest.mark.parametrize(
    ("text", "seconds"), [("20ms", 0.02), ("900us", 9e-4), ("0.02s", 0.02), (" 1.5 ms ", 0.0015), (0.02, 0.02)]
)
def test_times(text: Limit, seconds: float) -> None:
    found = budget(max_latency=text).latency
    assert found is not None and found == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "count"),
    [("900", 900), ("900K", 921600), ("900k", 921600), ("1.5M", 1572864), ("192KiB", 196608), ("2MB", 2e6), (8, 8)],
)
def test_sizes(text: Limit, count: float) -> None:
    assert budget(max_flash=text).flash == budget(max_ram=text).ram == count


@pytest.mark.parametrize(
    "text", ["20", "20 minutes", "", "ms", "-3ms", "0ms", "inf", "1e400s", 0, -1.0, float("nan"), True]
)
def test_bad_times(text: Limit) -> None:
    with pytest.raises(EdgecError, match="max_latency: .*expected a time such as 20ms"):
        budget(max_latency=text)


@pytest.mark.parametrize("text", ["lots", "K", "-3K", "0", "1e3", "3ms", "9" * 400, 0])
def test_bad_sizes(text: Limit) -> None:
    with pytest.raises(EdgecError, match="max_ram: .*expected a size such as 192K"):
        budget(max_ram=text)


def test_what_exceeds_is_said_the_worst_first() -> None:
    limits = Budget(latency=0.020, flash=900 << 10, ram=192 << 10)
    assert limits and not ANY and not ANY.excess(Measures(1.0, 1 << 30, 1 << 30))
    assert limits.said(Measures(0.020, 900 << 10, 192 << 10)) == ""
    found = Measures(0.021, 1800 << 10, 100)
    assert limits.excess(found) == {"flash": pytest.approx(1.0), "latency": pytest.approx(0.05)}
    assert list(limits.excess(found)) == ["flash", "latency"]
    assert limits.said(found) == (
        "flash 1.758M is 900K above max_flash 900K; latency 21ms is 1ms above max_latency 20ms"
    )


def test_shown() -> None:
    assert [show_bytes(n) for n in (8, 1023, 1536, 3 << 20)] == ["8 bytes", "1023 bytes", "1.5K", "3M"]
    assert [show_seconds(s) for s in (2e-6, 9e-4, 0.0123, 1.5)] == ["2us", "900us", "12.3ms", "1.5s"]


def test_a_model_on_bytes_is_advised_to_take_bytes(tmp_path: Path) -> None:
    real = program(tmp_path)
    limits, found, board = Budget(ram=100), Measures(0.0, 0, 320), find_target("x86")
    assert "what helps: --quantize int8, a smaller" in advice(real, limits, found, 0, board)
    first, *more = real.steps
    stored = replace(real, steps=(replace(first, dtype="i8"), *more))
    assert 'what helps: inputs as bytes (--passes "+byte-inputs@fold"), a' in advice(stored, limits, found, 0, board)
    narrow = replace(stored, inputs=(replace(stored.inputs[0], dtype="i8"),))
    assert "what helps: a smaller input" in advice(narrow, limits, found, 0, board)


def test_small_code_is_advised_where_it_may_be_enough(tmp_path: Path) -> None:
    real, limits, found = program(tmp_path), Budget(flash=100_000), Measures(0.0, 150_000, 0)
    assert "--optimize size" in advice(real, limits, found, 60_000, find_target("x86"))
    assert "--optimize size" not in advice(real, limits, found, 40_000, find_target("x86"))
    assert "--optimize size" not in advice(real, limits, found, 60_000, with_aim(find_target("x86"), "size"))
    assert "--optimize size" not in advice(real, limits, found, 60_000, find_target("cuda"))
