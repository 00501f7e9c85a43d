"""conv_f32_cortex and matmul_f32_cortex: dense f32 on Cortex-M with an FPU, tiles of four pixels and four channels.

Sixteen sums stand in registers; a step loads four weights and one element of each pixel, which lie side by side in
scratch, with one instruction each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from edgec.compiler.op import const_array, is_const
from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ...common import after_anchor, ceil_div, epilogue_fits, f32, input_index, layouts_in, operations
from ...conv.shape import Window, conv_operands, conv_window, depthwise, geometry, of_group, rows_as_pixels
from ..bytes import Tile, matrix_fits, pixels_are_one_axis
from ..conv_rows import words_at_once
from ..depthwise_rows import lines_of
from ..plain.rows import ring_of
from .depthwise_asm import MOST_TAPS, inside

CONV, MATMUL, DEPTHWISE = "conv_f32_cortex", "matmul_f32_cortex", "depthwise_f32_cortex"
SIZE = 4  # pixels and channels of a tile
LONG = 12.0  # instructions after the anchor, about
SCRATCH = 8192  # bytes of windows, at most, where more than one pixel is computed


def operands_fit(problem: Problem) -> Literal[True] | str:
    node = problem.anchor
    if not problem.target.triple.startswith("thumb") or not problem.target.cpu.fpu:
        return "is for Cortex-M with an FPU"
    if problem.target.cpu.lanes(32) > 1:
        return "is for cores without vectors"
    if not f32(*(v.type for v in node.args), node.types[0]):
        return "computes f32"
    if any(input_index(problem.body, v) < 0 for v in node.args[:2]):
        return "reads an operand through a computation"
    return epilogue_fits(problem)


def match_conv(problem: Problem) -> Literal[True] | str:
    if (fit := operands_fit(problem)) is not True:
        return fit
    shape = conv_window(problem.anchor)
    if isinstance(shape, str):
        return shape
    if shape.group > 1 and of_group(shape).channels_out % SIZE:
        return "has groups whose results are no multiples of 4"
    return pixels_are_one_axis(problem)


def match_depthwise(problem: Problem) -> Literal[True] | str:
    if (fit := operands_fit(problem)) is not True:
        return fit
    shape = depthwise(problem.anchor)
    if isinstance(shape, str):
        return shape
    return True if lines_of(shape.height) <= 64 and shape.taps <= 64 else "its window is too large"


def match_matmul(problem: Problem) -> Literal[True] | str:
    fit = operands_fit(problem)
    return fit if fit is not True else matrix_fits(problem)


def long_code(problem: Problem) -> bool:
    """Whether what follows the anchor is so long that it is there once, in a loop over the results of a tile."""
    return operations(problem) > LONG


def window_of(problem: Problem) -> Window:
    """The window, with the channels of one group; rows of a matrix are pixels."""
    return rows_as_pixels(problem) if problem.anchor.op == "MatMul" else of_group(geometry(problem))


def tile_of(w: Window, small: bool = False) -> Tile:
    steps = w.taps * w.channels_in
    most = 1 if small else SIZE
    pixels = max(p for p in range(1, most + 1) if p == 1 or (p <= w.pixels and steps * p * 4 <= SCRATCH))
    return Tile(pixels, SIZE, 1 if small else next(n for n in (4, 3, 2, 1) if steps % n == 0))


def direct(problem: Problem) -> bool:
    """Whether data are read where they lie, without scratch: a row alone of a matrix."""
    return problem.anchor.op == "MatMul" and window_of(problem).pixels == 1


def choices(problem: Problem) -> Sequence[Choice]:
    x, weight = problem.anchor.args[:2]
    w, rank = window_of(problem), len(x.shape)
    tile, steps = tile_of(w, problem.target.small), w.taps * w.channels_in
    each = tile.pixels * SIZE + 2 + 2 / tile.unroll
    block = steps * each + 40 + tile.pixels * SIZE * (3 + 2 * operations(problem))
    cycles = (
        w.batch
        * w.group
        * ceil_div(w.pixels, tile.pixels)
        * (ceil_div(w.channels_out, SIZE) * block + tile.pixels * 2.5 * steps)
    )
    us = cycles / (problem.target.cpu.ghz * 1e3)
    scratch = 0 if direct(problem) else steps * tile.pixels * 4
    if problem.anchor.op == "MatMul":
        return [Choice(MATMUL, layouts_in(problem, {x: "", weight: f"JK{SIZE}j"}), ("",), (), us, scratch)]
    layout, filters = {4: ("NHWC", "OHWI"), 3: ("NWC", "OWI")}[rank]
    out = layout if problem.body.outputs[0].type.dtype == "f32" else ""
    layouts = layouts_in(problem, {x: layout, weight: f"{filters}{SIZE}o"}, out)
    return [Choice(CONV, layouts, (out,), (), us, scratch)]


def choices_depthwise(problem: Problem) -> Sequence[Choice]:
    x, weight = problem.anchor.args[:2]
    w, rank = geometry(problem), len(x.shape)
    abreast, each = channels_abreast(w), 2 * operations(problem)
    lines = w.pixels * (w.taps * 1.8 + 8 + each) + 5 * w.height.size * w.width.size
    cycles = w.batch * w.channels_in * (w.pixels * (w.taps * 1.6 + 5 + each) if abreast else lines)
    layout, filters = {4: ("NHWC", "OHWI"), 3: ("NWC", "OWI")}[rank]
    out = layout if problem.body.outputs[0].type.dtype == "f32" else ""
    layouts = layouts_in(problem, {x: layout, weight: f"{filters}{SIZE}o" if abreast else ""}, out)
    scratch = 0 if abreast else ring_of(w) * 4
    return [Choice(DEPTHWISE, layouts, (out,), (), cycles / (problem.target.cpu.ghz * 1e3), scratch)]


def channels_abreast(w: Window) -> bool:
    """Whether four channels are computed at a time; else lines of one, which come into scratch."""
    return w.channels_in % SIZE == 0 and w.width.kernel <= MOST_TAPS


def tail_form(problem: Problem) -> str | None:
    """Of what follows the anchor, where it reads nothing but constants; else None."""
    anchor, result = problem.anchor, problem.body.outputs[0].type
    if any(v not in anchor.args for v in problem.body.inputs) or result.dtype != "f32":
        return None
    _, _, bias = conv_operands(anchor)
    rows = [
        (n.op, sorted(n.attrs.items()), [const_array(a).tolist() if is_const(a) else "" for a in n.args])
        for n in after_anchor(problem)
    ]
    return f"{None if bias is None else bias.shape[0] > 1} {rows}"


def form(problem: Problem) -> str:
    """Of convolutions of single pixels that differ in sizes only; "" of others."""
    w, tail, most = window_of(problem), tail_form(problem), words_at_once(problem.target.small)
    if problem.anchor.op != "Conv" or not w.pointwise or w.batch * w.group > 1 or w.channels_out % SIZE or tail is None:
        return ""
    if w.channels_in < most:
        return ""
    tile, rank = tile_of(w, problem.target.small), len(problem.anchor.types[0].shape)
    return f"{rank} {tile} {w.pixels % tile.pixels > 0} {w.channels_in % most} {tail}"


def form_depthwise(problem: Problem) -> str:
    """Of kernels that differ in sizes only; "" where they are not written so."""
    w, tail = geometry(problem), tail_form(problem)
    if not channels_abreast(w) or w.batch > 1 or tail is None:
        return ""
    pairs = inside(w.width)[1]
    shape = [replace(a, size=0, out=0) for a in (w.height, w.width)]
    rank, edges = len(problem.anchor.types[0].shape), w.width.out > 2 * pairs
    return f"{rank} {shape} {pairs > 0} {edges} {tail}"


def emit_depthwise(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from ..plain.depthwise_emit import PlainDepthwise
    from .depthwise_emit import FloatDepthwise

    if channels_abreast(geometry(problem)):
        return FloatDepthwise(problem, choice).emit(symbol)
    return PlainDepthwise(problem, choice).emit(symbol)


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .emit import Floats

    return Floats(problem, choice).emit(symbol)


_ABOUT = "on Cortex-M with an FPU, by tiles of 4 x 4"
kernel(Row(CONV, frozenset({"Conv"}), match_conv, choices, emit, f"dense f32 convolution {_ABOUT}", form=form))
kernel(Row(MATMUL, frozenset({"MatMul"}), match_matmul, choices, emit, f"f32 product with constant weights {_ABOUT}"))
kernel(
    Row(
        DEPTHWISE,
        frozenset({"Conv"}),
        match_depthwise,
        choices_depthwise,
        emit_depthwise,
        "depthwise f32 convolution on Cortex-M with an FPU",
        form=form_depthwise,
    )
)
