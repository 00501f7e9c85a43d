"""One distinct kernel of a program, from what it computes to the object that holds its code."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.compiler.registry import ROWS, Choice, Problem
from edgec.compiler.target import Target


@dataclass(frozen=True)
class Job:
    """One distinct kernel: its symbol, what it computes and how."""

    symbol: str
    problem: Problem
    choice: Choice


def build_job(job: Job, target: Target) -> tuple[bytes, int]:
    """The ELF object that defines the job's symbol, and the number of its tasks."""
    from .codegen_llvm import object_bytes
    from .tir import restart_names

    restart_names()
    emitted = ROWS[job.choice.row].emit(job.problem, job.choice, job.symbol)
    return object_bytes([(job.symbol, emitted.function)], target), emitted.tasks
