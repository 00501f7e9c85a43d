"""The row of depthwise convolutions of bytes on Helium: four channels at a time, exactly, in floats.

Helium multiplies and adds lane by lane in floats only. All sums of less than 2**24 are exact there, in any order. The
rows that a window reaches are widened once, less the zero point, with zeros around them, and kept while windows use
them; then no window has an edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu

from .common import ceil_div
from .conv_shape import Axis, Window, conv_window
from .mve_dense_rows import operands_fit
from .mve_shape import ENDS, MOST, QUAD, beside, channels_last, window_of

NAME = "depthwise_int8_mve"
LARGEST = 255 * 128  # product
EXACT = 1 << 24
REGISTERS = 8
TOGETHER = 3  # weights of a wide window that are in registers at once
WIDEN = 9.0  # cycles to widen a vector


@dataclass(frozen=True)
class Plan:
    """`columns` outputs of a row side by side in registers; `slots` rows of the input, `width` vectors each."""

    columns: int
    slots: int
    width: int

    def room(self, w: Window) -> list[tuple[str, int]]:
        """Parts of the scratch and their vectors: rows, weights, sums of an output row."""
        return [("rows", self.slots * self.width), ("taps", w.taps), ("sums", w.width.out)]


def plan_of(w: Window, columns: int) -> Plan:
    return Plan(columns, _span(w.height, 1), _span(w.width, w.width.out))


def _span(axis: Axis, outputs: int) -> int:
    """Inputs that the windows of some outputs reach."""
    return (outputs - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1


def match(problem: Problem) -> Literal[True] | str:
    if (fit := operands_fit(problem)) is not True:
        return fit
    shape = conv_window(problem.anchor)
    if isinstance(shape, str):
        return shape
    if shape.group != shape.channels_in or shape.channels_out != shape.channels_in:
        return "needs one filter per channel"
    return True if shape.taps * LARGEST < EXACT else "sums may exceed 2**24"


def choices(problem: Problem) -> Sequence[Choice]:
    w, cpu = window_of(problem), problem.target.cpu
    x, weight, bias = problem.anchor.args
    rank = len(x.shape)
    packed = f"{'OHWI' if rank == 4 else 'OWI'}{QUAD}o"
    fixed = {x: channels_last(rank, True), weight: packed, bias: f"A{QUAD}a" if bias.type.size > 1 else ""}
    layouts = tuple(fixed[v] if v in fixed else beside(problem, v) for v in problem.body.inputs)
    out, zero, found = beside(problem, problem.body.outputs[0]), int(str(full_attrs(problem.anchor)["zero"])), []
    for columns in range(1, min(MOST, w.width.out) + 1):
        room = 16 * sum(vectors for _, vectors in plan_of(w, columns).room(w))
        found.append(Choice(NAME, layouts, (out,), (("mt", columns),), cost(w, cpu, columns, zero), room))
    return sorted(found, key=lambda c: c.cost_us)[:2]


def taps_together(w: Window) -> int:
    """Taps of a row of the window whose weights are in registers at once."""
    return w.width.kernel if w.width.kernel <= QUAD else TOGETHER


def cost(w: Window, cpu: Cpu, columns: int, zero: int) -> float:
    """Modelled time in us: vector operations take two cycles, loads run beside arithmetic."""
    v, group = w.width, taps_together(w)
    short = max(0, columns + group + 1 - REGISTERS)  # weights that are read again for each pixel
    loads = ceil_div(v.kernel, group) * ((columns - 1) * min(v.stride, group) + group + short * columns)
    turn = 2.0 * max(loads + v.kernel, columns * v.kernel) + 6.0 * ceil_div(v.kernel, group)
    tiles = w.height.out * ceil_div(v.out, columns)
    widened = min(w.height.size, _span(w.height, w.height.out)) * min(v.size, _span(v, v.out))
    each = tiles * (turn * w.height.kernel + 14.0 + 3.0 * columns) + widened * (WIDEN + (2.0 if zero else 0.0))
    each += w.height.out * (v.out * ENDS + 40.0)
    return w.batch * ceil_div(w.channels_out, QUAD) * each / (cpu.ghz * 1e3) + 0.2


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .mve_depthwise_emit import Depthwise

    return Depthwise(problem, choice, window_of(problem)).emit(symbol)


kernel(
    Row(
        NAME,
        frozenset({"Edgec.ConvInteger"}),
        match,
        choices,
        emit,
        "depthwise convolution of signed bytes on Helium, exactly in floats",
        frozenset({"MVE"}),
    )
)
