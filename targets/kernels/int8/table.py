"""table_int8: bytes through a table, one vector of them at a time, wherever they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from edgec.compiler.layout import storage_bytes
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..common import byte_layout, ceil_div, permutes, task_split
from ..cost import microseconds, streamed

if TYPE_CHECKING:
    from ...tir import Buffer, Expr, Stmt

NAME = "table_int8"


def match(problem: Problem) -> Literal[True] | str:
    body = problem.body
    nodes = [n for n in body.nodes() if n.op != "Input"]
    if len(nodes) != 1 or nodes[0].args != body.inputs or len(body.outputs) != 1:
        return "looks up, and does nothing else"
    return True if problem.anchor.types[0].size else "has nothing to look up"


def choices(problem: Problem) -> Sequence[Choice]:
    t, cpu = problem.anchor.types[0], problem.target.cpu
    layouts = [t.layout] if t.layout else ["", byte_layout(t.shape)] if len(t.shape) in (3, 4) else [""]
    lanes = cpu.lanes(8)
    found = []
    for text in dict.fromkeys(layouts):
        count = _count(problem, text)
        each = 4.0 if permutes(cpu) else 18.0
        us = microseconds(cpu, ceil_div(count, lanes) * each, streamed(cpu, 2.0 * count))
        units = ceil_div(count, lanes)
        chunk = task_split(units, us / units, problem.threads)
        found.append(Choice(NAME, (text, ""), (text,), (("chunk", chunk),), us))
    return found


def _count(problem: Problem, layout: str) -> int:
    return storage_bytes(replace(problem.anchor.types[0], layout=layout))


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from tvm import tirx

    from ... import abi, tir
    from ...conversions import stored
    from ..common_emit import stretch
    from .lookup import looked_up

    kinds = [v.type.dtype for v in (*problem.body.inputs, *problem.body.outputs)]
    count, cpu, chunk = _count(problem, choice.layouts_out[0]), problem.target.cpu, choice.get("chunk")
    lanes = cpu.lanes(8)
    whole, signed = count // lanes, kinds[0] == "i8"
    params = [
        (name, stored(k), (n,)) for name, k, n in zip(("x", "table", "out"), kinds, (count, 256, count), strict=True)
    ]
    count_tasks = max(1, ceil_div(whole, chunk))

    def body(buffers: list[Buffer], begin: Expr, end: Expr) -> Stmt:
        x, table, out = buffers

        def vector(k: Expr) -> Stmt:
            at = tir.ramp(k * lanes, lanes)
            return tir.store(out, looked_up(cpu, tir.load(x, at), table, signed), at)

        def one(k: Expr) -> Stmt:
            place = tirx.Cast("int32", tir.load(x, k)) + (128 if signed else 0)
            return tir.store(out, tir.load(table, place), k)

        def task(number: Expr) -> Stmt:
            first, turns = stretch(number, chunk, whole)
            vectors = tir.loop(turns, lambda k: vector(first + k), "vector") if whole else None
            rest = tir.loop(count - whole * lanes, lambda k: one(whole * lanes + k), "rest")
            return tir.seq(vectors, tir.when(number.equal(count_tasks - 1), rest) if count % lanes else None)

        return tir.tasks(begin, end, task)

    return Emitted(abi.kernel(symbol, params, body, pointer_bits=problem.target.pointer_bits), count_tasks)


kernel(
    Row(
        NAME,
        frozenset({"Edgec.Table"}),
        match,
        choices,
        emit,
        "bytes through a table, a vector at a time",
        isa=frozenset({"AVX2"}),
    )
)
