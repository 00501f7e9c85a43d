"""The rows of dense f32 convolutions: `conv_f32_tile` (any window) and `conv_f32_pointwise` (all pixels in one row)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import Literal

from edgec.compiler.dtypes import dtype
from edgec.compiler.ir import Value
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..common import blocked_layout, ceil_div, epilogue_fits, in_memory, layouts_in, operations, spread, vectors_fit
from ..cost import QUAD, by_lane
from .shape import Window, conv_operands, conv_window, geometry
from .tiles import TileChoice, in_lines, input_block, shortest, tile_choices, unit_pixels, units, vector_lanes

KEPT = 3  # candidates per layout of the input
PLANES_PENALTY = 1.4  # 1x1 windows over many whole planes: every step reads another page
PLAIN_PENALTY = 1.03
LEAST_LANES = 4  # of the vectors of a grouped convolution
Match = Callable[[Problem], Literal[True] | str]


def vector_window(problem: Problem) -> Window | str:
    """The window of a convolution whose operands are read by vectors; why it is none."""
    x, w, _ = conv_operands(problem.anchor)
    fit = vectors_fit(problem, x, weights=w)
    return conv_window(problem.anchor) if fit is True else fit


def match(problem: Problem) -> Literal[True] | str:
    """What both rows ask for."""
    shape = vector_window(problem)
    if isinstance(shape, str):
        return shape
    if vector_lanes(shape, problem.target.cpu) < min(LEAST_LANES, problem.target.cpu.lanes(32)):
        return f"output channels per group are no multiple of {LEAST_LANES}"
    return epilogue_fits(problem)


def in_windows(match: Match, other: str) -> Match:
    """`match`, but for problems whose pixels are all in one row: the row `other` is for those."""

    def narrowed(problem: Problem) -> Literal[True] | str:
        found = match(problem)
        return f"{other} does this" if found is True and flattens(problem) else found

    return narrowed


def in_one_row(match: Match) -> Match:
    """`match`, for problems whose pixels are all in one row."""

    def narrowed(problem: Problem) -> Literal[True] | str:
        found = match(problem)
        if found is True and not flattens(problem):
            return "needs a 1x1 window of stride 1 whose operands have whole images"
        return found

    return narrowed


def flattens(problem: Problem) -> bool:
    """Whether every operand can be read with all pixels in one row: it has all of them, or none."""
    shape = geometry(problem)
    if (
        not shape.pointwise
        or len(problem.anchor.types[0].shape) != 4
        or (shape.width.out == 1 and shape.height.out > 1)
    ):
        return False
    weights = in_memory(problem, conv_operands(problem.anchor)[1])
    rest = [v.shape for v in problem.body.inputs if v != weights]
    return all(
        len(s) < 2 or s[-2:] in ((1, 1), (shape.height.out, shape.width.out))
        for s in rest
        if s != problem.anchor.types[0].shape
    )


def choices(row: str, problem: Problem, w: Window) -> Sequence[Choice]:
    cpu = problem.target.cpu
    lanes = cpu.lanes(32)
    rank = len(problem.anchor.types[0].shape)
    x, weight, _ = conv_operands(problem.anchor)
    weight = in_memory(problem, weight)
    after = operations(problem)
    blocked = blocked_layout(rank, lanes)
    found = []

    def tiles_of(inner: int, stored: int, layout: str) -> Iterator[TileChoice]:
        lines = by_lane(cpu) and in_lines(w.width, layout)
        quads = lines or (by_lane(cpu) and layout == blocked and inner % QUAD == 0)
        each, taps = dtype(weight.type.dtype).bytes, w.width.kernel if lines else 0
        return tile_choices(w, cpu, after, stored, lambda vectors: inner, problem.cold, each, quads, taps, cut=True)

    for layout in [blocked] + ([] if w.group > 1 else ["", "NHWC"] if rank == 4 else [""]):
        inner = input_block(w.channels_in // w.group, lanes, w.group, plain=layout != blocked)
        stored = ceil_div(w.channels_in, lanes) * lanes if layout == blocked else w.channels_in
        tiles = sorted(balanced(w, tiles_of(inner, stored, layout), problem.threads), key=lambda t: t.cost_us)
        for t in [shortest(w, tiles, problem.target)] if problem.target.small else tiles[:KEPT]:
            fixed: dict[Value, str] = {x: layout, weight: weight_layout(rank, inner, t.vectors * t.lanes)}
            us, layouts = t.cost_us * penalty(w, layout), layouts_in(problem, fixed, blocked)
            settings, scratch = config(problem, w, t)
            found.append(Choice(row, layouts, (blocked,), settings, us, scratch))
    return found


def balanced(w: Window, tiles: Iterable[TileChoice], threads: int) -> Iterator[TileChoice]:
    """The tiles with the time of the largest of `threads` shares, in place of an equal one."""
    return (replace(t, cost_us=t.cost_us * spread(prod(units(w, t)), threads)) for t in tiles)


def penalty(w: Window, layout: str) -> float:
    """Factor for inputs without channel blocks."""
    if layout.endswith("c"):
        return 1.0
    planes = layout == "" and w.taps == 1 and w.channels_in >= 64 and w.height.size * w.width.size >= 512
    return PLANES_PENALTY if planes else PLAIN_PENALTY


def weight_layout(rank: int, block_in: int, block_out: int) -> str:
    """[O/32][I/16][kh][kw][16 inputs][32 outputs]: the order in which the loops read them."""
    return f"{'OIHW' if rank == 4 else 'OIW'}{block_in}i{block_out}o"


def config(problem: Problem, w: Window, t: TileChoice) -> tuple[tuple[tuple[str, int], ...], int]:
    """A tile as a row's configuration, and its bytes of scratch: the sums of a unit, where there are several passes."""
    settings = {
        "mt": t.columns,
        "rt": t.rows,
        "nv": t.vectors,
        "vl": t.lanes,
        "ib": t.inner,
        "pb": t.block,
        "kp": t.passes,
        "cf": int(t.channels_first),
    }
    if t.bands > 1:
        settings["bn"] = t.bands
    return tuple(settings.items()), 4 * unit_pixels(w, t) * t.vectors * t.lanes if t.passes > 1 else 0


def tile_of(choice: Choice) -> TileChoice:
    """The tile behind a configuration."""
    rows, columns, vectors, lanes, inner, block, passes = (
        choice.get(key) for key in ("rt", "mt", "nv", "vl", "ib", "pb", "kp")
    )
    bands = dict(choice.config).get("bn", 1)
    return TileChoice(rows, columns, vectors, lanes, inner, block, passes, bool(choice.get("cf")), bands=bands)


def emit_tile(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .units import emit

    return emit(problem, choice, symbol, geometry(problem))


def emit_pointwise(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .units import emit

    return emit(problem, choice, symbol, geometry(problem).flat())


kernel(
    Row(
        "conv_f32_tile",
        frozenset({"Conv"}),
        in_windows(match, "conv_f32_pointwise"),
        lambda p: choices("conv_f32_tile", p, geometry(p)),
        emit_tile,
        "dense or grouped convolution: a register tile of pixels x output channels, padding by edge tiles",
    )
)
kernel(
    Row(
        "conv_f32_pointwise",
        frozenset({"Conv"}),
        in_one_row(match),
        lambda p: choices("conv_f32_pointwise", p, geometry(p).flat()),
        emit_pointwise,
        "1x1 convolution of stride 1: register tiles over the pixels of a whole image",
    )
)
