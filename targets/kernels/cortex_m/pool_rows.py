"""pool_int8_dsp: maxima and sums of bytes over windows on Cortex-M with the DSP extension, four channels at a time.

Windows inside of the image are written out; those at edges are loops over what they cover.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..common import after_anchor, ceil_div, epilogue_fits, input_index, layouts_in
from ..conv.shape import Window, window
from .bytes import DSP, STEP, activations, after, pixels_are_one_axis, result_layout

NAME = "pool_int8_dsp"
MOST_SUMMED = 255  # bytes whose sum fits 16 bits
WRITTEN_OUT = 16  # taps, at most
MOST_STORED = 4096  # bytes of a pixel
REACH = 4092  # bytes from the first tap to the last, where they are


def match(problem: Problem) -> Literal[True] | str:
    node = problem.anchor
    x = node.args[0]
    if "MVE" in problem.target.cpu.isa:
        return "is for cores without Helium"
    if x.type.dtype not in ("i8", "u8") or input_index(problem.body, x) < 0:
        return "reads bytes as they lie"
    w = window(node)
    if isinstance(w, str):
        return w
    if len(node.types) != 1 or any(0 in t.shape for t in (x.type, node.types[0])):
        return "makes one result that has elements"
    if (w.height.dilation, w.width.dilation) != (1, 1):
        return "takes windows of neighbours"
    if stored(w) >= MOST_STORED:
        return "has too many channels"
    if node.op == "MaxPool":
        alone = not after_anchor(problem) and len(problem.body.outputs) == 1
        return True if alone else "takes maxima and does no more"
    if w.taps > MOST_SUMMED or x.type.dtype != "i8":
        return f"sums {MOST_SUMMED} signed bytes at most"
    fit = epilogue_fits(problem)
    return pixels_are_one_axis(problem) if fit is True and result_layout(problem.body.outputs[0].type) else fit


def geometry(problem: Problem) -> Window:
    w = window(problem.anchor)
    assert isinstance(w, Window)
    return w


def stored(w: Window) -> int:
    """Bytes of a pixel."""
    return ceil_div(w.channels_out, STEP) * STEP


def written_out(w: Window, small: bool) -> bool:
    """Whether the taps of a window inside of the image have code of their own."""
    reach = ((w.height.kernel - 1) * w.width.size + w.width.kernel - 1) * stored(w)
    return not small and w.taps <= WRITTEN_OUT and reach <= REACH


def choices(problem: Problem) -> Sequence[Choice]:
    w, x = geometry(problem), problem.anchor.args[0]
    greatest = problem.anchor.op == "MaxPool"
    each = 3.0 * w.taps + 7 if written_out(w, problem.target.small) else 5.0 * w.taps + 4.0 * w.height.kernel + 10
    cycles = w.batch * w.pixels * (30.0 + stored(w) / STEP * each)
    if not greatest:
        cycles += w.batch * w.pixels * w.channels_out * after(problem)
    out = result_layout(problem.body.outputs[0].type)
    layouts = layouts_in(problem, {x: activations(len(x.shape))}, out)
    us = cycles / (problem.target.cpu.ghz * 1e3)
    return [Choice(NAME, layouts, (out,), (), us, 0 if greatest else stored(w) * 4)]


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .pool_emit import Pool

    return Pool(problem, choice).emit(symbol)


kernel(
    Row(
        NAME,
        frozenset({"MaxPool", "Edgec.SumPool"}),
        match,
        choices,
        emit,
        "pooling of bytes on Cortex-M, four channels at a time",
        DSP,
    )
)
