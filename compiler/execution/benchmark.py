"""Times of a compiled model, taken in C: of inferences and of steps, beside what the machine could do meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import EdgecError
from ..ports import random_inputs
from . import abi as abi

if TYPE_CHECKING:
    from .model import Model

_MEMORY = 128 << 20  # bytes: more than caches hold
_MOST_RUNS = 1_000_000
COARSE = 1.0  # milliseconds: a virtual machine takes what others stole of it off a thread's time in lumps, down to zero


@dataclass(frozen=True)
class Benchmark:
    """Durations in milliseconds, timed in C: of each run, and (with `layers`) medians by step name.

    `peak_gflops` is what the workers' cores reach on registers alone, `shares` how much of that each step reached (the
    median of ratios taken in the same round, because clock rates drift), `read_gbytes` what one core reads from memory
    per second. On an accelerator all three are 0: not known.
    """

    runs: tuple[float, ...]
    layers: tuple[tuple[str, float], ...] = ()
    shares: tuple[float, ...] = ()
    peak_gflops: float = 0.0
    read_gbytes: float = 0.0

    @property
    def median(self) -> float:
        return float(np.median(self.runs))

    @property
    def min(self) -> float:
        return min(self.runs)


def benchmark(model: Model, runs: int, layers: bool, inputs: Mapping[str, npt.ArrayLike] | None) -> Benchmark:
    """See `Model.benchmark`."""
    if not isinstance(runs, int) or runs < 1:
        raise EdgecError(f"runs must be 1 or more, got {runs!r}")
    if runs > _MOST_RUNS:
        raise EdgecError(f"runs must be {_MOST_RUNS:,} or fewer, got {runs}: the time of each is kept")
    feed = dict(inputs) if inputs is not None else random_inputs(model.inputs)
    model.run(feed)
    times = np.zeros((runs, 1))
    for time_of_run in times:
        model.timed(feed, _bench("ec_bench", time_of_run))
    whole = Benchmark(tuple(times[:, 0].tolist()))
    if not layers or not model.steps:
        return whole
    return _steps_on_device(model, whole, feed) if model.on_device else _steps(model, whole, feed)


def least(model: Model, runs: int, inputs: Mapping[str, npt.ArrayLike]) -> float:
    """Milliseconds of the fastest of some inferences; or what this thread worked in the mean of them, where that is
    less than any took by the clock: other programs got in between. With several threads, or a GPU, the clock counts,
    and for what is shorter than `COARSE`."""
    times, took, worked = np.zeros(1), [], []

    def once(runtime: Any, at: int) -> int:
        before = time.thread_time_ns()
        status: int = runtime.ec_bench(at, 1, times.ctypes.data)
        worked.append((time.thread_time_ns() - before) / 1e6)
        return status

    for _ in range(runs):
        model.timed(inputs, once)
        took.append(float(times[0]))
    alone = model.threads == 1 and not model.on_device
    return min(min(took), float(np.mean(worked))) if alone and min(took) > COARSE else min(took)


def _bench(function: str, into: npt.NDArray[np.float64], runs: int = 1) -> Callable[[Any, int], int]:
    """A call of ec_bench or ec_bench_steps, which writes milliseconds."""
    return lambda runtime, at: int(getattr(runtime, function)(at, runs, into.ctypes.data))


def _steps(model: Model, whole: Benchmark, feed: Mapping[str, npt.ArrayLike]) -> Benchmark:
    """The same with times of the steps, beside what the machine could do meanwhile."""
    runtime = abi.runtime_library()
    table = np.zeros((len(whole.runs), len(model.steps)))
    peaks = np.zeros(len(whole.runs))
    for i in range(len(whole.runs)):
        before = runtime.ec_bench_peak()
        model.timed(feed, _bench("ec_bench_steps", table[i]))
        peaks[i] = (before + runtime.ec_bench_peak()) / 2 * model.threads
    work = np.array([2e-6 * step["macs"] for step in model.bundle.steps])
    shares = np.median(work / np.maximum(table, 1e-6) / peaks[:, None], axis=0)
    memory = np.ones(_MEMORY, np.uint8)
    return replace(
        whole,
        layers=tuple(zip(model.steps, np.median(table, axis=0).tolist(), strict=True)),
        shares=tuple(shares.tolist()),
        peak_gflops=float(np.median(peaks)),
        read_gbytes=runtime.ec_bench_read(memory.ctypes.data, memory.nbytes),
    )


def _steps_on_device(model: Model, whole: Benchmark, feed: Mapping[str, npt.ArrayLike]) -> Benchmark:
    table = np.zeros((len(whole.runs), len(model.steps)))
    model.timed(feed, _bench("ec_bench_steps", table, len(table)))
    medians = np.median(table, axis=0).tolist()
    return replace(whole, layers=tuple(zip(model.steps, medians, strict=True)), shares=(0.0,) * len(model.steps))
