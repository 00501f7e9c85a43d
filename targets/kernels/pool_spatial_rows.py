"""The row of f32 reductions over whole images: global average, sum and maximum, channels in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Literal

from edgec.compiler.op import OPS, full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from .common import after_anchor, blocked_layout, ceil_div, depends, f32, instructions, spread
from .cost import TILE, microseconds, streamed

NAME = "reduce_f32_spatial"
ACCUMULATORS = 8  # independent sums, so that latency is hidden


def match(problem: Problem) -> Literal[True] | str:
    node = problem.anchor
    x, out = node.args[0].shape, node.types[0].shape
    attrs: dict[str, Any] = full_attrs(node)
    if not f32(node.args[0].type, node.types[0]):
        return "computes f32"
    if len(x) not in (3, 4) or {a % len(x) for a in attrs["axes"]} != set(range(2, len(x))):
        return "reduces other axes than the spatial ones"
    if problem.target.cpu.vector_registers < 16 or problem.target.cpu.lanes(32) < 2:
        return "needs vector registers"
    if len(problem.body.outputs) != 1 or problem.body.outputs[0].shape != out:
        return "the output's shape is not the reduction's"
    for inner in problem.body.nodes():
        if inner is node or OPS[inner.op].kind == "source":
            continue
        if OPS[inner.op].kind != "elementwise" or inner.types[0].shape != (out if depends(inner, node) else x):
            return f"the body holds {inner.op} beside {node.op}"
    if any(len(v.shape) == len(x) and v.shape not in (x, out) for v in problem.body.inputs):
        return "an operand is broadcast over pixels"
    return True


def choices(problem: Problem) -> Sequence[Choice]:
    node, cpu = problem.anchor, problem.target.cpu
    x, out = node.args[0].shape, node.types[0].shape
    lanes = cpu.lanes(32)
    blocked = blocked_layout(len(x), lanes)
    layouts = tuple(blocked if len(v.shape) == len(x) else "" for v in problem.body.inputs)
    units = x[0] * ceil_div(x[1], lanes)
    before = 1.0 + instructions(n for n in after_anchor(problem) if not depends(n, node))
    cycles = units * (prod(x[2:]) * before / min(cpu.load_per_cycle, cpu.fma_per_cycle) + TILE)
    moved = 4.0 * prod(x)
    us = microseconds(cpu, cycles, streamed(cpu, moved)) * spread(units, problem.threads)
    return [Choice(NAME, layouts, (blocked if len(out) == len(x) else "",), (), us)]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .pool_spatial_emit import spatial

    return spatial(problem, choice, symbol)


kernel(
    Row(
        NAME,
        frozenset({"ReduceMean", "ReduceSum", "ReduceMax"}),
        match,
        choices,
        emit,
        "global average, sum or maximum over the pixels of blocked channels",
    )
)
