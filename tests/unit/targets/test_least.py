"""The least time of some inferences: by the clock, or by what the thread worked where others got in between."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import pytest

from edgec.compiler.execution.benchmark import least


class Timed:
    """A model, and its runtime, whose runs take given milliseconds."""

    threads, on_device = 1, False

    def __init__(self, took: list[float]) -> None:
        self.took: Iterator[float] = iter(took)

    def timed(self, inputs: Any, call: Callable[[Any, int], int]) -> None:
        assert call(self, 0) == 0

    def ec_bench(self, at: int, runs: int, out: int) -> int:
        ctypes.c_double.from_address(out).value = next(self.took)
        return 0


@pytest.mark.parametrize(
    ("took", "worked", "want"),
    [
        ([0.02, 0.03, 9.0], [0.0, 0.0, 0.01], 0.02),  # a thread's clock that stood still says nothing of short runs
        ([8.0, 7.0, 9.0], [4.0, 4.0, 5.5], 4.5),  # others ran in each
        ([8.0, 7.0, 9.0], [7.5, 7.5, 7.5], 7.0),
    ],
)
def test_least(took: list[float], worked: list[float], want: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = chain.from_iterable((0, int(w * 1e6)) for w in worked)
    monkeypatch.setattr(time, "thread_time_ns", lambda: next(clock))
    assert least(Timed(took), len(took), {}) == pytest.approx(want)  # type: ignore[arg-type]
