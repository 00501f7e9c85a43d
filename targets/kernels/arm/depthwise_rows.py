"""The row of depthwise int8 convolutions on AArch64: eight channels at a time, products of 16 bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu

from ..common import byte_layout, ceil_div, layouts_in, operations, spread
from ..conv.depthwise_rows import bands, unrolls
from ..conv.shape import UNROLLED_TAPS, Window, conv_window, geometry, segments
from ..cost import microseconds, streamed
from .bytes import FEW, fits, result_layout

NAME = "depthwise_int8_smlal"
LANES = 8
WIDEST = 7  # of the windows whose rows of weights stay in registers


def match(problem: Problem) -> Literal[True] | str:
    x, w, _ = problem.anchor.args
    if (fit := fits(problem, x, w)) is not True:
        return fit
    shape = conv_window(problem.anchor)
    if isinstance(shape, str):
        return shape
    if shape.group != shape.channels_in or shape.channels_out != shape.channels_in or shape.group <= FEW:
        return f"needs one filter per channel, of more than {FEW}"
    return True if shape.width.kernel <= WIDEST else f"the window is wider than {WIDEST}"


def choices(problem: Problem) -> Sequence[Choice]:
    w, cpu = geometry(problem), problem.target.cpu
    x, weight, _ = problem.anchor.args
    out = result_layout(problem.body.outputs[0].type, cpu.lanes(32))
    packed = f"{'OHWI' if len(x.shape) == 4 else 'OWI'}{LANES}o"
    layouts = layouts_in(problem, {x: byte_layout(x.shape), weight: packed}, out)
    room = cpu.vector_registers - min(w.taps, UNROLLED_TAPS if unrolls(w, problem.target) else w.width.kernel) - 4
    most = min(8, room // 2)
    after, found = operations(problem), []
    for columns in dict.fromkeys(ceil_div(w.width.out, n) for n in _parts(w.width.out, most)):
        for rows in sorted({1, min(2, w.height.out)}) if unrolls(w, problem.target) and 2 * columns <= most else (1,):
            us = cost(w, cpu, rows, columns, after)
            planes = w.batch * ceil_div(w.channels_out, LANES)
            parts = bands(w, planes, rows, us, problem)
            config = (("mt", columns), ("rt", rows), ("hb", parts))
            found.append(Choice(NAME, layouts, (out,), config, us * spread(planes * parts, problem.threads)))
    return sorted(found, key=lambda c: c.cost_us)[:3]


def _parts(out: int, most: int) -> range:
    least = ceil_div(out, most)
    return range(least, min(out, least + 2) + 1)


def cost(w: Window, cpu: Cpu, rows: int, columns: int, after: float) -> float:
    """Modelled time in us: a tap is two multiply-adds of 8 channels, an input a load and a subtraction."""
    blocks = w.batch * ceil_div(w.channels_out, LANES)
    cycles = 0.0
    for v in segments(w.height, rows):
        for s in segments(w.width, columns):
            pixels = v.length * s.length
            read = ((v.length - 1) * w.height.stride + w.height.kernel) * (
                (s.length - 1) * w.width.stride + w.width.kernel
            )
            work = 2.0 * pixels * w.taps + read + 2.0 * pixels * (1.5 + after)
            cycles += v.count * s.count * (max(work, read / cpu.load_per_cycle) / min(cpu.fma_per_cycle, 1.25) + 8)
    moved = w.batch * w.channels_in * w.height.size * w.width.size + w.batch * w.channels_out * w.pixels
    return microseconds(cpu, cycles * blocks, streamed(cpu, float(moved)))


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .depthwise_emit import Depthwise

    return Depthwise(problem, choice, geometry(problem)).emit(symbol)


kernel(
    Row(
        NAME,
        frozenset({"Edgec.ConvInteger"}),
        match,
        choices,
        emit,
        "depthwise convolution of signed bytes on AArch64 by smlal",
        frozenset({"NEON"}),
    )
)
