"""Rows of depthwise convolutions of bytes by dot products: neighbours in a row are dealt to groups, one per channel.

With VNNI four pixels side by side become vectors of four bytes for each channel, which one instruction multiplies by
four taps and sums; without it two become vectors of two 16-bit numbers. Such a vector serves every output whose taps
lie in it, by filters that are shifted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgec.compiler.ir import Value
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel
from edgec.compiler.target import Cpu

from ..bytes_tail import channel_operands, of_channels, operand_layout, rescales, rounding, stages
from ..common import after_anchor, byte_layout, ceil_div, instructions, spread
from ..conv.depthwise_rows import bands
from ..conv.shape import Axis, Window, conv_operands, geometry, segments
from ..cost import TILE, microseconds, smallest, streamed
from .depthwise_rows import depthwise

MOST_TAPS = 7  # of each axis: filters stand in scratch memory, dealt, for every shift
END = 5.5  # instructions per vector of 32-bit sums that becomes bytes
STAGED = 6.0  # ... that waits in memory for other code
MOST_WRITTEN = 9  # taps of windows whose rows are written out
STEP = 2  # groups of pixels start at every other column
ASKED = 0.5  # cycles to ask of a pixel whether it is inside
ALIKE = "ga"  # blocks of all groups, where code is to be small; 0: they differ
LINES = 1.3  # lines of a cache that are touched for a line of bytes


@dataclass(frozen=True)
class Method:
    """`taps` of a dot product; `blocks`: most blocks of 16 channels in a vector; `tiles`: (rows, columns) of pixels."""

    taps: int
    blocks: int
    tiles: tuple[tuple[int, int], ...]


QUADS = Method(4, 4, ((2, 2), (1, 4), (1, 2), (2, 1), (1, 1), (1, 3)))
PAIRS = Method(2, 2, ((1, 2), (2, 1), (1, 1)))
METHODS = {"depthwise_int8_quads": QUADS, "depthwise_int8_pairs": PAIRS}


def match(problem: Problem) -> Literal[True] | str:
    if (fit := depthwise(problem)) is not True:
        return fit
    w, x = geometry(problem), problem.anchor.args[0]
    if x.type.dtype != "u8":
        return "multiplies unsigned bytes"
    if w.width.dilation != 1 or w.width.stride > 4 or max(w.height.kernel, w.width.kernel) > MOST_TAPS:
        return "the window is dilated or too large"
    return True if rescales(problem) is True else stages(problem)


@dataclass(frozen=True)
class Shift:
    """An output's taps among `count` groups of pixels: the first begins at column `first`, its taps `by` pixels in."""

    first: int
    by: int
    count: int


def shift(w: Axis, column: int, taps: int) -> Shift:
    """Of the output number `column` of a tile."""
    at = column * w.stride
    by = at % STEP
    return Shift(at - by, by, ceil_div(w.kernel + by, taps))


def shifts(w: Axis, taps: int) -> dict[int, Shift]:
    """One of each distance `by`."""
    return {s.by: s for s in sorted((shift(w, c, taps) for c in range(STEP)), key=lambda s: s.by)}


def groups(blocks: int, most: int, alike: int = 0) -> list[tuple[int, int, int]]:
    """(first block, blocks of 16 channels, count) of the runs of equal groups that together are `blocks`; `alike`: all
    groups have so many, so that one code serves them."""
    if alike:
        return [(0, alike, blocks // alike)]
    full, rest = divmod(blocks, most)
    found = [(0, most, full)] if full else []
    at = most * full
    for size in (2, 1):
        if rest & size:
            found.append((at, size, 1))
            at += size
    return found


def stored_taps(w: Axis, taps: int) -> int:
    """Of a dot product, that are in memory: those of a short row without zeros behind them, of all its products."""
    return w.kernel if w.kernel < QUADS.taps and w.kernel % taps else taps


def filter_vectors(w: Window, taps: int) -> int:
    """Vectors of the filters, in fours, for each shift."""
    return 4 * w.height.kernel * sum(s.count for s in shifts(w.width, taps).values())


def scratch_vectors(w: Window, taps: int, operands: int, small: bool = False) -> int:
    """Those, vectors of what sums start from, of a row too where rows are looped over, and of operands of the
    channels; all in fours."""
    return filter_vectors(w, taps) + 4 * (1 + operands + rolled(w, small))


def rolled(w: Window, small: bool = False) -> bool:
    """Whether the rows of a window are a loop: written out, for each place at the image's edges too, they would fill
    the cache of instructions several times. So they are where code is to be small."""
    return small or w.taps > MOST_WRITTEN


def layouts(problem: Problem, taps: int) -> tuple[str, ...]:
    x, weight, bias = conv_operands(problem.anchor)
    data = byte_layout(x.shape)
    each = stored_taps(geometry(problem).width, taps)
    fixed = {x: data, weight: f"{'OIHW' if len(x.shape) == 4 else 'OIW'}16o{each}w"}
    fixed |= {} if bias is None else {bias: operand_layout(bias)}
    shape = problem.anchor.types[0].shape

    def of(v: Value) -> str:
        return fixed.get(v) or (operand_layout(v) if of_channels(v, shape) else data if v.shape == shape else "")

    return tuple(of(v) for v in problem.body.inputs)


def offers(name: str, problem: Problem) -> Sequence[Choice]:
    method = METHODS[name]
    w, cpu = geometry(problem), problem.target.cpu
    data = byte_layout(problem.anchor.args[0].shape)
    scratch = 16 * method.blocks * scratch_vectors(w, method.taps, len(channel_operands(problem)), problem.target.small)
    nodes = after_anchor(problem)
    after = END * len(nodes) if rescales(problem) is True else STAGED + instructions(nodes)
    if problem.target.small:
        return [_small(name, problem, scratch, after)]
    units = sum(count for _, _, count in groups(ceil_div(w.channels_out, 16), method.blocks))
    # Where the planes fill a cache, a row of all channels comes before the next row: lines are read as they lie.
    rows_first = units > 1 and moved(w) > cpu.l2 // 2
    outer = w.batch * (1 if rows_first else units)
    found = []
    for rows, columns in tiles(w, method):
        us = modelled(w, cpu, method, (rows, columns), after)
        cut = bands(w, outer, rows, us, problem)
        config = (("mt", columns), ("rt", rows), ("hb", cut), ("ro", int(rows_first)), *rounding(problem))
        held = scratch * (units if rows_first else 1)
        us *= spread(outer * cut, problem.threads)
        found.append(Choice(name, layouts(problem, method.taps), (data,), config, us, held))
    return sorted(found, key=lambda c: c.cost_us)[:3]


def tiles(w: Window, method: Method, small: bool = False) -> list[tuple[int, int]]:
    """The tiles that an image has room for; a loop over a window's rows serves one row of pixels."""
    most = 1 if rolled(w, small) else w.height.out
    return [(rows, columns) for rows, columns in method.tiles if rows <= most and columns <= w.width.out]


def _small(name: str, problem: Problem, scratch: int, after: float) -> Choice:
    """One code for all tiles of a row, at edges too, and a narrower one where tiles do not cut it evenly; the fewer
    columns it has, and the fewer sizes of groups, the less code there is."""
    method, w, cpu = METHODS[name], geometry(problem), problem.target.cpu
    blocks = ceil_div(w.channels_out, 16)
    data = byte_layout(problem.anchor.args[0].shape)
    found: list[tuple[int, Choice]] = []
    for size in (0, *(n for n in (1, 2, 4) if n <= method.blocks and blocks % n == 0)):
        dealt = groups(blocks, method.blocks, size)
        units = w.batch * sum(count for _, _, count in dealt)
        for rows, columns in tiles(w, method, small=True):
            us = modelled(w, cpu, method, (rows, columns), after, size, asked=True)
            cut = bands(w, units, rows, us, problem)
            config = (("mt", columns), ("rt", rows), ("hb", cut), ("ro", 0), (ALIKE, size), *rounding(problem))
            us *= spread(units * cut, problem.threads)
            code = len(dealt) * columns_of_code(w, columns)
            found.append((code, Choice(name, layouts(problem, method.taps), (data,), config, us, scratch)))
    return smallest(found, lambda one: one[1].cost_us, lambda one: one[0], problem.target)[1]


def columns_of_code(w: Window, columns: int) -> int:
    """Columns of the tiles that have code of their own where edges have none."""
    return columns + w.width.out % columns


def moved(w: Window) -> float:
    """Bytes in and out."""
    return float(w.batch * 16 * ceil_div(w.channels_out, 16) * (w.height.size * w.width.size + w.pixels))


def modelled(
    w: Window, cpu: Cpu, method: Method, tile: tuple[int, int], after: float, alike: int = 0, asked: bool = False
) -> float:
    """In microseconds. `alike`: as for groups; `asked`: it is asked of every pixel whether it is inside."""
    cycles = 0.0
    for _, size, count in groups(ceil_div(w.channels_out, 16), method.blocks, alike):
        ports = 2.0 if size == 4 else 3.0  # one of three serves no vectors of 512 bits
        own = 60.0 + w.height.kernel * 16.0  # filters are dealt
        for v in segments(w.height, tile[0]):
            for s in segments(w.width, tile[1]):
                work = tile_work(w, method, v.length, s.length) + v.length * s.length * 4 * after
                more = asking(w, s.length) if asked else 0.0
                own += v.count * s.count * (work / ports + more + TILE / 3)
        cycles += own * count
    return microseconds(cpu, w.batch * cycles, streamed(cpu, LINES * moved(w)))


def asking(w: Window, columns: int) -> float:
    """Cycles to ask of all pixels that a row of so many outputs reads whether they are inside."""
    return ASKED * w.height.kernel * ((columns - 1) * w.width.stride + w.width.kernel)


def tile_work(w: Window, method: Method, rows: int, columns: int) -> float:
    """Instructions of the sums of one tile."""
    placed = [shift(w.width, k, method.taps) for k in range(columns)]
    lines = min(rows * w.height.kernel, (rows - 1) * w.height.stride + w.height.kernel)
    used = {s.first + method.taps * i for s in placed for i in range(s.count)}
    parts = {x for f in used for x in range(f, f + method.taps, 2 if method.taps == 4 else 1)}
    each = 1 if method.taps == 4 else 2  # a dot product without VNNI is not added by itself
    dots = 4 * each * sum(s.count for s in placed) * rows * w.height.kernel
    return float(lines * (2 * len(parts) + 4 * len(used)) + dots)


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .depthwise_dots_emit import Dots

    return Dots(problem, choice, geometry(problem), METHODS[choice.row].taps, METHODS[choice.row].blocks).emit(symbol)


def _row(name: str, summary: str, *isa: str) -> None:
    kernel(
        Row(
            name,
            frozenset({"Edgec.ConvInteger"}),
            match,
            lambda problem: offers(name, problem),
            emit,
            f"depthwise convolution of bytes: dot products of {summary} in a row",
            isa=frozenset(isa),
        )
    )


_row("depthwise_int8_quads", "four neighbours", "AVX512VNNI", "AVX512VL", "AVX512BW")
_row("depthwise_int8_pairs", "two neighbours", "AVX2")
