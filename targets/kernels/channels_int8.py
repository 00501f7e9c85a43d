"""channels_int8: channels of one or more values of bytes, selected, joined or cut, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Literal

from edgec.compiler.ir import Value
from edgec.compiler.layout import physical_shape
from edgec.compiler.op import OPS
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from .channels_rows import OPERATORS, Source, sources, vectors
from .common import byte_layout, ceil_div, task_split
from .cost import LOOP, microseconds, streamed

if TYPE_CHECKING:
    from ..tir import Buffer, Expr, Stmt

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
    found, result = _sources(problem, value), []
    for k in range(0, len(found), LANES):
        arg, first = found[k]
        same = all(pair == (arg, first + i) for i, pair in enumerate(found[k : k + LANES]))
        result.append(same and first % LANES == 0)
    return result


def _sources(problem: Problem, value: Value) -> list[Source]:
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
    from tvm import tirx

    from .. import tir
    from ..conversions import stored
    from .common_emit import chunked

    body = problem.body
    values = (*body.inputs, *body.outputs)
    params = [(f"a{k}", stored(v.type.dtype), (prod(physical_shape(v.type)),)) for k, v in enumerate(values)]
    pixels = body.outputs[0].shape[0] * prod(body.outputs[0].shape[2:])
    chunk = choice.get("chunk")
    blocks = [ceil_div(v.shape[1], LANES) for v in values]
    wanted = {k: _sources(problem, v) for k, v in enumerate(body.outputs)}

    def load(buffers: list[Buffer], pixel: Expr, arg: int, block: int, size: int) -> Expr:
        return tir.load(buffers[arg], tir.ramp((pixel * blocks[arg] + block) * LANES, size * LANES))

    def mixed(buffers: list[Buffer], pixel: Expr, piece: Piece) -> tuple[list[Stmt], Expr]:
        """One block, from the vectors of all blocks that its channels lie in."""
        k, at, reads, _ = piece
        found = wanted[k][at * LANES : (at + 1) * LANES]
        parts: list[Stmt] = []
        total: Expr = None
        for arg, block in reads:
            more, bind = tir.let(load(buffers, pixel, arg, block, 1), "x")
            parts.append(bind)
            mine = [c % LANES if (a, c // LANES) == (arg, block) else -1 for a, c in found]
            mine += [-1] * (LANES - len(mine))
            if total is None:
                value = tirx.Shuffle([more], [tir.i32(max(m, 0)) for m in mine])
            else:
                order = [LANES + m if m >= 0 else lane for lane, m in enumerate(mine)]
                value = tirx.Shuffle([total, more], [tir.i32(m) for m in order])
            total, bind = tir.let(value, "y")
            parts.append(bind)
        return parts, total

    def one(buffers: list[Buffer], pixel: Expr, piece: Piece) -> Stmt:
        k, at, reads, as_it_lies = piece
        size = len(reads) if as_it_lies else 1
        parts, total = ([], load(buffers, pixel, *reads[0], size)) if as_it_lies else mixed(buffers, pixel, piece)
        out = len(body.inputs) + k
        place = tir.ramp((pixel * blocks[out] + at) * LANES, size * LANES)
        return tir.seq(parts, tir.store(buffers[out], total, place))

    def whole(buffers: list[Buffer], begin: Expr, end: Expr) -> Stmt:
        def unit(pixel: Expr) -> Stmt:
            return tir.seq(one(buffers, pixel, piece) for piece in pieces(problem))

        return tir.tasks(begin, end, lambda number: chunked(pixels, chunk, number, unit))

    function = tir.function(symbol, params, whole, pointer_bits=problem.target.pointer_bits)
    return Emitted(function, ceil_div(pixels, chunk))


kernel(Row(NAME, OPERATORS, match, choices, emit, "channels of values of bytes, selected, joined or cut"))
