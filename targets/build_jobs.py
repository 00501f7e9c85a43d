"""One distinct kernel of a program, from what it computes to its code: an object, or text for a device's compiler."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256

from edgec.compiler.bundle.elf import rename
from edgec.compiler.kernel_content import content
from edgec.compiler.program import Launch
from edgec.compiler.registry import ROWS, Choice, Problem, worker_choice
from edgec.compiler.target import Target

_SYMBOL = "edgec_kernel"  # until it is in a program


@dataclass(frozen=True)
class Built:
    """The object that defines a job's symbol (for a device: CUDA C), and the number of its tasks or its launch.

    `numbers`: what the code reads from a table. `same`: equal for objects that are equal apart from the symbol.
    """

    code: bytes
    tasks: int
    launch: Launch | None = None
    numbers: tuple[int, ...] = ()
    same: bytes = b""


@dataclass(frozen=True)
class Job:
    """One distinct kernel: its symbol, what it computes and how."""

    symbol: str
    problem: Problem
    choice: Choice

    @property
    def content(self) -> str:
        """Equal for kernels of one target whose code is equal: row, tiles, and the body apart from names."""
        choice, problem = self.choice, self.problem
        fixed = sorted(problem.constants)
        shared = " shared" if problem.shared else ""
        return f"{choice} {choice.scratch_bytes} {problem.threads} {fixed} {content(problem.body)}{shared}"

    @property
    def form(self) -> str:
        """Equal for kernels whose code may be one, up to numbers; "" where it cannot."""
        found = ROWS[self.choice.row].form
        return f"{self.choice.row} {shape}" if found and (shape := found(self.problem)) else ""


def sharing(jobs: Mapping[str, Job]) -> dict[str, Job]:
    """Jobs by what they were found by; those of which several are of one form read their numbers from tables."""
    forms = {key: job.form for key, job in jobs.items()}
    many = Counter(forms.values())
    return {
        key: replace(job, problem=replace(job.problem, shared=True)) if forms[key] and many[forms[key]] > 1 else job
        for key, job in jobs.items()
    }


def build_job(job: Job, target: Target) -> Built:
    """The code of a job's kernel under a name that is the same for all."""
    from . import built_for, tir

    tir.restart_names()
    if target.gpu:
        return _device_code(job)
    from .codegen_llvm import object_bytes

    with built_for.core(target.cpu):
        emitted = ROWS[job.choice.row].emit(job.problem, job.choice, _SYMBOL)
    return Built(object_bytes([(_SYMBOL, emitted.function)], target), emitted.tasks, numbers=emitted.numbers)


def _device_code(job: Job) -> Built:
    from . import built_for
    from .cuda.codegen import cuda_text
    from .cuda.threads import threaded

    choice, workers = worker_choice(job.choice)
    with built_for.device_code():
        emitted = ROWS[choice.row].emit(job.problem, choice, _SYMBOL)
        function, launch = threaded(emitted, workers, choice.scratch_bytes)
        return Built(cuda_text(function).encode(), emitted.tasks, launch)


def named(built: Built, symbol: str) -> Built:
    """The same kernel under a symbol of its own."""
    if built.launch is None:
        same = sha256(built.code).digest()
        return replace(built, code=rename(built.code, {_SYMBOL: symbol}), same=same)
    code = re.sub(rf"\b{_SYMBOL}\b", symbol, built.code.decode()).encode()
    return replace(built, code=code, launch=replace(built.launch, kernel=symbol))
