"""The row of depthwise convolutions of bytes with VNNI: up to 64 channels at a time, neighbours in a row dealt to fours.

Four pixels side by side become vectors of four bytes for each channel, which one instruction multiplies by four taps
and sums; those vectors serve every output whose taps lie among them, shifted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgec.compiler.ir import Value
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu

from .bytes_tail import literal
from .common import after_anchor, byte_layout, ceil_div, epilogue_fits, input_index, spread
from .conv_shape import Axis, Window, conv_operands, geometry, segments
from .cost import TILE, microseconds, streamed
from .depthwise_int8_rows import depthwise
from .depthwise_rows import bands

NAME = "depthwise_int8_quads"
MOST_ROWS = 7  # of the window: their filters stand in scratch memory, dealt, for every shift
END = 5.5  # instructions per vector of 32-bit sums that becomes bytes
STEP = 2  # fours start at every other column


def match(problem: Problem) -> Literal[True] | str:
    if (fit := depthwise(problem)) is not True:
        return fit
    w, x = geometry(problem), problem.anchor.args[0]
    if x.type.dtype != "u8":
        return "multiplies unsigned bytes"
    if w.width.dilation != 1 or w.width.stride > 4 or w.height.kernel > MOST_ROWS or w.width.kernel > MOST_ROWS:
        return "the window is dilated or too large"
    return rescales(problem)


def rescales(problem: Problem) -> Literal[True] | str:
    """True where what follows the anchor is Rescale of sums and bytes of its shape, by numbers of tensor or channel."""
    if (fit := epilogue_fits(problem)) is not True:
        return fit
    shape = problem.anchor.types[0].shape
    nodes = after_anchor(problem)
    if not nodes or problem.body.outputs[0].node.op != "Edgec.Rescale":
        return "ends in bytes"
    for node in nodes:
        if node.op != "Edgec.Rescale":
            return f"rescales, and knows no {node.op}"
        count = len(node.args) // 2
        for term in node.args[:count]:
            inside = term.node is problem.anchor or term.node in nodes or input_index(problem.body, term) >= 0
            if not inside or term.shape != shape or (term.type.dtype == "i32") != (term.node is problem.anchor):
                return "a term has another shape or type"
        for m in node.args[count:]:
            if literal(m) is None and (not per_channel(m, shape) or input_index(problem.body, m) < 0):
                return "a multiplier belongs neither to the tensor nor to channels"
    return True


def per_channel(v: Value, shape: tuple[int, ...]) -> bool:
    rank = len(shape) - 1
    return v.shape[-rank:] == (shape[1],) + (1,) * (rank - 1) and v.type.size == shape[1]


def operand_layout(v: Value) -> str:
    """Channels in blocks of 16, so that a vector may be read of the last."""
    letters = {1: "A", 2: "CW", 3: "CHW", 4: "NCHW"}[len(v.shape)]
    return f"{letters}16{letters[0].lower() if len(letters) == 1 else 'c'}"


@dataclass(frozen=True)
class Shift:
    """An output's taps among the fours from the one that holds its first: `first` is that one's column, `by` bytes in."""

    first: int
    by: int
    count: int


def shift(w: Axis, column: int) -> Shift:
    """Of the output number `column` of a tile."""
    at = column * w.stride
    by = at % STEP
    return Shift(at - by, by, ceil_div(w.kernel + by, 4))


def shifts(w: Axis) -> list[Shift]:
    """The different ones, by their distance in bytes."""
    found = {s.by: s for s in (shift(w, c) for c in range(STEP))}
    return [found[by] for by in sorted(found)]


def groups(blocks: int) -> list[tuple[int, int, int]]:
    """(first block, blocks of 16 channels, count) of the runs of equal groups that together are `blocks`."""
    full, rest = divmod(blocks, 4)
    found = [(0, 4, full)] if full else []
    at = 4 * full
    for size in (2, 1):
        if rest & size:
            found.append((at, size, 1))
            at += size
    return found


def scratch_vectors(w: Window, operands: int) -> int:
    """Vectors of the filters for each shift, of what sums start from, and of operands of the channels; all in fours."""
    return 4 * (w.height.kernel * sum(s.count for s in shifts(w.width)) + 1 + operands)


def channel_operands(problem: Problem) -> list[Value]:
    """Multipliers that have an element per channel."""
    found: dict[Value, None] = {}
    for node in after_anchor(problem):
        found |= dict.fromkeys(m for m in node.args[len(node.args) // 2 :] if literal(m) is None)
    return list(found)


def layouts(problem: Problem) -> tuple[str, ...]:
    x, weight, bias = conv_operands(problem.anchor)
    data = byte_layout(x.shape)
    fixed = {x: data, weight: f"{'OIHW' if len(x.shape) == 4 else 'OIW'}16o4w"}
    small = {v: operand_layout(v) for v in (bias, *channel_operands(problem)) if v is not None}
    return tuple({**small, **fixed}.get(v, data) for v in problem.body.inputs)


def choices(problem: Problem) -> Sequence[Choice]:
    w, cpu = geometry(problem), problem.target.cpu
    data = byte_layout(problem.anchor.args[0].shape)
    scratch = 64 * scratch_vectors(w, len(channel_operands(problem)))
    units = w.batch * sum(count for _, _, count in groups(ceil_div(w.channels_out, 16)))
    found = []
    for rows, columns in ((2, 2), (1, 4), (1, 2), (2, 1), (1, 1), (1, 3)):
        if rows > w.height.out or columns > w.width.out:
            continue
        us = modelled(w, cpu, rows, columns, len(after_anchor(problem)), problem)
        cut = bands(w, units, rows, us, problem.threads)
        us *= spread(units * cut, problem.threads)
        config = (("mt", columns), ("rt", rows), ("hb", cut))
        found.append(Choice(NAME, layouts(problem), (data,), config, us, scratch))
    return sorted(found, key=lambda c: c.cost_us)[:3]


def modelled(w: Window, cpu: Cpu, rows: int, columns: int, ends: int, problem: Problem) -> float:
    blocks = ceil_div(w.channels_out, 16)
    cycles = 0.0
    for _, size, count in groups(blocks):
        ports = 2.0 if size == 4 else 3.0
        own = 60.0 + w.height.kernel * 16.0  # filters are dealt
        for v in segments(w.height, rows):
            for s in segments(w.width, columns):
                lines = min(v.length * w.height.kernel, (v.length - 1) * w.height.stride + w.height.kernel)
                used = {c.first + 4 * i for c in (shift(w.width, k) for k in range(s.length)) for i in range(c.count)}
                pairs = {x for f in used for x in (f, f + 2)}
                sums = sum(4 * shift(w.width, k).count for k in range(s.length)) * v.length * w.height.kernel
                work = lines * (2 * len(pairs) + 4 * len(used)) + sums + v.length * s.length * 4 * END * ends
                own += v.count * s.count * (work / ports + TILE / 3)
        cycles += own * count
    moved = float(w.batch * 16 * blocks * (w.height.size * w.width.size + w.pixels))
    return microseconds(cpu, w.batch * cycles, streamed(cpu, moved))


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .depthwise_quads_emit import Quads

    return Quads(problem, choice, geometry(problem)).emit(symbol)


kernel(
    Row(
        NAME,
        frozenset({"Edgec.ConvInteger"}),
        match,
        choices,
        emit,
        "depthwise convolution of bytes: dot products of four neighbours in a row",
        isa=frozenset({"AVX512VNNI", "AVX512VL", "AVX512BW"}),
    )
)
