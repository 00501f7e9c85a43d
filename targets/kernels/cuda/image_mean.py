"""Sums, means and maxima over whole images whose channels lie side by side: a block per image and group of channels.

Threads of a block take a vector of channels each, and every so many pixels; they meet in shared memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..common import ceil_div, epilogue_fits, input_index
from .cost_simt import image_us

if TYPE_CHECKING:
    from ...cuda.block import Block
    from ...tir import Expr, Stmt

NAME = "image_reduce__cuda"
BLOCK = 256  # threads
IN_TURN = 4  # pixels of a thread that are in flight together
FLOATS = frozenset({"f32", "f16"})
LAST = {3: "NWC", 4: "NHWC"}


def match(problem: Problem) -> Literal[True] | str:
    node = problem.anchor
    if problem.target.gpu is None:
        return "needs a GPU"
    x, attrs = node.args[0], full_attrs(node)
    axes: Any = attrs["axes"]
    rank = len(x.shape)
    if rank not in LAST or sorted(a % rank for a in axes) != list(range(2, rank)):
        return "reduces all spatial axes and no others"
    if x.type.dtype not in FLOATS or node.types[0].dtype != x.type.dtype:
        return "computes f32 and f16"
    if input_index(problem.body, x) < 0 or 0 in x.shape:
        return "needs its argument in memory"
    return epilogue_fits(problem)


def lanes_of(problem: Problem) -> int:
    x = problem.anchor.args[0]
    lanes = 16 // dtype(x.type.dtype).bytes
    while lanes > 1 and x.shape[1] % lanes:
        lanes //= 2
    return lanes


def choices(problem: Problem) -> Sequence[Choice]:
    x = problem.anchor.args[0]
    lanes, pixels = lanes_of(problem), prod(x.shape[2:])
    layouts = tuple(LAST[len(x.shape)] if v == x else "" for v in problem.body.inputs)
    found = []
    for across in (4, 8, 16, 32, 64):
        if across * lanes > BLOCK or (across > 4 and across * lanes >= 2 * x.shape[1]):
            continue
        blocks = x.shape[0] * ceil_div(x.shape[1], across * lanes)
        us = image_us(problem, blocks, BLOCK, ceil_div(pixels, BLOCK // across), lanes, BLOCK // across)
        found.append(Choice(NAME, layouts, ("",), (("across", across),), us))
    return sorted(found, key=lambda c: c.cost_us)[:3]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from ...cuda.block import emit_grid

    x = problem.anchor.args[0]
    across, lanes = choice.get("across"), lanes_of(problem)
    grid = ceil_div(x.shape[1], across * lanes), x.shape[0], 1
    return emit_grid(problem, symbol, grid, BLOCK, lambda frame: _block(problem, frame, across, lanes))


def _block(problem: Problem, frame: Block, across: int, lanes: int) -> Stmt:
    from tvm import tirx

    from ... import scalar, tir
    from ...conversions import narrow
    from ...cuda.block import barrier, shared
    from .planes_emit import load_lanes, wide

    node = problem.anchor
    x = node.args[0]
    place, channels, pixels = frame.places[x], x.shape[1], prod(x.shape[2:])
    greatest, rows = node.op == "ReduceMax", BLOCK // across
    start = tir.lit(float("-inf") if greatest else 0.0, "float32")
    column, row = tirx.floormod(frame.thread, across), tirx.floordiv(frame.thread, across)
    channel, bind = tir.let((frame.at[0] * across + column) * lanes, "channel")
    sums, declared = tir.local((lanes,), "float32", "sums")
    lead = [0] * (len(place.buffer.shape) - 1)

    def join(a: Expr, b: Expr) -> Expr:
        return scalar.maximum(a, b) if greatest else a + b

    def turn(first: Expr, count: int) -> Stmt:
        loads, joins = [], []
        for k in range(count):
            at = ((frame.at[1] * pixels + first + k * rows) * channels) + channel
            register, before, load = load_lanes(place, lanes, *lead, at)
            loads += [before, load]
            joins += [tir.store(sums, join(tir.load(sums, n), wide(register, n, place)), n) for n in range(lanes)]
        return tir.seq(loads, joins)

    whole = pixels // rows
    many, rest = divmod(whole, IN_TURN)
    stride = IN_TURN * rows
    walk = [tir.loop(many, lambda i: turn(row + i * stride, IN_TURN), "i")] if many else []
    if rest:
        walk.append(turn(row + many * stride, rest))
    if pixels % rows:
        walk.append(tir.when(row + whole * rows < pixels, turn(row + whole * rows, 1)))
    walked = tir.seq(walk)
    memory, allocated = shared((rows * across * lanes,), "float32", "parts")
    leave = [tir.store(memory, tir.load(sums, n), (row * across + column) * lanes + n) for n in range(lanes)]

    def meet() -> Stmt:
        """Neighbouring threads finish neighbouring channels."""
        own = frame.at[0] * (across * lanes) + frame.thread
        total, total_declared = tir.local((1,), "float32", "total")

        def add(r: Expr) -> Stmt:
            return tir.store(total, join(tir.load(total, 0), tir.load(memory, r * (across * lanes) + frame.thread)), 0)

        def result() -> Expr:
            value = tir.load(total, 0)
            scaled = value / tir.lit(float(pixels), "float32") if node.op == "ReduceMean" else value
            return narrow(scaled, dtype(node.types[0].dtype).tvm)

        frame.body.bind(Value(node), lambda _: result())
        image = tir.i32(0) if x.shape[0] == 1 else frame.at[1]
        index = (image, own, *(tir.i32(0) for _ in node.types[0].shape[2:]))
        fold = tir.seq(total_declared, tir.store(total, start, 0), tir.loop(rows, add, "r"), frame.store(index))
        inside = frame.thread < across * lanes
        if channels % (across * lanes):
            inside = tirx.And(inside, own < channels)
        return tir.when(inside, fold)

    clear = [tir.store(sums, start, n) for n in range(lanes)]
    guarded = tir.when(channel < channels, walked) if channels % (across * lanes) else walked
    return tir.seq(bind, declared, clear, guarded, allocated, leave, barrier(), meet())


kernel(
    Row(
        NAME,
        frozenset({"ReduceMean", "ReduceSum", "ReduceMax"}),
        match,
        choices,
        emit,
        "mean, sum or maximum of each channel over an image whose channels lie side by side",
        frozenset({"CUDA"}),
    )
)
