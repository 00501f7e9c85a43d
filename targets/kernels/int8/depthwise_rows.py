"""The row of depthwise convolutions of bytes by multiply-adds in f32, where sums of integers below 2**24 are exact.

Any window, any zero point, any vector width: a product and its addition cost one instruction, as no integer form does
without instructions for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu

from ..common import byte_layout, ceil_div, epilogue_fits, heavy, input_index, layouts_in, lookups, operations
from ..conv.depthwise_rows import banded, cost, shortest
from ..conv.shape import Window, conv_operands, conv_window, geometry, segments, unrolled
from ..cost import microseconds, streamed

NAME = "depthwise_int8_floats"
MOST_TAPS = (1 << 24) // (255 * 128)
ENDS = 8.0  # instructions that turn a vector of sums into bytes, about
ALONE = 1.4  # long code for one vector at a time waits for itself


def match(problem: Problem) -> Literal[True] | str:
    if (fit := depthwise(problem)) is not True:
        return fit
    w = geometry(problem)
    if w.taps > MOST_TAPS or w.width.kernel > 15:
        return "the window is too large"
    return epilogue_fits(problem)


def depthwise(problem: Problem) -> Literal[True] | str:
    """True where the anchor has one filter per channel, and its operands lie in memory."""
    node = problem.anchor
    x, w, _ = conv_operands(node)
    if any(input_index(problem.body, v) < 0 for v in (x, w)):
        return "reads an operand through a computation"
    cpu = problem.target.cpu
    if cpu.vector_registers < 8 or cpu.lanes(32) < 4 or problem.target.microcontroller:
        return "needs vector registers"
    shape = conv_window(node)
    if isinstance(shape, str):
        return shape
    if shape.group != shape.channels_in or shape.channels_out != shape.channels_in or shape.channels_in <= 4:
        return "needs one filter per channel, and more than four channels"
    return True


def lanes_of(cpu: Cpu) -> int:
    """Lanes of the vectors: they divide a block of channels."""
    return min(16, cpu.lanes(32))


def choices(problem: Problem) -> Sequence[Choice]:
    w, cpu = geometry(problem), problem.target.cpu
    x, weight, _ = conv_operands(problem.anchor)
    lanes, layout = lanes_of(cpu), byte_layout(x.shape)
    packed = f"{'OIHW' if len(x.shape) == 4 else 'OIW'}{lanes}o"
    layouts = layouts_in(problem, {x: layout, weight: packed}, layout)
    most = cpu.vector_registers // 2 - 1
    after = (operations(problem) + ENDS) * (ALONE if heavy(problem) else 1.0) + lookups(problem)
    found = []
    shifted, written = bool(full_attrs(problem.anchor)["zero"]), unrolled(w, problem.target)
    least, small = ceil_div(w.width.out, most), problem.target.small
    even = [ceil_div(w.width.out, parts) for parts in range(least, least + 2)]
    for columns in range(most, 0, -1) if small else even:
        us = modelled(w, cpu, columns, after, shifted, written)
        cut, us = banded(w, lanes, 1, us, problem)
        config = (("mt", columns), ("rt", 1), ("hb", cut))
        found.append(Choice(NAME, layouts, (layout,), config, us, 4 * lanes * w.taps))
    return [shortest(w, found, problem.target)] if small else sorted(found, key=lambda c: c.cost_us)


def modelled(w: Window, cpu: Cpu, columns: int, after: float, shifted: bool, written: bool) -> float:
    """As in f32, and each input is widened: three instructions, or two where its zero point is zero."""
    us = cost(w, cpu, (1, columns), after, written)
    widened = (
        w.height.out
        * w.height.kernel
        * sum(
            s.count * ((s.length - 1) * min(w.width.stride, w.width.kernel) + w.width.kernel)
            for s in segments(w.width, columns)
        )
    )
    cycles = w.batch * ceil_div(w.channels_out, lanes_of(cpu)) * widened * (3.0 if shifted else 2.0)
    saved = streamed(cpu, 3.0 * w.batch * w.channels_in * (w.height.size * w.width.size + w.pixels))
    return us + microseconds(cpu, cycles / cpu.fma_per_cycle, streamed(cpu, 0)) - 0.25 * microseconds(cpu, 0, saved)


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
        "depthwise convolution of bytes, computed in f32",
    )
)
