"""Rows for Cortex-M without the DSP extension: `conv_int8_thumb`, `depthwise_int8_thumb` and `matmul_int8_thumb`.

A core with eight full registers multiplies one element of weights by one of each of four pixels: data are widened to
words in scratch, where one instruction loads all four; sums stand in the registers that only add. Channels of depthwise
convolutions come into a ring of lines, one at a time, as on cores with the extension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ...common import ceil_div, epilogue_fits, layouts_in
from ...conv.shape import Axis, Window, dense, depthwise, geometry, rows_as_pixels
from ..bytes import DSP, Tile, activations, after, fits, matrix_fits, operands_fit, result_layout
from ..depthwise_rows import lines_of

DENSE, DEPTHWISE, MATMUL = "conv_int8_thumb", "depthwise_int8_thumb", "matmul_int8_thumb"
SCRATCH = 2304  # bytes of widened data at most, where fewer pixels keep below
CALL = 120.0  # instructions of rescaling without an FPU


def _without_dsp(problem: Problem) -> Literal[True] | str:
    return "is for cores without the DSP extension or an FPU" if problem.target.cpu.isa >= DSP else True


def match_dense(problem: Problem) -> Literal[True] | str:
    if (found := _without_dsp(problem)) is not True:
        return found
    if (found := fits(problem, *problem.anchor.args[:2])) is not True:
        return found
    return dense(problem.anchor)


def match_depthwise(problem: Problem) -> Literal[True] | str:
    if (found := _without_dsp(problem)) is not True:
        return found
    if (found := fits(problem, *problem.anchor.args[:2])) is not True:
        return found
    shape = depthwise(problem.anchor)
    if isinstance(shape, str):
        return shape
    return True if lines_of(shape.height) <= 64 else "its window has too many lines"


def match_matmul(problem: Problem) -> Literal[True] | str:
    if (found := _without_dsp(problem)) is not True:
        return found
    if (found := operands_fit(problem, *problem.anchor.args[:2])) is not True:
        return found
    return found if (found := matrix_fits(problem)) is not True else epilogue_fits(problem)


def window_of(problem: Problem) -> Window:
    """The window; rows of a matrix are pixels."""
    return rows_as_pixels(problem) if problem.anchor.op == "Edgec.MatMulInteger" else geometry(problem)


def steps_of(w: Window) -> int:
    return w.taps * w.channels_in


def tile_of(w: Window, small: bool = False) -> Tile:
    """As many pixels as scratch may hold; they count as one where the image has fewer."""
    pixels = max([p for p in (1, 2, 3, 4) if p <= w.pixels and steps_of(w) * p * 4 <= SCRATCH], default=1)
    return Tile(pixels, 1, 1 if small else next(n for n in (4, 3, 2, 1) if steps_of(w) % n == 0))


def _cycles(problem: Problem) -> float:
    w, each = window_of(problem), after(problem) + (0 if problem.target.cpu.fpu else CALL)
    t, steps = tile_of(w, problem.target.small), steps_of(w)
    block = steps * (3 + 2 * t.pixels + 1 / t.unroll) + 30 + t.pixels * each
    return w.batch * ceil_div(w.pixels, t.pixels) * (w.channels_out * block + t.pixels * steps * 9)


def choices_dense(problem: Problem) -> Sequence[Choice]:
    x, weight, _ = problem.anchor.args
    w, rank = window_of(problem), len(x.shape)
    us = _cycles(problem) / (problem.target.cpu.ghz * 1e3)
    scratch = steps_of(w) * tile_of(w).pixels * 4
    if problem.anchor.op == "Edgec.MatMulInteger":
        return [Choice(MATMUL, layouts_in(problem, {x: "", weight: "JK"}), ("",), (), us, scratch)]
    out = result_layout(problem.body.outputs[0].type)
    filters = {4: "OHWI", 3: "OWI"}[rank]
    plain = {4: ["NHWC", ""], 3: ["NWC", ""]}[rank] if w.channels_in <= 3 else []
    return [
        Choice(DENSE, layouts_in(problem, {x: layout, weight: filters}, out), (out,), (), us, scratch)
        for layout in [activations(rank), *plain]
    ]


def line_of(axis: Axis) -> int:
    """Elements of a line, its padding included."""
    return max(axis.pad + axis.size, (axis.out - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1)


def ring_of(w: Window) -> int:
    """Words of scratch: a ring of lines, and a line of zeros."""
    return (lines_of(w.height) + 1) * line_of(w.width)


def choices_depthwise(problem: Problem) -> Sequence[Choice]:
    x, weight, _ = problem.anchor.args
    w, each = geometry(problem), after(problem) + (0 if problem.target.cpu.fpu else CALL)
    cycles = w.batch * w.channels_in * (w.pixels * (w.taps * 7 + each + 10) + 8 * w.height.size * w.width.size)
    out = result_layout(problem.body.outputs[0].type)
    layouts = layouts_in(problem, {x: activations(len(x.shape)), weight: ""}, out)
    return [Choice(DEPTHWISE, layouts, (out,), (), cycles / (problem.target.cpu.ghz * 1e3), ring_of(w) * 4)]


def emit_dense(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .emit import Plain

    return Plain(problem, choice).emit(symbol)


def emit_depthwise(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .depthwise_emit import PlainDepthwise

    return PlainDepthwise(problem, choice).emit(symbol)


_CONV = frozenset({"Edgec.ConvInteger"})
_ABOUT = "of signed bytes on Cortex-M without the DSP extension"
kernel(Row(DENSE, _CONV, match_dense, choices_dense, emit_dense, f"dense convolution {_ABOUT}"))
kernel(Row(DEPTHWISE, _CONV, match_depthwise, choices_depthwise, emit_depthwise, f"depthwise convolution {_ABOUT}"))
kernel(
    Row(MATMUL, frozenset({"Edgec.MatMulInteger"}), match_matmul, choices_dense, emit_dense, f"matrix product {_ABOUT}")
)
