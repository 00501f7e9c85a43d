"""The row of depthwise f32 convolutions: one vector of channels at a time, a tile of pixels in registers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu, Target

from ..common import (
    blocked_layout,
    ceil_div,
    epilogue_fits,
    heavy,
    in_memory,
    layouts_in,
    operations,
    spread,
)
from ..cost import microseconds, smallest, streamed
from .rows import vector_window
from .shape import Axis, Window, conv_operands, geometry, segments, unrolled

NAME = "conv_f32_depthwise"
TASKS_PER_THREAD = 4
BAND_US = 1.0  # of work in a band, at least
STAGED = 8.0  # instructions per vector to put results aside and take them up again, where long code follows
WIDEST = 15  # taps of a row that are written out together, edges included
START = 8.0  # cycles to start a tile or a row of a large window: the tile before it still runs


def match(problem: Problem) -> Literal[True] | str:
    shape = vector_window(problem)
    if isinstance(shape, str):
        return shape
    if shape.group != shape.channels_in or shape.channels_out != shape.channels_in or shape.group == 1:
        return "needs one filter per channel"
    if shape.width.kernel > WIDEST and (shape.width.pad or runs_over(shape.width)):
        return f"the window is wider than {WIDEST} and padded"
    return epilogue_fits(problem)


def unrolls(w: Window, target: Target) -> bool:
    """Whether the rows of a window, and edges of images above and below, have code of their own."""
    return unrolled(w, target) and not target.microcontroller


def runs_over(axis: Axis) -> bool:
    """Whether the last window reaches behind the input."""
    return not axis.inside(axis.out - 1, axis.kernel - 1)


def stretch(w: Window) -> int:
    """Taps of a window's row that are written out together: it is cut into nearly equal parts."""
    return ceil_div(w.width.kernel, ceil_div(w.width.kernel, WIDEST))


def choices(problem: Problem) -> Sequence[Choice]:
    w, cpu = geometry(problem), problem.target.cpu
    rank, lanes = len(problem.anchor.types[0].shape), cpu.lanes(32)
    x, weight, _ = conv_operands(problem.anchor)
    blocked = blocked_layout(rank, lanes)
    packed = f"{'OIHW' if rank == 4 else 'OIW'}{lanes}o"
    after = operations(problem) + (STAGED if heavy(problem) else 0.0)
    most = cpu.vector_registers // 2 - 1
    found, small = [], problem.target.small
    for columns in range(most, 0, -1) if small else even_tiles(w, most):
        several = unrolls(w, problem.target) and 2 * columns <= most
        for rows in sorted({1, min(2, w.height.out)}) if several else (1,):
            us = cost(w, cpu, (rows, columns), after, unrolls(w, problem.target))
            parts, us = banded(w, lanes, rows, us, problem)
            layouts = layouts_in(problem, {x: blocked, in_memory(problem, weight): packed}, blocked)
            config = (("mt", columns), ("rt", rows), ("hb", parts))
            found.append(Choice(NAME, layouts, (blocked,), config, us, staged_bytes(problem, w, rows)))
    return [shortest(w, found, problem.target)] if small else sorted(found, key=lambda c: c.cost_us)[:3]


def even_tiles(w: Window, most: int) -> list[int]:
    """Columns of tiles that cut a row into nearly equal parts."""
    least = ceil_div(w.width.out, most)
    return list(dict.fromkeys(ceil_div(w.width.out, parts) for parts in range(least, least + 3)))


def shortest(w: Window, offers: Sequence[Choice], target: Target) -> Choice:
    """The one to take where code is to be small: tiles are written out in few columns, edges included; of equals the
    first."""

    def columns(offer: Choice) -> int:
        return sum(s.length for s in segments(w.width, offer.get("mt")))

    return smallest(offers, lambda offer: offer.cost_us, columns, target)


def banded(w: Window, lanes: int, rows: int, us: float, problem: Problem) -> tuple[int, float]:
    """How many bands of rows each plane is cut into, and the time with the largest share in place of an equal one."""
    planes = w.batch * ceil_div(w.channels_out, lanes)
    parts = bands(w, planes, rows, us, problem)
    return parts, us * spread(planes * parts, problem.threads)


def bands(w: Window, planes: int, rows: int, us: float, problem: Problem) -> int:
    """Several where threads have few planes to share."""
    threads = problem.threads
    if threads == 1 or planes >= TASKS_PER_THREAD * threads:
        return 1
    most = max((s.count for s in segments(w.height, rows)), default=1) if unrolls(w, problem.target) else w.height.out
    wanted = min(ceil_div(TASKS_PER_THREAD * threads, planes), int(us / BAND_US / planes), most)
    return ceil_div(most, ceil_div(most, max(1, wanted)))  # none is empty


def staged_bytes(problem: Problem, w: Window, rows: int) -> int:
    """Scratch memory for rows of results to which long code is then applied."""
    return 4 * rows * w.width.out * problem.target.cpu.lanes(32) if heavy(problem) else 0


def cost(w: Window, cpu: Cpu, tile: tuple[int, int], after: float, written: bool) -> float:
    """Modelled time in us; `written`: the rows of the window are written out, not a loop."""
    blocks = w.batch * ceil_div(w.channels_out, cpu.lanes(32))
    cycles = 0.0
    starts = 1 if written else w.height.kernel * ceil_div(w.width.kernel, stretch(w))
    for v in segments(w.height, tile[0]):
        for s in segments(w.width, tile[1]):
            pixels = v.length * s.length
            inputs = _reads(v.length, w.height.stride, w.height.kernel) * _reads(
                s.length, w.width.stride, w.width.kernel
            )
            loads = inputs + w.taps
            work = max(pixels * w.taps / cpu.fma_per_cycle, loads / cpu.load_per_cycle, cpu.fma_latency * w.taps)
            ends = pixels * (1.0 + after) / cpu.fma_per_cycle + START * starts
            cycles += v.count * s.count * (work + ends)
    elements = w.batch * w.channels_in * w.height.size * w.width.size, w.batch * w.channels_out * w.pixels
    moved = 4.0 * sum(elements)
    return microseconds(cpu, cycles * blocks, streamed(cpu, moved))


def _reads(outputs: int, stride: int, kernel: int) -> int:
    return min(outputs * kernel, (outputs - 1) * stride + kernel)


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .depthwise_emit import Depthwise

    return Depthwise(problem, choice, geometry(problem)).emit(symbol)


kernel(
    Row(
        NAME,
        frozenset({"Conv"}),
        match,
        choices,
        emit,
        "depthwise convolution: a vector of channels over a register tile of pixels",
    )
)
