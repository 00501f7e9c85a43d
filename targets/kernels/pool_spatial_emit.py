"""TensorIR of reductions over whole images: several independent vectors of channels, joined at the end."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from tvm import tirx

from edgec.compiler.registry import Choice, Emitted, Problem
from edgec.targets import tir
from edgec.targets.tir import Buffer, Expr, Stmt

from .common import ceil_div
from .common_emit import Frame, emit_kernel, full_or_rest, put, vector
from .pool_spatial_rows import ACCUMULATORS

F32 = "float32"


def spatial(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    node, lanes = problem.anchor, problem.target.cpu.lanes(32)
    images, channels = node.args[0].shape[:2]
    blocks = ceil_div(channels, lanes)

    def unit(frame: Frame, number: Expr) -> Stmt:
        image, block = tir.split(number, images, blocks)
        return full_or_rest(block, channels, lanes, lambda width: reduce(problem, frame, image, block, width))

    return emit_kernel(problem, choice, symbol, images * blocks, unit)


def reduce(problem: Problem, frame: Frame, image: Expr, block: Expr, width: int) -> Stmt:
    """All pixels of one block of channels, `width` of whose lanes are true."""
    node, lanes = problem.anchor, problem.target.cpu.lanes(32)
    size = node.args[0].shape[2:]
    pixels = prod(size)
    greatest = node.op == "ReduceMax"
    join: Callable[[Expr, Expr], Expr] = tirx.max if greatest else lambda a, b: a + b
    first = tir.broadcast(tir.lit(float("-inf") if greatest else 0.0, F32), lanes)
    acc, alloc = tir.local((ACCUMULATORS * lanes,), F32)

    def add(k: int, pixel: Expr) -> Stmt:
        def lane(v: Expr) -> Stmt:
            x = frame.body.at(node.args[0], (image, block * lanes + v, *tir.split(pixel, *size)))
            return tir.store(acc, join(tir.load(acc, k * lanes + v), x), k * lanes + v)

        return tir.vectorized(width, lane)

    parts = [alloc, *(put(acc, first, lanes, k * lanes) for k in range(ACCUMULATORS))]
    turns = pixels // ACCUMULATORS
    if turns:
        parts.append(
            tir.loop(turns, lambda t: tir.seq([add(k, t * ACCUMULATORS + k) for k in range(ACCUMULATORS)]), "pixel")
        )
    parts += [add(k, tir.i32(turns * ACCUMULATORS + k)) for k in range(pixels % ACCUMULATORS)]
    return tir.seq(
        parts,
        joined(acc, lanes, join),
        tir.vectorized(width, lambda v: write(problem, frame, acc, image, block * lanes + v, v, pixels)),
    )


def joined(acc: Buffer, lanes: int, join: Callable[[Expr, Expr], Expr]) -> list[Stmt]:
    """All accumulators into the first, pairwise."""
    parts: list[Stmt] = []
    step = ACCUMULATORS // 2
    while step:
        for k in range(step):
            parts.append(
                put(acc, join(vector(acc, lanes, k * lanes), vector(acc, lanes, (k + step) * lanes)), lanes, k * lanes)
            )
        step //= 2
    return parts


def write(problem: Problem, frame: Frame, acc: Buffer, image: Expr, channel: Expr, lane: Expr, pixels: int) -> Stmt:
    value = tir.load(acc, lane)
    if problem.anchor.op == "ReduceMean":
        value = value * tir.lit(1.0 / pixels, F32)
    frame.body.bind(problem.anchor.results[0], lambda _: value)
    rank = len(problem.anchor.types[0].shape)
    return frame.store((image, channel, *([tir.i32(0)] * (rank - 2))))
