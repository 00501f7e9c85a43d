"""The rows of dense convolutions of bytes: `conv_int8_tile` (any window) and `conv_int8_pointwise` (one row)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from edgec.compiler.ir import Value
from edgec.compiler.op import full_attrs
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..bytes_tail import rounding
from ..common import after_anchor, blocked_layout, byte_operations, ceil_div, epilogue_fits, input_index, spread
from ..conv.rows import config, in_one_row, in_windows
from ..conv.shape import WRITTEN, Window, conv_operands, conv_window, geometry, segments
from ..conv.tiles import TileChoice, shortest
from .tiles import BLOCK, QUAD, Dot, dot_of, nearly_fastest, pixel_bytes, stored, tasks, tile_choices, widened

KEPT = 3


def match(problem: Problem) -> Literal[True] | str:
    """What both rows ask for."""
    if (fit := operands_fit(problem)) is not True:
        return fit
    shape = conv_window(problem.anchor)
    if isinstance(shape, str):
        return shape
    if shape.group > 1 and (
        shape.channels_out // shape.group % BLOCK
        or shape.channels_in // shape.group % QUAD
        or shape.channels_in < BLOCK
    ):
        return f"groups are no multiples of {QUAD} inputs and {BLOCK} outputs"
    return epilogue_fits(problem)


def operands_fit(problem: Problem) -> Literal[True] | str:
    """True where u8 are multiplied with i8 that the anchor reads as they lie, on a target that can."""
    a, b, _ = problem.anchor.args
    if (a.type.dtype, b.type.dtype) != ("u8", "i8"):
        return "multiplies u8 with i8"
    if any(input_index(problem.body, v) < 0 for v in problem.anchor.args):
        return "reads an operand through a computation"
    return True if dot_of(problem.target.cpu) else "needs AVX512VNNI or AVX2"


def bytes_layout(rank: int, channels: int) -> str:
    """The layout of activations of 8 bits: all channels of a pixel side by side."""
    return f"{'NHWC' if rank == 4 else 'NWC'}{QUAD if channels <= QUAD else BLOCK}c"


def value_layout(problem: Problem, value: Value) -> str:
    """The layout of an input or output of the body that is no operand of the anchor: channels padded to whole vectors,
    so that whole vectors can be read and written."""
    shape, t = problem.anchor.types[0].shape, value.type
    if any(n.op == "Edgec.Table" and n.args[1] == value for n in problem.body.nodes()):
        return ""
    if len(t.shape) == 1:
        return f"A{BLOCK}a" if t.size > 1 or value == problem.anchor.args[2] else ""
    missing = len(shape) - len(t.shape)
    if missing > 1 or (t.shape[1 - missing] == 1 and t.shape != shape):
        return ""
    if missing:
        return f"{'CHW' if len(shape) == 4 else 'CW'}{BLOCK}c"
    if t.dtype in ("u8", "i8"):
        return bytes_layout(len(shape), shape[1])
    return blocked_layout(len(shape), problem.target.cpu.lanes(32))


def choices(row: str, problem: Problem, w: Window) -> Sequence[Choice]:
    cpu = problem.target.cpu
    dot = dot_of(cpu)
    assert dot is not None
    x, weight, _ = conv_operands(problem.anchor)
    rank = len(problem.anchor.types[0].shape)
    attrs: Any = full_attrs(problem.anchor)
    tiles = [
        replace(t, cost_us=t.cost_us * spread(tasks(w, dot, t), problem.threads))
        for t in tile_choices(w, cpu, dot, byte_operations(problem), attrs["zero"] != 0, problem.cold)
    ]
    found = []
    for t in [shortest(w, tiles, problem.target)] if problem.target.small else nearly_fastest(w, tiles, KEPT):
        pixels = "" if w.by_columns else bytes_layout(rank, w.channels_in)
        fixed = {x: pixels, weight: weight_layout(rank, w, t)}
        layouts = tuple(fixed.get(v) or value_layout(problem, v) for v in problem.body.inputs)
        settings, scratch = settings_of(problem, w, t), scratch_bytes(w, dot, t, pixel_bytes(w))
        found.append(
            Choice(row, layouts, (value_layout(problem, problem.body.outputs[0]),), settings, t.cost_us, scratch)
        )
    return found


def settings_of(problem: Problem, w: Window, t: TileChoice) -> tuple[tuple[str, int], ...]:
    """The configuration of a choice."""
    return (*config(problem, w, t)[0], *rounding(problem))


def weight_layout(rank: int, w: Window, t: TileChoice) -> str:
    """[O/32][kh][kw][I/4][32 outputs][4 inputs]: the order in which the loops read them; fewer than 32 where a single
    tile has no more. By columns: [O/32][kh][kw/4][32 outputs][4 columns]."""
    if w.by_columns:
        return f"{'OHIW' if rank == 4 else 'OIW'}{stored(w, t)}o{t.inner}w"
    return f"{'OHWI' if rank == 4 else 'OWI'}{stored(w, t)}o{t.inner}i"


def scratch_bytes(w: Window, dot: Dot, t: TileChoice, pixel: int) -> int:
    """Room for what is widened of the input; the last step of a pixel may reach past the end."""
    return 2 * ceil_div(widened(w, t, pixel) + dot.group, 2) * 2 if dot.wide else 0


def emit_tile(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .conv_units import emit

    return emit(problem, choice, symbol, geometry(problem))


def match_columns(problem: Problem) -> Literal[True] | str:
    """`match`, for one channel whose rows hold a step at least."""
    if (fit := match(problem)) is not True:
        return fit
    w, dot = geometry(problem), dot_of(problem.target.cpu)
    assert dot is not None
    if w.channels_in != 1 or w.width.kernel == 1 or w.width.dilation > 1:
        return "needs one channel, and windows of neighbours in a row"
    if any(problem.anchor.args[0] in n.args for n in after_anchor(problem)):
        return "what follows reads its input too, in whole vectors"
    if w.width.size < dot.group:
        return f"needs rows of {dot.group} pixels"
    if w.width.kernel > WRITTEN * dot.group and any(s.edge for s in segments(by_columns(w, dot).width, 1)):
        return "the window is too wide to be written out for its edges"
    return True


def by_columns(w: Window, dot: Dot) -> Window:
    """The window with whole steps in each row: weights of columns behind its last are 0."""
    kernel = ceil_div(w.width.kernel, dot.group) * dot.group
    return replace(w, width=replace(w.width, kernel=kernel), by_columns=True)


def window_by_columns(problem: Problem) -> Window:
    dot = dot_of(problem.target.cpu)
    assert dot is not None
    return by_columns(geometry(problem), dot)


def emit_columns(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .columns_emit import Columns
    from .conv_units import emit_units

    w = window_by_columns(problem)
    return emit_units(Columns(problem, choice, w, conv_operands(problem.anchor)), problem, choice, symbol)


def emit_pointwise(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .conv_units import emit

    return emit(problem, choice, symbol, geometry(problem).flat())


kernel(
    Row(
        "conv_int8_tile",
        frozenset({"Edgec.ConvInteger"}),
        in_windows(match, "conv_int8_pointwise"),
        lambda p: choices("conv_int8_tile", p, geometry(p)),
        emit_tile,
        "dense or grouped convolution of bytes: a register tile of pixels x output channels",
    )
)
kernel(
    Row(
        "conv_int8_columns",
        frozenset({"Edgec.ConvInteger"}),
        match_columns,
        lambda p: choices("conv_int8_columns", p, window_by_columns(p)),
        emit_columns,
        "convolution of bytes over one channel: a step multiplies neighbours in a row",
    )
)
kernel(
    Row(
        "conv_int8_pointwise",
        frozenset({"Edgec.ConvInteger"}),
        in_one_row(match),
        lambda p: choices("conv_int8_pointwise", p, geometry(p).flat()),
        emit_pointwise,
        "1x1 convolution of bytes of stride 1: register tiles over the pixels of a whole image",
    )
)
