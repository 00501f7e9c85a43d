"""The row of depthwise int8 convolutions by sdot: 16 channels at a time, four neighbours in a row dealt to fours.

Windows, shifts and tiles are those of int8/depthwise_dots_rows.py, in vectors of 16 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu

from ..bytes_tail import of_channels, operand_layout, rescales
from ..common import byte_layout, ceil_div, layouts_in, operations, spread
from ..conv.depthwise_rows import bands
from ..conv.shape import Window, geometry, segments
from ..cost import TILE, microseconds, smallest, streamed
from ..int8.depthwise_dots_rows import (
    MOST_TAPS,
    QUADS,
    asking,
    columns_of_code,
    scratch_vectors,
    stored_taps,
    tile_work,
    tiles,
)
from .bytes import BLOCK, DIRECT, METHODS, ONCE, channel_window, held, result_layout, said

NAME = "depthwise_int8_sdot"


def match(problem: Problem) -> Literal[True] | str:
    w = channel_window(problem)
    if isinstance(w, str):
        return w
    if w.width.dilation != 1 or w.width.stride > 4 or max(w.height.kernel, w.width.kernel) > MOST_TAPS:
        return "the window is dilated or too large"
    return True


def groups(w: Window) -> list[tuple[int, int, int]]:
    """(first block, its size, count) of the runs of equal blocks of 16 channels: whole ones, and one that is not."""
    full, rest = divmod(w.channels_out, BLOCK)
    return [(0, 1, full)] * bool(full) + [(full, 1, 1)] * bool(rest)


def choices(problem: Problem) -> Sequence[Choice]:
    w, cpu = geometry(problem), problem.target.cpu
    x, weight, bias = problem.anchor.args
    out = result_layout(problem.body.outputs[0].type, cpu.lanes(32))
    packed = f"{'OIHW' if len(x.shape) == 4 else 'OIW'}{BLOCK}o{stored_taps(w.width, QUADS.taps)}w"
    fixed = {x: byte_layout(x.shape), weight: packed, bias: operand_layout(bias)}
    kept = held(problem)
    ended = rescales(problem) is True
    if kept not in (ONCE, DIRECT):
        kept = min(kept, 2) if ended else 0  # other code reads integers
    if not ended and kept != DIRECT:  # reads whole vectors
        shape = problem.anchor.types[0].shape
        fixed |= {v: operand_layout(v) for v in problem.body.inputs if v not in fixed and of_channels(v, shape)}
    layouts, after = layouts_in(problem, fixed, out), operations(problem)
    units = w.batch * ceil_div(w.channels_out, BLOCK)
    found, small = [], problem.target.small
    scratch = BLOCK * scratch_vectors(w, QUADS.taps, 0, small)
    for rows, columns in tiles(w, QUADS, small):
        us = cost(w, cpu, rows, columns, after, small)
        cut = bands(w, units, rows, us, problem)
        config = (("mt", columns), ("rt", rows), ("hb", cut), ("ro", 0), *said(problem, kept))
        us *= spread(units * cut, problem.threads)
        found.append(Choice(NAME, layouts, (out,), config, us, scratch))
    if small:
        return [smallest(found, lambda c: c.cost_us, lambda c: columns_of_code(w, c.get("mt")), problem.target)]
    return sorted(found, key=lambda c: c.cost_us)[:3]


def cost(w: Window, cpu: Cpu, rows: int, columns: int, after: float, asked: bool = False) -> float:
    """Modelled time in us; `asked`: of every pixel whether it is inside."""
    cycles = w.height.kernel * 20.0
    for v in segments(w.height, rows):
        for s in segments(w.width, columns):
            ends = v.length * s.length * 4 * (2.5 + 1.5 * after)
            work = tile_work(w, QUADS, v.length, s.length) + ends + (asking(w, s.length) if asked else 0.0)
            cycles += v.count * s.count * (1.3 * work / cpu.fma_per_cycle + TILE / 3)
    blocks = w.batch * ceil_div(w.channels_out, BLOCK)
    moved = float(BLOCK * blocks * (w.height.size * w.width.size + w.pixels))
    return microseconds(cpu, blocks * cycles, streamed(cpu, moved))


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .quads_emit import Quads

    return Quads(problem, choice, geometry(problem)).emit(symbol)


kernel(
    Row(
        NAME,
        frozenset({"Edgec.ConvInteger"}),
        match,
        choices,
        emit,
        "depthwise convolution of signed bytes on AArch64: dot products of four neighbours in a row",
        METHODS["sdot"].isa,
    )
)
