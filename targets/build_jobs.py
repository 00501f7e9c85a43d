"""Builds kernels in parallel processes: emitting and compiling one takes 0.05-0.4 s, and they are independent."""

from __future__ import annotations

import multiprocessing as mp
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgec.compiler.registry import ROWS, Choice, Problem
from edgec.compiler.target import Target


@dataclass(frozen=True)
class Job:
    """One distinct kernel: its symbol, what it computes and how."""

    symbol: str
    problem: Problem
    choice: Choice


Progress = Callable[[str, int, int], None]
_work: tuple[Sequence[Job], Target] | None = None  # inherited by forked workers: graphs need no pickling


def build_objects(
    jobs: Sequence[Job], target: Target, progress: Progress
) -> tuple[tuple[tuple[str, bytes], ...], dict[str, int]]:
    """ELF objects (name, bytes), one per job in order of jobs, and the number of tasks of each symbol."""
    import tvm  # noqa: F401  (before forking: its import is paid once)

    global _work
    done: dict[int, tuple[bytes, int]] = {}
    workers = min(len(jobs), os.cpu_count() or 1)
    _work = (jobs, target)
    try:
        if workers <= 1:
            for i in range(len(jobs)):
                done[i] = _build(i)
                progress(jobs[i].symbol, len(done), len(jobs))
        else:
            with mp.get_context("fork").Pool(workers) as pool:
                for i, result in pool.imap_unordered(_numbered, range(len(jobs))):
                    done[i] = result
                    progress(jobs[i].symbol, len(done), len(jobs))
    finally:
        _work = None
    objects = tuple((f"{job.symbol}.o", done[i][0]) for i, job in enumerate(jobs))
    return objects, {job.symbol: done[i][1] for i, job in enumerate(jobs)}


def _numbered(i: int) -> tuple[int, tuple[bytes, int]]:
    return i, _build(i)


def _build(i: int) -> tuple[bytes, int]:
    from .codegen_llvm import object_bytes

    assert _work is not None
    jobs, target = _work
    job = jobs[i]
    emitted = ROWS[job.choice.row].emit(job.problem, job.choice, job.symbol)
    return object_bytes([(job.symbol, emitted.function)], target), emitted.tasks
