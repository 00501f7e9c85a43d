"""One distinct kernel of a program, from what it computes to the object that holds its code."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.compiler.bundle.elf import rename
from edgec.compiler.ir import Data, Graph, Value
from edgec.compiler.registry import ROWS, Choice, Problem
from edgec.compiler.target import Target

Built = tuple[bytes, int]  # the object that defines a job's symbol, and the number of its tasks
_SYMBOL = "kernel"  # until the object is in a program


@dataclass(frozen=True)
class Job:
    """One distinct kernel: its symbol, what it computes and how."""

    symbol: str
    problem: Problem
    choice: Choice

    @property
    def content(self) -> str:
        """Equal for kernels of one target whose code is equal: row, tiles, and the body apart from names."""
        choice = self.choice
        return f"{choice} {choice.scratch_bytes} {self.problem.threads} {_content(self.problem.body)}"


def _content(body: Graph) -> str:
    number: dict[Value, int] = {}
    lines = []
    for node in body.nodes():
        attrs = [(k, v.array.tobytes() if isinstance(v, Data) else v) for k, v in sorted(node.attrs.items())]
        lines.append(f"{node.op}{[number[a] for a in node.args]}{attrs}{[str(t) for t in node.types]}{node.types[0].q}")
        number.update((v, len(number) + i) for i, v in enumerate(node.results))
    return f"{lines}{[number[v] for v in body.inputs]}{[number[v] for v in body.outputs]}"


def build_job(job: Job, target: Target) -> Built:
    """The ELF object that defines `kernel`, and the number of its tasks."""
    from .codegen_llvm import object_bytes
    from .tir import restart_names

    restart_names()
    emitted = ROWS[job.choice.row].emit(job.problem, job.choice, _SYMBOL)
    return object_bytes([(_SYMBOL, emitted.function)], target), emitted.tasks


def named(built: Built, symbol: str) -> Built:
    """The same kernel under a symbol of its own."""
    return rename(built[0], {_SYMBOL: symbol}), built[1]
