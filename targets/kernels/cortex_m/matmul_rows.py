"""matmul_int8_dsp: products of signed bytes with constant weights on Cortex-M with the DSP extension.

Rows are what pixels are to a pointwise convolution; what they have beyond a multiple of four bytes comes byte by byte.
Where that is one or two, so are weights: a column is padded to two bytes, not to four. One row alone is read as it
lies, for four columns at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgec.compiler.registry import Choice, Emitted, Problem, Row, kernel

from ..common import ceil_div, epilogue_fits, layouts_in
from ..conv.shape import Window, rows_as_pixels
from .bytes import DSP, STEP, Tile, after, matrix_fits, operands_fit, unrolled
from .conv_rows import blocks_form, words_at_once
from .rescale import plain_rescale

NAME = "matmul_int8_dsp"


def match(problem: Problem) -> Literal[True] | str:
    a, b = problem.anchor.args[:2]
    if (fit := operands_fit(problem, a, b)) is not True:
        return fit
    if (fit := matrix_fits(problem)) is not True:
        return fit
    return epilogue_fits(problem)


def tile_of(problem: Problem) -> Tile:
    w = rows_as_pixels(problem)
    rows, steps = w.width.out, ceil_div(w.channels_in, STEP)
    small = problem.target.small
    words = rows == 1 and w.channels_in % STEP == 0
    four = words and not small and w.channels_out % 4 == 0 and plain_rescale(problem) is not None
    channels = 4 if four else 2
    whole = steps - _half(w, channels)
    return Tile(min(1 if small else 3, rows), channels, unrolled(max(whole, 1), small))


def halved(problem: Problem) -> bool:
    """Whether the last step has two products of each sum."""
    return _half(rows_as_pixels(problem), tile_of(problem).channels)


def _half(w: Window, channels: int) -> bool:
    """Only where there are columns for each word of weights."""
    return w.channels_in % STEP in (1, 2) and w.channels_out % channels == 0


def direct(problem: Problem) -> bool:
    """Whether data are read as bytes, without scratch."""
    w, tile = rows_as_pixels(problem), tile_of(problem)
    if w.width.out > 1 or w.channels_in % STEP:
        return False
    return plain_rescale(problem) is not None and w.channels_out % tile.channels == 0


def choices(problem: Problem) -> Sequence[Choice]:
    a, b = problem.anchor.args[:2]
    w, tile = rows_as_pixels(problem), tile_of(problem)
    rows, steps = w.width.out, ceil_div(w.channels_in, STEP)
    each = tile.step(direct(problem))
    widening = 0 if direct(problem) else 5 * steps * tile.pixels
    one = ceil_div(w.channels_out, tile.channels) * (steps * each + 25 + tile.pixels * tile.channels * after(problem))
    us = ceil_div(rows, tile.pixels) * (one + widening) / (problem.target.cpu.ghz * 1e3)
    layouts = layouts_in(problem, {a: "", b: f"{'U2:' * halved(problem)}JK{tile.channels}j{STEP}k"})
    scratch = 0 if direct(problem) else steps * tile.pixels * 8
    return [Choice(NAME, layouts, ("",), (), us, scratch)]


def form(problem: Problem) -> str:
    """Of kernels that differ in sizes and zero points only; "" where they are not written so."""
    w, tile, plain = rows_as_pixels(problem), tile_of(problem), plain_rescale(problem, True)
    if plain is None or w.channels_out % tile.channels or w.channels_in < STEP:
        return ""
    words, most = w.channels_in // STEP, words_at_once(problem.target.small)
    copied = words % most if words >= 2 * most else words
    steps = w.channels_in // STEP if halved(problem) else ceil_div(w.channels_in, STEP)
    return f"{direct(problem)} {blocks_form(w, tile, steps, plain)} {copied} {w.channels_in % STEP}"


def emit(problem: Problem, choice: Choice, symbol: str) -> Emitted:
    from .matmul_emit import MatMul

    return MatMul(problem, choice, rows_as_pixels(problem)).emit(symbol)


kernel(
    Row(
        NAME,
        frozenset({"Edgec.MatMulInteger"}),
        match,
        choices,
        emit,
        "product of signed bytes on Cortex-M by smlad",
        DSP,
        form,
    )
)
