"""top_k_block__cuda: the best elements of each row, a block of threads for each, sorted in shared memory.

A row that fits is sorted as a whole. Of a longer one the best so far stay in one half of the memory; what comes next is
sorted in the other half and merged into them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ...common import ceil_div
from ...selection.sort_rows import bits_of, size_of
from ..cost import LATENCY_US, memory_us

if TYPE_CHECKING:
    from ....tir import Expr, Stmt

NAME = "top_k_block__cuda"
ROOM = 4096  # entries of shared memory: 48 KiB where an index stands beside
LEAST = 16  # elements of a row; of shorter ones a thread does a whole one
MOST_THREADS = 512
STAGE = 30.0  # cycles of a stage in which threads meet
PAIR = 12.0  # cycles of a comparison in one thread, beside others


@dataclass(frozen=True)
class Plan:
    """`run` entries are sorted at a time, `turns` times; `threads` of a block."""

    run: int
    turns: int
    threads: int

    @property
    def levels(self) -> int:
        return self.run.bit_length() - 1

    @property
    def room(self) -> int:
        return self.run if self.turns == 1 else 2 * self.run


def plan_of(n: int) -> Plan:
    """How rows of n elements are sorted."""
    run = 1 << max(n - 1, 1).bit_length()
    run = run if run <= ROOM else ROOM // 2
    return Plan(run, ceil_div(n, run), max(32, min(MOST_THREADS, run // 2)))


def match(problem: Problem) -> Literal[True] | str:
    rows, n, k = size_of(problem.anchor)
    plan = plan_of(n)
    if not rows * k or n <= LEAST:
        return f"sorts rows of more than {LEAST} elements"
    return True if plan.turns == 1 or k <= plan.run else f"finds at most {plan.run} of more than {ROOM} elements"


def choices(problem: Problem) -> Sequence[Choice]:
    body = problem.body
    layouts_in, layouts_out = ("",) * len(body.inputs), ("",) * len(body.outputs)
    return [Choice(NAME, layouts_in, layouts_out, cost_us=_us(problem))]


def _us(problem: Problem) -> float:
    gpu = problem.target.gpu
    assert gpu is not None
    rows, n, _ = size_of(problem.anchor)
    plan = plan_of(n)
    stages = plan.levels * (plan.levels + 1) / 2 + (plan.levels + 1 if plan.turns > 1 else 0)
    busy = plan.threads / gpu.f32_fma  # warps that are served in turn
    cycles = plan.turns * stages * (STAGE + PAIR * max(1.0, busy) * ceil_div(plan.run // 2, plan.threads))
    held = plan.room * (8 if bits_of(problem.anchor) <= 32 else 12)
    resident = max(1, min(gpu.threads // plan.threads, gpu.shared // held, 16))
    rounds = rows / gpu.multiprocessors if rows > gpu.multiprocessors else 1.0
    overlap = min(resident, max(1.0, rounds), max(1.0, 4 / busy))
    moved = memory_us(gpu, problem.bytes_moved, problem.bytes_moved)
    return gpu.launch_us + plan.turns * LATENCY_US + rounds / overlap * cycles / (gpu.ghz * 1e3) + moved


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from edgec.compiler.program import Launch

    from .... import tir
    from ....access import parameter
    from ....cuda.threads import launched, parameters
    from ...plain import Tensors
    from .top_k_emit import best_of_row

    node, body = problem.anchor, problem.body
    rows, n, _ = size_of(node)
    named = [(f"a{i}", v.type) for i, v in enumerate(body.inputs)]
    named += [(f"r{i}", v.type) for i, v in enumerate(body.outputs)]
    params = [(name, parameter(name, t)[1], (max(1, t.size),)) for name, t in named]
    pointers, buffers, head = parameters(params)
    of = dict(zip((*body.inputs, *body.outputs), buffers, strict=True))
    tensors = Tensors(node, problem, tuple(of[a] for a in node.args), tuple(of[v] for v in node.results), ())
    plan = plan_of(n)
    launch = Launch(symbol, (rows, 1, 1), plan.threads)

    def block(at: Any, thread: Expr) -> Stmt:
        return tir.seq(head, best_of_row(tensors, plan, at[0], thread))

    return Emitted(launched(symbol, pointers, launch, block), rows, launch)


kernel(
    Row(
        NAME,
        frozenset({"TopK"}),
        match,
        choices,
        emit,
        "the best elements of each row: a block sorts it in shared memory",
        isa=frozenset({"CUDA"}),
    )
)
