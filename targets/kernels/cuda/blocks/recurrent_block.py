"""recurrent_block__cuda: RNN, GRU and LSTM, a block of threads for each sequence and direction.

A thread has a hidden unit and some of the numbers of h that it is made from: neighbouring threads read neighbouring
weights, which come from the second cache at every step. Sums meet in shared memory, where the states are as well. Of a
single step hidden units are shared by several blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ...common import ceil_div
from ...recurrent.rows import Shape, shape_of
from ..cost import LATENCY_US, memory_us

if TYPE_CHECKING:
    from ....tir import Buffer, Expr, Stmt

NAME = "recurrent_block__cuda"
MOST_HIDDEN = 1024
MOST_THREADS = 1024
AT_ONCE = 8  # loads of weights in flight, of each gate
BYTES_PER_CYCLE = 48.0  # from the second cache into one multiprocessor


@dataclass(frozen=True)
class Plan:
    """`units` of a tile by `parts` of h; `chunks` blocks share the hidden units."""

    units: int
    parts: int
    chunks: int

    @property
    def threads(self) -> int:
        return self.units * self.parts


def match(problem: Problem) -> Literal[True] | str:
    shape = shape_of(problem.anchor)
    if not prod(problem.anchor.args[0].shape):
        return "has no steps"
    if shape.bits != 32 or shape.hidden > MOST_HIDDEN:
        return f"computes f32 with up to {MOST_HIDDEN} hidden units"
    return True


def plans(shape: Shape) -> list[Plan]:
    found = []
    for units in (32, 64, 128, 256):
        if units >= 2 * shape.hidden and units > 32:
            continue
        parts = 1
        while 2 * parts * units <= MOST_THREADS and 2 * parts <= shape.hidden:
            parts *= 2
        one = shape.steps == 1 and len(shape.phases) == 1
        found.append(Plan(units, parts, ceil_div(shape.hidden, units) if one else 1))
    return found


def choices(problem: Problem) -> Sequence[Choice]:
    shape, body = shape_of(problem.anchor), problem.body
    layouts_in, layouts_out = ("",) * len(body.inputs), ("",) * len(body.outputs)
    found = [(_us(problem, shape, plan), plan) for plan in plans(shape)]
    us, best = min(found, key=lambda p: (p[0], p[1].units))
    config = (("units", best.units), ("parts", best.parts), ("chunks", best.chunks))
    return [Choice(NAME, layouts_in, layouts_out, config, us)]


def _us(problem: Problem, shape: Shape, plan: Plan) -> float:
    gpu = problem.target.gpu
    assert gpu is not None
    blocks = shape.directions * shape.batch * plan.chunks
    weights = sum(map(len, shape.phases)) * shape.hidden**2 * shape.stored / plan.chunks
    tiles = ceil_div(shape.hidden, plan.units) / plan.chunks * len(shape.phases)
    cycles = weights / BYTES_PER_CYCLE + tiles * (700.0 + 40.0 * plan.parts)
    rounds = ceil_div(blocks, gpu.multiprocessors)
    step = max(cycles / (gpu.ghz * 1e3), weights * blocks / (gpu.l2_gbytes * 1e3))
    return (
        gpu.launch_us
        + LATENCY_US
        + rounds * shape.steps * step
        + memory_us(gpu, problem.bytes_moved, problem.bytes_moved)
    )


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from edgec.compiler.program import Launch

    from .... import tir
    from ....access import parameter
    from ....cuda.threads import launched, parameters

    shape, body = shape_of(problem.anchor), problem.body
    plan = Plan(choice.get("units"), choice.get("parts"), choice.get("chunks"))
    params = [parameter(f"a{k}", v.type) for k, v in enumerate(body.inputs)]
    params += [parameter(f"r{k}", v.type) for k, v in enumerate(body.outputs)]
    pointers, buffers, head = parameters(params)
    launch = Launch(symbol, (shape.directions * shape.batch * plan.chunks, 1, 1), plan.threads)
    of = dict(zip((*body.inputs, *body.outputs), buffers, strict=True))

    def block(at: Any, thread: Expr) -> Stmt:
        from .recurrent_emit import Recurrence

        return tir.seq(head, Recurrence(problem, shape, plan, of, at[0], thread).code())

    return Emitted(launched(symbol, pointers, launch, block), launch.grid[0], launch)


def tensors(problem: Problem, shape: Shape, of: dict[Any, Buffer]) -> dict[str, Any]:
    """Arguments and results by name; those that are not there are None."""
    node = problem.anchor
    attrs: Any = full_attrs(node)
    x, r, *more = [of[a] for a in node.args]
    states = 2 if shape.op == "Edgec.LSTM" else 1
    found: dict[str, Any] = {"x": x, "r": r, "firsts": [more.pop(0)]}
    found["bias"] = more.pop(0) if shape.op == "Edgec.GRU" else None
    found["firsts"] += [more.pop(0) for _ in range(states - 1)]
    found["peepholes"] = more.pop(0) if attrs.get("peepholes") else None
    found["lengths"] = more.pop(0) if more else None
    results = [of[v] for v in node.results]
    found["every"] = results[0] if len(results) > states else None
    found["lasts"] = results[-states:]
    return found


kernel(
    Row(
        NAME,
        frozenset({"Edgec.RNN", "Edgec.GRU", "Edgec.LSTM"}),
        match,
        choices,
        emit,
        "recurrence over time: a block per sequence, states in shared memory",
        isa=frozenset({"CUDA"}),
    )
)
