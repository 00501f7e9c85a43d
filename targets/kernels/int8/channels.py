"""channels_int8: channels of one or more values of bytes, selected, joined or cut, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

from edgec.compiler.ir import Value
from edgec.compiler.op import OPS
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..channels_rows import OPERATORS, Source, sources, vectors
from ..common import byte_layout, ceil_div, task_split
from ..cost import LOOP, microseconds, streamed

NAME = "channels_int8"
LANES = 16
MOST_VECTORS = 512  # that all blocks of a pixel read: the code holds a load for each
# Of a result: its number, the first block, (input, block) pairs that the channels lie in, whether as they lie.
Piece = tuple[int, int, list[tuple[int, int]], bool]


def match(problem: Problem) -> Literal[True] | str:
    values = (*problem.body.inputs, *problem.body.outputs)
    first = problem.body.outputs[0]
    if any(v.type.dtype != first.type.dtype for v in values) or first.type.dtype not in ("u8", "i8"):
        return "moves bytes of one type"
    if any(OPS[n.op].kind != "source" and n.op not in OPERATORS for n in problem.body.nodes()):
        return "moves channels and does nothing else"
    shape = first.shape
    if len(shape) not in (3, 4) or any((v.shape[0], *v.shape[2:]) != (shape[0], *shape[2:]) for v in values):
        return "needs three or four axes, all but the channels alike"
    if any(v.type.size == 0 or v.shape[1] <= 4 or v.node.op == "Const" for v in values):
        return "needs more than four channels in memory"
    if problem.target.cpu.vector_bits < 128:
        return "needs vector registers"
    found = [sources(problem, v) for v in problem.body.outputs]
    if why := next((f for f in found if isinstance(f, str)), ""):
        return why
    many = sum(len(block) for v in problem.body.outputs for block in vectors(problem, v, LANES))
    return True if many <= MOST_VECTORS else "reads too many vectors for each pixel"


def choices(problem: Problem) -> Sequence[Choice]:
    body, cpu = problem.body, problem.target.cpu
    pixels = body.outputs[0].shape[0] * prod(body.outputs[0].shape[2:])
    each = LOOP / 2 + sum(0.5 + (0.5 if whole else 0.75) * len(reads) for _, _, reads, whole in pieces(problem))
    moved = float(pixels * 16 * sum(ceil_div(v.shape[1], 16) for v in (*body.inputs, *body.outputs)))
    us = microseconds(cpu, pixels * each, streamed(cpu, moved))
    layouts = tuple(byte_layout(v.shape) for v in body.inputs), tuple(byte_layout(v.shape) for v in body.outputs)
    return [Choice(NAME, *layouts, (("chunk", task_split(pixels, us / pixels, problem.threads)),), us)]


def pieces(problem: Problem) -> list[Piece]:
    """All that is stored for a pixel: blocks that lie side by side in one input, as many as a vector holds, are one."""
    most = min(4, problem.target.cpu.vector_bits // 128)
    found: list[Piece] = []
    for k, value in enumerate(problem.body.outputs):
        reads, whole = vectors(problem, value, LANES), _whole(problem, value)
        at = 0
        while at < len(reads):
            ends = [n for n in (2, 4) if n <= most and _together(reads[at : at + n], whole[at : at + n], n)]
            size = max(ends, default=1)
            found.append((k, at, [pair for block in reads[at : at + size] for pair in block], whole[at]))
            at += size
    return found


def _whole(problem: Problem, value: Value) -> list[bool]:
    """Whether a block is one of an input's as it lies; its last one need not be full."""
    found, result = channels_of(problem, value), []
    for k in range(0, len(found), LANES):
        arg, first = found[k]
        same = all(pair == (arg, first + i) for i, pair in enumerate(found[k : k + LANES]))
        result.append(same and first % LANES == 0)
    return result


def channels_of(problem: Problem, value: Value) -> list[Source]:
    """Which input, and which of its channels, each channel of a result is."""
    found = sources(problem, value)
    assert not isinstance(found, str)
    return found


def _together(reads: Sequence[Sequence[tuple[int, int]]], whole: Sequence[bool], size: int) -> bool:
    """Whether so many blocks lie side by side in one input."""
    if len(reads) < size or not all(whole):
        return False
    arg, first = reads[0][0]
    return all(block[0] == (arg, first + i) for i, block in enumerate(reads))


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .channels_emit import Channels

    return Channels(problem, choice.get("chunk")).emit(symbol)


kernel(Row(NAME, OPERATORS, match, choices, emit, "channels of values of bytes, selected, joined or cut"))
