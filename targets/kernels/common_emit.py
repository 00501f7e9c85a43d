"""The frame that every template shares: parameters, places and body of a kernel, and loads of one vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgec.compiler.ir import Type, Value
from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.access import Place, parameter
from edgec.targets.body import Body
from edgec.targets.tir import Expr, Stmt


@dataclass(frozen=True)
class Frame:
    """A kernel under construction: its body, the places of its inputs, its only output, and scratch floats."""

    body: Body
    places: dict[Value, Place]
    out: Value
    place: Place
    zero: Expr  # 0 when the kernel runs, which LLVM cannot know: loops to `n + zero` stay loops
    scratch: Any = None

    def store(self, index: tuple[Expr, ...]) -> Stmt:
        """Compute the output's element at an index and store it."""
        return self.place.store(self.body.at(self.out, index), index)


def emit_kernel(
    problem: Problem,
    choice: Choice,
    symbol: str,
    tasks: int,
    make: Callable[[Frame, Expr], Stmt],
    view: Callable[[Value], Type] = lambda v: v.type,
) -> Emitted:
    """A kernel whose task number t runs `make(frame, t)`. `view` may show an operand as another type."""
    graph, target = problem.body, problem.target
    types = [view(v) for v in graph.inputs]
    result = view(graph.outputs[0])
    params = [parameter(f"a{i}", t) for i, t in enumerate(types)] + [parameter("out", result)]
    if choice.scratch_bytes:
        params.append(("scratch", "float32", (choice.scratch_bytes // 4,)))

    def whole(buffers: list[Any], begin: Expr, end: Expr) -> Stmt:
        places = {v: Place(t, b) for v, t, b in zip(graph.inputs, types, buffers, strict=False)}
        out = Place(result, buffers[len(types)])
        zero, bind = tir.let(tirx.shift_right(begin, tir.i32(31)), "zero")
        scratch = buffers[-1] if choice.scratch_bytes else None
        frame = Frame(Body(graph, places), places, graph.outputs[0], out, zero, scratch)
        return tir.seq(bind, tir.tasks(begin, end, lambda task: make(frame, task)))

    return Emitted(tir.function(symbol, params, whole, pointer_bits=target.pointer_bits), tasks)


def contiguous(place: Place, index: tuple[Expr, ...], axis: int, lanes: int) -> Expr:
    """`lanes` elements along a logical axis that lie side by side in memory, from `index` on."""
    physical = list(place.physical(tuple(tir.i32(i) if isinstance(i, int) else i for i in index)))
    blocks = len(physical) - 1
    physical[blocks] = tir.ramp(physical[blocks], lanes)
    return tirx.BufferLoad(place.buffer, [tir.i32(i) if isinstance(i, int) else i for i in physical])


def vector(buffer: Any, lanes: int, *index: Expr | int) -> Expr:
    """`lanes` elements of a buffer along its last axis."""
    return tir.load(buffer, *index[:-1], tir.ramp(index[-1], lanes))


def put(buffer: Any, value: Expr, lanes: int, *index: Expr | int) -> Stmt:
    return tir.store(buffer, value, *index[:-1], tir.ramp(index[-1], lanes))


def chain(conditions: Sequence[tuple[Expr | None, Callable[[], Stmt]]]) -> Stmt:
    """if/else-if chain; a condition of None is the final else."""
    result: Stmt | None = None
    for condition, make in reversed(conditions):
        result = make() if condition is None else tir.when(condition, make(), result)
    assert result is not None
    return result
