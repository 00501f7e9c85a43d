"""Rows of pooling and of sums over whole images of bytes: pixel by pixel, as many channels as a vector holds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any, Literal

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu

from ..bytes_tail import channel_operands, rescales, tables
from ..common import after_anchor, byte_layout, ceil_div, input_index, task_split
from ..conv.shape import Window, segments, window
from ..cost import microseconds, streamed

POOL, SPATIAL = "pool_int8_pixels", "sum_int8_spatial"
GREATEST = "pool_int8_greatest"
MOST_TAPS = 1500  # written out, at all kinds of edges together
MOST_SUMMED = 257  # bytes whose sum fits 16 bits


def match(problem: Problem) -> Literal[True] | str:
    node = problem.anchor
    x = node.args[0]
    if x.type.dtype not in ("u8", "i8") or x.shape[1] <= 4 or input_index(problem.body, x) < 0:
        return "needs bytes in memory, and more than four channels"
    w = window(node)
    if isinstance(w, str):
        return w
    if node.op != "MaxPool" and not written_out(w):
        return "the window is too large"
    if node.op == "MaxPool":
        return True if not after_anchor(problem) and len(problem.body.outputs) == 1 else "takes maxima and does no more"
    return rescales(problem, by_position=True)


def match_greatest(problem: Problem) -> Literal[True] | str:
    return match(problem) if problem.target.triple.startswith("aarch64") else "is for 64-bit ARM"


def written_out(w: Window) -> bool:
    """Whether the code holds each tap, at each kind of edge."""
    kinds = [sum(s.count if s.edge else 1 for s in segments(axis, 1)) for axis in (w.height, w.width)]
    return prod(kinds) * w.taps <= MOST_TAPS and w.taps <= MOST_SUMMED


def tail_fits(problem: Problem) -> Literal[True] | str:
    fit = rescales(problem)
    return "multiplies by numbers of the tensor alone" if fit is True and channel_operands(problem) else fit


def match_spatial(problem: Problem) -> Literal[True] | str:
    node = problem.anchor
    x, attrs = node.args[0], full_attrs(node)
    axes: Any = attrs["axes"]
    rank = len(x.shape)
    if rank not in (3, 4) or {a % rank for a in axes} != set(range(2, rank)) or not attrs["keepdims"]:
        return "reduces other axes than the spatial ones, or drops them"
    if input_index(problem.body, x) < 0 or x.shape[1] <= 4 or 0 in x.shape:
        return "needs bytes in memory, and more than four channels"
    return tail_fits(problem)


def most_blocks(cpu: Cpu) -> int:
    """Blocks of 16 channels in a vector of bytes."""
    return min(4, cpu.vector_bits // 128)


def layouts(problem: Problem) -> tuple[str, ...]:
    shape = problem.anchor.args[0].shape
    return tuple(
        byte_layout(shape) if v.type.dtype in ("u8", "i8") and v not in tables(problem) else ""
        for v in problem.body.inputs
    )


def choices(name: str, problem: Problem) -> Sequence[Choice]:
    w, cpu = geometry(problem), problem.target.cpu
    blocks = ceil_div(w.channels_out, 16)
    pixels = w.batch * w.pixels * ceil_div(blocks, most_blocks(cpu))
    taps, scratch = float(w.taps), 0
    if not written_out(w):  # columns of each row first, then rows
        taps = w.width.kernel * w.height.size / w.height.out + w.height.kernel
        scratch = w.height.size * w.width.out * most_blocks(cpu) * 16
    each = taps / cpu.load_per_cycle if problem.anchor.op == "MaxPool" else 2.0 * taps + 15
    moved = 16.0 * w.batch * blocks * (w.height.size * w.width.size + w.pixels)
    us = microseconds(cpu, pixels * (each + 4.0), streamed(cpu, moved))
    rows = max((s.count for s in segments(w.height, 1)), default=1) if written_out(w) else w.height.out
    bands = max(1, min(rows, ceil_div(w.height.out, task_split(w.height.out, us / w.height.out, problem.threads))))
    bands = bands if problem.threads > 1 else 1
    out = (byte_layout(problem.anchor.args[0].shape),)
    return [Choice(name, layouts(problem), out, (("hb", bands),), us, scratch)]


def geometry(problem: Problem) -> Window:
    w = window(problem.anchor)
    assert isinstance(w, Window)
    return w


def choices_spatial(problem: Problem) -> Sequence[Choice]:
    x, cpu = problem.anchor.args[0], problem.target.cpu
    vectors = x.shape[0] * ceil_div(ceil_div(x.shape[1], 16), most_blocks(cpu))
    pixels = prod(x.shape[2:])
    us = microseconds(cpu, vectors * (2.0 * pixels + 30), streamed(cpu, x.shape[0] * x.shape[1] * pixels))
    layout = byte_layout(x.shape)
    return [Choice(SPATIAL, layouts(problem), (layout,), (), us)]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .pool_emit import Pixels

    return Pixels(problem, choice).pool(symbol, geometry(problem))


def emit_spatial(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .pool_emit import Pixels

    return Pixels(problem, choice).spatial(symbol)


kernel(
    Row(
        POOL,
        frozenset({"MaxPool", "Edgec.SumPool"}),
        match,
        partial(choices, POOL),
        emit,
        "pooling of bytes: whole pixels, a vector of channels at a time",
        isa=frozenset({"AVX2"}),
    )
)
kernel(
    Row(
        GREATEST,
        frozenset({"MaxPool"}),
        match_greatest,
        partial(choices, GREATEST),
        emit,
        "maxima of bytes over windows: whole pixels, a vector of channels at a time",
        isa=frozenset({"NEON"}),
    )
)
kernel(
    Row(
        SPATIAL,
        frozenset({"Edgec.Sum"}),
        match_spatial,
        choices_spatial,
        emit_spatial,
        "sums of bytes over the pixels of an image",
        isa=frozenset({"AVX2"}),
    )
)
