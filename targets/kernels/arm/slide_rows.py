"""The row of depthwise int8 convolutions by sdot that slides along rows: two output rows of eight channels at a time.

Four input rows of a column are dealt to fours, one vector for each four channels, and serve the taps of two output rows
and of every output whose window holds the column. The columns of a window stay in registers, in places that go around.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu

from ..bytes_tail import operand_layout, rescales, short_multipliers
from ..common import byte_layout, ceil_div, layouts_in, operations, spread
from ..conv.depthwise_rows import TASKS_PER_THREAD
from ..conv.shape import Window, geometry
from ..cost import LOOP, TILE, microseconds, streamed
from .bytes import BLOCK, DIRECT, METHODS, ONCE, REAL, channel_window, held, result_layout, said

NAME = "depthwise_int8_slide"
ROWS, HALF, TAPS = 2, 8, 3  # output rows and channels of a tile; most taps of a column
NEAR = 32 << 10  # bytes of a few rows of all channels that are read again, rather than once for each half


def match(problem: Problem) -> Literal[True] | str:
    w = channel_window(problem)
    if isinstance(w, str):
        return w
    if len(problem.anchor.args[0].shape) != 4 or w.height.dilation != 1 or w.width.dilation != 1:
        return "needs an image and a window without gaps"
    if not 2 <= w.height.kernel <= TAPS or not 2 <= w.width.kernel <= TAPS or max(w.height.stride, w.width.stride) > 2:
        return f"needs windows of {TAPS} rows and columns at most, in steps of 1 or 2"
    if w.height.out < ROWS or w.height.size < w.height.kernel or whole(w) < w.width.kernel:
        return "the image is too small"
    if new_columns(w) > w.width.kernel or w.width.kernel - new_columns(w) < w.width.pad:
        return "the first column is padding that no other output shares"
    return True


def new_columns(w: Window) -> int:
    """Columns that an output reads and the one before it did not."""
    return min(w.width.stride, w.width.kernel)


def whole(w: Window) -> int:
    """Outputs of a row, from the first, whose new columns lie in the image."""
    axis = w.width
    return min(axis.out, (axis.size + axis.pad - axis.kernel) // axis.stride + 1)


def parts(w: Window) -> int:
    """Vectors of a column for each four channels: output rows one apart share theirs."""
    return 1 if w.height.stride == 1 else ROWS


def halves(w: Window) -> int:
    return ceil_div(w.channels_out, HALF)


def pairs(w: Window) -> int:
    """Pairs of output rows; the last one begins a row earlier where the number of rows is odd."""
    return ceil_div(w.height.out, ROWS)


def scratch_bytes(problem: Problem, w: Window) -> int:
    """Weights of both output rows, what their sums start from, offsets of products and short multipliers, for eight
    channels."""
    return 2 * BLOCK * (ROWS * (w.width.kernel + 1) + 1 + len(short_multipliers(problem.body)))


def choices(problem: Problem) -> Sequence[Choice]:
    w, cpu = geometry(problem), problem.target.cpu
    x, weight, bias = problem.anchor.args
    out = result_layout(problem.body.outputs[0].type, cpu.lanes(32))
    fixed = {x: byte_layout(x.shape), weight: f"OIHW{BLOCK}o{w.height.kernel}h", bias: operand_layout(bias)}
    layouts, after = layouts_in(problem, fixed, out), operations(problem)
    kept = held(problem)
    kept = kept if kept in (ONCE, DIRECT, REAL) or rescales(problem) is True else 0  # other code reads integers
    rows_first = int(BLOCK * ceil_div(w.channels_out, BLOCK) * w.height.size * w.width.size > NEAR)
    units = w.batch * (1 if rows_first else halves(w))
    us = cost(w, cpu, after)
    cut = bands(w, units, problem.threads)
    config = (("hb", cut), ("ro", rows_first), *said(problem, kept))
    us *= spread(units * cut, problem.threads)
    scratch = scratch_bytes(problem, w) * (halves(w) if rows_first else 1)
    return [Choice(NAME, layouts, (out,), config, us, scratch)]


def bands(w: Window, units: int, threads: int) -> int:
    """Shares of the pairs of rows where threads want more tasks. Rows that two pairs store are in one task."""
    if threads == 1 or w.height.out % ROWS:
        return 1
    return max(1, min(ceil_div(TASKS_PER_THREAD * threads, units), pairs(w) // 2))


def cost(w: Window, cpu: Cpu, after: float) -> float:
    """Modelled time in us."""
    dealt = new_columns(w) * (4 if parts(w) == 1 else 7)
    work = dealt + 2 * ROWS * (w.width.kernel + 2.5 + 1.5 * after)
    row = w.width.out * (1.1 * work / cpu.fma_per_cycle + LOOP) + TILE
    prepared = 60.0 / cpu.fma_per_cycle * min(3, pairs(w))
    cycles = w.batch * halves(w) * (pairs(w) * row + prepared)
    moved = float(w.batch * BLOCK * ceil_div(w.channels_out, BLOCK) * (w.height.size * w.width.size + w.pixels))
    return microseconds(cpu, cycles, streamed(cpu, moved))


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .slide_emit import Slide

    return Slide(problem, choice, geometry(problem)).emit(symbol)


kernel(
    Row(
        NAME,
        frozenset({"Edgec.ConvInteger"}),
        match,
        choices,
        emit,
        "depthwise convolution of signed bytes on AArch64: dot products of columns that stay in registers",
        METHODS["sdot"].isa,
    )
)
