"""The row of f32 kernels that only move channels: selections, and joins and cuts that the planner cannot place.

Which channel of which argument lies in each channel of a result is known when the kernel is made (`sources`). With
blocked channels a vector of the result is put together from the vectors that hold its channels; row-major planes are
copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Literal

from edgec.compiler.ir import Value
from edgec.compiler.op import OPS, full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from .common import blocked_layout, ceil_div, f32, task_split
from .cost import microseconds, streamed

NAME = "channels_f32"
OPERATORS = frozenset({"Edgec.Select", "Concat", "Slice", "Split"})
Source = tuple[int, int]  # number of the body's input, its channel
MOST_VECTORS = 2048  # vectors that all blocks of the results read: the code holds a load for each


def sources(problem: Problem, value: Value) -> list[Source] | str:
    """Where each channel of a value comes from, or why that is not known."""
    body, node = problem.body, value.node
    if value in body.inputs:
        return [(body.inputs.index(value), c) for c in range(value.shape[1])]
    attrs: Any = full_attrs(node)
    if node.op not in OPERATORS:
        return f"moves channels, and {node.op} does not"
    inner: list[Source] = []
    for arg in node.args:
        more = sources(problem, arg)
        if isinstance(more, str):
            return more
        inner += more
    rank = len(value.shape)
    if node.op == "Edgec.Select":
        return [inner[c] for c in attrs["index"]]
    if node.op == "Slice":
        if [a % rank for a in attrs["axes"]] != [1]:
            return "cuts other axes than channels"
        (start,), (step,) = attrs["starts"], attrs["steps"]
        return [inner[start + k * step] for k in range(value.shape[1])]
    if attrs["axis"] % rank != 1:
        return "joins or cuts another axis than channels"
    start = sum(attrs["split"][: value.index]) if node.op == "Split" else 0
    return inner[start : start + value.shape[1]]


def match(problem: Problem) -> Literal[True] | str:
    if problem.target.gpu:
        return "moves vectors of a CPU"
    values = (*problem.body.inputs, *problem.body.outputs)
    shape = problem.body.outputs[0].shape
    if not f32(*(v.type for v in values)):
        return "moves f32"
    if any(OPS[n.op].kind != "source" and n.op not in OPERATORS for n in problem.body.nodes()):
        return "moves channels and does nothing else"
    if len(shape) not in (3, 4) or any((v.shape[0], *v.shape[2:]) != (shape[0], *shape[2:]) for v in values):
        return "needs three or four axes, all but the channels alike"
    if any(0 in v.shape or v.node.op == "Const" for v in problem.body.outputs):
        return "has nothing to move"
    return next((why for v in problem.body.outputs if isinstance(why := sources(problem, v), str)), True)


def vectors(problem: Problem, value: Value, lanes: int) -> list[list[Source]]:
    """Per block of a result: the (input, block) pairs that its channels lie in, each once."""
    found = sources(problem, value)
    assert not isinstance(found, str)
    blocks = [found[k : k + lanes] for k in range(0, len(found), lanes)]
    return [list(dict.fromkeys((arg, c // lanes) for arg, c in block)) for block in blocks]


def choices(problem: Problem) -> Sequence[Choice]:
    cpu, outputs = problem.target.cpu, problem.body.outputs
    shape, lanes = outputs[0].shape, cpu.lanes(32)
    pixels = shape[0] * prod(shape[2:])
    found = []
    moved = 8.0 * pixels * sum(v.shape[1] for v in outputs)
    for blocked in (False, True) if lanes > 1 else (False,):
        layout = blocked_layout(len(shape), lanes) if blocked else ""
        read = [vectors(problem, v, lanes) for v in outputs] if blocked else []
        if sum(len(block) for value in read for block in value) > MOST_VECTORS:
            continue
        each = sum(1.0 + 1.5 * len(block) for value in read for block in value)
        cycles = pixels * (each if blocked else sum(v.shape[1] for v in outputs) / max(lanes, 1))
        us = microseconds(cpu, cycles, streamed(cpu, moved))
        units = sum(ceil_div(v.shape[1], lanes) if blocked else v.shape[1] for v in outputs) * shape[0]
        config = (("chunk", task_split(units, us / units, problem.threads)),)
        layouts = (layout,) * len(problem.body.inputs), (layout,) * len(outputs)
        found.append(Choice(NAME, *layouts, config, us))
    return found


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .channels_emit import blocks, planes

    return (blocks if choice.layouts_out[0] else planes)(problem, choice, symbol)


kernel(Row(NAME, OPERATORS, match, choices, emit, "channels of one or more values, selected, joined or cut"))
