"""Times the candidates for one kernel against each other: built in parallel, linked into one library, run in turns.

Times taken at different moments do not compare where clock rates drift and neighbours disturb. So every round runs each
candidate for some microseconds, a candidate's figure is the median of its ratios to the round's mean, and only the
scale common to all comes from the clock.
"""

from __future__ import annotations

import ctypes as c
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Array, Type, Value
from edgec.compiler.layout import layout, pack, physical_shape, storage_bytes
from edgec.compiler.registry import Choice, Problem

from .build_jobs import Job, build_job, named
from .measure import _aligned, link, with_layouts

COLD_BYTES = 96 << 20  # copies of weights that a cold kernel goes through: more than caches hold
MOST_COPIES = 64
BATCH_US = 20.0  # a turn: so short that other processes disturb few of them

TIMER = r"""
typedef struct { kernel_fn *kernel; void *const *const *copies; int32_t n_copies, tasks; } racer;
/* One turn: the mean of `calls` calls; `at` goes through the copies of the arguments. */
static double turn(const racer *r, int32_t calls, int32_t *at) {
    const double start = now();
    for (int32_t i = 0; i < calls; ++i) {
        r->kernel(r->copies[*at], 0, r->tasks);
        *at = (*at + 1) % r->n_copies;
    }
    return (now() - start) / calls;
}
/* Rounds of turns until the budget is used, at least `least` and at most `most`; us_out[rounds][n]. */
int32_t edgec_race(const racer *racers, int32_t n, int32_t least, int32_t most, double batch_us, double budget_us,
                   int32_t *calls, int32_t *at, double *us_out) {
    const double begin = now();
    int32_t round = 0;
    for (int32_t k = 0; k < n; ++k) {
        at[k] = 0;
        turn(&racers[k], 1, &at[k]);
        const double once = turn(&racers[k], 1, &at[k]);
        calls[k] = once > 0 && batch_us / once < 10000 ? (int32_t)(batch_us / once) : 10000;
        if (calls[k] < 1) calls[k] = 1;
    }
    while (round < most && (round < least || now() - begin < budget_us)) {
        for (int32_t k = 0; k < n; ++k)
            us_out[round * n + k] = turn(&racers[k], calls[k], &at[k]);
        ++round;
    }
    return round;
}
"""


class _Racer(c.Structure):
    _fields_ = [("kernel", c.c_void_p), ("copies", c.c_void_p), ("n_copies", c.c_int32), ("tasks", c.c_int32)]


@dataclass(frozen=True)
class Built:
    """A candidate that is ready to run: the object that defines its symbol, and the number of its tasks."""

    job: Job
    object: bytes
    tasks: int


def build_candidates(problem: Problem, offers: Sequence[Choice], workers: int) -> list[Built | str]:
    """Each candidate built, or why it cannot be. Equal symbols number them: edgec_k0, edgec_k1 ..."""
    from edgec.compiler.parallel import forked

    from . import codegen_llvm  # noqa: F401  before forking: the import of TVM is paid once

    jobs = [Job(f"edgec_k{i}", with_layouts(problem, offer), offer) for i, offer in enumerate(offers)]

    def build(i: int) -> tuple[bytes, int] | str:
        try:
            made = named(build_job(jobs[i], problem.target), jobs[i].symbol)
            return made.code, made.tasks
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    out: list[Built | str] = [""] * len(jobs)
    for i, made in forked(len(jobs), build, workers):
        out[i] = made if isinstance(made, str) else Built(jobs[i], *made)
    return out


class Race:
    """Candidates with memory to work on. `extra`: (object, symbol, arrays) of kernels of one task to run along."""

    def __init__(self, candidates: Sequence[Built], extra: Sequence[tuple[bytes, str, Sequence[Array]]] = ()) -> None:
        objects = [candidate.object for candidate in candidates] + [data for data, _, _ in extra]
        self._library = link(objects, TIMER)
        self._kept: list[Any] = []
        rows = [(b.job.symbol, _copies(b.job), b.tasks) for b in candidates]
        rows += [(symbol, [list(arrays)], 1) for _, symbol, arrays in extra]
        self._racers = (_Racer * len(rows))(*[self._racer(*row) for row in rows])

    def _racer(self, symbol: str, copies: list[list[Array]], tasks: int) -> _Racer:
        pointers = [(c.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays]) for arrays in copies]
        table = (c.c_void_p * len(pointers))(*[c.addressof(p) for p in pointers])
        self._kept += [copies, pointers, table]
        kernel = c.cast(getattr(self._library, symbol), c.c_void_p)
        return _Racer(kernel, c.addressof(table), len(pointers), tasks)

    def rounds(self, budget_ms: float, least: int = 5, most: int = 2000) -> Array:
        """Microseconds [rounds, candidates and extras]."""
        n = len(self._racers)
        out = np.zeros((most, n))
        calls, at = np.zeros(n, np.int32), np.zeros(n, np.int32)
        race = self._library.edgec_race
        race.restype = c.c_int32
        race.argtypes = [c.c_void_p, *[c.c_int32] * 3, *[c.c_double] * 2, *[c.c_void_p] * 3]
        arrays = (calls.ctypes.data, at.ctypes.data, out.ctypes.data)
        done = race(self._racers, n, least, most, BATCH_US, budget_ms * 1e3, *arrays)
        return out[:done]


def figures(rounds: Array) -> list[float]:
    """Microseconds per candidate: the median ratio to the round's mean, scaled to the quietest rounds."""
    mean = rounds.mean(axis=1, keepdims=True)
    ratios: Array = np.median(rounds / mean, axis=0)
    return [float(x) for x in ratios * np.quantile(mean, 0.2)]


def _copies(job: Job) -> list[list[Array]]:
    """Arguments of a kernel: inputs, outputs, scratch; several sets of constants where they are cold in the model."""
    body, problem = job.problem.body, job.problem
    arrays = [_argument(problem, v) for v in body.inputs] + [
        _aligned(np.zeros(_elements(v.type))) for v in body.outputs
    ]
    if job.choice.scratch_bytes:
        arrays.append(_aligned(np.zeros(job.choice.scratch_bytes, np.uint8)))
    weights = sum(storage_bytes(body.inputs[i].type) for i in problem.constants)
    count = min(MOST_COPIES, COLD_BYTES // weights + 1) if problem.cold and weights else 1
    return [
        [_aligned(a.copy()) if i in problem.constants and k else a for i, a in enumerate(arrays)] for k in range(count)
    ]


def _elements(t: Type) -> int:
    """Doubles that hold a value."""
    return -(-storage_bytes(t) // 8)


def _argument(problem: Problem, value: Value) -> Array:
    """Numbers for an input; a constant that lies without its zeros has those that it has."""
    zeros = problem.zeros(value)
    if zeros is None or not layout(value.type.layout, len(value.shape)).sparse:
        return _filled(value.type)
    return _aligned(pack(zeros, value.type.layout))


def _filled(t: Type) -> Array:
    """Ordinary numbers of a type; integers, which may be indices, are zero."""
    kind = dtype(t.dtype).numpy
    if kind.kind in "iub":
        return _aligned(np.zeros(physical_shape(t), kind))
    return _aligned(np.random.default_rng(1).standard_normal(physical_shape(t)).astype(kind))
