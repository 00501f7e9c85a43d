"""pixels__cuda: images of three channels written in fours, as convolutions want them, with elementwise operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from edgec.compiler.dtypes import dtype
from edgec.compiler.op import OPS
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ...common import ceil_div
from ...generic.choice import arithmetic_cycles
from ..simt.cost import map_us

if TYPE_CHECKING:
    from ....cuda.block import Block
    from ....tir import Expr, Stmt

NAME = "pixels__cuda"
LAYOUT, FOUR = "NHWC4c", 4
BLOCK = 256  # threads
KINDS = frozenset({"f32", "f16"})


def match(problem: Problem) -> Literal[True] | str:
    body = problem.body
    if problem.target.gpu is None:
        return "needs a GPU"
    if len(body.outputs) != 1 or body.outputs[0] in body.inputs:
        return "has one output"
    out = body.outputs[0].type
    if out.dtype not in KINDS or len(out.shape) != 4 or out.shape[1] != FOUR - 1 or out.layout not in ("", LAYOUT):
        return "writes images of three channels"
    if any(OPS[n.op].kind not in ("elementwise", "source") and n.op != "Edgec.Layout" for n in body.nodes()):
        return "computes elementwise operators"
    return True if out.size else "has nothing to compute"


def choices(problem: Problem) -> Sequence[Choice]:
    out = problem.body.outputs[0].type
    each = together(problem)
    threads = ceil_div(out.size // out.shape[1], each)
    instructions = FOUR * each * (4 + arithmetic_cycles(problem) / out.size)
    layouts = tuple(v.type.layout for v in problem.body.inputs)
    return [Choice(NAME, layouts, (LAYOUT,), (("each", each),), map_us(problem, threads, BLOCK, 1, instructions))]


def together(problem: Problem) -> int:
    """Pixels of a thread: what 16 bytes hold, where that divides a row."""
    out = problem.body.outputs[0].type
    each = 16 // (FOUR * dtype(out.dtype).bytes)
    return each if out.shape[3] % each == 0 else 1


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from ....cuda.block import emit_grid

    out, each = problem.body.outputs[0].type, choice.get("each")
    threads = out.size // out.shape[1] // each
    return emit_grid(
        problem, symbol, (ceil_div(threads, BLOCK), 1, 1), BLOCK, lambda frame: _block(problem, frame, each, threads)
    )


def _block(problem: Problem, frame: Block, each: int, threads: int) -> Stmt:
    from .... import tir
    from ....conversions import put, stored
    from ....cuda.block import call, pointer

    out = problem.body.outputs[0].type
    count, channels, height, width = out.shape
    number, bind = tir.let(frame.at[0] * BLOCK + frame.thread, "number")
    image, y, x = tir.split(number * each, count, height, width)
    results, declared = tir.local((each * FOUR,), stored(out.dtype), "results")
    zero = tir.lit(0, stored(out.dtype))

    def one(k: int, channel: int) -> Expr:
        if channel >= channels:
            return zero
        return put(frame.value((image, tir.i32(channel), y, x + k)), out.dtype)

    filled = [tir.store(results, one(k, c), k * FOUR + c) for k in range(each) for c in range(FOUR)]
    flat, flat_declared = tir.flat(frame.place.buffer)
    size = each * FOUR * dtype(out.dtype).bytes
    stored_at_once = call(f"ec_store{size}", pointer(flat, number * (each * FOUR)), pointer(results, 0))
    body = tir.seq(filled, flat_declared, stored_at_once)
    return tir.seq(bind, declared, tir.when(number < threads, body) if threads % BLOCK else body)


kernel(
    Row(
        NAME,
        frozenset(),
        match,
        choices,
        emit,
        "images of three channels in fours, for convolutions",
        frozenset({"CUDA"}),
    )
)
