"""depthwise_int8_dsp: depthwise convolutions of signed bytes on Cortex-M with the DSP extension.

Channels lie side by side, so that neighbours of one channel are no word. One channel at a time its lines are widened to
16 bits into a ring of lines in scratch, as many as a window has; then smlad multiplies two neighbours at once, for two
results at a time. Lines run along the axis of the image that costs less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..common import ceil_div, layouts_in
from ..conv.shape import Axis, Window, depthwise, geometry
from .bytes import DSP, activations, after, even, fits, result_layout
from .rescale import plain_rescale

NAME = "depthwise_int8_dsp"
REGISTERS = 14
CHUNK = 8  # taps of a line that are multiplied in one pass
MOST_LINES = 64
GATHERED = 4  # elements of a line that come at a time


def match(problem: Problem) -> Literal[True] | str:
    node = problem.anchor
    if (fit := fits(problem, *node.args[:2])) is not True:
        return fit
    shape = depthwise(node)
    if isinstance(shape, str):
        return shape
    if lines_of(shape.height) > MOST_LINES or lines_of(shape.width) > MOST_LINES:
        return "its window has too many lines"
    return True


def lines_of(axis: Axis) -> int:
    """Lines of a ring: a power of two."""
    return int(1 << ((axis.kernel - 1) * axis.dilation).bit_length())


@dataclass(frozen=True)
class Chunk:
    """A few taps of a line.

    `packs`: pairs of taps (None: nothing) whose weights share a register; `products`: what a pair of results takes, as
    (word of data, result, instruction, register).
    """

    first: int
    packs: tuple[tuple[int | None, int | None], ...]
    products: tuple[tuple[int, int, str, int], ...]

    @property
    def words(self) -> int:
        return 1 + max(word for word, *_ in self.products)


@cache
def chunk(axis: Axis, first: int, count: int) -> Chunk:
    """Taps first .. first + count - 1. Offsets count from the first of them, which stands on a word."""
    packs: list[tuple[int | None, int | None]] = []
    singles: list[tuple[int, int, int, int]] = []
    products: list[tuple[int, int, str, int]] = []
    for result in (0, 1):
        at: dict[int, dict[int, int]] = {}
        for tap in range(count):
            offset = result * axis.stride + tap * axis.dilation
            at.setdefault(offset // 2, {})[offset % 2] = first + tap
        for word, halves in at.items():
            if len(halves) == 2:
                pack = halves[0], halves[1]
                if pack not in packs:
                    packs.append(pack)
                products.append((word, result, "smlad", packs.index(pack)))
            else:
                singles += [(word, result, half, tap) for half, tap in halves.items()]
    for word, result, half, tap in singles:
        where = next(((k, p.index(tap)) for k, p in enumerate(packs) if tap in p), None)
        if where is None:
            spare = next((k for k, p in enumerate(packs) if p[1] is None), None)
            if spare is None:
                packs.append((tap, None))
                where = len(packs) - 1, 0
            else:
                packs[spare] = packs[spare][0], tap
                where = spare, 1
        products.append((word, result, f"smla{'bt'[half]}{'bt'[where[1]]}", where[0]))
    return Chunk(first, tuple(packs), tuple(sorted(products)))


@dataclass(frozen=True)
class Plan:
    """`along`: the axis of lines, `across`: the other; `swapped`: lines are columns of the image."""

    along: Axis
    across: Axis
    swapped: bool

    @property
    def chunks(self) -> list[Chunk]:
        """A line's taps; each begins at a word."""
        size = CHUNK if self.along.kernel > CHUNK + 1 else self.along.kernel
        return [chunk(self.along, k, min(size, self.along.kernel - k)) for k in range(0, self.along.kernel, size)]

    def together(self, part: Chunk) -> int:
        """Lines that one pass multiplies."""
        room = (REGISTERS - 5) // (len(part.packs) + 1)
        return max(1, min(room, self.across.kernel))

    @property
    def results(self) -> int:
        return even(self.along.out, 2)

    @property
    def line(self) -> int:
        """Elements of a line, its padding included."""
        reach = (self.results - 1) * self.along.stride + (self.along.kernel - 1) * self.along.dilation + 1
        return even(max(reach + 2, self.along.pad + self.along.size), 4)

    @property
    def lines(self) -> int:
        return lines_of(self.across)

    @property
    def scratch(self) -> int:
        """Words: sums of a line of results, the ring, and a line of nothing but zero points."""
        return self.results + (self.lines + 1) * self.line // 2

    def cycles(self, channels: int, each: float) -> float:
        passes = 0.0
        calls = 0
        for part in self.chunks:
            lines = self.across.kernel
            many = ceil_div(lines, self.together(part))
            calls += many
            passes += self.results / 2 * (lines * (len(part.products) + ceil_div(part.words, 2)) + many * 5.0)
        gathered = min(self.across.size, self.across.out * self.across.stride + self.across.kernel) * (
            12 + 2.75 * self.along.size
        )
        line = passes + calls * 24 + 12 * self.across.kernel + self.along.out * (each + 1)
        return channels * (40 + self.along.kernel * self.across.kernel * 2 + self.across.out * line + gathered)


def plan_of(w: Window, each: float = 10.0) -> Plan:
    """The better of the two axes."""
    plans = [Plan(w.width, w.height, False)]
    if w.height.size > 1:
        plans.append(Plan(w.height, w.width, True))
    return min(plans, key=lambda p: p.cycles(w.channels_in, each))


def choices(problem: Problem) -> Sequence[Choice]:
    x, weight, _ = problem.anchor.args
    w, rank = geometry(problem), len(x.shape)
    plan = plan_of(w)
    out = result_layout(problem.body.outputs[0].type)
    cycles = w.batch * plan.cycles(w.channels_in, after(problem))
    layouts = layouts_in(problem, {x: activations(rank), weight: ""}, out)
    return [Choice(NAME, layouts, (out,), (), cycles / (problem.target.cpu.ghz * 1e3), plan.scratch * 4)]


def form(problem: Problem) -> str:
    """Of kernels that differ in sizes and zero points only; "" where they are not written so."""
    w, plain = geometry(problem), plain_rescale(problem)
    plan = plan_of(w)
    if plain is None or w.batch > 1 or len(plan.chunks) > 1 or plan.together(plan.chunks[0]) < plan.across.kernel:
        return ""
    if plan.along.size < GATHERED:
        return ""
    shape = [replace(a, size=0, out=0) for a in (plan.along, plan.across)]
    odd, rest, turns = plan.along.out % 2, plan.along.size % GATHERED, plan.results // 2 % 2
    bias = problem.anchor.args[2].shape[0] > 1
    zero = bool(full_attrs(problem.anchor)["zero"])
    code = f"{plan.swapped} {shape} {odd} {rest} {turns} {bias} {zero} {plain.shift} {plain.form}"
    return f"{len(problem.anchor.args[0].shape)} {code}"


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
        "depthwise convolution of signed bytes on Cortex-M by smlad",
        DSP,
        form,
    )
)
