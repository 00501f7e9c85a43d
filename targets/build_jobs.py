"""One distinct kernel of a program, from what it computes to its code: an object, or text for a device's compiler."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from edgec.compiler.bundle.elf import rename
from edgec.compiler.kernel_content import content
from edgec.compiler.program import Launch
from edgec.compiler.registry import ROWS, Choice, Problem, worker_choice
from edgec.compiler.target import Target

_SYMBOL = "edgec_kernel"  # until it is in a program


@dataclass(frozen=True)
class Built:
    """The object that defines a job's symbol (for a device: CUDA C), and the number of its tasks or its launch."""

    code: bytes
    tasks: int
    launch: Launch | None = None


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
        return f"{choice} {choice.scratch_bytes} {problem.threads} {fixed} {content(problem.body)}"


def build_job(job: Job, target: Target) -> Built:
    """The code of a job's kernel under a name that is the same for all."""
    from . import built_for, tir

    tir.restart_names()
    if target.gpu:
        return _device_code(job)
    from .codegen_llvm import object_bytes

    with built_for.core(target.cpu):
        emitted = ROWS[job.choice.row].emit(job.problem, job.choice, _SYMBOL)
    return Built(object_bytes([(_SYMBOL, emitted.function)], target), emitted.tasks)


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
        return replace(built, code=rename(built.code, {_SYMBOL: symbol}))
    code = re.sub(rf"\b{_SYMBOL}\b", symbol, built.code.decode()).encode()
    return replace(built, code=code, launch=replace(built.launch, kernel=symbol))
