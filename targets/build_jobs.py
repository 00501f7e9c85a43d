"""Builds kernels in parallel processes: emitting and compiling one takes 0.05-0.4 s, and they are independent."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgec.compiler.parallel import forked
from edgec.compiler.registry import ROWS, Choice, Problem
from edgec.compiler.target import Target

from .tir import restart_names


@dataclass(frozen=True)
class Job:
    """One distinct kernel: its symbol, what it computes and how."""

    symbol: str
    problem: Problem
    choice: Choice


Progress = Callable[[str, int, int], None]


def build_job(job: Job, target: Target) -> tuple[bytes, int]:
    """The ELF object that defines the job's symbol, and the number of its tasks."""
    from .codegen_llvm import object_bytes

    restart_names()
    emitted = ROWS[job.choice.row].emit(job.problem, job.choice, job.symbol)
    return object_bytes([(job.symbol, emitted.function)], target), emitted.tasks


def build_objects(
    jobs: Sequence[Job], target: Target, progress: Progress
) -> tuple[tuple[tuple[str, bytes], ...], dict[str, int]]:
    """ELF objects (name, bytes), one per job in order of jobs, and the number of tasks of each symbol."""
    from . import codegen_llvm  # noqa: F401  before forking: the import of TVM is paid once

    def build(i: int) -> tuple[bytes, int]:
        job = jobs[i]
        try:
            return build_job(job, target)
        except Exception as error:
            anchor = job.problem.anchor
            raise RuntimeError(f"kernel {job.choice} for {anchor}: {type(error).__name__}: {error}") from error

    done: dict[int, tuple[bytes, int]] = {}
    for i, result in forked(len(jobs), build, os.cpu_count() or 1):
        done[i] = result
        progress("kernels", len(done), len(jobs))
    objects = tuple((f"{job.symbol}.o", done[i][0]) for i, job in enumerate(jobs))
    return objects, {job.symbol: done[i][1] for i, job in enumerate(jobs)}
