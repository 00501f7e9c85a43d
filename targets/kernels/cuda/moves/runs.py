"""map_runs__cuda: maps that leave neighbours side by side (resizing, padding, gathering, joining), several per thread.

A thread computes some neighbours of the result: positions and conditions once, operands in accesses of up to 16 bytes.
Where operands are joined along the neighbours' own axis, whole stretches come from one of them, and threads branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Node, Value
from edgec.compiler.layout import layout
from edgec.compiler.op import OPS, full_attrs, int_attr, ints_attr
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ...common import ceil_div, power_of_two
from ...generic.choice import CHANNELS_LAST, RESIZE_CYCLES
from ..cost import LATENCY_US, memory_us
from ..vectors import KINDS

NAME = "map_runs__cuda"
BLOCK = 256


@dataclass
class Found:
    """What a walk from the result to the operands found, for neighbours along one axis of the result.

    `layouts`: of the operands that are read along that axis; `parts`: sizes and starts that must be whole accesses;
    `seam`: a concatenation along the axis, at the same positions as the result.
    """

    layouts: dict[Value, str] = field(default_factory=dict)
    parts: list[int] = field(default_factory=list)
    seam: Value | None = None
    shifted: bool = False  # the walk passed a cut along the axis


def innermost(text: str, rank: int) -> int:
    """The logical axis of neighbours in memory."""
    return layout(text, rank).order[-1]


def walked(problem: Problem, text: str) -> Found | None:
    """None where neighbours of a result in this layout are none in the operands."""
    out = problem.body.outputs[0]
    found = Found()
    return found if out.shape and _walk(problem, out, innermost(text, len(out.shape)), found) else None


def _walk(problem: Problem, value: Value, axis: int, found: Found) -> bool:
    """Whether `value` is read in neighbours along an axis down to the operands; notes what that takes."""
    if value.shape[axis] == 1:
        return True  # the same for all
    if value in problem.body.inputs:
        texts = [t for t in ("", *_last(value)) if innermost(t, len(value.shape)) == axis]
        fits = bool(texts) and value.type.dtype in KINDS and found.layouts.get(value, texts[0]) == texts[0]
        if fits:
            found.layouts[value] = texts[0]
            found.parts.append(value.shape[axis])
        return fits
    node = value.node
    if OPS[node.op].kind == "source":
        return False  # a constant of several elements is no operand
    if OPS[node.op].kind == "elementwise":
        if len(node.types) > 1:
            return False
        for a in node.args:
            below = axis - (len(value.shape) - len(a.shape))
            if a.type.size > 1 and below >= 0 and not _walk(problem, a, below, found):
                return False
        return True
    rule = _RULES.get(node.op)
    return rule is not None and rule(problem, value, axis, found)


def _last(value: Value) -> list[str]:
    rank = len(value.shape)
    return [CHANNELS_LAST[rank]] if rank in CHANNELS_LAST else []


def _same(problem: Problem, value: Value, axis: int, found: Found) -> bool:
    """Neighbours along axes that the operator leaves alone."""
    argument = value.node.args[0]
    fits = len(argument.shape) == len(value.shape) and argument.shape[axis] == value.shape[axis]
    return fits and _walk(problem, argument, axis, found)


def _transpose(problem: Problem, value: Value, axis: int, found: Found) -> bool:
    return _walk(problem, value.node.args[0], ints_attr(value.node, "perm")[axis], found)


def _reshape(problem: Problem, value: Value, axis: int, found: Found) -> bool:
    argument = value.node.args[0]
    last = len(argument.shape) - 1
    whole = axis == len(value.shape) - 1 and last >= 0 and argument.shape[last] == value.shape[axis]
    return whole and _walk(problem, argument, last, found)


def _concat(problem: Problem, value: Value, axis: int, found: Found) -> bool:
    node = value.node
    if int_attr(node, "axis") % len(value.shape) == axis:
        if found.shifted or found.seam not in (None, value):
            return False
        found.seam = value
        found.parts += [a.shape[axis] for a in node.args]
    return all(a.shape[axis] == 0 or _walk(problem, a, axis, found) for a in node.args)


def _slice(problem: Problem, value: Value, axis: int, found: Found) -> bool:
    attrs: Any = full_attrs(value.node)
    for start, at, step in zip(attrs["starts"], attrs["axes"], attrs["steps"], strict=True):
        if at == axis:
            if step != 1:
                return False
            found.parts.append(start)
            found.shifted |= start != 0
    return _walk(problem, value.node.args[0], axis, found)


def _split(problem: Problem, value: Value, axis: int, found: Found) -> bool:
    node = value.node
    if int_attr(node, "axis") % len(value.shape) == axis:
        start = sum(ints_attr(node, "split")[: value.index])
        found.parts.append(start)
        found.shifted |= start != 0
    return _walk(problem, node.args[0], axis, found)


def _expand(problem: Problem, value: Value, axis: int, found: Found) -> bool:
    argument = value.node.args[0]
    below = axis - (len(value.shape) - len(argument.shape))
    return below < 0 or _walk(problem, argument, below, found)


def _pad(problem: Problem, value: Value, axis: int, found: Found) -> bool:
    pads = ints_attr(value.node, "pads")
    return pads[axis] == 0 == pads[axis + len(value.shape)] and _same(problem, value, axis, found)


def _gather(problem: Problem, value: Value, axis: int, found: Found) -> bool:
    data, indices = value.node.args
    at, rank = int_attr(value.node, "axis") % len(data.shape), len(indices.shape)
    if at <= axis < at + rank or indices not in problem.body.inputs:
        return False
    return _walk(problem, data, axis if axis < at else axis - rank + 1, found)


def _resize(problem: Problem, value: Value, axis: int, found: Found) -> bool:
    attrs: Any = full_attrs(value.node)
    return attrs["scales"][axis] == 1 and _same(problem, value, axis, found)


def _layout(problem: Problem, value: Value, axis: int, found: Found) -> bool:
    return _walk(problem, value.node.args[0], axis, found)


_RULES = {
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Expand": _expand,
    "Pad": _pad,
    "Gather": _gather,
    "Resize": _resize,
    "Tile": _same,
    "Edgec.Layout": _layout,
}


# -- the row -----------------------------------------------------------------------------------------------------------


def match(problem: Problem) -> Literal[True] | str:
    body = problem.body
    if len(body.outputs) != 1 or body.outputs[0].type.dtype not in KINDS or not body.outputs[0].type.size:
        return "has one output, of f32, f16 or bytes"
    kinds = {OPS[n.op].kind for n in body.nodes()}
    if not kinds <= {"map", "elementwise", "source"}:
        return "computes maps and elementwise operators"
    if "map" not in kinds:
        return "computes maps"
    return True if choices(problem) else "finds no neighbours that stay together"


def choices(problem: Problem) -> Sequence[Choice]:
    out = problem.body.outputs[0]
    fixed = any(v.type.layout for v in (out, *problem.body.inputs)) or any(
        n.op == "Edgec.Layout" for n in problem.body.nodes()
    )
    found = []
    for text in [out.type.layout] if fixed else ["", *_last(out)]:
        if layout(text, len(out.shape)).blocks:
            continue
        seen = walked(problem, text)
        if seen is None or not seen.layouts or (fixed and any(v.type.layout != t for v, t in seen.layouts.items())):
            continue
        at_once = lanes(problem, seen, out.shape[innermost(text, len(out.shape))])
        if at_once > 1:
            read = tuple(seen.layouts.get(v) for v in problem.body.inputs)
            found.append(Choice(NAME, read, (text,), (("lanes", at_once),), _us(problem, at_once)))
    return found


def lanes(problem: Problem, seen: Found, size: int) -> int:
    """Neighbours of a thread: 16 bytes of the narrowest type, as far as all stretches are made of that many."""
    kinds = [problem.body.outputs[0].type.dtype, *(v.type.dtype for v in seen.layouts)]
    narrow = min(dtype(k).bytes for k in kinds)
    at_once = power_of_two(16 // narrow, size)
    while at_once > 1 and any(n % at_once for n in seen.parts):
        at_once //= 2
    return at_once if at_once * narrow >= 4 else 1


def _us(problem: Problem, at_once: int) -> float:
    gpu = problem.target.gpu
    assert gpu is not None
    size = problem.body.outputs[0].type.size
    # what is not read whole (gathered, cut out) does not count
    read = sum(min(v.type.size, 4 * size) * dtype(v.type.dtype).bytes for v in problem.body.inputs)
    in_flight = min(size * 4.0, gpu.multiprocessors * 16384.0)
    steps = 2 * LATENCY_US if any(n.op == "Gather" for n in problem.body.nodes()) else LATENCY_US
    resizes = [n for n in problem.body.nodes() if n.op == "Resize"]
    work = sum(RESIZE_CYCLES[str(full_attrs(n)["mode"])] * n.types[0].size / at_once for n in resizes)
    work /= gpu.multiprocessors * gpu.f32_fma * gpu.ghz * 1e3
    bytes_moved = min(problem.bytes_moved, read + size * dtype(problem.body.outputs[0].type.dtype).bytes)
    return gpu.launch_us + steps + max(work, memory_us(gpu, bytes_moved, in_flight))


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from ....cuda.block import emit_grid
    from .runs_emit import Runs

    out = problem.body.outputs[0]
    seen = walked(problem, out.type.layout)
    assert seen is not None
    at_once = choice.get("lanes")
    blocks = ceil_div(prod(out.shape) // at_once, BLOCK)
    return emit_grid(
        problem, symbol, (blocks, 1, 1), BLOCK, lambda frame: Runs(problem, frame, at_once, seen.seam).block()
    )


def seams(node: Node) -> list[tuple[Value, int]]:
    """The parts of a concatenation that hold anything, and where each begins."""
    axis, at, found = int_attr(node, "axis") % len(node.types[0].shape), 0, []
    for a in node.args:
        if a.shape[axis]:
            found.append((a, at))
        at += a.shape[axis]
    return found


kernel(
    Row(
        NAME,
        frozenset(),
        match,
        choices,
        emit,
        "maps that keep neighbours together, several neighbours per thread",
        isa=frozenset({"CUDA"}),
    )
)
