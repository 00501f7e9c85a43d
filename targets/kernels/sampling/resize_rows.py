"""The row of f32 resizing over blocked channels: rows are blended first, then columns, each by a table of taps.

What follows may make bytes of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Node
from edgec.compiler.op import OPS, full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..common import (
    WRITTEN_OUT,
    blocked_layout,
    byte_layout,
    ceil_div,
    depends,
    f32,
    instructions,
    layouts_in,
    task_split,
)
from ..cost import microseconds, streamed

NAME = "resize_f32_blocked"
TAPS = {"nearest": 1, "linear": 2, "cubic": 4}
PLACE_CYCLES = 5.5  # to look up where a vector comes from, and to store it: measured, AVX-512
WIDE = (
    8  # lanes from which bytes, and rows of pixels, take less time here than elsewhere: modelled for Cortex-A53 and A76
)
TURN_CYCLES = 6.0  # to leave a vector in memory, and to turn squares of them into rows of pixels: measured, AVX-512
TABLE_CYCLES = 30.0  # per entry of the table of columns, which every task makes


def resize_of(problem: Problem) -> Node | None:
    """The body's only map, a Resize."""
    maps = [n for n in problem.body.nodes() if OPS[n.op].kind == "map"]
    return maps[0] if len(maps) == 1 and maps[0].op == "Resize" else None


def match(problem: Problem) -> Literal[True] | str:
    node = resize_of(problem)
    if node is None:
        return "resizes and does nothing else but elementwise operators after it"
    x, shape = node.args[0], node.types[0].shape
    if not f32(x.type, node.types[0]) or problem.body.outputs[0].type.dtype not in ("f32", "u8", "i8"):
        return "computes f32, of which bytes may remain"
    if len(shape) not in (3, 4) or x not in problem.body.inputs or len(problem.body.outputs) != 1:
        return "needs three or four axes, and an argument in memory"
    attrs: Any = full_attrs(node)
    if shape[:2] != x.shape[:2] or tuple(attrs["scales"][:2]) != (1, 1) or attrs["mode"] not in TAPS or 0 in shape:
        return "resizes the spatial axes only"
    if not problem.target.cpu.has_vectors:
        return "needs vector registers"
    if problem.body.outputs[0].type.dtype != "f32" and problem.target.cpu.lanes(32) < WIDE:
        return "makes bytes of wide vectors only"
    for inner in problem.body.nodes():
        if inner is node or OPS[inner.op].kind == "source":
            continue
        if OPS[inner.op].kind != "elementwise" or inner.types[0].shape != shape or not depends(inner, node):
            return f"the body holds {inner.op} beside Resize"
    return True


def resized(node: Node) -> list[tuple[int, int, int, float]]:
    """(axis, size, size of the result, scale) of every spatial axis that changes."""
    attrs: Any = full_attrs(node)
    axes = zip(node.args[0].shape, attrs["sizes"], attrs["scales"], strict=True)
    return [(k, n, out, scale) for k, (n, out, scale) in enumerate(axes) if out != n or scale != 1]


def scratch_floats(node: Node, lanes: int) -> tuple[int, int]:
    """Floats of the table of columns (positions, then weights), and of a row of blended vectors."""
    attrs: Any = full_attrs(node)
    taps = TAPS[attrs["mode"]]
    axes = [axis for axis, *_ in resized(node)]
    last = len(node.types[0].shape) - 1
    table = 2 * taps * node.types[0].shape[-1] if last in axes else 0
    blended = node.args[0].shape[-1] * lanes if taps > 1 and any(a != last for a in axes) else 0
    return ceil_div(table, 16) * 16, blended


def across_floats(node: Node, lanes: int) -> int:
    """Floats of a row of results, a vector of channels per pixel, that is turned into rows of channels."""
    return node.types[0].shape[-1] * lanes


def choices(problem: Problem) -> Sequence[Choice]:
    node, cpu = resize_of(problem), problem.target.cpu
    assert node is not None
    lanes, shape = cpu.lanes(32), node.types[0].shape
    blocked = blocked_layout(len(shape), lanes)
    taps = TAPS[str(full_attrs(node)["mode"])]
    rows = shape[2] if len(shape) == 4 else 1
    units = shape[0] * ceil_div(shape[1], lanes)
    others = [n for n in problem.body.nodes() if OPS[n.op].kind == "elementwise"]
    after = instructions(others) + sum(WRITTEN_OUT.get(n.op, 0.0) for n in others)
    blend = node.args[0].shape[-1] * taps * 0.75 if taps > 1 else 0.0
    cycles = units * rows * (blend + shape[-1] * (PLACE_CYCLES + 0.5 * taps + after)) + TABLE_CYCLES * shape[-1]
    out = problem.body.outputs[0]
    moved = 4.0 * node.args[0].type.size + dtype(out.type.dtype).bytes * out.type.size
    us = microseconds(cpu, cycles, streamed(cpu, moved))
    config = (("chunk", task_split(units, us / units, problem.threads)),)
    layouts = layouts_in(problem, {node.args[0]: blocked}, blocked)
    made = blocked if out.type.dtype == "f32" else byte_layout(shape)
    scratch = 4 * sum(scratch_floats(node, lanes))
    found = [Choice(NAME, layouts, (made,), config, us, scratch)]
    if out.node is node and shape[-1] >= lanes >= WIDE:
        turned = us + units * rows * shape[-1] * TURN_CYCLES / (cpu.ghz * 1e3)
        found.append(Choice(NAME, layouts, ("",), config, turned, scratch + 4 * across_floats(node, lanes)))
    return found


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .resize_emit import Resize

    node = resize_of(problem)
    assert node is not None
    return Resize(problem, choice, node).emit(symbol)


kernel(Row(NAME, frozenset(), match, choices, emit, "resizing of blocked channels, whatever the mode"))
