"""map_vector__cuda: elementwise chains whose operands lie as the results do, in accesses of 16 bytes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Literal

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Type
from edgec.compiler.op import OPS
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ...common import ceil_div
from ...generic.choice import CHANNELS_LAST, arithmetic_cycles
from ..simt.cost import map_us

if TYPE_CHECKING:
    from ....cuda.block import Block
    from ....tir import Expr, Stmt
    from ..epilogue import Finish

NAME = "map_vector__cuda"
BLOCK = 256  # threads
KINDS = frozenset({"f32", "f16", "i32"})


def match(problem: Problem) -> Literal[True] | str:
    body = problem.body
    if problem.target.gpu is None:
        return "needs a GPU"
    if len(body.outputs) != 1:
        return "has several outputs"
    out = body.outputs[0]
    if out.type.dtype not in KINDS or out in body.inputs:
        return "writes f32, f16 and i32"
    for node in body.nodes():
        if OPS[node.op].kind not in ("elementwise", "source"):
            return f"computes elementwise operators, not {node.op}"
        if OPS[node.op].kind == "elementwise" and len(node.types) > 1:
            return "has several outputs"
    if not any(v.shape == out.shape and v.type.dtype in KINDS for v in body.inputs):
        return "no operand has the result's shape"
    return True if out.type.size else "has nothing to compute"


def choices(problem: Problem) -> Sequence[Choice]:
    out = problem.body.outputs[0].type
    rank = len(out.shape)
    found = []
    for layout in ("", *([CHANNELS_LAST[rank]] if rank in CHANNELS_LAST else [])):
        lies = Type(out.dtype, out.shape, layout)
        lanes = lanes_of(problem, lies)
        if lanes == 1:
            continue
        layouts = tuple(layout if v.shape == out.shape else "" for v in problem.body.inputs)
        found += [
            Choice(NAME, layouts, (layout,), (("lanes", lanes), ("turns", turns)), cost(problem, lanes, turns))
            for turns in (1, 2)
        ]
    return found


def lanes_of(problem: Problem, out: Type) -> int:
    """Elements of an access: 16 bytes of the narrowest type, where they divide the innermost axis, or all elements if
    every operand is as large or has one."""
    kinds = [out, *(v.type for v in problem.body.inputs if v.type.dtype in KINDS)]
    lanes = 16 // min(dtype(t.dtype).bytes for t in kinds)
    size = prod(out.shape) if flat(problem) else out.shape[1] if out.layout else out.shape[-1] if out.shape else 1
    while lanes > 1 and size % lanes:
        lanes //= 2
    return lanes


def flat(problem: Problem) -> bool:
    """Whether the place of an element in memory is all that matters."""
    out = problem.body.outputs[0]
    return all(v.shape == out.shape or v.type.size == 1 for v in problem.body.inputs)


def cost(problem: Problem, lanes: int, turns: int) -> float:
    size = problem.body.outputs[0].type.size
    each = arithmetic_cycles(problem) / max(size, 1)
    return map_us(problem, ceil_div(size, lanes * turns), BLOCK, turns, each * lanes * turns)


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from ....cuda.block import emit_grid

    lanes, turns = choice.get("lanes"), choice.get("turns")
    vectors = problem.body.outputs[0].type.size // lanes
    grid = ceil_div(vectors, BLOCK * turns), 1, 1
    return emit_grid(problem, symbol, grid, BLOCK, lambda frame: _block(problem, frame, lanes, turns, vectors))


def _block(problem: Problem, frame: Block, lanes: int, turns: int, vectors: int) -> Stmt:
    from .... import tir
    from ..epilogue import Run, finishing, innermost

    out = problem.body.outputs[0].type
    order = _order(out)
    axis = innermost(out)

    def one(number: Expr) -> tuple[list[Stmt], Finish]:
        start, bind = tir.let(number * lanes, "start")
        digits = tir.split(start, *(out.shape[a] for a in order))
        index: list[Expr] = [tir.i32(0)] * len(order)
        for a, digit in zip(order, digits, strict=True):
            index[a] = tir.i32(0) if out.shape[a] == 1 else digit
        if flat(problem):  # a run may go on in the next row
            return [bind], finishing(frame, Run(tuple(index), lanes, start), [])
        index[axis], bind_inner = tir.let(index[axis], "inner")
        return [bind, bind_inner], finishing(frame, Run(tuple(index), lanes, start), [])

    def guarded(number: Expr, stmt: Stmt) -> Stmt:
        return tir.when(number < vectors, stmt) if vectors % (BLOCK * turns) else stmt

    reads: list[Stmt] = []
    writes: list[Stmt] = []
    for k in range(turns):
        number, bind = tir.let((frame.at[0] * turns + k) * BLOCK + frame.thread, "number")
        head, made = one(number)
        reads += [bind, *head, made.declared, guarded(number, tir.seq(made.reads)) if made.reads else tir.seq()]
        writes.append(guarded(number, made.writes))
    return tir.seq(reads, writes)


def _order(t: Type) -> tuple[int, ...]:
    from edgec.compiler.layout import layout

    return layout(t.layout, len(t.shape)).order


kernel(
    Row(
        NAME,
        frozenset(),
        match,
        choices,
        emit,
        "a chain of elementwise operators, several neighbours per thread",
        frozenset({"CUDA"}),
    )
)
