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

from ...common import ceil_div
from ...conv.shape import UNROLLED_TAPS, Axis, Window, conv_window
from .dense_rows import operands_fit
from .shape import ENDS, MOST, QUAD, beside, channels_last, window_of

NAME = "depthwise_int8_mve"
LARGEST = 255 * 128  # product
EXACT = 1 << 24
REGISTERS = 8
FEW_PIXELS = 16  # for which code of its own for each row of a window does not pay
WIDEN = 9.0  # cycles to widen a vector


@dataclass(frozen=True)
class Plan:
    """A row of outputs in `tiles` of `columns`, whose sums are in registers; `slots` rows of the input, `width` vectors
    each."""

    columns: int
    tiles: int
    slots: int
    width: int

    def room(self, w: Window) -> list[tuple[str, int]]:
        """Parts of the scratch and their vectors: rows, weights, sums of an output row."""
        return [("rows", self.slots * self.width), ("taps", w.taps), ("sums", self.tiles * self.columns)]


def plan_of(w: Window, columns: int) -> Plan:
    """The last tile may reach beyond the end of a row, where rows of the input have room too."""
    tiles = ceil_div(w.width.out, columns)
    return Plan(columns, tiles, _span(w.height, 1), _span(w.width, tiles * columns))


def written_out(w: Window, small: bool) -> bool:
    """Whether the rows of a window have code of their own."""
    return not small and w.taps <= UNROLLED_TAPS and w.height.stride == 1 and w.pixels > FEW_PIXELS


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
    w, cpu, small = window_of(problem), problem.target.cpu, problem.target.small
    x, weight, bias = problem.anchor.args
    rank = len(x.shape)
    packed = f"{'OHWI' if rank == 4 else 'OWI'}{QUAD}o"
    fixed = {x: channels_last(rank, True), weight: packed, bias: f"A{QUAD}a" if bias.type.size > 1 else ""}
    layouts = tuple(fixed[v] if v in fixed else beside(problem, v) for v in problem.body.inputs)
    out, zero, found = beside(problem, problem.body.outputs[0]), int(str(full_attrs(problem.anchor)["zero"])), []
    for columns in range(1, 2 if small else min(MOST, w.width.out) + 1):
        room = 16 * sum(vectors for _, vectors in plan_of(w, columns).room(w))
        for group in groups(w, columns):
            us, config = cost(w, cpu, columns, group, zero, small), (("mt", columns), ("taps", group))
            found.append(Choice(NAME, layouts, (out,), config, us, room))
    return sorted(found, key=lambda c: c.cost_us)[:2]


def groups(w: Window, columns: int) -> list[int]:
    """How many taps of a row of the window may have their weights in registers: all, or less than half in a loop."""
    kernel = w.width.kernel
    fit = range(1, min(kernel, REGISTERS - 1 - columns) + 1)
    return [n for n in fit if n == kernel or kernel // n > 1]


def cost(w: Window, cpu: Cpu, columns: int, group: int, zero: int, small: bool) -> float:
    """Modelled time in us: vector operations take two cycles, loads run beside arithmetic."""
    v = w.width
    loops = ceil_div(v.kernel, group)
    loads = loops * (columns - 1) * min(v.stride, group) + 2 * v.kernel
    turn = 2.0 * max(loads, columns * v.kernel) + (14.0 * loops if loops > 1 else 0.0 if written_out(w, small) else 8.0)
    tiles = w.height.out * ceil_div(v.out, columns)
    widened = min(w.height.size, _span(w.height, w.height.out)) * min(v.size, _span(v, v.out))
    each = tiles * (turn * w.height.kernel + 14.0 + 3.0 * columns) + widened * (WIDEN + (2.0 if zero else 0.0))
    each += w.height.out * (v.out * ENDS + 40.0)
    return w.batch * ceil_div(w.channels_out, QUAD) * each / (cpu.ghz * 1e3) + 0.2


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .depthwise_emit import Depthwise

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
