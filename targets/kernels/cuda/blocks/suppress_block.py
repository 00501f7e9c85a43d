"""suppress_block__cuda: non-maximum suppression, a block of threads for each class of each image.

The best box that is left is kept, and all threads strike out what overlaps it, again and again; each has some of the
boxes, and remembers which of them are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.chains import KEPT
from edgec.compiler.dtypes import dtype
from edgec.compiler.op import int_attr
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ...common import ceil_div
from ..cost import LATENCY_US

if TYPE_CHECKING:
    from ....tir import Expr, Stmt

NAME = "suppress_block__cuda"
MOST_THREADS = 512
MOST_TURNS = 256  # boxes of a thread
TURN_US, MEET_US = 0.06, 0.4  # a box in each thread; all threads agree on one


def threads_of(boxes: int) -> int:
    return max(32, min(MOST_THREADS, 1 << max(boxes - 1, 1).bit_length()))


def match(problem: Problem) -> Literal[True] | str:
    boxes = problem.anchor.args[1].shape[2]
    if dtype(problem.anchor.args[1].type.dtype).bytes > 4:
        return "compares scores of 32 bits and less"
    if not problem.anchor.args[1].type.size or boxes > MOST_THREADS * MOST_TURNS:
        return f"takes 1 to {MOST_THREADS * MOST_TURNS} boxes"
    return True


def choices(problem: Problem) -> Sequence[Choice]:
    gpu, body = problem.target.gpu, problem.body
    assert gpu is not None
    batches, classes, boxes = problem.anchor.args[1].shape
    threads = threads_of(boxes)
    turns, resident = ceil_div(boxes, threads), max(1, gpu.threads // threads)
    kept = min(int_attr(problem.anchor, "size"), KEPT)
    rounds = ceil_div(batches * classes, gpu.multiprocessors * resident)
    us = gpu.launch_us + LATENCY_US + rounds * (kept + 1) * (turns * TURN_US + MEET_US)
    return [Choice(NAME, ("",) * len(body.inputs), ("",) * len(body.outputs), cost_us=us)]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from edgec.compiler.program import Launch

    from .... import tir
    from ....access import parameter
    from ....cuda.threads import launched, parameters
    from ...plain import Tensors
    from .suppress_emit import Suppression

    node, body = problem.anchor, problem.body
    batches, classes, boxes = node.args[1].shape
    params = [parameter(f"a{i}", v.type) for i, v in enumerate(body.inputs)]
    params += [parameter(f"r{i}", v.type) for i, v in enumerate(body.outputs)]
    pointers, buffers, head = parameters(params)
    of = dict(zip((*body.inputs, *body.outputs), buffers, strict=True))
    tensors = Tensors(node, problem, tuple(of[a] for a in node.args), tuple(of[v] for v in node.results), ())
    launch = Launch(symbol, (batches * classes, 1, 1), threads_of(boxes))

    def block(at: Any, thread: Expr) -> Stmt:
        return tir.seq(head, Suppression(tensors, launch.block, at[0], thread).code())

    return Emitted(launched(symbol, pointers, launch, block), batches * classes, launch)


kernel(
    Row(
        NAME,
        frozenset({"Edgec.NonMaxSuppression"}),
        match,
        choices,
        emit,
        "boxes kept by class: a block strikes out what overlaps the best",
        isa=frozenset({"CUDA"}),
    )
)
